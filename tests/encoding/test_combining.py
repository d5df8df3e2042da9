"""Sharing inferences: every text gets its own vector, whatever runs beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import pytest
from processes import unmeasured

from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.combining import PADDING_SHARE, Combiner


class Recorder:
    """Gives each row its first id and its length, and keeps what ran together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.lock = Lock()
        self.running = self.most_running = 0
        self.go_on = Event()
        self.go_on.set()

    def __call__(self, rows: Sequence[list[int]], side_by_side: bool) -> Vector:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.batches.append([len(row) for row in rows])
        self.go_on.wait(timeout=30)
        with self.lock:
            self.running -= 1
        if any(row[0] < 0 for row in rows):
            raise ValueError("a negative id")
        return np.array([[row[0], len(row)] for row in rows], dtype=np.float32)


def test_many_threads_get_their_own_vectors_within_the_limits() -> None:
    recorder = Recorder()
    combiner = Combiner(recorder, limit=2, token_budget=64, batch_size=4)
    rows = [[number] * (1 + number % 30) for number in range(500)]
    with ThreadPoolExecutor(32) as threads:
        vectors = np.stack(list(threads.map(combiner.run, rows)))
    assert vectors.tolist() == [[row[0], len(row)] for row in rows]
    assert recorder.most_running <= 2
    assert sum(map(len, recorder.batches)) == 500
    for lengths in recorder.batches:
        assert len(lengths) <= 4
        padded = max(lengths) * len(lengths)
        assert len(lengths) == 1 or padded <= min(64, (1 + PADDING_SHARE) * sum(lengths))


def test_texts_of_like_length_that_wait_run_together() -> None:
    recorder = Recorder()
    combiner = Combiner(recorder, limit=1, token_budget=1000, batch_size=8)
    recorder.go_on.clear()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(combiner.run, [1] * 5)
        while not recorder.batches:
            pass
        others = [threads.submit(combiner.run, [number] * 20) for number in range(2, 8)]
        while len(combiner._waiting) < len(others):
            pass
        recorder.go_on.set()
        assert first.result().tolist() == [1, 5]
        assert [other.result().tolist() for other in others] == [[n, 20] for n in range(2, 8)]
    assert recorder.batches == [[5], [20] * 6]


def test_a_fault_reaches_each_that_shared_it_and_nobody_else() -> None:
    combiner = Combiner(Recorder(), limit=2, token_budget=64, batch_size=4)
    with pytest.raises(ValueError, match="a negative id"):
        combiner.run([-1])
    assert combiner.run([7, 7]).tolist() == [7, 2], "its place is free again"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread here")
def test_a_place_is_not_handed_to_one_who_was_interrupted() -> None:
    """Ctrl-C while the main thread waits; in a process of its own, which has no other use of it."""
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=60,
        env=unmeasured(),
    )
    assert (result.stdout, result.stderr, result.returncode) == ("all well\n", "", 0)


INTERRUPTED = """
import signal, threading
import numpy as np
from cognitive_memory.encoding.combining import Combiner

go_on = threading.Event()

def infer(rows, side_by_side):
    assert go_on.wait(timeout=30)
    return np.array([[row[0]] for row in rows], dtype=np.float32)

combiner = Combiner(infer, limit=1, token_budget=64, batch_size=4)

interrupted = threading.Event()

def once(*_):
    if not interrupted.is_set():
        interrupted.set()
        raise KeyboardInterrupt

def interrupt():
    while not combiner._waiting:
        pass
    # Again and again: a signal that arrives just before a lock is waited for does not wake it.
    while not interrupted.wait(timeout=0.01):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

def threaded(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread

signal.signal(signal.SIGINT, once)
signal.alarm(40)
first = threaded(combiner.run, [1])
while not combiner._leading:
    pass
interrupter = threaded(interrupt)
try:
    combiner.run([2])
except KeyboardInterrupt:
    pass
else:
    raise SystemExit("was not interrupted")
go_on.set()
for thread in (first, interrupter):
    thread.join()
assert combiner.run([3]).tolist() == [3]
assert (combiner._leading, combiner._waiting) == (0, [])
print("all well")
"""
