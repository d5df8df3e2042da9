"""Conditions in SQL, and times in microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.memory import MemoryFilter
from cognitive_memory.storage.filters import from_microseconds, to_microseconds, where

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


# Times


@given(moment=st.datetimes(timezones=st.just(UTC) | st.timezones()))
def test_aware_times_come_back_exactly(moment: datetime) -> None:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        return
    back = from_microseconds(to_microseconds(moment))
    assert back == utc
    assert back.tzinfo is UTC


@given(moment=st.datetimes(datetime(1902, 1, 1), datetime(2200, 1, 1)))
def test_naive_times_are_local(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment.astimezone()


@pytest.mark.parametrize(
    ("moment", "value"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_767_225_600_000_000),
    ],
)
def test_microseconds_since_1970(moment: datetime, value: int) -> None:
    assert to_microseconds(moment) == value


# Conditions


@pytest.mark.parametrize(
    ("filters", "condition", "values"),
    [
        (None, "1", []),
        (MemoryFilter(), "1", []),
        (MemoryFilter(source_path="a"), "1 AND memories.source_path = ?", ["a"]),
        (
            MemoryFilter(memory_ids=('a"b', "ü")),
            "1 AND memories.id IN (SELECT value FROM json_each(?))",
            ['["a\\"b", "\\u00fc"]'],
        ),
        (
            MemoryFilter(hierarchy_levels=(), created_until=NOON),
            (
                "1 AND memories.hierarchy_level IN (SELECT value FROM json_each(?)) "
                "AND memories.created_us < ?"
            ),
            ["[]", 1_767_268_800_000_000],
        ),
    ],
)
def test_where(filters: MemoryFilter | None, condition: str, values: list[object]) -> None:
    assert where(filters) == (condition, values)


def test_every_field_of_a_filter_has_a_condition() -> None:
    everything = MemoryFilter(
        memory_ids=("a",),
        tags=("a",),
        source_path="a",
        hierarchy_levels=(1,),
        memory_types=("a",),
        created_from=NOON,
        created_until=NOON,
    )
    condition, values = where(everything)
    assert condition.count("?") == len(values) == len(MemoryFilter.__slots__)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tags": "adr"}, "got tags 'adr'; expected a list of str"),
        ({"memory_ids": [1]}, "got memory_ids [1]; expected a list of str"),
        ({"hierarchy_levels": ("2",)}, "got hierarchy_levels ('2',); expected a list of int"),
        ({"source_path": 3}, "got source_path 3; expected a str"),
        ({"created_from": "2026-01-01"}, "got created_from '2026-01-01'; expected a datetime"),
    ],
)
def test_a_condition_of_another_type_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
        MemoryFilter(**given)


def test_lists_are_taken_as_tuples() -> None:
    listed: dict[str, Any] = {"tags": ["a", "b"], "hierarchy_levels": {2}}
    assert MemoryFilter(**listed) == MemoryFilter(tags=("a", "b"), hierarchy_levels=(2,))
