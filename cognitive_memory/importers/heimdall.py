"""Memories of a Heimdall store (heimdall-mcp 0.3): its SQLite file, not its Qdrant collections."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

from ..core.memory import (
    EPISODE,
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from ..core.similarity import Vector
from .foreign import VECTORS, moment, parsed
from .foreign_database import DatabaseSource

_NEEDED = {
    "memories": ("id", "content", "memory_type", "hierarchy_level", "timestamp"),
    "memory_connections": ("source_id", "target_id", "strength", "connection_type"),
}
_OPTIONAL = {
    "access_count": "0",
    "last_accessed": "NULL",
    "importance_score": "0.0",
    "tags": "NULL",
    "context_metadata": "NULL",
}
_LOST = (
    ("memories", "id", "1", VECTORS),
    ("memories", "dimensions", "dimensions NOT IN ('', '{}')", "cognitive dimensions"),
    ("memories", "strength", "strength != 1.0", "memory strengths other than 1"),
    ("memories", "decay_rate", "decay_rate != 0.1", "decay rates other than 0.1"),
    (
        "memories",
        "consolidation_status",
        "consolidation_status != 'none'",
        "consolidation states",
    ),
    (
        "memory_connections",
        "activation_count",
        "activation_count > 1",
        "activation counts of connections",
    ),
    ("memory_connections", "context", "context IS NOT NULL", "contexts of connections"),
    ("retrieval_stats", "id", "1", "retrieval statistics"),
)
"""What has no counterpart: table, column, when a row loses something, and what that is."""

_JULIAN_1970 = 2_440_587.5
_MAX_JULIAN_DAY = 1e7
_OWN_FIELDS = ("source_path", "source_type", "tags", "hierarchy_level")
"""Keys of the metadata that are fields here."""


class HeimdallSource(DatabaseSource):
    """Ids stay as they are, so that a front end's references hold."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "Heimdall", _NEEDED)
        self._refused: set[str] = set()

    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each memory whose text can be kept; vectors never come along."""
        self._losses.clear()
        self._refused.clear()
        self._count_lost_columns()
        columns = [self._column("memories", name, given) for name, given in _OPTIONAL.items()]
        sql = f"SELECT {', '.join([*_NEEDED['memories'], *columns])} FROM memories ORDER BY id"
        for row in self._rows(sql):
            memory = self._read(row)
            if memory is None:
                self._refused.add(row["id"])
            else:
                yield memory, None

    def connections(self) -> Iterator[MemoryConnection]:
        """Each edge between them; of two that become the same, the stronger."""
        ends = "source_id IN (SELECT id FROM memories) AND target_id IN (SELECT id FROM memories)"
        dangling = self._number(f"SELECT count(*) FROM memory_connections WHERE NOT ({ends})")
        self._lose("connections of memories that are not there", dangling)
        rows = self._rows(
            "SELECT source_id, target_id, connection_type, strength FROM memory_connections "
            f"WHERE {ends} ORDER BY source_id, target_id, strength DESC"
        )
        for _, edges in groupby(rows, key=lambda row: (row["source_id"], row["target_id"])):
            yield from self._edges(list(edges))

    def _edges(self, rows: list[sqlite3.Row]) -> Iterator[MemoryConnection]:
        """Those between one pair of memories, strongest first."""
        kinds: set[ConnectionType] = set()
        for source, target, name, strength in rows:
            if source in self._refused or target in self._refused:
                self._lose("connections of memories that were left out")
            elif not isinstance(strength, int | float) or not 0 < strength <= 1:
                self._lose("connections of strength 0")
            else:
                kind = self._connection_type(name)
                if kind in kinds:
                    self._lose("connections beside a stronger one of the same kind")
                else:
                    kinds.add(kind)
                    # As text, as their memories have them: a column without a type keeps numbers.
                    yield MemoryConnection(str(source), str(target), kind, float(strength))

    def _connection_type(self, name: Any) -> ConnectionType:
        if name in list(ConnectionType):
            return ConnectionType(name)
        self._lose(f"names of connections ({name!r} became 'explicit')")
        return ConnectionType.EXPLICIT

    def _count_lost_columns(self) -> None:
        for table, column, condition, what in _LOST:
            if column in self._columns.get(table, ()):
                self._lose(what, self._number(f"SELECT count(*) FROM {table} WHERE {condition}"))

    def _read(self, row: sqlite3.Row) -> CognitiveMemory | None:
        memory_id = self._id(row["id"])
        if memory_id is None:
            return None
        given = self._metadata(parsed(row["context_metadata"]))
        own = {name: given.pop(name, None) for name in _OWN_FIELDS}
        level = self._level(row["hierarchy_level"])
        fields = {
            "hierarchy_level": level,
            "memory_type": self._memory_type(row["memory_type"], level),
            "importance_score": self._importance(row["importance_score"]),
            "tags": self._tags(parsed(row["tags"])),
            "source_type": self._word(own["source_type"]) or "heimdall",
            "metadata": given,
        }
        created = moment(row["timestamp"])
        accessed = _moment_of_either(row["last_accessed"]) or created or self._modified
        return self._memory(
            memory_id,
            row["content"],
            created,
            fields,
            source_path=self._word(own["source_path"]),
            last_accessed=accessed,
            access_count=self._count(row["access_count"]),
        )

    def _level(self, value: Any) -> int:
        if value in (0, 1, 2):
            return int(value)
        self._lose("hierarchy levels other than 0, 1 and 2 (2 was taken)")
        return EPISODE

    def _memory_type(self, value: Any, level: int) -> MemoryType:
        if value in list(MemoryType):
            return MemoryType(value)
        self._lose("memory types other than episodic and semantic (that of the level was taken)")
        return MemoryType.EPISODIC if level == EPISODE else MemoryType.SEMANTIC

    def _importance(self, value: Any) -> float:
        number = float(value) if isinstance(value, int | float) else 0.0
        if 0 <= number <= 1:
            return number
        self._lose("importance scores outside 0 to 1 (the nearer end was taken)")
        return min(max(number, 0.0), 1.0)


def _moment_of_either(value: Any) -> datetime | None:
    """Seconds since 1970, as Heimdall writes when it stores, or a Julian day, as when it reads."""
    if isinstance(value, float) and 0 < value < _MAX_JULIAN_DAY:
        return moment((value - _JULIAN_1970) * 86_400)
    return moment(value)
