"""Conditions in SQL, times in microseconds, and any text as a full-text query."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cognitive_memory.core.memory import MemoryFilter
from cognitive_memory.storage.filters import (
    _STOP_WORDS,
    MAX_QUERY_WORDS,
    from_microseconds,
    match_expression,
    to_microseconds,
    where,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
SYNTAX = st.lists(
    st.sampled_from(["AND", "OR", "NOT", "NEAR", "(", ")", '"', "'", "*", "^", ":", "-", "_", "a"])
).map(" ".join)


@pytest.fixture(scope="module")
def table() -> Iterator[sqlite3.Connection]:
    """A full-text table with the tokenizer of the store."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5 "
            "(content, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        yield connection


def find(table: sqlite3.Connection, query: str) -> list[str]:
    expression = match_expression(query)
    if not expression:
        return []
    sql = "SELECT content FROM words WHERE words MATCH ? ORDER BY rank"
    return [content for (content,) in table.execute(sql, [expression])]


# Full text


@pytest.mark.parametrize(
    ("query", "expression"),
    [
        ('Why did "we" drop Redis? NOT (a OR', '"drop" OR "Redis" OR "NOT"'),
        ("The and of", '"The" OR "and" OR "of"'),
        ("Redis redis REDIS", '"Redis"'),
        ("snake_case C++ 3.11", '"snake_case" OR "C" OR "3" OR "11"'),
        ("größe 日本語", '"größe" OR "日本語"'),
        ("re\u0301sume\u0301", '"re\u0301sume\u0301"'),
        ("", ""),
        ("?! ** -- 🦊", ""),
    ],
)
def test_words_are_quoted(query: str, expression: str) -> None:
    assert match_expression(query) == expression


def test_only_the_first_words_count() -> None:
    words = [f"w{number}" for number in range(10_000)]
    expected = " OR ".join(f'"{word}"' for word in words[:MAX_QUERY_WORDS])
    assert match_expression(" ".join(words)) == expected


@given(query=ANY_TEXT | SYNTAX)
@example(query="\ud800 a")
@example(query="a\0b")
@example(query="_")
@example(query="\u0301")
def test_any_text_is_a_valid_query(table: sqlite3.Connection, query: str) -> None:
    assert find(table, query) == []


@pytest.mark.parametrize(
    "query", [" ".join(f"w{number}" for number in range(10_000)), "a_" * 10_000, "a" * 100_000]
)
def test_long_text_is_a_valid_query(table: sqlite3.Connection, query: str) -> None:
    assert find(table, query) == []


@given(word=st.text(st.characters(categories=["L", "N"]), min_size=1), rest=ANY_TEXT)
@example(word="\U000104b0", rest="")  # Osage: Python knows its cases, FTS5 does not
@example(word="\u0130", rest="")
def test_a_word_finds_the_text_that_it_is_from(
    table: sqlite3.Connection, word: str, rest: str
) -> None:
    """Whatever stands around it, as long as the tokenizer knows it as a word at all."""
    assume(word.lower() not in _STOP_WORDS)
    content = f"({word})"
    table.execute("INSERT INTO words (content) VALUES (?)", [content])
    try:
        known = table.execute("SELECT 1 FROM words WHERE words MATCH ?", [f'"{word}"']).fetchone()
        assert find(table, f"{word} {rest[:20]}") == [content] * bool(known)
    finally:
        table.execute("DELETE FROM words")


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
