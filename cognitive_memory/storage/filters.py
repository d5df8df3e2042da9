"""Filters to SQL, and free text to a full-text query that never breaks the syntax."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

from ..core.memory import MemoryFilter, as_utc

MAX_QUERY_WORDS = 256
"""Further words of a query are ignored."""

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_WORD = re.compile(r"[\w\u0300-\u0331]+")
"""Letters and digits, and the combining marks that FTS5 takes as part of a word."""
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about am an and are as at be been but by can could did do does for from had has have he "
        "her hers him his how i if in into is it its me my of on or our ours she should so than "
        "that the their them then there these they this those to us was we were what when where "
        "which who whom whose why will with would you your yours"
    )
)


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


def match_expression(query: str) -> str:
    """Any of the words of ``query``, quoted; stop words only if there are no others.

    >>> match_expression('Why did "we" drop Redis? NOT (a OR')
    '"drop" OR "Redis" OR "NOT"'
    """
    words: dict[str, str] = {}
    for word in _WORD.findall(query):
        # Quoted as written: FTS5 folds case by its own table, in which some scripts have none.
        words.setdefault(word.lower(), word)
    telling = [word for key, word in words.items() if key not in _STOP_WORDS]
    telling = telling or list(words.values())
    return " OR ".join(f'"{word}"' for word in telling[:MAX_QUERY_WORDS])
