"""What a look at every byte of a store can find: what SQLite checks, and what it cannot know."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from ..core.errors import StorageError, StoreFormatError
from ..core.memory import ConnectionType
from ..core.similarity import UNIT_TOLERANCE
from .database import Database
from .embeddings import SERVING
from .memory_rows import select_memories

_BATCH = 1000


def find_faults(database: Database) -> list[str]:
    """Faults found in the file, each in a line; none if it is sound."""
    faults: list[str] = []
    with database.snapshot():
        for check in (_pages, _memories, _vectors, _connections):
            faults += check(database)
    if not database.read_only:
        faults += _words(database)
    return faults


def _pages(database: Database) -> Iterator[str]:
    for (line,) in database.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield str(line)
    for table, rowid, parent, _ in database.execute("PRAGMA foreign_key_check"):
        yield f"row {rowid} of {table} belongs to no row of {parent}"


def _memories(database: Database) -> Iterator[str]:
    """Those that cannot be read, and those that no search by meaning finds."""
    last = 0
    while True:
        pks = [
            pk
            for (pk,) in database.execute(
                "SELECT pk FROM memories WHERE pk > ? ORDER BY pk LIMIT ?", [last, _BATCH]
            )
        ]
        if not pks:
            break
        try:
            select_memories(database, "pk BETWEEN ? AND ?", [pks[0], pks[-1]])
        except StorageError:
            yield from _unreadable(database, pks)
        last = pks[-1]
    (orphans,) = database.execute(
        "SELECT count(*) FROM memories WHERE pk NOT IN "
        f"(SELECT memory_pk FROM vectors WHERE embedding = ({SERVING}))"
    ).fetchone()
    if orphans:
        yield f"{orphans} memories have no vector; load or store them again"


def _unreadable(database: Database, pks: list[int]) -> Iterator[str]:
    for pk in pks:
        try:
            select_memories(database, "pk = ?", [pk])
        except StorageError as error:
            yield str(error)


def _vectors(database: Database) -> Iterator[str]:
    """Those of a wrong length, as most flipped bits make them."""
    rows = database.execute(
        "SELECT memories.id, dimension, vector FROM vectors "
        "JOIN embeddings USING (embedding) JOIN memories ON pk = memory_pk"
    )
    for memory_id, dimension, blob in rows:
        if not isinstance(blob, bytes) or len(blob) != 4 * dimension:
            yield f"a vector of memory {memory_id!r} has not {dimension} dimensions; store it again"
            continue
        row = np.frombuffer(blob, dtype="<f4")
        if not abs(float(np.sqrt(np.dot(row, row))) - 1) <= UNIT_TOLERANCE:
            yield f"a vector of memory {memory_id!r} is not of unit length; store it again"


def _connections(database: Database) -> Iterator[str]:
    (unknown,) = database.execute(
        "SELECT count(*) FROM connections WHERE connection_type NOT IN "
        "(SELECT value FROM json_each(?)) OR NOT (strength > 0 AND strength <= 1)",
        [json.dumps(list(ConnectionType))],
    ).fetchone()
    if unknown:
        yield f"{unknown} connections have an unknown type or a strength that is not in (0, 1]"


def _words(database: Database) -> Iterator[str]:
    """Where the full-text index is not that of the texts; needs a write transaction."""
    try:
        with database.transaction():
            database.execute(
                "INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)"
            )
    except StoreFormatError:
        yield "the full-text index is not that of the texts; restore the store from a backup"
