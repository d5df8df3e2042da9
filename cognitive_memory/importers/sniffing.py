"""What a file seems to be, so that an error can say how to read it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

CHROMA_FILE = "chroma.sqlite3"
SQLITE_MAGIC = b"SQLite format 3\0"
_APPLICATION = slice(68, 72)
"""Where an SQLite file names the application that it belongs to."""
_GZIP_MAGIC = b"\x1f\x8b"


def hint(seen: bytes | str) -> str:
    """``"; …"``: what the first bytes of a file, or a folder, look like, and what to do."""
    advice = _of_folder(seen) if isinstance(seen, str) else _of_bytes(seen)
    return f"; {advice}" if advice else "; check the path"


def _of_folder(path: str) -> str:
    if (Path(path) / CHROMA_FILE).exists():
        return "it holds a Chroma database: add --from chroma"
    return "give the path of a file that 'cognitive-memory export' has written"


def _of_bytes(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(_GZIP_MAGIC):
        return "it is compressed: decompress it first"
    if head.startswith(SQLITE_MAGIC) and head[_APPLICATION] == b"CMEM":
        return "it is a store: set COGNITIVE_MEMORY_STORAGE__PATH to it, and export from there"
    if head.startswith(SQLITE_MAGIC):
        return "it is an SQLite database: add --from heimdall, or --from chroma"
    if b'"ids"' in head[:100]:
        return "for the result of Chroma's collection.get(), add --from chroma"
    if head.lstrip()[:1] in (b"{", b"["):
        return "it is JSON: for the result of mem0's get_all, add --from mem0"
    return "export again with 'cognitive-memory export'"


def reason(error: Exception) -> str:
    """Why a file cannot be read, without the path again."""
    return getattr(error, "strerror", None) or str(error)


def tables_of(database: sqlite3.Connection) -> dict[str, set[str]]:
    """The columns of each table."""
    names = [
        row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type='table'")
    ]
    return {
        name: {row[1] for row in database.execute("SELECT * FROM pragma_table_info(?)", [name])}
        for name in names
    }
