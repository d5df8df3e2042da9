"""Memories as rows of the store's file, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core.errors import StoreFormatError
from ..core.memory import CognitiveMemory, MemoryType
from .database import Database
from .filters import from_microseconds, to_microseconds
from .words import context_words

_COLUMNS = (
    "id, content, hierarchy_level, memory_type, importance_score, source_path, source_type, "
    "created_us, last_accessed_us, access_count, metadata"
)
_WRITTEN = f"{_COLUMNS}, context"
UPSERT = f"""
    INSERT INTO memories ({_WRITTEN}) VALUES ({", ".join("?" * len(_WRITTEN.split(",")))})
    ON CONFLICT (id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN.split(", ") if name != "id")}
"""
_TAGS = """(
    SELECT json_group_array(tag)
    FROM (SELECT tag FROM tags WHERE memory_pk = pk ORDER BY position)
)"""


def select_memories(
    database: Database, condition: str, values: Sequence[Any]
) -> list[CognitiveMemory]:
    """Memories that meet a condition in SQL on ``memories``, which may go on with an order."""
    with database.snapshot():
        rows = database.execute(
            f"SELECT {_COLUMNS}, {_TAGS} FROM memories WHERE {condition}", values
        ).fetchall()
    return [_from_row(row, database) for row in rows]


def to_row(memory: CognitiveMemory) -> tuple[Any, ...]:
    """The values of ``UPSERT``."""
    return (
        memory.id,
        memory.content,
        memory.hierarchy_level,
        memory.memory_type,
        memory.importance_score,
        memory.source_path,
        memory.source_type,
        to_microseconds(memory.created_date),
        to_microseconds(memory.last_accessed),
        memory.access_count,
        json.dumps(dict(memory.metadata), ensure_ascii=False),
        context_words(memory),
    )


def _from_row(row: tuple[Any, ...], database: Database) -> CognitiveMemory:
    try:
        metadata, tags = json.loads(row[10]), json.loads(row[11])
        if not isinstance(metadata, dict):
            raise TypeError(f"its metadata is {metadata!r}, not an object")
        return CognitiveMemory(
            id=row[0],
            content=row[1],
            hierarchy_level=row[2],
            memory_type=MemoryType(row[3]),
            importance_score=row[4],
            source_path=row[5],
            source_type=row[6],
            created_date=from_microseconds(row[7]),
            last_accessed=from_microseconds(row[8]),
            access_count=row[9],
            metadata=metadata,
            tags=tuple(tags),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreFormatError(
            f"memory {row[0]!r} of {database.path} is damaged ({error}); restore the store from a "
            "backup, or delete this memory"
        ) from error
