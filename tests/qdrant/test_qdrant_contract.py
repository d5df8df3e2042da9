"""Qdrant against the contract: in memory, on a path, on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_server import Server
from server_fixtures import empty_server, running_server

from cognitive_memory.core.interfaces import VectorStorage
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_storage import QdrantStorage
from cognitive_memory.testing import VectorStorageContract

running, server = running_server, empty_server

BATCH = 16
"""Points in one request; ``MANY`` memories need several."""

MANY = 50


class _Kept(QdrantConnection):
    """Closed by whoever made it: what is in memory would be gone with the first handle."""

    def close(self) -> None:
        """Leave it open."""


class TestInMemory(VectorStorageContract):
    many = MANY

    @pytest.fixture
    def open_storage(self) -> Iterator[Callable[[], VectorStorage]]:
        connection = _Kept(QdrantOptions(batch_size=BATCH))
        yield lambda: QdrantStorage(connection)
        QdrantConnection.close(connection)


class TestOnAPath(VectorStorageContract):
    shares_store = False
    many = MANY

    @pytest.fixture
    def open_storage(self, tmp_path: Path) -> Callable[[], VectorStorage]:
        options = QdrantOptions(path=str(tmp_path / "qdrant"), batch_size=BATCH)
        return lambda: QdrantStorage(QdrantConnection(options))


class TestOverHTTP(VectorStorageContract):
    prefer_grpc = False
    many = MANY

    @pytest.fixture
    def open_storage(self, server: Server) -> Iterator[Callable[[], VectorStorage]]:
        server.api_key = "right"
        options = QdrantOptions(
            url=server.url,
            api_key="right",
            prefer_grpc=self.prefer_grpc,
            grpc_port=server.grpc_port,
            batch_size=BATCH,
        )
        yield lambda: QdrantStorage(QdrantConnection(options))
        spoken = {request.partition(" ")[0] == "gRPC" for request in server.requests}
        assert spoken <= {self.prefer_grpc}


class TestOverGRPC(TestOverHTTP):
    prefer_grpc = True
