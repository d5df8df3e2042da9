"""Filters to SQL."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from ..core.memory import MemoryFilter, as_utc

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC, without the rounding of ``timestamp()``."""
    return (as_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    """Aware UTC."""
    return _EPOCH + timedelta(microseconds=value)


def where(filters: MemoryFilter | None) -> tuple[str, list[Any]]:
    """A condition on ``memories`` with its values; lists travel as one JSON value each."""
    conditions = ["1"]
    values: list[Any] = []

    def add(condition: str, value: Any) -> None:
        if value is not None:
            conditions.append(condition)
            values.append(json.dumps(value) if isinstance(value, tuple) else value)

    if filters is not None:
        listed = "(SELECT value FROM json_each(?))"
        add(f"memories.id IN {listed}", filters.memory_ids)
        add(f"memories.pk IN (SELECT memory_pk FROM tags WHERE tag IN {listed})", filters.tags)
        add("memories.source_path = ?", filters.source_path)
        add(f"memories.hierarchy_level IN {listed}", filters.hierarchy_levels)
        add(f"memories.memory_type IN {listed}", filters.memory_types)
        for moment, comparison in ((filters.created_from, ">="), (filters.created_until, "<")):
            if moment is not None:
                add(f"memories.created_us {comparison} ?", to_microseconds(moment))
    return " AND ".join(conditions), values
