"""SQLite's errors as those of this package: what is wrong with which file, and what helps."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..core.errors import (
    StorageError,
    StoreBusyError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
)

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Codes of SQLite for a file that cannot be what it should be."""


def translate(error: sqlite3.Error, path: Path, timeout: float) -> StorageError:
    """The error of this package that says the same, with a fix; ``timeout`` in seconds."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(f"no space left for {path}; free some and try again")
    if code in _READ_ONLY:
        return StoreReadOnlyError(
            f"{path} cannot be opened for writing ({error}); check that it is a file and its "
            "folder's permissions, or set COGNITIVE_MEMORY_DATA_DIR"
        )
    if code in BUSY:
        return StoreBusyError(held(path, timeout))
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(
            f"{path} cannot be read or written ({error}); its disk may be full or failing: "
            "check both, or set COGNITIVE_MEMORY_DATA_DIR to another"
        )
    if code in DAMAGED:
        return StoreFormatError(
            f"{path} is not a readable SQLite database ({error}); restore it from a backup, "
            "or set COGNITIVE_MEMORY_STORAGE__PATH to another file"
        )
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return StorageError(f"{path} was closed; open the store again")
    return StorageError(f"{path}: {error}")


def held(path: Path, timeout: float) -> str:
    """What to say when another process holds the file for longer than ``timeout`` seconds."""
    return (
        f"{path} was held by another process for {timeout:g} s; try again, or raise "
        "COGNITIVE_MEMORY_STORAGE__BUSY_TIMEOUT_SECONDS"
    )


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's code of an error; extended ones carry it in their low byte."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
