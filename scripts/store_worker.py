"""The body of a process that holds one store and measures what JSON lines ask for.

It is ``store_worker.serve()`` with a ``Setup`` as JSON for its argument. Imports are few: the time
that they take is one of the figures.
"""

# ruff: noqa: E402
import time

BEGIN = time.perf_counter()

import json
import os
import sys
from importlib import import_module
from itertools import count, takewhile
from pathlib import Path

import numpy as np
from embedding_worker import installed_versions, missing_modules, open_channel, peak_memory
from store_interface import Setup
from store_peers import STORES


def serve() -> None:
    """Import what the store needs, say how long it took, then answer each line with a line."""
    say, setup = open_channel(), Setup(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        # What takes all the cores it sees gets no more than the others.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup.threads])
    kind = STORES[setup.engine]
    if missing := missing_modules(kind.requires):
        say({"missing": missing})
        return
    for module in kind.requires:
        import_module(module)
    bench = Bench(setup)
    say({"import_seconds": time.perf_counter() - BEGIN})
    for line in sys.stdin:
        command, arguments = json.loads(line)
        say(getattr(bench, command)(**arguments))


class Bench:
    """The commands: each method is one, its arguments and its answer are JSON values."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.kind = STORES[setup.engine]
        self.store = self.kind(setup)

    def versions(self) -> dict[str, str]:
        """Of the packages that the store consists of."""
        return installed_versions(self.kind.packages)

    def build(self, vectors: str, batch: int) -> dict[str, float]:
        """Fill the store with the first rows of a .npy file; seconds of it, and peak memory."""
        self.store.create()
        inserting = 0.0
        for first in range(0, self.setup.size, batch):
            # Mapped anew each time: what has been read would count as memory of this process.
            source = np.load(vectors, mmap_mode="r")
            rows = np.array(source[first : min(first + batch, self.setup.size)])
            del source
            held = self.store.hold(first, rows)
            begin = time.perf_counter()
            self.store.insert(held)
            inserting += time.perf_counter() - begin
        begin = time.perf_counter()
        self.store.finish()
        finishing = time.perf_counter() - begin
        self.store.close()
        return {
            "insert_seconds": inserting,
            "finish_seconds": finishing,
            "peak_bytes": peak_memory(),
        }

    def open(self, queries: str, k: int) -> dict[str, float | None]:
        """Open the store and search once; the seconds of both, and the memory then."""
        self.queries = np.load(queries)
        self.k = k
        begin = time.perf_counter()
        self.store.open()
        self.store.search(self.queries[0], k)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, **self.memory()}

    def one_by_one(self) -> list[float]:
        """Seconds of each query."""
        return [seconds for seconds, _ in self._timed(1)]

    def in_batches(self, size: int) -> list[float]:
        """Seconds of each full batch of queries."""
        return [seconds for seconds, _ in self._timed(size)]

    def found(self, size: int) -> dict[str, list[list[int]]]:
        """The numbers found for each query, asked alone and in batches."""
        return {
            "alone": [numbers for _, answer in self._timed(1) for numbers in answer],
            "batch": [numbers for _, answer in self._timed(size) for numbers in answer],
        }

    def _timed(self, size: int) -> list[tuple[float, list[list[int]]]]:
        answers = []
        for first in takewhile(lambda first: first + size <= len(self.queries), count(0, size)):
            queries = self.queries[first : first + size]
            begin = time.perf_counter()
            if size == 1:
                found = [self.store.search(queries[0], self.k)]
            else:
                found = list(self.store.search_batch(queries, self.k))
            seconds = time.perf_counter() - begin
            answers.append((seconds, [self.store.numbers(each) for each in found]))
        return answers

    def memory(self) -> dict[str, float | None]:
        """Bytes: resident now, of it not in files that are mapped, and the most there was."""
        status = Path("/proc/self/status")
        if not status.exists():
            return {"resident_bytes": None, "own_bytes": None, "peak_bytes": peak_memory()}
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        resident, own = (1024 * int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon"))
        return {"resident_bytes": resident, "own_bytes": own, "peak_bytes": peak_memory()}

    def close(self) -> None:
        """Leave the store in order."""
        self.store.close()
