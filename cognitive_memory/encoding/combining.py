"""Single texts from many threads share inferences where they would have to wait anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock

from ..core.similarity import Vector

Infer = Callable[[Sequence[list[int]], bool], Vector]
"""From rows of token ids, and whether others are expected beside them, to (n, dim) float32."""


CROWD_SECONDS = 0.05
"""After a text had to wait, others are expected for so long."""

PADDING_SHARE = 0.1
"""Padding that a shared inference may have; more costs more than running one after the other."""


class _Request:
    """One text on its way; ``ready`` is set when it is answered, or is to lead a batch."""

    def __init__(self, row: list[int]) -> None:
        self.row = row
        self.ready = Event()
        self.leads = False
        self.vector: Vector | None = None
        self.error: BaseException | None = None


class Combiner:
    """Runs at most ``limit`` inferences at once, each on as many waiting texts as fit it.

    A text that finds a free place runs at once and alone. Otherwise it waits, asleep, until
    another takes it along or hands it its own place: then it leads a batch of those of like
    length that wait with it, within the token budget and the batch size. So nobody waits for
    company, and a busy machine wastes nothing on inferences of one short text each.
    """

    def __init__(self, infer: Infer, limit: int, token_budget: int, batch_size: int) -> None:
        self._infer = infer
        self._limit = limit
        self._token_budget = token_budget
        self._batch_size = batch_size
        self._lock = Lock()
        self._leading = 0
        self._crowded_until = 0.0
        self._waiting: list[_Request] = []

    def run(self, row: list[int]) -> Vector:
        """(dim,) float32 of one row of token ids; raises what the inference raises."""
        request = _Request(row)
        try:
            with self._lock:
                request.leads = self._leading < self._limit
                if request.leads:
                    self._leading += 1
                else:
                    self._waiting.append(request)
                    self._crowded_until = time.monotonic() + CROWD_SECONDS
            if not request.leads:
                request.ready.wait()
            if request.leads:
                self._lead(request)
        except BaseException:  # Ctrl-C: a place must not stay with one who is gone
            self._hand_over(request)
            raise
        if request.error is not None:
            raise request.error
        assert request.vector is not None
        return request.vector

    def _lead(self, request: _Request) -> None:
        batch = self._company(request)
        crowded = time.monotonic() < self._crowded_until
        try:
            vectors = self._infer([each.row for each in batch], crowded)
            for each, vector in zip(batch, vectors, strict=True):
                each.vector = vector
        except BaseException as error:  # noqa: BLE001  each thread raises it from its own call
            for each in batch:
                each.error = error
        finally:
            self._hand_over(request)
            for each in batch[1:]:
                each.ready.set()

    def _company(self, leader: _Request) -> list[_Request]:
        """The leader and those that wait and fit: nearest in length first, so padding is little."""
        with self._lock:
            batch, tokens = [leader], len(leader.row)
            longest = tokens
            for each in sorted(
                self._waiting, key=lambda each: abs(len(each.row) - len(leader.row))
            ):
                longest, tokens = max(longest, len(each.row)), tokens + len(each.row)
                padded = longest * (len(batch) + 1)
                if len(batch) == self._batch_size or padded > self._token_budget:
                    break
                if padded > (1 + PADDING_SHARE) * tokens:
                    break
                batch.append(each)
            taken = set(map(id, batch))
            self._waiting = [each for each in self._waiting if id(each) not in taken]
            return batch

    def _hand_over(self, request: _Request) -> None:
        """Its place, if it has one, goes to whoever waits longest, or becomes free."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
            if not request.leads:
                return
            request.leads = False
            if not self._waiting:
                self._leading -= 1
                return
            heir = self._waiting.pop(0)
            heir.leads = True
        heir.ready.set()
