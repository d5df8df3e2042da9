"""The points of one project that hold its record: where they lie, and requests about them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..core.embedding import model_of
from ..core.errors import FingerprintMismatchError, StorageError
from ..core.interfaces import Closing
from .qdrant_changes import Changes, Transactions
from .qdrant_collections import Embedding, QdrantCollections
from .qdrant_connection import QdrantConnection
from .qdrant_filters import of_memories, of_project, point_id
from .qdrant_points import QdrantPoints, slices
from .qdrant_record_payload import record_indexes
from .qdrant_record_writes import any_version, delete, plan_changes
from .qdrant_words import Stemmer

_MOST_VALUES = 100_000
"""Different values of a field that are counted."""

_QUERIES_AT_ONCE = 32
"""In one request; each may be answered by some thousand ids."""

STATE_FIELDS = ("memory_id", "chunk", "chunks", "version")


class RecordPoints(QdrantPoints):
    """The points of a collection that carry the record of a project."""

    def __init__(self, connection: QdrantConnection, embedding: Embedding) -> None:
        super().__init__(connection, embedding.collection)
        self.embedding = embedding
        self._project = connection.options.project

    def first_points(self, *conditions: Any, unlike: Sequence[Any] = ()) -> Any:
        """A filter: one point for each memory of the project that meets the conditions."""
        from qdrant_client import models

        first = models.FieldCondition(key="chunk", match=models.MatchValue(value=0))
        found = of_project(self._project, first, *conditions)
        return found.model_copy(update={"must_not": list(unlike)}) if unlike else found

    def apply(self, operations: Sequence[Any]) -> None:
        """Send one request; what it holds is durable when this returns.

        In a cluster all replicas apply such requests in one order.
        """
        from qdrant_client import models

        with self._connection.use() as client:
            client.batch_update_points(
                self._collection, operations, wait=True, ordering=models.WriteOrdering.MEDIUM
            )

    def first_of(
        self, memory_ids: Collection[str], fields: Sequence[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Of the memories that exist the fields of their first point, in no certain order."""
        points = [point_id(self._project, each, 0) for each in dict.fromkeys(memory_ids)]
        for record in self.retrieve(points, ("memory_id", *fields)):
            yield record.payload

    def retrieve(self, points: Sequence[str], fields: Sequence[str]) -> Iterator[Any]:
        """Those of these points that exist."""
        for ids in slices(points, self._options.batch_size):
            with self._connection.use() as client:
                yield from client.retrieve(self._collection, list(ids), with_payload=list(fields))

    def matching_points(self, conditions: Sequence[Any], limit: int) -> list[list[str]]:
        """For each condition at most ``limit`` of the ids of points that match, in order of id."""
        from qdrant_client import models

        if not limit:
            return [[] for _ in conditions]
        found: list[list[str]] = []
        for some in slices(conditions, _QUERIES_AT_ONCE):
            requests = [
                models.QueryRequest(filter=condition, limit=limit, with_payload=False)
                for condition in some
            ]
            with self._connection.use() as client:
                answers = client.query_batch_points(self._collection, requests)
            found += [[str(point.id) for point in answer.points] for answer in answers]
        return found

    def facet(self, field: str, condition: Any) -> dict[str, int]:
        """How many of the points that match have each value of a field."""
        with self._connection.use() as client:
            found = client.facet(
                self._collection, field, facet_filter=condition, limit=_MOST_VALUES, exact=True
            )
        return {str(hit.value): hit.count for hit in sorted(found.hits, key=lambda h: str(h.value))}

    def count_vectors(self) -> int:
        """Number of vectors; a memory without any is a point all the same."""
        from qdrant_client import models

        return self.count(
            of_project(
                self._project, models.FieldCondition(key="chunks", range=models.Range(gte=1.0))
            )
        )

    def strays(self, condition: Any) -> tuple[list[tuple[str, str]], list[str]]:
        """(memory id, version) of points beside their memory, and ids of those without vectors.

        Beside it are points of another text than its first point, or beyond its number of chunks.
        """
        groups: dict[str, list[Any]] = {}
        for record in self.scroll(condition, STATE_FIELDS):
            groups.setdefault(record.payload["memory_id"], []).append(record.payload)
        strays: set[tuple[str, str]] = set()
        bare = []
        for memory_id, points in groups.items():
            first = next((each for each in points if each["chunk"] == 0), None)
            version = first["version"] if first else None
            others = {each["version"] for each in points} - {version}
            strays |= {(memory_id, other) for other in others}
            own = sum(each["version"] == version for each in points)
            if first and (not first["chunks"] or own < first["chunks"]):
                bare.append(memory_id)
        return sorted(strays), sorted(bare)

    def remove(self, strays: Sequence[tuple[str, str]]) -> None:
        """Delete the points of these versions."""
        for some in slices(strays, self._options.batch_size):
            self.apply(
                [
                    delete(
                        of_project(
                            self._project,
                            of_memories(self._project, [memory_id]),
                            any_version([version]),
                        )
                    )
                    for memory_id, version in some
                ]
            )


