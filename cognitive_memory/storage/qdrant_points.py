"""Requests about the points of one collection, split to what one request may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..core.similarity import Vector
from .qdrant_connection import QdrantConnection
from .qdrant_search import MOST_TIES, PointHit, first_limit, hit_of, is_complete

VECTOR = "semantic"
"""Name of the vector; others may come to stand beside it."""

T = TypeVar("T")


class QdrantPoints:
    """The points of a collection. Conditions are ``Filter`` objects, and name the project."""

    def __init__(self, connection: QdrantConnection, collection: str) -> None:
        self._connection = connection
        self._options = connection.options
        self._collection = collection

    def write(self, operations: Sequence[Any]) -> None:
        """Apply update operations in order; they are durable when this returns."""
        with self._connection.use() as client:
            client.batch_update_points(self._collection, operations, wait=True)

    def delete(self, condition: Any) -> None:
        """Delete those that match."""
        from qdrant_client import models

        with self._connection.use() as client:
            client.delete(self._collection, models.FilterSelector(filter=condition), wait=True)

    def count(self, condition: Any) -> int:
        """How many match, exactly."""
        with self._connection.use() as client:
            return int(client.count(self._collection, condition, exact=True).count)

    def scroll(
        self, condition: Any, payload: Sequence[str], vectors: Sequence[str] = ()
    ) -> Iterator[Any]:
        """The records that match, by id, in the memory of one request."""
        after = None
        while True:
            with self._connection.use() as client:
                records, after = client.scroll(
                    self._collection,
                    scroll_filter=condition,
                    limit=self._options.batch_size,
                    offset=after,
                    with_payload=list(payload),
                    with_vectors=list(vectors) or False,
                )
            yield from records
            if after is None:
                return

    def vectors_of(self, points: Sequence[str]) -> dict[str, Vector]:
        """The (dim,) float32 vector of each of those ids that exist."""
        found: dict[str, Vector] = {}
        for ids in slices(points, self._options.batch_size):
            with self._connection.use() as client:
                records = client.retrieve(
                    self._collection, list(ids), with_payload=False, with_vectors=[VECTOR]
                )
            for record in records:
                found[str(record.id)] = np.array(record.vector[VECTOR], dtype=np.float32)
        return found

    def nearest(self, queries: Vector, k: int, condition: Any) -> list[list[PointHit]]:
        """For each row of ``queries`` as many of the nearest points as decide ``k`` memories."""
        limit = first_limit(k)
        if limit > MOST_TIES:
            limit = min(limit, 1 + self.count(condition))
        found: dict[int, list[PointHit]] = {}
        pending: Sequence[int] = range(len(queries))
        while pending:
            for places in slices(pending, self._options.batch_size):
                answers = self._query(queries[list(places)], limit, condition)
                found |= dict(zip(places, answers, strict=True))
            pending = [place for place in pending if not is_complete(found[place], limit, k)]
            limit *= 4
        return [found[place] for place in range(len(queries))]

    def _query(self, queries: Vector, limit: int, condition: Any) -> list[list[PointHit]]:
        from qdrant_client import models

        requests = [
            models.QueryRequest(
                query=query.tolist(),
                using=VECTOR,
                filter=condition,
                params=self._search_params(),
                limit=limit,
                with_payload=["memory_id", "chunk"],
            )
            for query in queries
        ]
        with self._connection.use() as client:
            answers = client.query_batch_points(self._collection, requests)
        return [[hit_of(point) for point in answer.points] for answer in answers]

    def _search_params(self) -> Any | None:
        from qdrant_client import models

        options = self._options
        if self._connection.is_local:
            # It is exact, and prints a warning when it is told how to search.
            return None
        quantization = None
        if options.quantization != "none":
            # Found by the compressed vectors, ranked by the stored ones.
            quantization = models.QuantizationSearchParams(rescore=True, oversampling=2.0)
        return models.SearchParams(
            hnsw_ef=options.search_ef,
            exact=options.search_exact or None,
            quantization=quantization,
        )


def slices(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """[1, 2, 3], 2 -> [1, 2], [3]."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
