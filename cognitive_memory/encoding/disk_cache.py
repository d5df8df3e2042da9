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
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..core.similarity import Vector
from .forking import ForkSafeLock

_LOG = logging.getLogger(__name__)

APPLICATION_ID = 0x434D4543
"""``CMEC``: marks a SQLite file as a cache of ours."""

ROWS_AT_ONCE = 64
"""Vectors in one transaction; by so many the file may outgrow its bound."""

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS embeddings (
        entry INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        vector BLOB NOT NULL,
        digest BLOB NOT NULL
    )
"""
_HEADER, _MAGIC = struct.Struct(">16s52xI"), b"SQLite format 3\0"
"""What a SQLite file begins with, and where its application id is."""

_ON_DISK = np.dtype("<f4")
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNREADABLE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a damaged schema: no such table
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_FORMAT,
)
_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)


class DiskCache:
    """Vectors by fingerprint and key in the file ``path``, oldest out first, within ``max_bytes``.

    Thread-safe, shared by processes, and usable on both sides of a fork. No method raises for a
    fault of the file: the cache is then emptied, only read, or switched off, and one warning is
    logged. A database of another application is left alone.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path.absolute()
        self._max_bytes = max_bytes
        self._is_used = self._is_writable = True
        self._connection: sqlite3.Connection | None = None
        # A connection must not cross a fork; both sides open one of their own when needed.
        self._lock = ForkSafeLock(self._disconnect)

    def get_many(
        self, fingerprint: str, keys: Sequence[bytes], dimension: int
    ) -> dict[bytes, Vector]:
        """Those that are here, sound and of this dimension."""
        names = {_row_key(fingerprint, key): key for key in keys}
        rows: list[tuple[object, object, object]] = []

        def read(connection: sqlite3.Connection) -> None:
            rows.extend(
                connection.execute(
                    "SELECT key, vector, digest FROM embeddings WHERE key IN "
                    "(SELECT value FROM json_each(?))",
                    [json.dumps(list(names))],
                )
            )

        self._attempt(read)
        size = dimension * _ON_DISK.itemsize
        return {
            names[name]: np.frombuffer(vector, dtype=_ON_DISK).astype(np.float32)
            for name, vector, digest in rows
            # In a damaged file a column can be of any type, and a name one not asked for.
            if isinstance(name, str) and isinstance(vector, bytes) and name in names
            if len(vector) == size and digest == _digest(name, vector)
        }

    def put_many(self, fingerprint: str, entries: dict[bytes, Vector]) -> None:
        """Keep (dim,) vectors, and drop the oldest beyond the bound."""
        keys = list(entries)

        def write(connection: sqlite3.Connection) -> None:
            for start in range(0, len(keys), ROWS_AT_ONCE):
                rows = []
                for key in keys[start : start + ROWS_AT_ONCE]:
                    name, content = _row_key(fingerprint, key), _to_bytes(entries[key])
                    rows.append((name, content, _digest(name, content)))
                with _transaction(connection):
                    connection.executemany(
                        "INSERT OR REPLACE INTO embeddings (key, vector, digest) VALUES (?, ?, ?)",
                        rows,
                    )
                    self._prune(connection)
            self._give_back(connection)

        if keys and self._is_writable:
            self._attempt(write)

    def close(self) -> None:
        """Close the file; the cache then holds nothing."""
        with self._lock:
            self._is_used = False
            self._disconnect()

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Drop the oldest until what is used of the file is within the bound."""
        room = self._max_bytes // _pragma(connection, "page_size")
        while _pragma(connection, "page_count") - _pragma(connection, "freelist_count") > room:
            oldest = "SELECT entry FROM embeddings ORDER BY entry LIMIT 8"
            gone = connection.execute(f"DELETE FROM embeddings WHERE entry IN ({oldest})")
            if not gone.rowcount:
                break

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Shrink a file that is mostly empty, as after the bound was lowered."""
        pages, free = _pragma(connection, "page_count"), _pragma(connection, "freelist_count")
        if pages * _pragma(connection, "page_size") > self._max_bytes and 2 * free > pages:
            connection.execute("VACUUM")

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> None:
        with self._lock:
            if not self._is_used:
                return
            try:
                if self._connection is None:
                    self._connection = self._open()
                work(self._connection)
            except (sqlite3.Error, OSError) as error:
                self._answer(error, getattr(error, "sqlite_errorcode", None) or 0)
            except UnicodeDecodeError as error:  # SQLite tells of a name that is damaged
                self._answer(error, sqlite3.SQLITE_CORRUPT)

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self._path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.text_factory = lambda content: content.decode(errors="replace")
            # A lost cache costs time, not data: no need to wait for the disk.
            connection.execute("PRAGMA synchronous = OFF")
            if not self._is_ours(connection):
                connection.execute("PRAGMA journal_mode = WAL")
                with _transaction(connection):
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(_SCHEMA)
            connection.execute("SELECT key, vector, digest FROM embeddings LIMIT 1").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether it is a cache already; raises for what is another application's."""
        # In this order: another process may be making this cache in between.
        schema = _pragma(connection, "schema_version")
        owner = _pragma(connection, "application_id")
        if owner != APPLICATION_ID and (schema or owner):
            raise sqlite3.DatabaseError("it is a database of another application")
        return owner == APPLICATION_ID

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _answer(self, error: Exception, code: int) -> None:
        """Begin an unreadable file anew, only read one that cannot be written, else do without."""
        code &= 0xFF
        if code in _BUSY:
            return
        if code in _UNWRITABLE and self._connection is not None:
            self._is_writable = False
            _LOG.warning("embedding cache %s is only read from now on: %s", self._path, error)
            return
        self._disconnect()
        if code in _UNREADABLE and self._discard():
            _LOG.warning("embedding cache %s was unreadable and is begun anew", self._path)
            return
        self._is_used = False
        _LOG.warning("embedding cache %s is not used: %s", self._path, error)

    def _discard(self) -> bool:
        """Delete the file, unless it says that it is another application's or may not be."""
        try:
            with self._path.open("rb") as file:
                header = file.read(_HEADER.size)
            if len(header) == _HEADER.size:
                magic, owner = _HEADER.unpack(header)
                if magic == _MAGIC and owner != APPLICATION_ID:
                    return False
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        return True


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        yield


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _row_key(fingerprint: str, key: bytes) -> str:
    return hashlib.blake2b(fingerprint.encode() + b"\0" + key, digest_size=16).hexdigest()


def _to_bytes(vector: Vector) -> bytes:
    return vector.astype(_ON_DISK).tobytes()


def _digest(name: str, vector: bytes) -> bytes:
    return hashlib.blake2b(name.encode() + vector, digest_size=8).digest()
