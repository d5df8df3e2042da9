"""Runs the engines' processes and lets them take turns: one works while the others wait."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from embedding_peers import ENGINES, Setup
from embedding_texts import MIXED, SHORT, SINGLE

THREAD_VARIABLES = (
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
SETTLE_SECONDS = 0.1
"""Between two turns, so that no engine's threads still spin in the next one's time."""

LATENCIES = ((MIXED, 1), (MIXED, 8), (MIXED, 32), (SHORT, 1))


class EngineError(Exception):
    """An engine that is not installed or does not work; the message says which and why."""


@dataclass(frozen=True)
class Plan:
    """How much is measured; of what is 0 or not there, nothing."""

    rounds: int
    single_calls: int
    calls: Mapping[int, int] = field(default_factory=dict)  # of each batch size, for latency
    trial_texts: int = 256
    idle_seconds: float = 0.0
    sgemm_repeats: int = 0
    is_short_measured: bool = False


@dataclass
class Record:
    """What was measured of one engine; lists hold a value for each round."""

    batch: int
    versions: dict[str, str]
    alone_to_batch_error: float
    trials: dict[int, float] = field(default_factory=dict)  # batch size -> seconds
    mixed_seconds: list[float] = field(default_factory=list)
    short_seconds: list[float] = field(default_factory=list)
    sgemm_gflops: list[float] = field(default_factory=list)  # just before mixed_seconds
    single_p50_seconds: list[float] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)
    start_bytes: list[int] = field(default_factory=list)
    calls: dict[tuple[str, int], list[float]] = field(default_factory=dict)  # of all rounds
    idle_cores: float = 0.0
    peak_bytes: int = 0


class Worker:
    """A running process with a loaded engine.

    ``start_seconds`` reach from before the process was made to after its first embedding,
    ``answer["start_bytes"]`` is its peak memory at that moment. Raises ``EngineError``.
    """

    module: ClassVar[str] = "embedding_worker"
    """Whose function ``task`` is the body of the process."""

    def __init__(self, setup: Setup, interpreter: str, task: str = "serve") -> None:
        self._name = setup.name or setup.engine
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed by close()
        code = f"import {self.module}; {self.module}.{task}()"
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [interpreter, "-c", code, json.dumps(asdict(setup))],
            env=_environment(setup.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.answer: Any = self._read()
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - begin

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to one of ``embedding_worker.Bench``'s commands."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading will say why
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"its process ended with {status}"
        reason = re.sub(r"^(\w+\.)+\w+: ", "", reason)  # the class of the exception
        raise EngineError(f"{self._name}: {reason}")


def _environment(threads: int) -> dict[str, str]:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


@dataclass(frozen=True)
class Bench:
    """The engines' setups and the texts; ``say`` is told of progress."""

    setups: dict[str, Setup]
    interpreters: Mapping[str, str]
    texts: Path
    scratch: Path
    plan: Plan
    say: Callable[[str], None]
    retrieval: Path | None = None
    """Documents and queries, whose vectors are wanted as well."""

    def prepare(self, name: str) -> dict[str, str]:
        """What the engine needs once. Raises ``EngineError``, also where it is not installed."""
        self.say(f"preparing {name}")
        with self.worker(name, "prepare") as worker:
            answer: dict[str, Any] = worker.answer
        if "missing" in answer:
            raise EngineError(f"{name}: not installed ({', '.join(answer['missing'])})")
        return answer

    def worker(self, name: str, task: str = "serve") -> Worker:
        """A process of the engine, with its own interpreter if it has one."""
        return Worker(self.setups[name], self.interpreters.get(name, sys.executable), task)

    @contextmanager
    def loaded(self, name: str) -> Iterator[Worker]:
        """A process of the engine that has read the texts."""
        with self.worker(name) as worker:
            worker.ask("load", path=str(self.texts))
            yield worker

    def vectors(self, name: str) -> Path:
        """Where the engine's vectors of all texts are kept."""
        return self.scratch / f"{name}.npy"

    def retrieval_vectors(self, name: str) -> Path:
        """Where the engine's vectors of documents and queries are kept."""
        return self.scratch / f"{name}.npz"

    def best_batch(self, name: str) -> tuple[int, dict[int, float]]:
        """The fastest of the engine's batch sizes (0: it has none), and the seconds of each."""
        sizes = ENGINES[self.setups[name].engine].batch_sizes
        trials: dict[int, float] = {}
        if len(sizes) < 2:
            return (sizes[0] if sizes else 0), trials
        for size in sizes:
            self.say(f"trying {name} at batch {size}")
            # In a process that ends, since memory is kept; one that gets too little is passed over.
            with suppress(EngineError), self.loaded(name) as worker:
                worker.ask("seconds", texts=MIXED, batch=size, limit=8)  # warms up
                limit = self.plan.trial_texts
                trials[size] = worker.ask("seconds", texts=MIXED, batch=size, limit=limit)
        if not trials:
            raise EngineError(f"{name}: failed at every batch size")
        return min(trials, key=trials.__getitem__), trials

    def run(self, names: list[str], skip: Callable[[str, str], None]) -> dict[str, Record]:
        """All measurements; an engine that fails before the rounds goes to ``skip``."""
        with ExitStack() as stack:
            workers: dict[str, Worker] = {}
            records: dict[str, Record] = {}
            for name in names:
                try:
                    batch, trials = self.best_batch(name)
                    worker = stack.enter_context(self.loaded(name))
                    self.say(f"embedding all texts with {name}, together and alone")
                    error = worker.ask("vectors", path=str(self.vectors(name)), batch=batch)
                    if self.retrieval is not None:
                        path = str(self.retrieval_vectors(name))
                        texts = str(self.retrieval)
                        worker.ask("retrieval", texts=texts, path=path, batch=batch)
                except EngineError as failure:
                    skip(name, str(failure))
                    continue
                records[name] = Record(batch, worker.ask("versions"), error, trials)
                workers[name] = worker
            sgemm = None
            if self.plan.sgemm_repeats:
                threads = self.setups[names[0]].threads
                sgemm = stack.enter_context(Worker(Setup("sgemm", threads), sys.executable))
            for number in range(self.plan.rounds):
                self.say(f"round {number + 1} of {self.plan.rounds}")
                self._throughput(workers, records, sgemm)
                self._latency(number, workers, records)
                self._start(workers, records)
            for name, worker in workers.items():
                records[name].peak_bytes = worker.ask("peak")
                if self.plan.idle_seconds:
                    records[name].idle_cores = worker.ask("idle", seconds=self.plan.idle_seconds)
        return records

    def _throughput(
        self, workers: dict[str, Worker], records: dict[str, Record], sgemm: Worker | None
    ) -> None:
        for name, worker in workers.items():
            time.sleep(SETTLE_SECONDS)
            if sgemm is not None:
                gflops = sgemm.ask("sgemm", repeats=self.plan.sgemm_repeats)
                records[name].sgemm_gflops.append(gflops)
                time.sleep(SETTLE_SECONDS)
            seconds = worker.ask("seconds", texts=MIXED, batch=records[name].batch)
            records[name].mixed_seconds.append(seconds)
        for name, worker in workers.items() if self.plan.is_short_measured else ():
            time.sleep(SETTLE_SECONDS)
            seconds = worker.ask("seconds", texts=SHORT, batch=records[name].batch)
            records[name].short_seconds.append(seconds)

    def _latency(self, number: int, workers: dict[str, Worker], records: dict[str, Record]) -> None:
        for texts, size in LATENCIES:
            if size not in self.plan.calls:
                continue
            calls = self.plan.calls[size]
            what = {"texts": texts, "size": size, "first": number * size * calls, "calls": calls}
            for name, worker in workers.items():
                time.sleep(SETTLE_SECONDS)
                records[name].calls.setdefault((texts, size), []).extend(
                    worker.ask("latency", **what)
                )
        single = {"texts": SINGLE, "size": 1, "first": 0, "calls": self.plan.single_calls}
        for name, worker in workers.items():
            time.sleep(SETTLE_SECONDS)
            seconds = statistics.median(worker.ask("latency", **single))
            records[name].single_p50_seconds.append(seconds)

    def _start(self, workers: dict[str, Worker], records: dict[str, Record]) -> None:
        for name in workers:
            with self.worker(name) as fresh:
                records[name].start_seconds.append(fresh.start_seconds)
                records[name].start_bytes.append(fresh.answer["start_bytes"])

    def memory(self, name: str, counts: tuple[int, int]) -> dict[str, dict[str, int]]:
        """Peak memory of a fresh process after few and after many texts in one call."""
        found = {}
        for title, count in zip(("few", "many"), counts, strict=True):
            self.say(f"peak memory of {count:,} texts")
            with self.loaded(name) as worker:
                answer = worker.ask("memory", texts=MIXED, count=count)
            found[title] = {"texts": count, **answer}
        return found

    def crowd(self, name: str, threads: int) -> dict[str, Any]:
        """Throughput of many threads that embed single texts, relative to one bulk call."""
        self.say(f"{threads} threads at once")
        ratios = []
        with self.loaded(name) as worker:
            worker.ask("crowd", texts=SHORT, threads=threads)  # warms up
            for _ in range(max(3, self.plan.rounds)):
                seconds = worker.ask("crowd", texts=MIXED, threads=threads)
                ratios.append(seconds["bulk"] / seconds["crowd"])
        return {"threads": threads, "ratio": statistics.median(ratios), "ratios": ratios}
