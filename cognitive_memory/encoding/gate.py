"""Bounds how many inferences run at once, so that many callers share the cores in peace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Gate:
    """Lets ``limit`` callers in at once; the others wait, asleep."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._changed = Condition()

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Wait for a place; the value says whether the caller is alone inside."""
        with self._changed:
            while self._inside >= self._limit:
                self._changed.wait()
            self._inside += 1
            alone = self._inside == 1
        try:
            yield alone
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()
