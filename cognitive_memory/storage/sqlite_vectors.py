"""Vectors in the same SQLite file, searched exactly in NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StorageError
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .current_index import LEAST_SAVED, ON_DISK, CurrentIndex, to_matrix
from .database import Database
from .embeddings import SERVING, Embeddings
from .filters import where
from .vector_checks import check_vectors, checked_queries


class SQLiteVectorStorage(VectorStorage):
    """``VectorStorage`` over the memories of a ``Database``; the record and the vectors are one.

    The matrix in memory is derived: every search first takes over what any process has added or
    deleted since. Thread-safe.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._embeddings = Embeddings(database)
        self._index = CurrentIndex(database, self._embeddings)
        self._written = 0
        """Vectors stored by this object."""

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Remember whose vectors will be stored.

        Raises ``FingerprintMismatchError`` when the store holds those of another embedding; one
        that holds none takes any.
        """
        self._embeddings.bind(fingerprint, dimension)

    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if vectors of another embedding are held."""
        self._embeddings.check(fingerprint)

    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory, which must be stored, by its (chunks, dim) array.

        Raises as its parent does, and ``StorageError`` for a memory that is not stored.
        """
        serving = self._embeddings.required()
        check_vectors(memories, vectors, serving.dimension)
        with self._database.transaction():
            # Those of other embeddings, too: what is stored anew has another text, mostly.
            self._delete([memory.id for memory in memories])
            insert_vectors(self._database, serving.number, memories, vectors)
        self._written += sum(map(len, vectors))

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """For each row of ``queries`` (n, dim) the best, exactly, from one state of the store."""
        with self._database.snapshot():
            index = self._index.get()
            if index is None or k <= 0:
                return [[] for _ in queries]
            rows = checked_queries(queries, index.dimension)
            owners = None if filters is None else self._owners(filters)
            found = index.search_batch(rows, k, owners)
            ids = dict(
                self._database.execute(
                    "SELECT pk, id FROM memories WHERE pk IN (SELECT value FROM json_each(?))",
                    [json.dumps(sorted({owner for hits in found for owner, _, _ in hits}))],
                )
            )
        return [_best(hits, ids, k, min_score) for hits in found]

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, in the order asked."""
        with self._database.snapshot():
            serving = self._embeddings.serving()
            rows = self._database.execute(
                "SELECT id, vector FROM memories JOIN vectors ON memory_pk = pk "
                f"WHERE id IN (SELECT value FROM json_each(?)) AND embedding = ({SERVING}) "
                "ORDER BY pk, chunk",
                [json.dumps(list(memory_ids))],
            ).fetchall()
        chunks: dict[str, list[bytes]] = {}
        for memory_id, blob in rows:
            chunks.setdefault(memory_id, []).append(blob)
        return {
            memory_id: to_matrix(blobs, serving.dimension, self._database.path).astype(np.float32)
            for memory_id in dict.fromkeys(memory_ids)
            if serving and (blobs := chunks.get(memory_id))
        }

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone."""
        with self._database.transaction():
            return self._delete(memory_ids)

    def count(self) -> int:
        """Number of vectors."""
        with self._database.snapshot():
            row = self._database.execute(
                f"SELECT count(*) FROM vectors WHERE embedding = ({SERVING})"
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Drop the matrix and close the file."""
        if self._written >= LEAST_SAVED and not self._database.writing:
            # The next process is to open it fast, too, whether or not this one has searched.
            with suppress(StorageError), self._database.snapshot():
                self._index.save()
        self._index.drop()
        self._database.close()

    def _owners(self, filters: MemoryFilter) -> NDArray[np.int64]:
        condition, values = where(filters)
        rows = self._database.execute(f"SELECT pk FROM memories WHERE {condition}", values)
        return np.array(rows.fetchall(), dtype=np.int64).ravel()

    def _delete(self, memory_ids: Sequence[str]) -> int:
        """Delete the vectors of all embeddings; how many memories had some that serve."""
        owners = "SELECT pk FROM memories WHERE id IN (SELECT value FROM json_each(?))"
        wanted = json.dumps(list(memory_ids))
        serving = self._embeddings.serving()
        held = self._database.execute(
            f"SELECT count(DISTINCT memory_pk) FROM vectors WHERE memory_pk IN ({owners}) "
            "AND embedding = ?",
            [wanted, serving.number if serving else 0],
        ).fetchone()[0]
        self._database.execute(f"DELETE FROM vectors WHERE memory_pk IN ({owners})", [wanted])
        return int(held)


def _best(
    hits: Sequence[tuple[int, float, int]],
    ids: Mapping[int, str],
    k: int,
    min_score: float | None,
) -> list[VectorHit]:
    found = [
        VectorHit(ids[owner], score, chunk)
        for owner, score, chunk in hits
        if min_score is None or score >= min_score
    ]
    return sorted(found, key=lambda hit: (-hit.score, hit.memory_id))[:k]


def insert_vectors(
    database: Database,
    embedding: int,
    memories: Sequence[CognitiveMemory],
    vectors: Sequence[Vector],
) -> None:
    """Write the (chunks, dim) array of each memory, within a transaction of the caller.

    They are checked; raises ``StorageError`` for a memory that is not stored.
    """
    ids = [memory.id for memory in memories]
    pks = dict(
        database.execute(
            "SELECT id, pk FROM memories WHERE id IN (SELECT value FROM json_each(?))",
            [json.dumps(ids)],
        )
    )
    if missing := [each for each in ids if each not in pks]:
        raise StorageError(f"memory {missing[0]!r} is not stored; save it before its vectors")
    database.execute_many(
        "INSERT INTO vectors (memory_pk, embedding, chunk, vector) VALUES (?, ?, ?, ?)",
        (
            (pks[memory.id], embedding, chunk, row.tobytes())
            for memory, array in zip(memories, vectors, strict=True)
            for chunk, row in enumerate(array.astype(ON_DISK, copy=False))
        ),
    )