class QdrantProject(Closing):
    """What the record and the vectors of a project share: its points, and its transactions.

    Both lie in the collection of one embedding, so that it must be bound before the first memory
    is saved.
    """

    def __init__(self, connection: QdrantConnection) -> None:
        self._connection = connection
        self.options = connection.options
        self._collections = QdrantCollections(connection)
        self._serving: Embedding | None = None
        self._is_ready = False
        self.stemmer = Stemmer()
        self.transactions = Transactions(self._send)

    def bind(self, fingerprint: str, dimension: int) -> None:
        """Let this embedding serve the project; raises as ``check`` does."""
        serving = self._check(fingerprint)
        if self._is_ready and serving and serving == self._serving:
            return
        bound = self._collections.ensure(fingerprint, dimension)
        self._index(bound)
        if bound != serving:
            self._collections.serve(bound)
        self._serving, self._is_ready = bound, True

    def check(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if the project has memories of another embedding."""
        serving = self._check(fingerprint)
        if serving != self._serving:
            self._serving, self._is_ready = serving, False

    def points(self) -> RecordPoints | None:
        """Those of the project, ``None`` before its first embedding was bound."""
        if self._serving is None:
            self._serving = self._collections.serving()
        return None if self._serving is None else RecordPoints(self._connection, self._serving)

    def required_points(self) -> RecordPoints:
        """Raises ``StorageError`` where no embedding was bound."""
        points = self.points()
        if points is None:
            raise StorageError(
                "no embedding is bound to this store; call bind_embedding of its vectors first"
            )
        return points

    def close(self) -> None:
        """Close the connection."""
        self.stemmer.close()
        self._connection.close()

    def _check(self, fingerprint: str) -> Embedding | None:
        serving = self._collections.serving()
        if serving is None or serving.fingerprint == fingerprint:
            return serving
        if RecordPoints(self._connection, serving).count(of_project(self.options.project)):
            raise FingerprintMismatchError(
                f"project {self.options.project!r} in Qdrant at {self.options.shown} holds "
                f"memories embedded by {serving.fingerprint}, the configured model gives "
                f"{fingerprint}; set {model_of(serving.fingerprint, fingerprint)}, or export the "
                "project, import it into another one, and set COGNITIVE_MEMORY_QDRANT__PROJECT to "
                "that"
            )
        return serving

    def _index(self, embedding: Embedding) -> None:
        # The local mode has no indexes, and prints a warning when it is given one.
        if self._connection.is_local:
            return
        with self._connection.use() as client:
            there = client.get_collection(embedding.collection).payload_schema
            for field, schema in record_indexes().items():
                if field not in there:
                    client.create_payload_index(
                        embedding.collection, field, field_schema=schema, wait=True
                    )

    def _send(self, changes: Changes) -> None:
        if not (changes.memories or changes.rewired):
            return
        points = self.required_points()
        for operations in plan_changes(self.options, changes, self.stemmer.stems_of):
            points.apply(operations)
        # Another process may have written the same memory between two of these operations.
        replaced = sorted(changes.held.keys() & changes.vectors.keys())
        for ids in slices(replaced, self.options.batch_size):
            points.remove(points.strays(of_memories(self.options.project, ids))[0])
