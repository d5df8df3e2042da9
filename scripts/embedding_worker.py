"""The body of a process that holds one engine and measures what JSON lines ask for.

    python -c "import embedding_worker; embedding_worker.serve()" '{"engine": "ours", "threads": 2}'

Few imports: the time to start is one of the figures.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from embedding_peers import ENGINES, Engine, Setup

FIRST_TEXT = "The first text that a new process embeds."
SGEMM_SIZE = 2048


def serve() -> None:
    """Load the engine, embed a text, say so; then answer each line with a line."""
    say, setup = open_channel(), Setup(**json.loads(sys.argv[1]))
    bench = Bench(setup)
    if setup.engine in ENGINES:
        bench.engine.encode_one(FIRST_TEXT)
    say({"start_bytes": peak_memory()})
    for line in sys.stdin:
        command, arguments = json.loads(line)
        say(getattr(bench, command)(**arguments))


def prepare() -> None:
    """Do what the engine needs once, or say which packages it lacks."""
    say, setup = open_channel(), Setup(**json.loads(sys.argv[1]))
    kind = ENGINES[setup.engine]
    missing = missing_modules(kind.requires)
    say({"missing": missing} if missing else kind.prepare(setup))


def missing_modules(names: Iterable[str]) -> list[str]:
    """Those that this interpreter cannot import."""
    return [name for name in names if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it belongs to
        return False


def open_channel() -> Callable[[Any], None]:
    """What writes an answer as a line of JSON; what libraries print does not come between."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Any) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    return say


class Bench:
    """The commands: each method is one, its arguments and its answer are JSON values."""

    def __init__(self, setup: Setup) -> None:
        self.texts: dict[str, list[str]] = {}
        if setup.engine in ENGINES:
            self.kind = ENGINES[setup.engine]
            self.engine: Engine = self.kind(setup)

    def versions(self) -> dict[str, str]:
        """Of the packages that the engine consists of."""
        return installed_versions(self.engine.packages)

    def load(self, path: str) -> int:
        """Read the texts: a JSON object of lists."""
        self.texts = json.loads(Path(path).read_text(encoding="utf-8"))
        return len(self.texts)

    def seconds(self, texts: str, batch: int, limit: int | None = None) -> float:
        """Wall time to embed a whole list."""
        chosen = self.texts[texts][:limit]
        begin = time.perf_counter()
        self.engine.encode(chosen, batch)
        return time.perf_counter() - begin

    def latency(self, texts: str, size: int, first: int, calls: int) -> list[float]:
        """Seconds of each call with ``size`` consecutive texts, beginning at ``first``."""
        source = cycle(self.texts[texts])
        chosen = list(islice(source, first, first + size * calls))
        taken = []
        for start in range(0, len(chosen), size):
            batch = chosen[start : start + size]
            begin = time.perf_counter()
            if size == 1:
                self.engine.encode_one(batch[0])
            else:
                self.engine.encode(batch, size)
            taken.append(time.perf_counter() - begin)
        return taken

    def vectors(self, path: str, batch: int) -> float:
        """Save the vectors of all texts; how far they are from those of each text alone."""
        texts = [text for part in self.texts.values() for text in part]
        together = self.engine.encode(texts, batch)
        np.save(path, together, allow_pickle=False)
        alone = np.stack([self.engine.encode_one(text) for text in texts])
        return float(np.abs(together - alone).max())

    def retrieval(self, texts: str, path: str, batch: int) -> int:
        """Save the vectors of documents and queries, as one would search with them."""
        task = json.loads(Path(texts).read_text(encoding="utf-8"))
        documents = self.engine.encode(task["documents"], batch)
        queries = np.stack([self.engine.encode_query(query) for query in task["queries"]])
        np.savez(path, documents=documents, queries=queries)
        return len(documents)

    def crowd(self, texts: str, threads: int) -> dict[str, float]:
        """Seconds for a list in one call, and text by text from many threads at once."""
        from concurrent.futures import ThreadPoolExecutor

        chosen = self.texts[texts]
        bulk = self.seconds(texts, 32)
        with ThreadPoolExecutor(threads) as pool:
            begin = time.perf_counter()
            list(pool.map(self.engine.encode_one, chosen))
            return {"bulk": bulk, "crowd": time.perf_counter() - begin}

    def memory(self, texts: str, count: int) -> dict[str, int]:
        """Peak memory after ``count`` texts in one call, the given ones again and again."""
        result = self.engine.encode(list(islice(cycle(self.texts[texts]), count)), 32)
        return {"peak_bytes": peak_memory(), "result_bytes": result.nbytes}

    def idle(self, seconds: float) -> float:
        """Cores kept busy while nothing is asked."""
        begin = time.process_time()
        time.sleep(seconds)
        return (time.process_time() - begin) / seconds

    def peak(self) -> int:
        """Peak memory of this process so far, in bytes."""
        return peak_memory()

    def sgemm(self, repeats: int) -> float:
        """GFLOP/s of a float32 matrix product in NumPy, the best of some."""
        size = SGEMM_SIZE
        left, right = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
        best = float("inf")
        for _ in range(repeats):
            begin = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - begin)
        return 2 * size**3 / best / 1e9


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def peak_memory() -> int:
    """Largest resident size of this process, in bytes (Linux, macOS)."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would begin with the size of the parent that made this process.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
