"""The vectors of a record in Qdrant, in the same points as its memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.errors import StorageError
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .qdrant_changes import Changes, Held
from .qdrant_filters import matching, of_memories
from .qdrant_points import VECTOR, slices
from .qdrant_project import STATE_FIELDS, QdrantProject, RecordPoints
from .qdrant_record_payload import MEMORY_FIELDS, to_edges, to_memory
from .qdrant_search import best_memories, contenders, near_ties, rescored
from .vector_checks import check_vectors, checked_queries


class QdrantRecordVectors(VectorStorage):
    """``VectorStorage`` over the memories of a ``QdrantRecord``, within its transactions.

    Ranks as ``QdrantStorage`` does: exactly, or by HNSW where the server has built an index.
    """

    def __init__(self, project: QdrantProject) -> None:
        self._project = project

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Let this embedding serve the project; its collection is made if there is none.

        Raises ``FingerprintMismatchError`` when the project has memories of another embedding.
        """
        self._project.bind(fingerprint, dimension)

    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if the project has memories of another embedding."""
        self._project.check(fingerprint)

    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory, which must be stored, by its (chunks, dim) array.

        Raises as its parent does, and ``StorageError`` for a memory that is not stored.
        """
        if not memories and not vectors:
            return
        points = self._project.required_points()
        check_vectors(memories, vectors, points.embedding.dimension)
        with self._project.transactions.open() as changes:
            self._look_up([memory.id for memory in memories], points, changes)
            for memory, rows in zip(memories, vectors, strict=True):
                if changes.memories.get(memory.id) is None:
                    raise StorageError(
                        f"memory {memory.id!r} is not stored; save it before its vectors"
                    )
                changes.vectors[memory.id] = rows if len(rows) else None

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """The same for each row of ``queries`` (n, dim), many of them in one request."""
        points = self._project.points()
        if points is None or k <= 0:
            return [[] for _ in queries]
        rows = checked_queries(queries, points.embedding.dimension)
        changes = self._project.transactions.changes()
        # So many more that enough is left without those that this thread has changed.
        found = self._ranked(points, rows, k + len(changes.memories), filters, min_score)
        if not changes.memories:
            return found
        matching_ones = changes.matching(filters)
        kept = tuple(each.id for each in matching_ones if each.id not in changes.vectors)
        unwritten = MemoryFilter(memory_ids=kept)
        others = self._ranked(points, rows, len(kept), unwritten, min_score)
        return [
            sorted(
                [
                    *(hit for hit in hits if hit.memory_id not in changes.memories),
                    *same,
                    *_pending_hits(query, matching_ones, changes, min_score),
                ],
                key=lambda hit: (-hit.score, hit.memory_id),
            )[:k]
            for query, hits, same in zip(rows, found, others, strict=True)
        ]

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, in the order asked."""
        changes = self._project.transactions.changes()
        wanted = list(dict.fromkeys(memory_ids))
        found = {
            each: rows.copy()
            for each in wanted
            if changes.memories.get(each) and (rows := changes.vectors.get(each)) is not None
        }
        points = self._project.points()
        if points is not None:
            written = changes.vectors.keys() | changes.deleted()
            missing = [each for each in wanted if each not in written]
            for some in slices(missing, self._project.options.batch_size):
                found |= self._stored(points, some)
        return {each: found[each] for each in wanted if each in found}

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone; the memories stay."""
        points = self._project.points()
        if points is None:
            return 0
        with self._project.transactions.open() as changes:
            there = [each for each, rows in changes.vectors.items() if rows is not None]
            unwritten = set(memory_ids) - changes.vectors.keys() - changes.deleted()
            there += [
                payload["memory_id"]
                for payload in points.first_of(unwritten, ("chunks",))
                if payload["chunks"]
            ]
            wanted = [each for each in there if each in set(memory_ids)]
            self._look_up(wanted, points, changes)
            changes.vectors |= dict.fromkeys(wanted)
        return len(wanted)

    def count(self) -> int:
        """Number of vectors of the project, those of an open transaction not among them."""
        points = self._project.points()
        return 0 if points is None else points.count_vectors()

    def close(self) -> None:
        """Close the connection, also that of the record."""
        self._project.close()

    def _ranked(
        self,
        points: RecordPoints,
        rows: Vector,
        k: int,
        filters: MemoryFilter | None,
        min_score: float | None,
    ) -> list[list[VectorHit]]:
        condition = matching(self._project.options.project, filters)
        if condition is None or not k:
            return [[] for _ in rows]
        ranked = []
        for query, hits in zip(rows, points.nearest(rows, k, condition), strict=True):
            likely = contenders(hits, k)
            exact = points.vectors_of(near_ties(likely))
            ranked.append(best_memories(rescored(likely, query, exact), k, min_score))
        return ranked

    def _stored(self, points: RecordPoints, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """Of each memory the vectors that are of its text."""
        condition = of_memories(self._project.options.project, memory_ids)
        groups: dict[str, dict[tuple[str, int], Any]] = {}
        held: dict[str, Held] = {}
        for record in points.scroll(condition, STATE_FIELDS, vectors=(VECTOR,)):
            given = record.payload
            if given["chunk"] == 0:
                held[given["memory_id"]] = Held(given["version"], given["chunks"])
            if row := (record.vector or {}).get(VECTOR):
                rows = groups.setdefault(given["memory_id"], {})
                rows[given["version"], given["chunk"]] = row
        # Only what belongs to the first point: another process may be writing the rest.
        return {
            memory_id: np.array(own, dtype=np.float32)
            for memory_id, state in held.items()
            if (own := _chunks(groups.get(memory_id, {}), state))
        }

    def _look_up(self, memory_ids: Sequence[str], points: RecordPoints, changes: Changes) -> None:
        """Take all of these memories that exist, and their edges, among the changes.

        Their points are written anew, which takes all that they carry.
        """
        missing = [
            each for each in memory_ids if each not in changes.memories or each not in changes.edges
        ]
        for payload in points.first_of(missing, (*MEMORY_FIELDS, "edges", "version", "chunks")):
            memory_id = payload["memory_id"]
            changes.memories.setdefault(memory_id, to_memory(payload))
            changes.edges.setdefault(memory_id, to_edges(payload))
            changes.held.setdefault(memory_id, Held(payload["version"], payload["chunks"]))


def _chunks(rows: Mapping[tuple[str, int], Any], held: Held) -> list[Any]:
    """Those of the text and the number of chunks that are held, in order."""
    keys = [(held.version, chunk) for chunk in range(held.chunks)]
    return [rows[key] for key in keys if key in rows]


def _pending_hits(
    query: Vector,
    memories: Sequence[CognitiveMemory],
    changes: Changes,
    min_score: float | None,
) -> list[VectorHit]:
    """Of memories whose vectors are not sent yet; the first of equal chunks is named."""
    hits = []
    for memory in memories:
        rows = changes.vectors.get(memory.id)
        if rows is not None:
            scores = np.clip(
                (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1), -1, 1
            )
            best = int(scores.argmax())
            hits.append(VectorHit(memory.id, float(scores[best]), best))
    return [hit for hit in hits if min_score is None or hit.score >= min_score]
