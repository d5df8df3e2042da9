"""Qdrant as an index that is derived from a record, and can be compared with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..core.errors import StorageError
from ..core.interfaces import ReplicaIndex
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .filters import to_microseconds
from .qdrant_collections import QdrantCollections
from .qdrant_connection import QdrantConnection
from .qdrant_storage import QdrantStorage


class QdrantReplica(ReplicaIndex):
    """``ReplicaIndex`` over a connection; each embedding has a collection of its own.

    Searches go through the alias of the project, which is set when all of the record is there. So
    they fail, and do not find less, when a server has lost what it had.
    """

    def __init__(self, connection: QdrantConnection) -> None:
        self._connection = connection
        self._collections = QdrantCollections(connection)
        self._fingerprint: str | None = None
        self._reading: tuple[str, QdrantStorage] | None = None
        self._writing: QdrantStorage | None = None

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Make room for an embedding beside others; writes are of it from now on."""
        embedding = self._collections.ensure(fingerprint, dimension)
        self._fingerprint = fingerprint
        self._writing = QdrantStorage(self._connection, embedding)

    def check_embedding(self, fingerprint: str) -> None:
        """Let searches be of this embedding; nothing is asked of the server."""
        self._fingerprint = fingerprint

    def is_active(self) -> bool:
        """Whether the alias of the project stands for the embedding."""
        serving = self._collections.serving()
        return serving is not None and serving.fingerprint == self._fingerprint

    def activate(self) -> None:
        """Let the alias of the project stand for what was written.

        What the project has in the collection of another embedding is deleted first.
        """
        serving = self._collections.serving()
        target = self._target()
        if serving is not None and serving.fingerprint != self._fingerprint:
            QdrantStorage(self._connection, serving).delete_project()
        target.switch_alias()

    def version_of(self, memory: CognitiveMemory, vectors: Vector) -> str:
        """A hash of all that a point is made of."""
        fields = [
            memory.hierarchy_level,
            memory.memory_type,
            list(memory.tags),
            memory.source_path,
            to_microseconds(memory.created_date),
            list(vectors.shape),
        ]
        digest = hashlib.sha256(json.dumps(fields).encode())
        digest.update(vectors.astype("<f4").tobytes())
        return digest.hexdigest()[:32]

    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory by its (chunks, dim) float32 array."""
        self._target().store_vectors(memories, vectors, self.version_of)

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone."""
        return self._target().delete_vectors(memory_ids)

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """The same for each row of ``queries`` (n, dim), many of them in one request."""
        return self._source().search_similar_batch(queries, k, filters, min_score)

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array."""
        return self._source().get_vectors(memory_ids)

    def count(self) -> int:
        """Number of vectors of the project."""
        return self._source().count()

    def get_versions(self, memory_ids: Sequence[str]) -> dict[str, str]:
        """The version that is held of each memory, if all its chunks are of the same one."""
        storage = self._held()
        if storage is None:
            return {}
        held: dict[str, list[tuple[str, int]]] = {}
        for state in storage.list_points_of(memory_ids):
            held.setdefault(state.memory_id, []).append((state.version or "", state.chunks))
        return {
            memory_id: points[0][0]
            for memory_id, points in held.items()
            if len(set(points)) == 1 and len(points) == points[0][1]
        }

    def iterate_ids(self, batch_size: int = 1000) -> Iterator[list[str]]:
        """The ids of all memories that are held, even in part, each once, in batches."""
        storage = self._held()
        points = [] if storage is None else storage.list_points()
        ids = sorted({state.memory_id for state in points})
        for start in range(0, len(ids), batch_size):
            yield ids[start : start + batch_size]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _target(self) -> QdrantStorage:
        if self._writing is None:
            raise StorageError("no embedding is bound to this index; call bind_embedding first")
        return self._writing

    def _held(self) -> QdrantStorage | None:
        """What there is of the embedding, whether it serves or not."""
        found = None if self._fingerprint is None else self._collections.find(self._fingerprint)
        return None if found is None else QdrantStorage(self._connection, found)

    def _source(self) -> QdrantStorage:
        """Searches by the alias itself: were it resolved, its loss would not be noticed."""
        wanted, reading = self._fingerprint, self._reading
        if reading is not None and reading[0] == wanted:
            return reading[1]
        serving = self._collections.serving()
        if serving is None or serving.fingerprint != wanted:
            raise StorageError(
                f"Qdrant at {self._connection.options.shown} does not hold the vectors of "
                f"{wanted}, or no longer; run 'cognitive-memory doctor --repair'"
            )
        storage = QdrantStorage(
            self._connection, replace(serving, collection=self._collections.alias)
        )
        self._reading = serving.fingerprint, storage
        return storage
