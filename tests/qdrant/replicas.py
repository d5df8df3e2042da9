"""A record in SQLite and its derived index on the server beside this file, put together by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.core.similarity import Vector
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.outbox import Outbox
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_replica import QdrantReplica
from cognitive_memory.storage.reconciliation import Difference, compare
from cognitive_memory.storage.replicated_vectors import ReplicatedVectorStorage
from cognitive_memory.storage.replication import LONGEST_PAUSE_SECONDS, Replication
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import make_memory

FINGERPRINT = "replica/4"
X, Y, Z, W = np.eye(4, dtype=np.float32)


@dataclass
class Clock:
    """Shows what it is set to."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class Quiet(Replication):
    """Applies nothing in the background: its owner does, by ``attempt`` and ``drain``."""

    def wake(self) -> None:
        """Wait to be told."""


@dataclass
class Pair:
    """A record and its replica; ``kind`` says who applies the outbox."""

    path: Path
    url: str
    kind: Callable[..., Replication] = Quiet
    clock: Clock = field(default_factory=Clock)
    options: dict[str, Any] = field(default_factory=dict)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.database = Database(self.path)
        self.memories = SQLitePersistence(self.database)
        self.record = SQLiteVectorStorage(self.database)
        self.outbox = Outbox(self.database)
        given = {"timeout_seconds": 1, "project": f"p-{self.outbox.store_id()}", **self.options}
        self.replica = QdrantReplica(QdrantConnection(QdrantOptions(url=self.url, **given)))
        own = Database(self.path)
        self.replication = self.kind(
            own,
            SQLitePersistence(own),
            SQLiteVectorStorage(own),
            self.replica,
            f"{self.url} {given.get('collection')} {given['project']}",
            **({"clock": self.clock, "jitter": lambda: self.jitter} if self.kind is Quiet else {}),
        )
        self.vectors = ReplicatedVectorStorage(
            self.record,
            self.memories,
            self.outbox,
            self.replica,
            self.replication,
            flush_seconds=60.0,
        )

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.vectors.close()

    def put(self, **vectors: Vector) -> None:
        """Store one vector for each id, or a row for each chunk."""
        self.put_memories([make_memory(name) for name in vectors], list(vectors.values()))

    def put_memories(self, memories: list[CognitiveMemory], vectors: list[Vector]) -> None:
        self.vectors.bind_embedding(FINGERPRINT, 4)
        with self.memories.transaction():
            self.memories.save_memories(memories)
            self.vectors.store_vectors(memories, [np.atleast_2d(each) for each in vectors])

    def drop(self, *names: str) -> None:
        with self.memories.transaction():
            self.vectors.delete_vectors(names)
            self.memories.delete_memories(names)

    def apply(self) -> None:
        """As the thread does, until nothing waits or the replica fails."""
        while self.replication.attempt():
            pass

    def pause(self) -> None:
        """Let so much time pass that it is tried again, whatever failed."""
        self.clock.now += LONGEST_PAUSE_SECONDS

    def drain(self) -> None:
        self.replication.drain()

    def pending(self) -> list[str]:
        """Ids of the memories that wait, in order."""
        return [entry.memory_id for entry in self.outbox.look(-1).entries]

    def found(self, query: Vector = X, k: int = 10, **options: Any) -> list[str]:
        return [hit.memory_id for hit in self.vectors.search_similar(query, k, **options)]

    def record_found(self, query: Vector = X, k: int = 10) -> list[str]:
        return [hit.memory_id for hit in self.record.search_similar(query, k)]

    def difference(self) -> Difference:
        """Between record and replica, whatever waits."""
        serving = self.outbox.look(0).serving
        assert serving is not None
        self.replica.check_embedding(serving.fingerprint)
        return compare(self.memories, self.record, self.replica, set())

    def assert_equal(self) -> None:
        """Nothing waits, and the replica holds what the record does, each number of it."""
        assert self.pending() == []
        assert self.difference().ids == []
        ids = [memory.id for memory in self.memories.find_memories()]
        held, kept = self.replica.get_vectors(ids), self.record.get_vectors(ids)
        assert held.keys() == kept.keys()
        for name, rows in kept.items():
            np.testing.assert_allclose(held[name], rows, atol=1e-6)


OpenPair = Callable[..., Pair]


@contextmanager
def opened_pairs(folder: Path, url: str, **options: object) -> Iterator[OpenPair]:
    """Opens handles on stores in a folder, whose replicas are at ``url``; closes them in the end.

    Whoever opens one may name the store, give more ``options``, and all that ``Pair`` takes.
    """
    opened: list[Pair] = []

    def open_one(name: str = "store.db", **given: Any) -> Pair:
        given = {"path": folder / name, "url": url, **given}
        given["options"] = {**options, **given.get("options", {})}
        opened.append(Pair(**given))
        return opened[-1]

    yield open_one
    for pair in opened:
        pair.vectors.close()
