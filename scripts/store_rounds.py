"""Runs the stores' processes: all are built, then opened, then searched, taking turns."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from embedding_rounds import SETTLE_SECONDS, EngineError, Worker
from numpy.typing import NDArray
from store_interface import Setup, Vectors
from store_peers import STORES

BLOCK_ROWS = 16_384


class StoreWorker(Worker):
    """A running process of a store; ``answer`` is what it said on starting."""

    module = "store_worker"

    def ask_within(self, limit_seconds: float, command: str, **arguments: Any) -> Any:
        """The same as ``ask``; raises ``EngineError`` when it takes longer."""
        end = time.monotonic() + limit_seconds
        timer = Timer(limit_seconds, self._process.kill)
        timer.start()
        try:
            answer = self.ask(command, **arguments)
        except EngineError:
            if time.monotonic() < end:
                raise
            answer = None
        finally:
            timer.cancel()
        if time.monotonic() >= end:
            raise EngineError(f"not done after {limit_seconds:,.0f} s")
        return answer


@dataclass(frozen=True)
class Plan:
    """What is measured, and how much of it."""

    threads: int
    rounds: int
    k: int
    batch: int  # queries in a batch
    insert_batch: int  # vectors inserted at once
    limit_seconds: float  # for filling one store


@dataclass
class Record:
    """What was measured of one store at one size; lists hold a value for each round."""

    build: dict[str, float]
    disk_bytes: int
    import_seconds: list[float] = field(default_factory=list)
    open_seconds: list[float] = field(default_factory=list)
    opened: dict[str, int | None] = field(default_factory=dict)
    searched: dict[str, int | None] = field(default_factory=dict)
    one_seconds: list[list[float]] = field(default_factory=list)
    batch_seconds: list[list[float]] = field(default_factory=list)
    recall: dict[str, float] = field(default_factory=dict)


@dataclass
class Bench:
    """The vectors and queries in files; ``say`` is told of progress."""

    plan: Plan
    vectors: Path
    queries: Path
    scratch: Path
    say: Callable[[str], None]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Store -> at which sizes it was not measured, and why."""
    _build_seconds: dict[str, tuple[int, float]] = field(default_factory=dict)

    def check(self, name: str) -> dict[str, str]:
        """Versions of its packages. Raises ``EngineError`` where it is not installed."""
        with self._worker(name, 0) as worker:
            if missing := worker.answer.get("missing"):
                raise EngineError(f"{name}: not installed ({', '.join(missing)})")
            versions: dict[str, str] = worker.ask("versions")
        return versions

    def run(self, names: Sequence[str], size: int, truth: NDArray[np.intp]) -> dict[str, Record]:
        """All measurements at one size; what is left out and why goes to ``left_out``."""
        records: dict[str, Record] = {}
        try:
            for name in names:
                if reason := self._obstacle(name, size):
                    self.left_out.setdefault(name, []).append(f"{size:,}: {reason}")
                    continue
                try:
                    records[name] = self._build(name, size)
                except EngineError as error:
                    self.left_out.setdefault(name, []).append(f"{size:,}: {error}")
            searched = {name: each for name, each in records.items() if STORES[name].is_searched}
            self._open(searched, size)
            self._search(searched, size, truth)
        finally:
            for name in names:
                shutil.rmtree(self._folder(name, size), ignore_errors=True)
        return records

    def _obstacle(self, name: str, size: int) -> str | None:
        most = STORES[name].most
        if most is not None and size > most:
            return f"it advises against more than {most:,} vectors"
        if name in self._build_seconds:
            smaller, seconds = self._build_seconds[name]
            expected = seconds * size / smaller
            if expected > self.plan.limit_seconds:
                return (
                    f"filling it would take {expected:,.0f} s or more by its pace at "
                    f"{smaller:,}, the limit is {self.plan.limit_seconds:,.0f} s"
                )
        return None

    def _build(self, name: str, size: int) -> Record:
        self.say(f"filling {name} with {size:,} vectors")
        folder = self._folder(name, size)
        folder.mkdir()
        begin = time.perf_counter()
        with self._worker(name, size) as worker:
            found = worker.ask_within(
                self.plan.limit_seconds,
                "build",
                vectors=str(self.vectors),
                batch=self.plan.insert_batch,
            )
        self._build_seconds[name] = size, time.perf_counter() - begin
        if STORES[name].is_searched:
            # What is made on the first opening is there for the others; files are in memory.
            with self._opened(name, size):
                pass
        return Record(found, disk_bytes(folder))

    def _open(self, records: Mapping[str, Record], size: int) -> None:
        for number in range(self.plan.rounds):
            self.say(f"opening, round {number + 1} of {self.plan.rounds}")
            for name, record in records.items():
                time.sleep(SETTLE_SECONDS)
                with self._opened(name, size) as (worker, opened):
                    record.import_seconds.append(worker.answer["import_seconds"])
                    record.open_seconds.append(opened.pop("seconds"))
                    record.opened = opened

    def _search(self, records: Mapping[str, Record], size: int, truth: NDArray[np.intp]) -> None:
        batch = self.plan.batch
        with ExitStack() as stack:
            workers = {name: stack.enter_context(self._opened(name, size))[0] for name in records}
            for name, worker in workers.items():
                self.say(f"checking what {name} finds")
                found = worker.ask("found", size=batch)
                records[name].recall = {how: recall(each, truth) for how, each in found.items()}
            for number in range(self.plan.rounds):
                self.say(f"searching, round {number + 1} of {self.plan.rounds}")
                for name, worker in workers.items():
                    time.sleep(SETTLE_SECONDS)
                    records[name].one_seconds.append(worker.ask("one_by_one"))
                for name, worker in workers.items():
                    time.sleep(SETTLE_SECONDS)
                    records[name].batch_seconds.append(worker.ask("in_batches", size=batch))
            for name, worker in workers.items():
                records[name].searched = worker.ask("memory")

    @contextmanager
    def _opened(self, name: str, size: int) -> Iterator[tuple[StoreWorker, dict[str, Any]]]:
        """A process that has opened the store and searched once, and what it said of it."""
        with self._worker(name, size) as worker:
            yield worker, worker.ask("open", queries=str(self.queries), k=self.plan.k)
            worker.ask("close")

    def _worker(self, name: str, size: int) -> StoreWorker:
        dimension = np.load(self.queries, mmap_mode="r").shape[1]
        folder = str(self._folder(name, size))
        setup = Setup(name, self.plan.threads, stage=folder, size=size, dimension=dimension)
        return StoreWorker(setup, sys.executable)

    def _folder(self, name: str, size: int) -> Path:
        return self.scratch / f"{list(STORES).index(name)}-{size}"


