"""A record with its derived index is a ``VectorStorage`` like others, whatever that has learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from qdrant_server import Server
from replicas import Pair, Quiet
from server_fixtures import empty_server, running_server

from cognitive_memory.core.interfaces import VectorStorage
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.core.similarity import Vector
from cognitive_memory.storage.replication import Replication
from cognitive_memory.testing import VectorStorageContract

running, server = running_server, empty_server


class _Contract(VectorStorageContract):
    kind: Callable[..., Replication] = Quiet
    many = 50

    @pytest.fixture
    def open_storage(self, tmp_path: Path, server: Server) -> Callable[[], VectorStorage]:
        self._pairs: list[Pair] = []

        def open_pair() -> VectorStorage:
            pair = Pair(
                tmp_path / "store.db",
                server.url,
                type(self).kind,
                options={"timeout_seconds": 60, "batch_size": 16},
            )
            self._pairs.append(pair)
            return pair.vectors

        return open_pair

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        self._pairs[0].memories.save_memories(memories)


class TestNothingApplied(_Contract):
    """The record answers."""


class TestAppliedInTheBackground(_Contract):
    """Whoever is faster."""

    kind = Replication


class TestAllApplied(_Contract):
    """The replica finds everything."""

    def put_memories(
        self,
        storage: VectorStorage,
        memories: Sequence[CognitiveMemory],
        vectors: Sequence[Vector],
    ) -> None:
        super().put_memories(storage, memories, vectors)
        self._pairs[-1].drain()


class TestAllButTheLastApplied(_Contract):
    """The replica finds some, the record the rest."""

    def put_memories(
        self,
        storage: VectorStorage,
        memories: Sequence[CognitiveMemory],
        vectors: Sequence[Vector],
    ) -> None:
        self._pairs[-1].drain()
        super().put_memories(storage, memories, vectors)
