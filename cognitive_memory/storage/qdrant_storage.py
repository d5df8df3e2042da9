"""Vectors in Qdrant, one point for each chunk: a derived index that can be made from the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.embedding import model_of
from ..core.errors import FingerprintMismatchError, StorageError
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .qdrant_collections import Embedding, QdrantCollections
from .qdrant_connection import QdrantConnection
from .qdrant_filters import first_chunks, matching, of_memories, of_project
from .qdrant_points import VECTOR, QdrantPoints, slices
from .qdrant_search import best_memories, contenders, near_ties, rescored
from .qdrant_writes import VersionOf, plan_writes
from .vector_checks import check_vectors, checked_queries

_STATE_FIELDS = ("memory_id", "chunk", "chunks", "version")


@dataclass(frozen=True, slots=True)
class PointState:
    """What a reconciler compares; ``version`` is what the writer gave, if it did."""

    memory_id: str
    chunk: int
    chunks: int
    version: str | None


class QdrantStorage(VectorStorage):
    """``VectorStorage`` over the points of one project; an alias says which embedding serves it.

    Ranks as the exact store does, as far as the server finds the nearest points: where it has built
    an HNSW index that is an approximation, unless ``search_exact`` is set. Vectors come back as
    they were stored, but local mode scales them to unit length once more, which may change the
    last bit. A write that was cut off is completed by repeating it. Thread-safe.

    Raises ``StoreUnavailableError`` when the server does not answer, never less than it holds.
    """

    def __init__(self, connection: QdrantConnection, bound: Embedding | None = None) -> None:
        self._connection = connection
        self._options = connection.options
        self._collections = QdrantCollections(connection)
        self._bound = bound

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Let this embedding serve the project; its collection is made if there is none.

        Raises ``FingerprintMismatchError`` when the project has vectors of another embedding.
        """
        serving = self._collections.serving()
        self._check(serving, fingerprint)
        bound = self._collections.ensure(fingerprint, dimension)
        if bound != serving:
            self._collections.serve(bound)
        self._bound = bound

    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if the project has vectors of another embedding."""
        self._check(self._collections.serving(), fingerprint)

    def building(self, fingerprint: str, dimension: int) -> QdrantStorage:
        """A storage for another embedding, over the same connection, that does not serve yet.

        Fill it, then call its ``switch_alias``. The one that served before keeps its vectors until
        its ``delete_project`` is called.
        """
        other = QdrantStorage(self._connection)
        other._bound = self._collections.ensure(fingerprint, dimension)
        return other

    def existing(self, fingerprint: str) -> QdrantStorage:
        """A storage for an embedding that was built before, whether it serves or not.

        Raises ``StorageError`` when there is no collection of it.
        """
        found = self._collections.find(fingerprint)
        if found is None:
            raise StorageError(
                f"Qdrant at {self._options.shown} has no collection "
                f"{self._collections.name_of(fingerprint)}; run 'cognitive-memory doctor --repair'"
            )
        other = QdrantStorage(self._connection)
        other._bound = found
        return other

    def switch_alias(self) -> None:
        """Let the embedding of this storage serve the project, from one request to the next."""
        self._collections.serve(self._required())

    def store_vectors(
        self,
        memories: Sequence[CognitiveMemory],
        vectors: Sequence[Vector],
        version_of: VersionOf | None = None,
    ) -> None:
        """Replace the vectors of each memory by its (chunks, dim) float32 array of unit rows.

        What ``version_of`` gives is kept beside them, for a reconciler. All is checked before the
        first request is sent. Raises as its parent does.
        """
        embedding = self._required()
        check_vectors(memories, vectors, embedding.dimension)
        points = self._points(embedding)
        for operations in plan_writes(self._options, memories, vectors, version_of):
            points.write(operations)

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """The same for each row of ``queries`` (n, dim), many of them in one request."""
        embedding = self._reading()
        if embedding is None or k <= 0:
            return [[] for _ in queries]
        rows = checked_queries(queries, embedding.dimension)
        condition = matching(self._options.project, filters)
        if condition is None:
            return [[] for _ in queries]
        points = self._points(embedding)
        ranked = []
        for query, hits in zip(rows, points.nearest(rows, k, condition), strict=True):
            likely = contenders(hits, k)
            exact = points.vectors_of(near_ties(likely))
            ranked.append(best_memories(rescored(likely, query, exact), k, min_score))
        return ranked

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, in the order asked."""
        embedding = self._reading()
        if embedding is None:
            return {}
        wanted = list(dict.fromkeys(memory_ids))
        chunks: dict[str, dict[int, list[float]]] = {}
        for ids in slices(wanted, self._options.batch_size):
            condition = of_memories(self._options.project, ids)
            fields = ("memory_id", "chunk")
            for record in self._points(embedding).scroll(condition, fields, vectors=(VECTOR,)):
                rows = chunks.setdefault(record.payload["memory_id"], {})
                rows[record.payload["chunk"]] = record.vector[VECTOR]
        return {
            memory_id: np.array([rows[chunk] for chunk in sorted(rows)], dtype=np.float32)
            for memory_id in wanted
            if (rows := chunks.get(memory_id, {}))
        }

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone."""
        embedding = self._reading()
        if embedding is None:
            return 0
        points = self._points(embedding)
        deleted = 0
        for ids in slices(list(dict.fromkeys(memory_ids)), self._options.batch_size):
            deleted += points.count(first_chunks(self._options.project, ids))
            points.delete(of_memories(self._options.project, ids))
        return deleted

    def delete_project(self) -> int:
        """Number of vectors of the project that were there and are gone; other projects stay."""
        embedding = self._reading()
        if embedding is None:
            return 0
        held = self._count(embedding)
        self._points(embedding).delete(of_project(self._options.project))
        return held

    def count(self) -> int:
        """Number of vectors of the project."""
        embedding = self._reading()
        return 0 if embedding is None else self._count(embedding)

    def list_points(self) -> Iterator[PointState]:
        """All points of the project, in no order that means anything, a request at a time."""
        embedding = self._reading()
        if embedding is not None:
            condition = of_project(self._options.project)
            yield from map(_state, self._points(embedding).scroll(condition, _STATE_FIELDS))

    def list_points_of(self, memory_ids: Sequence[str]) -> Iterator[PointState]:
        """All points of these memories."""
        embedding = self._reading()
        if embedding is None:
            return
        for ids in slices(list(memory_ids), self._options.batch_size):
            condition = of_memories(self._options.project, ids)
            yield from map(_state, self._points(embedding).scroll(condition, _STATE_FIELDS))

    def close(self) -> None:
        """Close the connection, and so every storage that shares it."""
        self._connection.close()

    def _check(self, serving: Embedding | None, fingerprint: str) -> None:
        if serving is None or serving.fingerprint == fingerprint or not self._count(serving):
            return
        raise FingerprintMismatchError(
            f"project {self._options.project!r} in Qdrant at {self._options.shown} holds vectors "
            f"of {serving.fingerprint}, the configured model gives {fingerprint}; run "
            "'cognitive-memory reembed' to embed all memories anew, or set "
            f"{model_of(serving.fingerprint, fingerprint)}, "
            "or COGNITIVE_MEMORY_QDRANT__PROJECT to another name"
        )

    def _reading(self) -> Embedding | None:
        """What was bound, or else what serves; ``None`` where nothing was ever stored."""
        return self._bound or self._collections.serving()

    def _required(self) -> Embedding:
        embedding = self._reading()
        if embedding is None:
            raise StorageError("no embedding is bound to this store; call bind_embedding first")
        return embedding

    def _points(self, embedding: Embedding) -> QdrantPoints:
        return QdrantPoints(self._connection, embedding.collection)

    def _count(self, embedding: Embedding) -> int:
        return self._points(embedding).count(of_project(self._options.project))


def _state(record: Any) -> PointState:
    given = record.payload
    return PointState(given["memory_id"], given["chunk"], given["chunks"], given.get("version"))
