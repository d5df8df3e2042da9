"""Keeps a matrix in memory up to date with the vectors of a store, whoever writes them."""

from __future__ import annotations

import numpy as np

from .database import Database
from .embeddings import Embedding, Embeddings
from .exact_index import ExactIndex

ON_DISK = np.dtype("<f4")


class CurrentIndex:
    """The ``ExactIndex`` of the vectors that serve, caught up on each look.

    Not thread-safe: its owner looks within a snapshot of the database.
    """

    def __init__(self, database: Database, embeddings: Embeddings) -> None:
        self._database = database
        self._embeddings = embeddings
        self._index: ExactIndex | None = None
        self._identity: dict[str, str] = {}
        self._last_deletion = 0
        self._is_uncommitted = False

    def get(self) -> ExactIndex | None:
        """The matrix as of this snapshot, ``None`` for a store that never had vectors."""
        if self._database.has_changes or self._is_uncommitted:
            # Uncommitted rows may be rolled back and their ids used again: never keep them.
            self._index = None
        self._is_uncommitted = self._database.has_changes
        serving = self._embeddings.serving()
        if serving is None:
            return None
        identity = {
            "epoch": self._database.get_property("epoch") or "",
            "fingerprint": serving.fingerprint,
        }
        if self._index is None or self._identity != identity:
            self._index = ExactIndex(serving.dimension)
            self._identity = identity
            # What was deleted before the first look is not in what will be read.
            self._last_deletion = self._max_deletion()
        self._append_new(self._index, serving)
        self._delete_gone(self._index)
        return self._index

    def drop(self) -> None:
        """Give the memory back; the next look reads all vectors again."""
        self._index = None

    def _append_new(self, index: ExactIndex, serving: Embedding) -> None:
        rows = self._database.execute(
            "SELECT vector_id, memory_pk, chunk, vector FROM vectors "
            "WHERE vector_id > ? AND embedding = ? ORDER BY vector_id",
            [index.last_vector_id, serving.number],
        ).fetchall()
        if not rows:
            return
        ids, owners, chunks, blobs = zip(*rows, strict=True)
        matrix = np.frombuffer(b"".join(blobs), dtype=ON_DISK)
        index.append(
            np.array(ids, dtype=np.int64),
            np.array(owners, dtype=np.int64),
            np.array(chunks, dtype=np.int32),
            matrix.reshape(len(rows), index.dimension).astype(np.float32, copy=False),
        )

    def _delete_gone(self, index: ExactIndex) -> None:
        latest = self._max_deletion()
        if latest <= self._last_deletion:
            return
        deleted = self._database.execute(
            "SELECT vector_id FROM vector_deletions WHERE deletion_id > ?", [self._last_deletion]
        ).fetchall()
        index.delete(np.array(deleted, dtype=np.int64).ravel())
        self._last_deletion = latest

    def _max_deletion(self) -> int:
        row = self._database.execute("SELECT max(deletion_id) FROM vector_deletions").fetchone()
        return int(row[0] or 0)
