"""Qdrant as the record against the contracts: in memory and on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from qdrant_server import Server
from server_fixtures import empty_server, running_server

from cognitive_memory.core.interfaces import MemoryStorage, VectorStorage
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_project import QdrantProject
from cognitive_memory.storage.qdrant_record import QdrantRecord
from cognitive_memory.storage.qdrant_record_vectors import QdrantRecordVectors
from cognitive_memory.testing import (
    ConnectionGraphContract,
    LexicalIndexContract,
    MemoryStorageContract,
    VectorStorageContract,
)

OpenProject = Callable[[], QdrantProject]

running, server = running_server, empty_server

BATCH = 16
"""Points in one request; ``MANY`` memories need several."""

MANY = 50


class _Kept(QdrantConnection):
    """Closed by whoever made it: what is in memory would be gone with the first handle."""

    def close(self) -> None:
        """Leave it open."""


@contextmanager
def in_memory() -> Iterator[OpenProject]:
    connection = _Kept(QdrantOptions(batch_size=BATCH))
    yield lambda: QdrantProject(connection)
    QdrantConnection.close(connection)


@contextmanager
def on_a_server(server: Server, *, prefer_grpc: bool) -> Iterator[OpenProject]:
    server.api_key = "right"
    options = QdrantOptions(
        url=server.url,
        api_key="right",
        prefer_grpc=prefer_grpc,
        grpc_port=server.grpc_port,
        timeout_seconds=120,  # it is written in Python, and looks at every point
        batch_size=BATCH,
    )
    yield lambda: QdrantProject(QdrantConnection(options))
    spoken = {request.partition(" ")[0] == "gRPC" for request in server.requests}
    assert spoken <= {prefer_grpc}


PLACES = ("memory", "HTTP", "gRPC")


@pytest.fixture(params=PLACES)
def open_project(request: pytest.FixtureRequest, server: Server) -> Iterator[OpenProject]:
    """Opens handles on one project."""
    place = (
        in_memory()
        if request.param == "memory"
        else on_a_server(server, prefer_grpc=request.param == "gRPC")
    )
    with place as open_project:
        yield open_project


def _bound(project: QdrantProject) -> QdrantProject:
    """A record lies in the collection of an embedding, so that one is bound first."""
    project.bind("contract/4", 4)
    return project


class TestMemories(MemoryStorageContract):
    takes_snapshots = False
    many = MANY

    @pytest.fixture
    def open_memories(self, open_project: OpenProject) -> Callable[[], MemoryStorage]:
        return lambda: QdrantRecord(_bound(open_project()))


class TestVectors(VectorStorageContract):
    many = MANY

    @pytest.fixture
    def open_storage(self, open_project: OpenProject) -> Callable[[], VectorStorage]:
        self.open_project = open_project
        return lambda: QdrantRecordVectors(open_project())

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        with QdrantRecord(self.open_project()) as record:
            record.save_memories(memories)


class _OneRecord:
    @pytest.fixture
    def graph(self, open_project: OpenProject) -> Iterator[QdrantRecord]:
        with QdrantRecord(_bound(open_project())) as self.record:
            yield self.record

    @pytest.fixture
    def lexical(self, graph: QdrantRecord) -> QdrantRecord:
        return graph

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        self.record.save_memories(memories)


class TestConnections(_OneRecord, ConnectionGraphContract):
    pass


class TestWords(_OneRecord, LexicalIndexContract):
    pass
