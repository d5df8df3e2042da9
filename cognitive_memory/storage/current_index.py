"""Keeps a matrix up to date with the vectors of a store, whoever writes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import numpy as np

from ..core.errors import StoreFormatError
from ..core.similarity import Vector
from .database import Database
from .embeddings import Embedding, Embeddings
from .exact_index import ExactIndex
from .snapshot import open_snapshot, write_snapshot

ON_DISK = np.dtype("<f4")

LEAST_SAVED = 4096
"""Rows for which a file is worth its while: the record gives as many in 50 ms."""

SAVED_SHARE = 8
"""The file is written anew when one row in so many is not in it."""

SAMPLES = 16
"""Rows of a file that are compared with the record."""

READ_AT_ONCE = 4096
"""Rows of the record: all of them at once would take three times the memory of the matrix."""

_log = logging.getLogger(__name__)


class CurrentIndex:
    """The ``ExactIndex`` of the vectors that serve, caught up on each look.

    Most of its rows lie in a file beside the store, which is mapped: it is read from the record
    once, and written anew when enough has changed. Not thread-safe: its owner looks within a
    snapshot of the database.
    """

    def __init__(self, database: Database, embeddings: Embeddings) -> None:
        self._database = database
        self._embeddings = embeddings
        self._path = Path(f"{database.path}-vectors")
        self._index: ExactIndex | None = None
        self._identity: dict[str, str] = {}
        self._last_deletion = 0
        self._unsaved = 0
        """Rows that the record has added or deleted since the file was written."""
        self._is_uncommitted = False
        self._saving: _Saving | None = None

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
        if self._saving is not None and self._saving.is_done:
            # What is in the file is dropped here, with the rows that were deleted.
            self._index = None
            self._saving = None
        if self._index is None or self._identity != identity:
            self._identity = identity
            self._index = self._open(serving)
        self._append_new(self._index, serving)
        self._delete_gone(self._index)
        self._save_if_worth()
        return self._index

    def save(self) -> None:
        """Bring the file up to date if that is worth its while, and wait until it is written."""
        self.get()
        if self._saving is not None:
            self._saving.join()

    def drop(self) -> None:
        """Give the memory back; the next look begins with the file again."""
        if self._saving is not None:
            self._saving.join()
        self._index = None

    def _open(self, serving: Embedding) -> ExactIndex:
        """What the file holds, or nothing, with everything still to be read from the record."""
        self._unsaved = 0
        saved = open_snapshot(self._path, self._identity, serving.dimension)
        if saved is not None and self._is_of_this_record(saved.index, saved.last_deletion):
            self._last_deletion = saved.last_deletion
            return saved.index
        # What was deleted before the first look is not in what will be read.
        self._last_deletion = self._max_deletion()
        return ExactIndex(serving.dimension)

    def _is_of_this_record(self, index: ExactIndex, last_deletion: int) -> bool:
        """Whether the record has gone on from where the file was written.

        A copy of an older state may have been put in its place, by which ids are used again.
        """
        if last_deletion > self._max_deletion():
            return False
        for vector_id, row in index.sample(SAMPLES):
            held = self._database.execute(
                "SELECT vector FROM vectors WHERE vector_id = ? UNION ALL SELECT NULL "
                "FROM vector_deletions WHERE vector_id = ? AND deletion_id > ?",
                [vector_id, vector_id, last_deletion],
            ).fetchone()
            if held is None or held[0] not in (None, row.astype(ON_DISK).tobytes()):
                _log.info("%s is of another state of the store; it is made anew", self._path)
                return False
        return True

    def _save_if_worth(self) -> None:
        index = self._index
        assert index is not None
        least = max(LEAST_SAVED, index.count // SAVED_SHARE)
        if self._unsaved < least or self._saving is not None:
            return
        if self._is_uncommitted or self._database.read_only:
            return
        self._saving = _Saving(index.copy(), self._path, dict(self._identity), self._last_deletion)
        self._saving.start()

    def _append_new(self, index: ExactIndex, serving: Embedding) -> None:
        rows = self._database.execute(
            "SELECT vector_id, memory_pk, chunk, vector FROM vectors "
            "WHERE vector_id > ? AND embedding = ? ORDER BY vector_id",
            [index.last_vector_id, serving.number],
        )
        while some := rows.fetchmany(READ_AT_ONCE):
            self._unsaved += len(some)
            ids, owners, chunks, blobs = zip(*some, strict=True)
            index.append(
                np.array(ids, dtype=np.int64),
                np.array(owners, dtype=np.int64),
                np.array(chunks, dtype=np.int32),
                to_matrix(blobs, index.dimension, self._database.path),
            )

    def _delete_gone(self, index: ExactIndex) -> None:
        latest = self._max_deletion()
        if latest <= self._last_deletion:
            return
        deleted = self._database.execute(
            "SELECT vector_id FROM vector_deletions WHERE deletion_id > ?", [self._last_deletion]
        ).fetchall()
        index.delete(np.array(deleted, dtype=np.int64).ravel())
        self._unsaved += len(deleted)
        self._last_deletion = latest

    def _max_deletion(self) -> int:
        row = self._database.execute("SELECT max(deletion_id) FROM vector_deletions").fetchone()
        return int(row[0] or 0)


def to_matrix(blobs: Sequence[bytes], dimension: int, path: Path) -> Vector:
    """(n, dim) float32, read-only, of vectors as the record keeps them.

    Raises ``StoreFormatError`` that names the file for one of another length.
    """
    if any(not isinstance(blob, bytes) or len(blob) != 4 * dimension for blob in blobs):
        raise StoreFormatError(
            f"a vector of {path} is damaged; restore the store from a backup, or delete the memory "
            "that 'cognitive-memory doctor' names"
        )
    matrix = np.frombuffer(b"".join(blobs), dtype=ON_DISK)
    return matrix.reshape(len(blobs), dimension).astype(np.float32, copy=False)


class _Saving(Thread):
    """Writes a file beside searches, which go on."""

    def __init__(
        self, index: ExactIndex, path: Path, identity: dict[str, str], last_deletion: int
    ) -> None:
        super().__init__(name="index snapshot")
        self._arguments = (index, path, identity, last_deletion)
        self.is_done = False
        """Whether the file is there."""

    def run(self) -> None:
        try:
            write_snapshot(*self._arguments)
        except OSError as error:
            # It is derived, and may be tried again by the next process: nothing is lost.
            _log.info("%s was not written: %s", self._arguments[1], error)
        else:
            self.is_done = True