def make_vectors(path: Path, count: int, queries: Path, asked: int, dimension: int) -> None:
    """Write (count, dim) and (asked, dim) float32 unit rows, drawn alike: around 128 centers.

    Within a cluster the mean cosine is about 0.67. Queries are no copies of rows, and the fewer
    the clusters, the harder a graph finds their nearest: with 128 it must choose among thousands.
    """
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((128, dimension), dtype=np.float32)

    def draw(rows: int) -> Vectors:
        noise = rng.standard_normal((rows, dimension), dtype=np.float32)
        drawn = centers[rng.integers(len(centers), size=rows)] + np.float32(0.7) * noise
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn

    np.save(queries, draw(asked))
    shape = (count, dimension)
    target = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for first in range(0, count, BLOCK_ROWS):
        target[first : first + BLOCK_ROWS] = draw(min(BLOCK_ROWS, count - first))
    target.flush()


def nearest(vectors: Path, size: int, queries: Path, k: int) -> NDArray[np.intp]:
    """(queries, k): numbers of the nearest of the first ``size`` rows, in double precision."""
    source = np.load(vectors, mmap_mode="r")[:size]
    asked = np.load(queries).astype(np.float64)
    scores = np.empty((len(asked), 0))
    numbers = np.empty((len(asked), 0), dtype=np.intp)
    for first in range(0, size, BLOCK_ROWS):
        rows = np.asarray(source[first : first + BLOCK_ROWS], dtype=np.float64)
        scores = np.hstack([scores, asked @ (rows / np.linalg.norm(rows, axis=1)[:, None]).T])
        new = np.broadcast_to(np.arange(first, first + len(rows)), (len(asked), len(rows)))
        numbers = np.hstack([numbers, new])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        numbers = np.take_along_axis(numbers, best, axis=1)
    return numbers


def recall(found: Sequence[Sequence[int]], truth: NDArray[np.intp]) -> float:
    """Mean share of the true nearest that were found; ``found`` may be of the first queries."""
    pairs = list(zip(found, truth.tolist(), strict=False))
    return sum(len(set(one) & set(other)) / len(other) for one, other in pairs) / len(pairs)


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk; of sparse ones less than their lengths."""
    found = 0
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found += getattr(status, "st_blocks", -(-status.st_size // 512)) * 512
    return found
