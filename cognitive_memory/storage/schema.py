"""The schemas of a store's file: which one it has, and the scripts that lead to the latest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ..core.errors import StoreFormatError

APPLICATION_ID = 0x434D454D
"""``CMEM``: marks a SQLite file as one of ours."""


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """0 for an empty file; raises ``StoreFormatError`` for one that is not a store, or newer."""
    version, application, tables = (
        int(connection.execute(query).fetchone()[0])
        for query in (
            "PRAGMA user_version",
            "PRAGMA application_id",
            "SELECT count(*) FROM sqlite_schema",
        )
    )
    if application != APPLICATION_ID and (tables or version):
        raise StoreFormatError(
            f"{path} is a database of another application; "
            "set COGNITIVE_MEMORY_STORAGE__PATH to another file"
        )
    if version > len(migrations()):
        raise StoreFormatError(
            f"{path} has schema {version}, this version reads up to "
            f"{len(migrations())}; upgrade cognitive-memory-onnx"
        )
    return version


@cache
def migrations() -> list[str]:
    """The script of each schema, in order: the first one makes a store."""
    # A path, not importlib.resources: that import alone costs a tenth of a cold recall.
    folder = Path(__file__).parent / "migrations"
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))]


def statements(script: str) -> Iterator[str]:
    """The statements one by one: ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
