"""Several processes over one record in Qdrant: no lost memories, the last of two writers whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import unmeasured
from qdrant_server import Server
from record_handles import W, X, bound

HANG_SECONDS = 240
"""A guard against a process that never ends; nothing is measured."""

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from record_handles import W, X, bound
from cognitive_memory.core.memory import MemoryConnection
from cognitive_memory.testing import make_memory

url, name, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
handle = bound(url)
print("ready", flush=True)
sys.stdin.read()
for number in range(count):
    with handle.record.transaction():
        handle.put(make_memory(f"{name}-{number:02}", f"own {name}", tags=(name,)), W)
        if number:
            edge = MemoryConnection(f"{name}-{number:02}", f"{name}-{number - 1:02}")
            handle.record.add_connections([edge])
    handle.put(make_memory("shared", f"shared {name}", tags=(name,)), *[X] * (1 + number % 3))
    handle.put(make_memory("fields", importance_score=number / count, tags=(name,)))
    print(f"{name}-{number:02}", flush=True)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as server:
        yield server


def test_no_process_loses_what_another_writes(server: Server) -> None:
    names, count = ("one", "two", "three"), 12
    arguments = [sys.executable, "-c", WRITER, str(Path(__file__).parent), server.url]
    writers = [
        subprocess.Popen(
            [*arguments, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=unmeasured(),
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n", writer.communicate()
    for writer in writers:  # at once, now that all are open
        assert writer.stdin is not None
        writer.stdin.close()
        writer.stdin = None
    acknowledged: set[str] = set()
    for writer in writers:
        output, errors = writer.communicate(timeout=HANG_SECONDS)
        assert (writer.returncode, errors) == (0, b"")
        acknowledged.update(output.decode().split())
    assert len(acknowledged) == len(names) * count

    handle = bound(server.url)
    memories = {memory.id: memory for memory in handle.record.find_memories()}
    assert memories.keys() == acknowledged | {"shared", "fields"}
    assert handle.vectors.get_vectors(sorted(acknowledged)).keys() == acknowledged
    found = {hit.memory_id for hit in handle.record.search_text("own", 100)}
    assert found == acknowledged
    assert len(handle.record.get_connections(sorted(acknowledged))) == len(names) * (count - 1)

    shared = memories["shared"]
    assert (shared.content,) == tuple(f"shared {name}" for name in shared.tags)
    (rows,) = handle.vectors.get_vectors(["shared"]).values()
    np.testing.assert_array_equal(rows, np.stack([X] * (1 + (count - 1) % 3)))
    assert handle.vectors.search_similar(W, 1)[0].memory_id in acknowledged
    assert handle.record.check_integrity() == ["1 memories lack vectors; load or store them again"]
