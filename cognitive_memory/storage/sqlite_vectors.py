"""Vectors in the same SQLite file, searched exactly in NumPy."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ..core.errors import (
    DimensionMismatchError,
    FingerprintMismatchError,
    InvalidInputError,
    StorageError,
)
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .database import Database
from .exact_index import ExactIndex
from .filters import where

_ON_DISK = np.dtype("<f4")


class SQLiteVectorStorage(VectorStorage):
    """``VectorStorage`` over the memories of a ``Database``; the record and the vectors are one.

    The matrix in memory is derived: every search first takes over what any process has added or
    deleted since. Thread-safe.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._index: ExactIndex | None = None
        self._last_deletion = 0
        self._is_uncommitted = False

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Remember whose vectors will be stored.

        Raises ``FingerprintMismatchError`` when the store holds those of another embedding; one
        that holds none takes any.
        """
        if self._property("fingerprint") == fingerprint:
            return
        with self._database.transaction():
            self.check_embedding(fingerprint)
            self._database.execute_many(
                "INSERT OR REPLACE INTO properties (name, value) VALUES (?, ?)",
                [("fingerprint", fingerprint), ("dimension", str(dimension))],
            )

    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if vectors of another embedding are held."""
        stored = self._property("fingerprint")
        if stored in (None, fingerprint) or not self._holds_vectors():
            return
        raise FingerprintMismatchError(
            f"{self._database.path} holds vectors of {stored}, the configured model gives "
            f"{fingerprint}; set COGNITIVE_MEMORY_EMBEDDING__MODEL="
            f"{str(stored).partition('/')[0]}, or COGNITIVE_MEMORY_DATA_DIR to another folder"
        )

    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory, which must be stored, by its (chunks, dim) array.

        Raises ``DimensionMismatchError``, and ``InvalidInputError`` for NaN or infinity.
        """
        dimension = self._dimension()
        rows = [
            (chunk, row.astype(_ON_DISK).tobytes(), memory.id)
            for memory, array in zip(memories, vectors, strict=True)
            for chunk, row in enumerate(_checked(array, dimension))
        ]
        with self._database.transaction():
            self._delete([memory.id for memory in memories])
            added = self._database.execute_many(
                "INSERT INTO vectors (memory_pk, chunk, vector) "
                "SELECT pk, ?, ? FROM memories WHERE id = ?",
                rows,
            )
            if rows and added != len(rows):
                raise StorageError("vectors of a memory that is not stored; save the memory first")

    def search_similar(
        self,
        query: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[VectorHit]:
        """The ``k`` best memories by their best chunk, exactly, best first, ties by id."""
        with self._database.snapshot():
            index = self._current_index()
            if index is None or k <= 0:
                return []
            owners = None
            if filters is not None:
                condition, values = where(filters)
                sql = f"SELECT pk FROM memories WHERE {condition}"
                owners = np.array(
                    [pk for (pk,) in self._database.execute(sql, values)], dtype=np.int64
                )
            row = _checked(np.asarray(query, dtype=np.float32)[None], index.dimension)[0]
            hits = index.search(row, k, owners)
            ids = dict(
                self._database.execute(
                    "SELECT pk, id FROM memories WHERE pk IN (SELECT value FROM json_each(?))",
                    [json.dumps([owner for owner, _, _ in hits])],
                )
            )
        found = [
            VectorHit(ids[owner], score, chunk)
            for owner, score, chunk in hits
            if min_score is None or score >= min_score
        ]
        return sorted(found, key=lambda hit: (-hit.score, hit.memory_id))[:k]

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, in the order asked."""
        with self._database.snapshot():
            rows = self._database.execute(
                "SELECT id, vector FROM memories JOIN vectors ON memory_pk = pk "
                "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY pk, chunk",
                [json.dumps(list(memory_ids))],
            ).fetchall()
        chunks: dict[str, list[bytes]] = {}
        for memory_id, blob in rows:
            chunks.setdefault(memory_id, []).append(blob)
        return {
            memory_id: np.frombuffer(b"".join(blobs), dtype=_ON_DISK)
            .reshape(len(blobs), -1)
            .astype(np.float32)
            for memory_id in dict.fromkeys(memory_ids)
            if (blobs := chunks.get(memory_id))
        }

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone."""
        with self._database.transaction():
            return self._delete(memory_ids)

    def count(self) -> int:
        """Number of vectors."""
        with self._database.snapshot():
            row = self._database.execute("SELECT count(*) FROM vectors").fetchone()
        return int(row[0])

    def close(self) -> None:
        """Drop the matrix and close the file."""
        self._index = None
        self._database.close()

    def _delete(self, memory_ids: Sequence[str]) -> int:
        owners = (
            "SELECT pk FROM memories WHERE id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(memory_ids))],
        )
        held = self._database.execute(
            f"SELECT count(DISTINCT memory_pk) FROM vectors WHERE memory_pk IN ({owners[0]})",
            owners[1],
        ).fetchone()[0]
        self._database.execute(f"DELETE FROM vectors WHERE memory_pk IN ({owners[0]})", owners[1])
        return int(held)

    def _holds_vectors(self) -> bool:
        with self._database.snapshot():
            return self._database.execute("SELECT 1 FROM vectors LIMIT 1").fetchone() is not None

    def _property(self, name: str) -> str | None:
        with self._database.snapshot():
            row = self._database.execute(
                "SELECT value FROM properties WHERE name = ?", [name]
            ).fetchone()
        return None if row is None else str(row[0])

    def _dimension(self) -> int:
        stored = self._property("dimension")
        if stored is None:
            raise StorageError("no embedding is bound to this store; call bind_embedding first")
        return int(stored)

    def _current_index(self) -> ExactIndex | None:
        """The matrix as of this snapshot, or ``None`` for a store that never had vectors."""
        if self._database.has_changes or self._is_uncommitted:
            # Uncommitted rows may be rolled back and their ids used again: never keep them.
            self._index = None
        self._is_uncommitted = self._database.has_changes
        if self._property("dimension") is None:
            return None
        dimension = self._dimension()
        if self._index is None or self._index.dimension != dimension:
            self._index = ExactIndex(dimension)
            # What was deleted before the first look is not in what will be read.
            self._last_deletion = self._max_deletion()
        index = self._index
        rows = self._database.execute(
            "SELECT vector_id, memory_pk, chunk, vector FROM vectors WHERE vector_id > ? "
            "ORDER BY vector_id",
            [index.last_vector_id],
        ).fetchall()
        if rows:
            ids, owners, chunks, blobs = zip(*rows, strict=True)
            matrix = np.frombuffer(b"".join(blobs), dtype=_ON_DISK)
            index.append(
                np.array(ids, dtype=np.int64),
                np.array(owners, dtype=np.int64),
                np.array(chunks, dtype=np.int32),
                matrix.reshape(len(rows), index.dimension).astype(np.float32, copy=False),
            )
        if (latest := self._max_deletion()) > self._last_deletion:
            deleted = self._database.execute(
                "SELECT vector_id FROM vector_deletions WHERE deletion_id > ?",
                [self._last_deletion],
            ).fetchall()
            index.delete(np.array(deleted, dtype=np.int64).ravel())
            self._last_deletion = latest
        return index

    def _max_deletion(self) -> int:
        row = self._database.execute("SELECT max(deletion_id) FROM vector_deletions").fetchone()
        return int(row[0] or 0)


def _checked(array: Vector, dimension: int) -> Vector:
    if array.ndim != 2 or array.shape[1] != dimension:
        raise DimensionMismatchError(
            f"got vectors of shape {array.shape}, this store holds {dimension} dimensions; "
            "set COGNITIVE_MEMORY_EMBEDDING__MODEL to the model that it was written with"
        )
    if not np.isfinite(array).all():
        raise InvalidInputError("vectors hold NaN or infinity; embed the text again")
    return array
