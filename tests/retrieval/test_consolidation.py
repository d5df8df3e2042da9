"""Which memories belong together and what stands for them, with vectors that a person can check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.consolidation import consolidated_id, members_of
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    ConsolidationPlan,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.retrieval.consolidation import (
    MAX_MEMBERS,
    MAX_QUOTE,
    MAX_TEXT,
    ExtractiveConsolidation,
    first_sentence,
)
from cognitive_memory.testing import make_memory, unit
from cognitive_memory.testing.examples import NOON

X, Y, Z, W = np.eye(4, dtype=np.float32)
NEAR_X = unit(10, 1, 0, 0), unit(10, -1, 0, 0), unit(10, 0, 1, 0)
"""Each has a cosine of 0.995 with X, of 0.98 or 0.99 with each other."""


def plan(
    rows: Mapping[str, Vector], fields: Mapping[str, dict[str, Any]] | None = None, **settings: Any
) -> ConsolidationPlan:
    """Of memories with these vectors, an hour apart in order of the mapping."""
    memories = [
        make_memory(
            name, **{"created_date": NOON + timedelta(hours=hour), **(fields or {}).get(name, {})}
        )
        for hour, name in enumerate(rows)
    ]
    vectors = {name: np.atleast_2d(row) for name, row in rows.items()}
    return ExtractiveConsolidation(**settings).plan(memories, vectors)


def groups(made: ConsolidationPlan) -> list[list[str]]:
    return [[member.id for member in group.members] for group in made.groups]


# Which groups


def test_related_episodes_are_a_group() -> None:
    made = plan({"b": X, "a": NEAR_X[0], "c": NEAR_X[1], "far": Y})
    assert groups(made) == [["a", "b", "c"]]
    assert (made.total_episodic, made.skipped) == (4, 0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_less_than_three_are_no_group(count: int) -> None:
    made = plan(dict.fromkeys("abc"[:count], X))
    assert groups(made) == []
    assert made.total_episodic == count
    assert len(made.connections) == (count == 2)


@pytest.mark.parametrize(("similarity", "count"), [(0.9, 1), (0.949, 1), (0.96, 0)])
def test_all_must_be_as_near_to_the_center(similarity: float, count: int) -> None:
    """Cosine 3 / sqrt(10) = 0.9487 between the center and each of its neighbors."""
    rows = {"a": unit(3, 1, 0, 0), "center": X, "b": unit(3, 0, 1, 0), "c": unit(3, 0, 0, 1)}
    made = plan(rows, group_similarity=similarity - 0.001)
    assert len(groups(made)) == count


def test_no_chain_joins_what_is_not_related() -> None:
    """Each step turns by 20 degrees; after five, the ends have nothing in common."""
    angles = np.radians(np.arange(10) * 20)
    rows = {
        f"{number:02}": unit(np.cos(angle), np.sin(angle), 0, 0)
        for number, angle in enumerate(angles)
    }
    made = plan(rows, group_similarity=0.9)
    for members in groups(made):
        numbers = [int(member) for member in members]
        assert max(numbers) - min(numbers) <= 2


def test_a_cycle_is_cut_into_groups() -> None:
    angles = np.radians(np.arange(12) * 30)
    rows = {
        f"{number:02}": unit(np.cos(angle), np.sin(angle), 0, 0)
        for number, angle in enumerate(angles)
    }
    made = plan(rows, group_similarity=0.8)
    assert groups(made)[0] == ["00", "01", "11"]
    members = [member for group in groups(made) for member in group]
    assert len(members) == len(set(members))


@pytest.mark.parametrize("count", [3, 7, 30, 100])
def test_identical_memories_are_grouped_in_bounded_groups(count: int) -> None:
    made = plan({f"{number:03}": X for number in range(count)})
    members = [member for group in groups(made) for member in group]
    assert len(members) == len(set(members)) >= 3
    assert all(3 <= len(group) <= MAX_MEMBERS for group in groups(made))
    assert made.duplicates == count


def test_a_group_has_at_most_twenty_members() -> None:
    hub = {"hub": X}
    for number in range(24):
        row = np.zeros(26, dtype=np.float32)
        row[[0, number + 1]] = 0.84, np.sqrt(1 - 0.84**2)
        hub[f"{number:02}"] = row
    hub["hub"] = np.eye(26, dtype=np.float32)[0]
    (members,) = groups(plan(hub, group_similarity=0.8))
    assert len(members) == MAX_MEMBERS
    assert members == [*(f"{number:02}" for number in range(MAX_MEMBERS - 1)), "hub"]


@pytest.mark.parametrize(
    ("fields", "is_grouped"),
    [
        ({}, True),
        ({"source_path": "/c.jsonl", "source_type": "conversation"}, True),
        ({"source_path": "/notes.md", "source_type": "documentation"}, False),
        ({"hierarchy_level": 1}, False),
        ({"memory_type": MemoryType.SEMANTIC}, False),
    ],
    ids=["stored", "conversation", "file", "level", "type"],
)
def test_which_memories_are_grouped(fields: dict[str, Any], is_grouped: bool) -> None:
    made = plan({"a": X, "b": X, "c": X}, {"c": fields})
    assert groups(made) == ([["a", "b", "c"]] if is_grouped else [])
    assert made.total_episodic == 2 + is_grouped
    assert ("a", "c") in [(edge.source_id, edge.target_id) for edge in made.connections]


def test_members_of_earlier_groups_are_left_alone() -> None:
    rows = {"a": X, "b": NEAR_X[0], "c": NEAR_X[1], "d": NEAR_X[2]}
    first = plan(rows)
    (group,) = first.groups
    assert len(group.members) == 4
    memories = [*group.members, group.memory]
    vectors = {**{name: row[None] for name, row in rows.items()}, group.memory.id: X[None]}
    again = ExtractiveConsolidation().plan(memories, vectors)
    assert again == replace(first, groups=(), skipped=4)
    three = {f"new{number}": X for number in range(3)}
    more = [make_memory(name) for name in three]
    vectors |= {name: row[None] for name, row in three.items()}
    later = ExtractiveConsolidation().plan([*memories, *more], vectors)
    assert groups(later) == [["new0", "new1", "new2"]]
    assert (later.total_episodic, later.skipped) == (7, 4)
    assert not any(group.memory.id in (e.source_id, e.target_id) for e in later.connections)


def test_memories_without_vectors_are_only_connected_by_names() -> None:
    memories = [make_memory(name, "see core/index.py") for name in "abc"]
    made = ExtractiveConsolidation().plan(memories, {})
    assert groups(made) == []
    assert {edge.connection_type for edge in made.connections} == {ConnectionType.ENTITY}


def test_nothing_gives_nothing() -> None:
    assert ExtractiveConsolidation().plan([], {}) == ConsolidationPlan()


def test_a_long_text_counts_as_a_whole() -> None:
    made = plan({"a": X, "b": np.stack([X, NEAR_X[0]]), "c": np.stack([X, Y, Y, Y])})
    assert groups(made) == []
    assert [(edge.source_id, edge.target_id) for edge in made.connections] == [("a", "b")]


def test_duplicates_are_memories_that_nearly_repeat_another() -> None:
    rows = {"a": X, "b": X, "c": unit(4, 1, 0, 0), "d": Y}
    assert plan(rows).duplicates == 2
    assert plan(rows, duplicate_similarity=0.97).duplicates == 3
    assert plan(rows, duplicate_similarity=1.0).duplicates == 2


# What stands for a group


def test_the_memory_that_stands_for_a_group() -> None:
    texts = {
        "a": "The cache was cold this morning when we arrived. It took a while.",
        "b": "Redis was down again, and nobody knew for how long it would be.",
        "c": "Redis was down again, and nobody knew for how long it would be.",
        "d": "Then we dropped it.\nFor good.",
    }
    fields: dict[str, dict[str, Any]] = {
        name: {"content": text, "created_date": NOON - timedelta(days=number)}
        for number, (name, text) in enumerate(texts.items())
    }
    fields["a"] |= {"tags": ("adr", "z"), "importance_score": 0.25}
    fields["b"] |= {"tags": ("ops", "adr"), "importance_score": 0.75}
    fields["c"] |= {"tags": ("adr",)}
    fields["d"] |= {"tags": ("ops", "y")}
    rows = {"a": X, "b": NEAR_X[0], "c": NEAR_X[1], "d": NEAR_X[2]}
    (group,) = plan(rows, fields).groups
    assert group.memory == CognitiveMemory(
        id=consolidated_id("abcd"),
        content=(
            f"{texts['a']}\n"
            "\n"
            "- Then we dropped it. For good.\n"
            "- Redis was down again, and nobody knew for how long it would be."
        ),
        hierarchy_level=1,
        memory_type=MemoryType.SEMANTIC,
        importance_score=0.75,
        tags=("adr", "ops"),
        source_type="consolidation",
        created_date=NOON,
        last_accessed=NOON,
        metadata={"consolidated": True, "representative": "a", "members": list("abcd")},
    )
    assert members_of(group.memory) == tuple("abcd")
    strengths = {edge.target_id: edge.strength for edge in group.connections}
    assert strengths == pytest.approx(
        {"a": 1.0, "b": 10 / 101**0.5, "c": 10 / 101**0.5, "d": 10 / 101**0.5}, abs=1e-5
    )
    for edge in group.connections:
        assert (edge.source_id, edge.connection_type) == (group.memory.id, "hierarchical")


def test_the_representative_is_the_nearest_to_all_and_ties_go_by_id() -> None:
    (group,) = plan({"c": X, "b": X, "a": NEAR_X[0], "d": NEAR_X[1]}).groups
    assert group.memory.metadata["representative"] == "b"


def test_texts_that_say_the_same_are_quoted_once() -> None:
    fields = {name: {"content": "Yes!"} for name in "abc"}
    (group,) = plan(dict.fromkeys("abc", X), fields).groups
    assert group.memory.content == "Yes!"


def test_its_length_is_bounded() -> None:
    texts = [f"{number} " + "word " * 5_000 for number in range(6)]
    fields = {name: {"content": text} for name, text in zip("abcdef", texts, strict=True)}
    for group in plan(dict.fromkeys("abcdef", X), fields).groups:
        first, blank, *quotes = group.memory.content.split("\n")
        assert blank == ""
        assert len(first) <= MAX_TEXT
        assert first.endswith("word…")
        assert all(len(quote) <= MAX_QUOTE + 2 for quote in quotes)
        assert len(quotes) == len(group.members) - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("No end", "No end"),
        ("One. Two.", "One. Two."),
        (
            "Ada: Hi! I went to the park on Sunday with Eve. We ate.",
            "Ada: Hi! I went to the park on Sunday with Eve.",
        ),
        (
            'She said "this is how it has always been." Then she left.',
            'She said "this is how it has always been."',
        ),
        (
            "Version 1.2.3 of the library was released that day. More.",
            "Version 1.2.3 of the library was released that day.",
        ),
        ("A line\n\n  and another, without\tany end", "A line and another, without any end"),
        ("我们" * 30 + "。然后", "我们" * 30 + "。"),
        ("x" * 500, "x" * 199 + "…"),
    ],
)
def test_first_sentences(text: str, expected: str) -> None:
    assert first_sentence(text) == expected


@given(st.text(max_size=600))
def test_a_first_sentence_is_one_short_line(text: str) -> None:
    sentence = first_sentence(text)
    assert len(sentence) <= MAX_QUOTE
    assert len(sentence.splitlines()) <= 1
    assert " ".join(text.split()).startswith(sentence.removesuffix("…"))


# Ids


def test_an_id_is_that_of_its_members_in_any_order() -> None:
    assert consolidated_id("abc") == consolidated_id("cab")
    assert consolidated_id("abc") != consolidated_id(["ab", "c"])


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "other"},
        {"source_type": "manual_entry"},
        {"metadata": {"consolidated": True, "members": ["a", "b"]}},
        {"metadata": {"consolidated": True}},
        {"metadata": {"members": "abc"}},
    ],
    ids=str,
)
def test_only_what_was_consolidated_has_members(changed: dict[str, Any]) -> None:
    (group,) = plan(dict.fromkeys("abc", X)).groups
    assert members_of(replace(group.memory, **changed)) == ()


@given(seed=st.integers(0, 1_000), count=st.integers(0, 40))
def test_groups_share_no_member_and_come_again(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    middle = generator.standard_normal((4, 16))[generator.integers(0, 4, count)]
    rows = normalize((middle + 0.5 * generator.standard_normal((count, 16))).astype(np.float32))
    memories = [make_memory(f"{number:02}") for number in range(count)]
    vectors = {memory.id: row[None] for memory, row in zip(memories, rows, strict=True)}
    planner = ExtractiveConsolidation(group_similarity=0.7)
    made = planner.plan(memories, vectors)
    backwards = dict(reversed(vectors.items()))
    assert groups(planner.plan(memories[::-1], backwards)) == groups(made)
    members = [member for group in groups(made) for member in group]
    assert len(members) == len(set(members))
    for group in made.groups:
        assert 3 <= len(group.members) <= MAX_MEMBERS
        assert {edge.target_id for edge in group.connections} == {m.id for m in group.members}
        assert all(isinstance(edge, MemoryConnection) for edge in group.connections)
