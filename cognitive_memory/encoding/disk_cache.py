"""Embeddings on disk between processes: one SQLite file that may be deleted at any time.

Nothing in it is trusted: every vector carries a digest of its key and bytes, and a file that
SQLite cannot read is discarded and begun anew. A cache that cannot be written is read, or else
does without; embedding goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np

from ..core.similarity import Vector

_LOG = logging.getLogger(__name__)
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS embeddings (
        entry INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        vector BLOB NOT NULL,
        digest BLOB NOT NULL
    )
"""
_ON_DISK = np.dtype("<f4")
_ROW_OVERHEAD = 150
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class DiskCache:
    """Vectors by fingerprint and key in the file ``path``, oldest out first, within ``max_bytes``.

    Thread-safe, and shared by processes. No method raises for a fault of the file: the cache is
    then emptied or switched off, and one warning is logged.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        with self._lock, self._guarded():
            self._connection = self._open()

    def get_many(
        self, fingerprint: str, keys: Sequence[bytes], dimension: int
    ) -> dict[bytes, Vector]:
        """Those that are here, sound and of this dimension."""
        names = {_row_key(fingerprint, key): key for key in keys}
        rows: list[tuple[str, bytes, bytes]] = []
        with self._lock, self._guarded():
            if self._connection is not None:
                rows = self._connection.execute(
                    "SELECT key, vector, digest FROM embeddings WHERE key IN "
                    "(SELECT value FROM json_each(?))",
                    [json.dumps(list(names))],
                ).fetchall()
        return {
            names[name]: np.frombuffer(vector, dtype=_ON_DISK).astype(np.float32)
            for name, vector, digest in rows
            if digest == _digest(name, vector) and len(vector) == dimension * _ON_DISK.itemsize
        }

    def put_many(self, fingerprint: str, entries: dict[bytes, Vector]) -> None:
        """Keep (dim,) vectors, and drop the oldest beyond the bound."""
        rows = []
        for key, vector in entries.items():
            name, content = _row_key(fingerprint, key), vector.astype(_ON_DISK).tobytes()
            rows.append((name, content, _digest(name, content)))
        with self._lock, self._guarded():
            if self._connection is None:
                return
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO embeddings (key, vector, digest) VALUES (?, ?, ?)",
                    rows,
                )
                self._prune(self._connection, len(rows[0][1]) if rows else 0)

    def close(self) -> None:
        """Close the file; the cache then holds nothing."""
        with self._lock:
            self._disconnect()

    def _prune(self, connection: sqlite3.Connection, vector_bytes: int) -> None:
        room = self._max_bytes // (vector_bytes + _ROW_OVERHEAD)
        connection.execute(
            "DELETE FROM embeddings WHERE entry <= (SELECT max(entry) FROM embeddings) - ?", [room]
        )

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=1.0, check_same_thread=False)
        try:
            # A lost cache costs time, not data: no need to wait for the disk.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)
            connection.execute("SELECT key, vector, digest FROM embeddings LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Answer every fault of the file: begin it anew if it is unreadable, else do without."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                return
            self._disconnect()
            if code in _UNREADABLE and self._discard():
                _LOG.warning("embedding cache %s was unreadable and is begun anew", self._path)
                return
            _LOG.warning("embedding cache %s is not used: %s", self._path, error)

    def _discard(self) -> bool:
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._connection = self._open()
        except (sqlite3.Error, OSError):
            return False
        return True


def _row_key(fingerprint: str, key: bytes) -> str:
    return hashlib.blake2b(fingerprint.encode() + b"\0" + key, digest_size=16).hexdigest()


def _digest(name: str, vector: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + vector, digest_size=8).digest()
