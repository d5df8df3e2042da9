"""Any text as words to look up, and the words by which a memory is found beside its text."""

from __future__ import annotations

import doctest
import json
import locale
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.storage import words
from cognitive_memory.storage.filters import to_microseconds
from cognitive_memory.storage.words import (
    _STOP_WORDS,
    MAX_CONTEXT_CHARACTERS,
    MAX_QUERY_WORDS,
    context_of_row,
    context_words,
    phrase,
    query_words,
)
from cognitive_memory.testing import make_memory

FRIDAY = datetime(2026, 5, 8, 23, 59, tzinfo=UTC)

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
KEPT_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
UNSPACED = st.text("日本語々タワー我们缓存ข้าวกินພາສາမြန်မာខ្មែរｶﾀﾅ𠮷a1 ", max_size=20)
SYNTAX = st.lists(
    st.sampled_from(["AND", "OR", "NOT", "NEAR", "(", ")", '"', "'", "*", "^", ":", "-", "_", "a"])
).map(" ".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | KEPT_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEPT_TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def table() -> Iterator[sqlite3.Connection]:
    """A full-text table with the columns and the tokenizer of the store."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5 "
            "(content, context, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        yield connection


@pytest.fixture
def stored(table: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """The same, emptied afterwards."""
    yield table
    table.execute("DELETE FROM words")


def put(table: sqlite3.Connection, memory: CognitiveMemory) -> None:
    row = [memory.content, context_words(memory)]
    table.execute("INSERT INTO words (content, context) VALUES (?, ?)", row)


def matches(table: sqlite3.Connection, expression: str) -> set[str]:
    sql = "SELECT content FROM words WHERE words MATCH ?"
    return {content for (content,) in table.execute(sql, [expression])}


def find(table: sqlite3.Connection, query: str) -> set[str]:
    """Texts that share a word with the query, each word looked up as the store does."""
    expressions = [phrase(word) for word in query_words(query)]
    found = [matches(table, expression) for expression in expressions]
    # As the store asks for common words beside rarer ones.
    for expression in expressions[1:3]:
        matches(table, f"({' OR '.join(expressions)}) AND {expression}")
    return set().union(*found)


# Words of a query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('Why did "we" drop Redis? NOT (a OR', ["drop", "Redis", "NOT"]),
        ("The and of", ["The", "and", "of"]),
        ("Redis redis REDIS", ["Redis"]),
        ("snake_case C++ 3.11", ["snake_case", "C", "3", "11"]),
        ("größe", ["größe"]),
        ("re\u0301sume\u0301", ["re\u0301sume\u0301"]),
        ("日本語", ["日本", "本語"]),
        ("Redisの設定 v2", ["の設", "設定", "Redis", "v2"]),
        ("日", ["日"]),
        ("日々", ["日々"]),
        ("", []),
        ("?! ** -- 🦊", []),
    ],
)
def test_the_words_of_a_query(query: str, expected: list[str]) -> None:
    assert query_words(query) == expected


def test_words_are_literal_and_one_character_begins_a_word() -> None:
    assert phrase("NOT") == '"NOT"'
    assert phrase("a") == '"a"'
    assert phrase("日本") == '"日本"'
    assert phrase("日") == '"日"*'


def test_only_the_first_words_count() -> None:
    many = [f"w{number}" for number in range(10_000)]
    assert query_words(" ".join(many)) == many[:MAX_QUERY_WORDS]
    assert query_words(f"the {' '.join(many)}") == many[:MAX_QUERY_WORDS]


@given(query=ANY_TEXT | SYNTAX | UNSPACED)
@example(query="\ud800 a")
@example(query="a\0b")
@example(query="_ _ ___")
@example(query="\u0301")
@example(query="日\u3099 \u0e31 ーー")
def test_any_text_is_a_valid_query(table: sqlite3.Connection, query: str) -> None:
    assert find(table, query) == set()


@pytest.mark.parametrize(
    "query",
    [
        " ".join(f"w{number}" for number in range(10_000)),
        "a_" * 10_000,
        "a" * 100_000,
        "日本" * 10_000,
        "日 " * 10_000,
    ],
    ids=["many words", "one word of many", "one long word", "one long run", "many runs"],
)
def test_long_text_is_a_valid_query(table: sqlite3.Connection, query: str) -> None:
    assert find(table, query) == set()


def test_its_examples_are_true() -> None:
    assert doctest.testmod(words).failed == 0


# What is found


@given(word=st.text(st.characters(categories=["L", "N"]), min_size=1) | UNSPACED, rest=ANY_TEXT)
@example(word="\U000104b0", rest="")  # Osage: Python knows its cases, FTS5 does not
@example(word="\u0130", rest="")
def test_a_word_finds_the_text_that_it_is_from(
    table: sqlite3.Connection, word: str, rest: str
) -> None:
    """Whatever stands around it, as long as the tokenizer knows it as a word at all."""
    assume(word.isalnum() and word.lower() not in _STOP_WORDS)
    content = f"({word})"
    put(table, make_memory("a", content))
    try:
        if matches(table, f'content : "{word}"'):
            assert find(table, f"{word} {rest[:20]}") == {content}
    finally:
        table.execute("DELETE FROM words")


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("私は東京タワーに行きました", ["東京", "タワー", "行き", "私", "東京タワー"]),
        ("我们决定放弃缓存", ["缓存", "决定", "我们"]),
        ("ฉันชอบกินข้าวผัด", ["ข้าว", "กิน", "ผัด"]),
        ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
        ("မြန်မာဘာသာ", ["ဘာသာ"]),
        ("ភាសាខ្មែរ", ["ភាសា"]),
        ("ﾒﾓﾘを増やす", ["ﾒﾓ", "増や"]),
        ("𠮷野家の牛丼", ["𠮷野", "牛丼"]),
        ("Redisを2026年に削除した", ["Redis", "2026年", "削除", "2026"]),
    ],
)
def test_a_word_within_a_run_without_spaces_is_found(
    stored: sqlite3.Connection, text: str, within: list[str]
) -> None:
    put(stored, make_memory("a", text))
    put(stored, make_memory("b", "something else", created_date=datetime(1999, 1, 2, tzinfo=UTC)))
    for word in within:
        assert find(stored, word) == {text}, word
    assert find(stored, "天氣 crow") == set()


@pytest.mark.parametrize("character", "我喜欢猫")
def test_one_character_finds_each_run_that_holds_it(
    stored: sqlite3.Connection, character: str
) -> None:
    put(stored, make_memory("a", "我喜欢猫"))
    put(stored, make_memory("b", "狗也好"))
    assert find(stored, character) == {"我喜欢猫"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ("機械学習",)},
        {"source_path": "/notes/機械学習ノート.md"},
        {"metadata": {"title": ["機械学習入門"]}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_describes_a_memory_is_found_within_runs_too(
    stored: sqlite3.Connection, fields: dict[str, Any]
) -> None:
    put(stored, make_memory("a", "text", **fields))
    for word in ("機械学習", "学習", "機"):
        assert find(stored, word) == {"text"}


# Words beside the text


def test_a_plain_memory_is_found_by_its_day() -> None:
    assert context_words(make_memory("a", created_date=FRIDAY)) == "2026 May 8 Friday"


def test_the_day_is_that_of_utc() -> None:
    east = FRIDAY.astimezone(timezone(timedelta(hours=2)))
    assert east.day == 9
    assert context_words(make_memory("a", created_date=east)) == "2026 May 8 Friday"


def test_every_day_is_named_in_english_whatever_the_locale() -> None:
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=31 * n) for n in range(12)]
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("C", "de_DE.UTF-8", "ja_JP.UTF-8", "fr_FR.UTF-8"):
            with suppress(locale.Error):  # not every machine has them
                locale.setlocale(locale.LC_ALL, name)
            found = [context_words(make_memory("a", created_date=day)) for day in days]
            assert found == [
                "2026 January 1 Thursday",
                "2026 February 1 Sunday",
                "2026 March 4 Wednesday",
                "2026 April 4 Saturday",
                "2026 May 5 Tuesday",
                "2026 June 5 Friday",
                "2026 July 6 Monday",
                "2026 August 6 Thursday",
                "2026 September 6 Sunday",
                "2026 October 7 Wednesday",
                "2026 November 7 Saturday",
                "2026 December 8 Tuesday",
            ]
    finally:
        locale.setlocale(locale.LC_ALL, before)


def test_tags_texts_and_the_file_describe_a_memory() -> None:
    memory = make_memory(
        "a",
        created_date=FRIDAY,
        tags=("adr", "größe"),
        source_path="/home/ada/notes/cache.md",
        metadata={
            "speaker": "Ada",
            "turn": 7,
            "open": True,
            "none": None,
            "people": ["Lin", {"role": "guest", "deep": [["Bob"]]}],
            "room": "blue",
        },
    )
    assert context_words(memory) == ("2026 May 8 Friday adr größe Ada Lin guest Bob blue cache.md")


def test_metadata_counts_up_to_a_limit() -> None:
    for text in ("word " * 200_000, "長" * 1_000_000):
        metadata = {"first": "zebra", "long": [text], "last": "giraffe"}
        context = context_words(make_memory("a", "short", metadata=metadata, tags=("kept",)))
        assert "zebra" in context
        assert "kept" in context
        assert "giraffe" not in context
        assert len(context) < 4 * MAX_CONTEXT_CHARACTERS + 100


def test_metadata_may_be_nested_deeper_than_python_calls() -> None:
    nested: Any = "deep"
    for _ in range(100_000):
        nested = [nested]
    memory = make_memory("a", created_date=FRIDAY, metadata={"n": nested, "m": "flat"})
    assert context_words(memory) == "2026 May 8 Friday deep flat"


@given(
    content=KEPT_TEXT | UNSPACED,
    created=st.datetimes(timezones=st.just(UTC)),
    tags=st.lists(KEPT_TEXT, max_size=3).map(tuple),
    source_path=st.none() | KEPT_TEXT,
    metadata=st.dictionaries(KEPT_TEXT, JSON, max_size=3),
)
def test_a_row_has_the_words_of_its_memory(
    content: str,
    created: datetime,
    tags: tuple[str, ...],
    source_path: str | None,
    metadata: dict[str, Any],
) -> None:
    """What a migration finds in the table gives what saving the memory gives."""
    memory = make_memory(
        "a", content, created_date=created, tags=tags, source_path=source_path, metadata=metadata
    )
    row = (json.dumps(metadata), to_microseconds(created), source_path, json.dumps(tags))
    assert context_of_row(content, *row) == context_words(memory)
