"""Words in the store: kept in step with the memories, and found by whatever describes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.core.memory import MemoryFilter, TextHit
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.testing import make_memory
from cognitive_memory.testing.examples import NOON

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.lists(TEXT, max_size=2, unique=True).map(tuple),
        "source_path": TEXT,
        "created_date": st.datetimes(timezones=st.just(UTC)),
        "metadata": st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2), max_size=2),
    },
)
SAVED = st.lists(
    st.tuples(st.sampled_from("abc"), TEXT, FIELDS), max_size=3, unique_by=lambda one: one[0]
)
DELETED = st.sets(st.sampled_from("abc"))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[SQLitePersistence]:
    with SQLitePersistence(Database(tmp_path / "store.db")) as record:
        yield record


def ids(hits: list[TextHit]) -> list[str]:
    return [hit.memory_id for hit in hits]


@settings(max_examples=60)
@given(steps=st.lists(SAVED | DELETED, max_size=6))
def test_words_follow_the_memories(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[list[tuple[str, str, dict[str, Any]]] | set[str]],
) -> None:
    """Whatever is in their texts, tags, files and metadata."""
    database = Database(tmp_path_factory.mktemp("steps") / "store.db")
    with SQLitePersistence(database) as record:
        for step in steps:
            if isinstance(step, set):
                record.delete_memories(sorted(step))
            else:
                record.save_memories(
                    [make_memory(name, text, **fields) for name, text, fields in step]
                )
            record.record_access(["a"], NOON)
            with database.transaction():
                database.execute(
                    "INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)"
                )


def test_a_memory_is_found_by_all_that_describes_it(record: SQLitePersistence) -> None:
    record.save_memories(
        [
            make_memory(
                "a",
                "We dropped Redis.",
                tags=("decision",),
                source_path="/notes/adr/cache.md",
                created_date=datetime(2026, 5, 8, tzinfo=UTC),
                metadata={"speaker": "Ada", "people": [{"name": "Lin"}]},
            ),
            make_memory("b", "The weather was fine.", source_path="/notes/adr/diary.md"),
        ]
    )
    for query in (
        *("redis", "DROP", "decisions", "Ada", "what did Lin say?", "cache.md", "Friday", "May"),
        *("8 May 2026", "decision \0 ", "(Ada) AND"),
    ):
        assert ids(record.search_text(query, 10))[:1] == ["a"], query
    for query in ("notes", "adr", "name people speaker", "Monday", "the of and"):
        assert "a" not in ids(record.search_text(query, 10)), query


def test_what_shares_more_telling_words_comes_first(record: SQLitePersistence) -> None:
    record.save_memories(
        [
            make_memory("day", "a plain text", created_date=datetime(2026, 5, 8, tzinfo=UTC)),
            make_memory("both", "Redis fell", created_date=datetime(2026, 5, 8, tzinfo=UTC)),
            make_memory("word", "Redis rose", created_date=datetime(2025, 1, 1, tzinfo=UTC)),
            *(make_memory(f"{number}", "other") for number in range(5)),
        ]
    )
    hits = record.search_text("Redis in May", 10)
    assert ids(hits) == ["both", "word", "day"]


def test_all_that_are_asked_for_come_along_in_order(record: SQLitePersistence) -> None:
    record.save_memories([make_memory(f"{number}", "apple " * (number + 1)) for number in range(9)])
    hits = record.search_text("apple", 2, also=["8", "0", "5", "unknown"])
    assert ids(hits) == ["0", "1", "5", "8"]
    assert hits == [hit for hit in record.search_text("apple", 9) if hit in hits]


def test_a_filter_leaves_the_scores_and_drops_what_was_asked_for(
    record: SQLitePersistence,
) -> None:
    record.save_memories(
        [
            make_memory(
                f"{number}", "apple " * (number + 1), tags=("even", "odd")[number % 2 :][:1]
            )
            for number in range(9)
        ]
    )
    everything = {hit.memory_id: hit for hit in record.search_text("apple", 9)}
    odd = record.search_text("apple", 2, MemoryFilter(tags=("odd",)), also=["0", "7"])
    assert odd == [everything[name] for name in "137"]


@pytest.mark.parametrize("query", ["", "?!", '"', "\0", "🦊"])
def test_without_words_nothing_comes_along(record: SQLitePersistence, query: str) -> None:
    record.save_memories([make_memory("a", "apple")])
    assert record.search_text(query, 10, also=["a"]) == []
