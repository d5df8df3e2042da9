"""A text and a loose context become a memory, or an error that names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.experience import check_text, to_memory
from cognitive_memory.core.memory import CognitiveMemory, MemoryType

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


def make(context: Mapping[str, Any] | None) -> CognitiveMemory:
    return to_memory("a text", context, memory_id="m", now=NOW, max_bytes=100)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize("context", [None, {}, MappingProxyType({}), {"metadata": None}])
def test_defaults(context: Mapping[str, Any] | None) -> None:
    assert make(context) == CognitiveMemory(
        id="m",
        content="a text",
        hierarchy_level=2,
        memory_type=MemoryType.EPISODIC,
        importance_score=0.0,
        tags=(),
        source_path=None,
        source_type="manual_entry",
        created_date=NOW,
        last_accessed=NOW,
        access_count=0,
        metadata={},
    )


@pytest.mark.parametrize(
    ("level", "given_type", "expected"),
    [
        (0, None, "semantic"),
        (1, None, "semantic"),
        (2, None, "episodic"),
        (2, "semantic", "semantic"),
        (0, MemoryType.EPISODIC, "episodic"),
    ],
)
def test_the_type_follows_the_level(level: int, given_type: str | None, expected: str) -> None:
    memory = make({"hierarchy_level": level, "memory_type": given_type})
    assert (memory.hierarchy_level, memory.memory_type) == (level, MemoryType(expected))


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)),
        (
            datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
            datetime(2020, 1, 1, tzinfo=UTC),
        ),
        (datetime(2020, 1, 1), datetime(2020, 1, 1).astimezone()),
        ("2020-01-01T00:00:00Z", datetime(2020, 1, 1, tzinfo=UTC)),
        ("2020-01-01T00:00:00.000001-01:00", datetime(2020, 1, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("2020-01-01", datetime(2020, 1, 1).astimezone()),
    ],
    ids=str,
)
def test_times_become_aware(moment: datetime | str, expected: datetime) -> None:
    memory = make({"created_date": moment})
    assert memory.created_date == memory.last_accessed == expected
    assert memory.created_date.tzinfo is UTC


def test_words_lose_the_white_space_around_them() -> None:
    memory = make({"tags": (" b ", "a", "b"), "source_type": " diary\n"})
    assert memory.tags == ("b", "a")
    assert memory.source_type == "diary"


@pytest.mark.parametrize("share", [0, 1, 0.5])
def test_importance_is_a_share(share: float) -> None:
    importance = make({"importance_score": share}).importance_score
    assert isinstance(importance, float)
    assert importance == share


@given(metadata=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_metadata_comes_back_as_it_was_given(metadata: dict[str, Any]) -> None:
    assert make({"metadata": metadata}).metadata == metadata


def test_unknown_keys_are_metadata_and_nested_ones_win() -> None:
    context = {"people": ("Ada",), "room": "red", 7: "seven", "metadata": {"room": "blue"}}
    assert make(context).metadata == {"people": ["Ada"], "room": "blue", "7": "seven"}  # type: ignore[arg-type]


def test_metadata_is_a_copy() -> None:
    people = ["Ada"]
    memory = make({"people": people})
    people.append("Bob")
    assert memory.metadata == {"people": ["Ada"]}
    assert json.dumps(memory.metadata)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (7, "context is a int; expected a mapping"),
        ([("tags", [])], "context is a list; expected a mapping"),
        (
            {"hierarchy_level": -1},
            r"got hierarchy_level -1; it must be 0 \(concept\), 1 \(context\)",
        ),
        ({"hierarchy_level": 1.5}, "got hierarchy_level 1.5; it must be 0"),
        ({"hierarchy_level": "2"}, "got hierarchy_level '2'; it must be 0"),
        ({"hierarchy_level": True}, "got hierarchy_level True; it must be 0"),
        ({"hierarchy_level": None}, "got hierarchy_level None; it must be 0"),
        ({"memory_type": "SEMANTIC"}, "got memory_type 'SEMANTIC'; it must be 'episodic' or"),
        ({"memory_type": 1}, "got memory_type 1; it must be 'episodic' or 'semantic'"),
        ({"importance_score": True}, "got importance_score True; it must be from 0 to 1"),
        ({"importance_score": -0.1}, "got importance_score -0.1; it must be from 0 to 1"),
        ({"importance_score": float("nan")}, "got importance_score nan; it must be from 0 to 1"),
        ({"importance_score": "high"}, "got importance_score 'high'; it must be from 0 to 1"),
        ({"importance_score": None}, "got importance_score None; it must be from 0 to 1"),
        ({"tags": "adr"}, "got tags 'adr'; expected a list of words"),
        ({"tags": {"adr"}}, "got tags {'adr'}; expected a list of words"),
        ({"tags": [7]}, "tag is a int; expected a str"),
        ({"tags": [""]}, "tag is blank; give at least one visible character"),
        ({"tags": ["a\0b"]}, "tag holds a NUL character at position 1; remove it"),
        ({"tags": ["\ud800"]}, "tag is not valid UTF-8 at character 0"),
        ({"tags": ["x" * 1025]}, "tag has 1,025 bytes, the limit is 1,024"),
        ({"source_type": None}, "source_type is a NoneType; expected a str"),
        ({"created_date": None}, "got created_date None; expected a datetime or ISO 8601"),
        ({"created_date": 1_700_000_000}, "got created_date 1700000000; expected a datetime"),
        ({"created_date": date(2026, 1, 1)}, r"got created_date datetime.date\(2026, 1, 1\)"),
        ({"created_date": "soon"}, "got created_date 'soon'; .* as 2026-01-31T12:00:00Z"),
        ({"created_date": "0001-01-01T00:00:00+10:00"}, "got created_date '0001-01-01T00:00:00"),
        ({"metadata": "text"}, "got metadata 'text'; expected a mapping"),
        ({"metadata": []}, r"got metadata \[\]; expected a mapping"),
        ({"metadata": {"n": float("inf")}}, "context cannot be kept as JSON: Out of range float"),
        ({"n": float("nan")}, "context cannot be kept as JSON: Out of range float"),
        ({"people": {"Ada"}}, "context cannot be kept as JSON: .*set is not JSON serializable"),
        ({"when": NOW}, "context cannot be kept as JSON: .*datetime is not JSON serializable"),
        ({("a", "b"): 1}, "context cannot be kept as JSON: keys must be str"),
        ({"name": "\udcff"}, "context cannot be kept as JSON: .*surrogates not allowed"),
        ({"loop": circular()}, "context cannot be kept as JSON: Circular reference detected"),
        ({"deep": nested(100_000)}, "context cannot be kept as JSON: maximum recursion depth"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_accepted_is_named(context: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make(context)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "query is blank; give at least one visible character"),
        ("\u2003\n", "query is blank"),
        ("x" * 9, "query has 9 bytes, the limit is 8; split it, or raise COGN"),
        ("ü" * 5, "query has 10 bytes, the limit is 8"),
        ("ab\0", "query holds a NUL character at position 2; remove it"),
        ("a\udfff", r"query is not valid UTF-8 at character 1 \('\\udfff'\); convert it to UTF-8"),
        (b"bytes", "query is a bytes; expected a str"),
        (None, "query is a NoneType; expected a str"),
    ],
    ids=ascii,
)
def test_bad_texts_are_named(text: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_text(text, 8, "query")


@pytest.mark.parametrize("text", ["x" * 8, "🦊🦊", " a ", "\u200b", "\x01"])
def test_anything_else_is_kept_as_it_is(text: str) -> None:
    assert check_text(text, 8) == text
