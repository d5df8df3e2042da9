"""Vectors in the same SQLite file, searched exactly in NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DimensionMismatchError, InvalidInputError, StorageError
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit, check_distinct
from ..core.similarity import UNIT_TOLERANCE, Vector
from .current_index import LEAST_SAVED, ON_DISK, CurrentIndex, to_matrix
from .database import Database
from .embeddings import SERVING, Embeddings
from .filters import where

CHECKED_AT_ONCE = 1024
"""Arrays in one check: one by one, checks took a third of storing them."""


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

        Raises ``DimensionMismatchError``, ``StorageError`` for a memory that is not stored, and
        ``InvalidInputError`` for rows that are not finite and of unit length, or a memory given
        twice.
        """
        serving = self._embeddings.required()
        checked = checked_arrays(vectors, serving.dimension)
        with self._database.transaction():
            # Those of other embeddings, too: what is stored anew has another text, mostly.
            self._delete([memory.id for memory in memories])
            insert_vectors(self._database, serving.number, memories, checked)
        self._written += sum(map(len, checked))

    def search_similar(
        self,
        query: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[VectorHit]:
        """The ``k`` best memories by their best chunk, exactly, best first, ties by id."""
        return self.search_similar_batch(np.asarray(query)[None], k, filters, min_score)[0]

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """The same for each row of ``queries`` (n, dim), from one state of the store."""
        with self._database.snapshot():
            index = self._index.get()
            if index is None or k <= 0:
                return [[] for _ in queries]
            rows = checked_rows(np.asarray(queries, dtype=np.float32), index.dimension)
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


def checked_rows(array: Vector, dimension: int) -> Vector:
    """The (chunks, dim) array, if it may be stored or searched for.

    Raises ``DimensionMismatchError``, and ``InvalidInputError`` for NaN, infinity or rows that are
    not of unit length.
    """
    if array.ndim != 2 or array.shape[1] != dimension:
        raise DimensionMismatchError(
            f"got vectors of shape {array.shape}, this store holds {dimension} dimensions; "
            "set COGNITIVE_MEMORY_EMBEDDING__MODEL to the model that it was written with"
        )
    if not np.isfinite(array).all():
        raise InvalidInputError("vectors hold NaN or infinity; embed the text again")
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array))
    if (wrong := np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        raise InvalidInputError(
            f"got a vector of length {lengths[wrong][0]:g}; it must be of unit length, "
            "as core.similarity.normalize makes all but those of zeros"
        )
    return array


def checked_arrays(arrays: Sequence[Vector], dimension: int) -> Sequence[Vector]:
    """The (chunks, dim) arrays, each as ``checked_rows`` has it, but many in one go."""
    for start in range(0, len(arrays), CHECKED_AT_ONCE):
        group = arrays[start : start + CHECKED_AT_ONCE]
        if any(array.ndim != 2 or array.shape[1] != dimension for array in group):
            for array in group:
                checked_rows(array, dimension)
        checked_rows(np.concatenate(group), dimension)
    return arrays


def insert_vectors(
    database: Database,
    embedding: int,
    memories: Sequence[CognitiveMemory],
    vectors: Sequence[Vector],
) -> None:
    """Write the (chunks, dim) array of each memory, within a transaction of the caller.

    Raises ``InvalidInputError`` for a memory given twice, ``StorageError`` for one not stored.
    """
    check_distinct(memories)
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
