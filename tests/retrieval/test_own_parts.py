"""What a memory itself adds to its score, in numbers that can be checked by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import CognitiveMemory, MemoryType
from cognitive_memory.encoding.dimensions import CognitiveDimensionExtractor
from cognitive_memory.retrieval.own_parts import Weights, freshness, named_speakers, own_parts
from cognitive_memory.testing import make_memory

NOW = datetime(2026, 5, 8, tzinfo=UTC)
NOTHING = Weights(speaker=0, importance=0)


def parts(
    query: str, *memories: CognitiveMemory, weights: Weights = NOTHING
) -> dict[str, dict[str, float]]:
    return own_parts(query, memories, weights, NOW, CognitiveDimensionExtractor())


def said_by(*speakers: Any, key: str = "speaker") -> list[CognitiveMemory]:
    return [
        make_memory(str(number), metadata={} if name is None else {key: name})
        for number, name in enumerate(speakers)
    ]


# Who said it


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("What did Ada say about caches?", [1, 0, 0]),
        ("ADA'S plans", [1, 0, 0]),
        ("Ada and Lin", [1, 1, 0]),
        ("did Lin, Ada or Bob go?", [1, 1, 1]),
        ("an adage of Bobby's", [0, 0, 0]),
        ("", [0, 0, 0]),
    ],
)
def test_each_speaker_whom_the_query_names(query: str, named: list[float]) -> None:
    assert named_speakers(query, said_by("Ada", "Lin", "Bob")).tolist() == named


def test_who_else_is_a_candidate_does_not_matter() -> None:
    memories = said_by("Ada", "ada", "Lin", None)
    assert named_speakers("Ada and Lin", memories).tolist() == [1, 1, 1, 0]
    assert named_speakers("Ada and Lin", memories[:1]).tolist() == [1]


@pytest.mark.parametrize(
    ("name", "query", "named"),
    [
        ("Ada Lovelace", "what did Ada say", True),
        ("Ada Lovelace", "Lovelace, Ada", True),
        ("Ada Lovelace", "what did Lovelace say", False),
        ("Jean-Luc", "Jean went", True),
        ("größe", "GRÖSSE", True),
        ("佐藤", "佐藤", True),
        ("太郎", "太郎は何を買った", True),
        ("The Bot", "why did the deploy fail", False),
        ("The Bot", "what did the bot say", True),
        ("Will", "what will fail", False),
        ("Will", "what did Will say", True),
        ("Will", "Will it rain?", False),
        ("A", "what is a cache", False),
        ("?!", "?!", False),
        ("", "", False),
        (7, "7", False),
        (["Ada"], "Ada", False),
    ],
)
def test_a_name_counts_by_its_first_word_or_all_of_them(name: Any, query: str, named: bool) -> None:
    assert named_speakers(query, said_by(name)).tolist() == [float(named)]


def test_authors_are_speakers_and_a_speaker_goes_before() -> None:
    memories = said_by("Ada", key="author")
    assert named_speakers("Ada", memories).tolist() == [1]
    both = make_memory("a", metadata={"author": "Ada", "speaker": "Lin"})
    assert named_speakers("Ada", [both]).tolist() == [0]
    assert named_speakers("Lin", [both]).tolist() == [1]
    numbered = make_memory("a", metadata={"author": "Ada", "speaker": 7})
    assert named_speakers("Ada", [numbered]).tolist() == [1]


@given(query=st.text(), names=st.lists(st.none() | st.text(), max_size=5))
def test_the_shares_of_different_speakers_add_up_to_one_or_nothing(
    query: str, names: list[str | None]
) -> None:
    shares = named_speakers(query, said_by(*names)).tolist()
    by_name = {name.casefold(): share for name, share in zip(names, shares, strict=True) if name}
    assert sum(by_name.values()) == pytest.approx(1 if any(by_name.values()) else 0)


# The parts


def test_what_weighs_nothing_is_left_out() -> None:
    memory = make_memory("a", importance_score=1.0, metadata={"speaker": "Ada"})
    assert parts("Ada", memory) == {}
    assert own_parts("Ada", [memory], Weights(dimensions=1.0), NOW, None).keys() == {
        "speaker",
        "importance",
    }


def test_no_memories_have_no_parts() -> None:
    everything = Weights(recency=1.0, access=1.0, dimensions=1.0)
    assert not any(parts("Ada", weights=everything).values())


def test_the_weight_is_the_most_that_a_part_adds() -> None:
    memories = [
        make_memory("plain"),
        make_memory("best", importance_score=1.0, metadata={"speaker": "Ada"}),
        make_memory("half", importance_score=0.5),
    ]
    assert parts("Ada", *memories, weights=Weights(speaker=0.4, importance=0.2)) == {
        "speaker": {"plain": 0.0, "best": 0.4, "half": 0.0},
        "importance": {"plain": 0.0, "best": 0.2, "half": 0.1},
    }


def test_each_further_access_says_less() -> None:
    memories = [make_memory(str(count), access_count=count) for count in (0, 1, 3, 10, 10**9)]
    values = parts("", *memories, weights=Weights(speaker=0, importance=0, access=1.0))["access"]
    assert list(values.values()) == pytest.approx([0, 0.409, 0.581, 0.706, 0.954], abs=1e-3)
    assert values["1"] == 1 - 1 / (1 + math.log(2))


def test_freshness_halves_after_the_half_life_of_the_kind() -> None:
    def memory(name: str, days: float, kind: MemoryType) -> CognitiveMemory:
        moment = NOW - timedelta(days=days)
        return make_memory(name, memory_type=kind, created_date=NOW, last_accessed=moment)

    episodic, semantic = MemoryType.EPISODIC, MemoryType.SEMANTIC
    memories = [
        memory("now", 0, episodic),
        memory("month", 30, episodic),
        memory("months", 60, episodic),
        memory("year", 365, semantic),
        memory("tomorrow", -1, semantic),
    ]
    assert freshness(memories, Weights(), NOW).tolist() == [1, 0.5, 0.25, 0.5, 1]
    quick = Weights(episodic_half_life_days=15, semantic_half_life_days=36.5)
    assert freshness(memories, quick, NOW).tolist() == pytest.approx([1, 0.25, 1 / 16, 2**-10, 1])
    weighed = parts("", *memories, weights=Weights(speaker=0, importance=0, recency=0.2))
    assert weighed["recency"] == pytest.approx(
        {"now": 0.2, "month": 0.1, "months": 0.05, "year": 0.1, "tomorrow": 0.2}
    )


def test_dimensions_compare_moods_and_settings() -> None:
    """The query is urgent, and so is one of the memories; another is without any such word."""
    memories = [
        make_memory("urgent", "This is urgent, the deadline is today!"),
        make_memory("glad", "I am so happy and satisfied."),
        make_memory("blank", "zzz"),
    ]
    weights = Weights(speaker=0, importance=0, dimensions=0.5)
    values = parts("urgent: the deadline is today", *memories, weights=weights)["dimensions"]
    assert values["blank"] == 0
    assert values["urgent"] > 2 * values["glad"]
    assert values["urgent"] == pytest.approx(0.5, abs=0.05)
    extractor = CognitiveDimensionExtractor()
    query, row = extractor.extract_batch(["urgent: the deadline is today", memories[1].content])
    cosine = (query @ row) / (math.dist(query, 0 * query) * math.dist(row, 0 * row))
    assert values["glad"] == pytest.approx(0.5 * float(cosine), abs=1e-6)
    assert set(parts("zzz", *memories, weights=weights)["dimensions"].values()) == {0.0}
