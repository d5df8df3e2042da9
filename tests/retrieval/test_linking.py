"""Edges by likeness, beside a search by brute force, and edges by names."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.memory import CognitiveMemory, ConnectionType, MemoryConnection
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.retrieval.linking import (
    COMMON_FROM,
    associative_connections,
    entity_connections,
)
from cognitive_memory.testing import make_memory, unit
from cognitive_memory.testing.examples import NOON

X, Y, Z, W = np.eye(4, dtype=np.float32)


def ends(edges: Sequence[MemoryConnection]) -> list[tuple[str, str]]:
    return [(edge.source_id, edge.target_id) for edge in edges]


def degrees(edges: Sequence[MemoryConnection]) -> Counter[str]:
    return Counter(end for pair in ends(edges) for end in pair)


def random_rows(count: int, dimension: int, seed: int, centers: int = 8) -> Vector:
    """Unit rows around some centers, so that many are alike."""
    generator = np.random.default_rng(seed)
    middle = generator.standard_normal((centers, dimension), dtype=np.float32)
    rows = middle[generator.integers(0, centers, count)]
    return normalize(rows + 0.5 * generator.standard_normal(rows.shape, dtype=np.float32))


# By likeness


def test_the_nearest_are_connected() -> None:
    rows = np.stack([X, unit(3, 4, 0, 0), Y, Z])
    edges = associative_connections(["d", "a", "b", "c"], rows, per_memory=1)
    assert edges == [
        MemoryConnection("a", "b", ConnectionType.ASSOCIATIVE, 0.8),
        MemoryConnection("a", "d", ConnectionType.ASSOCIATIVE, 0.6),
    ]


@pytest.mark.parametrize(("least", "count"), [(0.6, 2), (0.61, 1), (0.8, 1), (0.81, 0), (0.1, 2)])
def test_the_threshold_is_inclusive(least: float, count: int) -> None:
    rows = np.stack([X, unit(3, 4, 0, 0), Y, Z])
    assert len(associative_connections("dabc", rows, min_similarity=least)) == count


def test_nothing_and_one_have_no_edges() -> None:
    assert associative_connections([], np.empty((0, 4), dtype=np.float32)) == []
    assert associative_connections([], np.empty((0, 0), dtype=np.float32)) == []
    assert associative_connections(["a"], X[None]) == []
    assert associative_connections(["a", "b"], np.stack([X, X]), per_memory=0) == []


def brute_force(
    ids: Sequence[str], rows: Vector, per_memory: int, least: float
) -> dict[tuple[str, str], float]:
    """Each pair of which one is among the nearest of the other, by sorting all of them."""
    wide = rows.astype(np.float64)
    found = {}
    for one in range(len(ids)):
        likeness = np.round(wide @ wide[one], 5)
        others = [other for other in range(len(ids)) if other != one and likeness[other] >= least]
        for other in sorted(others, key=lambda each: -likeness[each])[:per_memory]:
            pair = sorted([ids[one], ids[other]])
            found[pair[0], pair[1]] = float(likeness[other])
    return found


@given(
    count=st.integers(2, 60),
    per_memory=st.integers(1, 5),
    least=st.sampled_from([0.2, 0.6, 0.9]),
    block=st.sampled_from([1, 7, 16, 1024]),
    seed=st.integers(0, 1_000),
)
def test_the_same_as_by_brute_force(
    count: int, per_memory: int, least: float, block: int, seed: int
) -> None:
    rows = random_rows(count, 24, seed)
    ids = [f"{number:03}" for number in np.random.default_rng(seed).permutation(count)]
    edges = associative_connections(
        ids, rows, per_memory=per_memory, min_similarity=least, max_edges=count, block=block
    )
    expected = brute_force(ids, rows, per_memory, least)
    found = {pair: edge.strength for pair, edge in zip(ends(edges), edges, strict=True)}
    for pair in found.keys() ^ expected.keys():
        # Two that differ beyond the fifth digit only may change places.
        near = sorted(abs(expected.get(pair, found.get(pair, 0)) - each) for each in found.values())
        assert near[0] <= 2e-5
    for pair in found.keys() & expected.keys():
        assert found[pair] == pytest.approx(expected[pair], abs=2e-5)
    assert len(found) == len(edges), "each pair once"
    assert all(source < target for source, target in ends(edges))
    assert [edge.strength for edge in edges] == sorted(found.values(), reverse=True)


@given(order=st.permutations(range(12)), block=st.sampled_from([1, 5, 1024]))
def test_the_order_in_which_they_come_means_nothing(order: list[int], block: int) -> None:
    rows = random_rows(12, 8, seed=5)
    ids = [f"{number:02}" for number in range(12)]
    expected = associative_connections(ids, rows, block=1024)
    shuffled = associative_connections([ids[place] for place in order], rows[order], block=block)
    assert ends(shuffled) == ends(expected)
    assert [edge.strength for edge in shuffled] == pytest.approx(
        [edge.strength for edge in expected], abs=2e-5
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 40])
@pytest.mark.parametrize("block", [1, 3, 1024])
def test_copies_of_one_text_are_connected_in_turn(count: int, block: int) -> None:
    """Each with the next ones in order of ids, so that no memory is the neighbor of all."""
    ids = [f"{number:02}" for number in range(count)]
    edges = associative_connections(ids, np.stack([X] * count), per_memory=2, block=block)
    turns = {
        tuple(sorted([ids[one], ids[(one + step) % count]]))
        for one in range(count)
        for step in (1, 2)
        if step < count
    }
    assert set(ends(edges)) == turns
    assert {edge.strength for edge in edges} == {1.0}
    assert max(degrees(edges).values()) <= 4


def test_copies_that_are_not_quite_equal_to_the_machine() -> None:
    """Their products differ in the seventh digit, by their place."""
    row = random_rows(1, 384, seed=3)[0]
    edges = associative_connections(
        [f"{number:04}" for number in range(500)], np.stack([row] * 500), block=64
    )
    assert len(edges) == 1_500
    assert set(degrees(edges).values()) == {6}


def test_few_edges_meet_in_one_memory() -> None:
    """A hub near to 40 others, which are farther from each other."""
    near = np.linspace(0.61, 0.69, 40)
    rows = np.eye(41, dtype=np.float32)
    rows[1:, 0] = near
    rows[range(1, 41), range(1, 41)] = np.sqrt(1 - near**2)
    ids = [f"{number:02}" for number in range(41)]
    every = associative_connections(ids, rows, per_memory=1, max_edges=40)
    assert degrees(every)["00"] == 40
    few = associative_connections(ids, rows, per_memory=1, max_edges=5)
    assert few == [edge for edge in every if "00" in (edge.source_id, edge.target_id)][:5]
    assert max(degrees(few).values()) == 5


def test_strength_never_exceeds_one() -> None:
    rows = np.stack([X, X * np.float32(1.0001)])
    assert [edge.strength for edge in associative_connections("ab", rows)] == [1.0]


def test_twenty_thousand_in_bounded_memory() -> None:
    """All similarities at once would take 1.6 GB."""
    rows = random_rows(20_000, 32, seed=1, centers=2_000)
    ids = [f"{number:05}" for number in range(len(rows))]
    tracemalloc.start()
    try:
        edges = associative_connections(ids, rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120e6
    assert len(edges) > 20_000
    assert max(degrees(edges).values()) <= 24


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_vectors_that_are_no_numbers_are_refused(value: float) -> None:
    rows = np.stack([X, X])
    rows[1, 1] = value
    with pytest.raises(InvalidInputError, match="NaN or infinity; embed the text again"):
        associative_connections("ab", rows)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got 2 ids for 1 vectors"):
        associative_connections("ab", X[None])
    for least in (0.0, -0.5, 1.01):
        with pytest.raises(InvalidInputError, match=f"min_similarity {least}; it must be above 0"):
            associative_connections("a", X[None], min_similarity=least)


# By names


def say(*texts: str) -> list[CognitiveMemory]:
    """Memories ``00``, ``01``… an hour apart."""
    return [
        make_memory(f"{number:02}", text, created_date=NOON + timedelta(hours=number))
        for number, text in enumerate(texts)
    ]


def test_memories_that_name_the_same_are_connected() -> None:
    memories = say("we met Ada Lovelace", "nothing", "then Ada Lovelace left", "it rained")
    assert entity_connections(memories) == [
        MemoryConnection("00", "02", ConnectionType.ENTITY, 1.0)
    ]


def test_each_with_the_next_in_time() -> None:
    first, *others = say(*["see core/index.py"] * 4)
    late = make_memory("00", first.content, created_date=NOON + timedelta(days=1))
    edges = entity_connections([late, *others])
    assert ends(edges) == [("00", "03"), ("01", "02"), ("02", "03")]
    assert {edge.strength for edge in edges} == {0.5}


def test_rarer_entities_connect_more_strongly() -> None:
    memories = say(
        "the bug ABC-1 here", "again ABC-1", *["now ABC-2"] * 8, "ABC-1 and ABC-2 together"
    )
    strengths = {pair: edge.strength for pair, edge in _by_ends(entity_connections(memories))}
    assert strengths["00", "01"] == pytest.approx(1 / math.log2(3), abs=1e-5)
    assert strengths["02", "03"] == pytest.approx(1 / math.log2(9), abs=1e-5)


def test_strengths_add_up_to_one_at_most() -> None:
    memories = say("ABC-1 and ABC-2", "ABC-1 and ABC-2", "ABC-3 x.py", "ABC-3 x.py", "x.py", "x.py")
    strengths = {pair: edge.strength for pair, edge in _by_ends(entity_connections(memories))}
    assert strengths["00", "01"] == 1.0
    assert strengths["02", "03"] == 1.0
    assert strengths["04", "05"] == 0.5


def test_at_most_so_many_edges_meet_in_a_memory() -> None:
    texts = [f"ABC-{number}" for number in range(6)]
    memories = say(" ".join(texts), *texts)
    assert ends(entity_connections(memories, per_memory=2)) == [("00", "01"), ("00", "02")]
    assert len(entity_connections(memories, per_memory=6)) == 6
    assert entity_connections(memories, per_memory=0) == []


@pytest.mark.parametrize(("holders", "count"), [(COMMON_FROM, 9), (COMMON_FROM + 1, 0)])
def test_a_common_entity_connects_nothing(holders: int, count: int) -> None:
    memories = say(*["see x.py"] * holders, *["nothing"] * 40)
    assert len(entity_connections(memories)) == count
    assert len(entity_connections(memories, max_share=0.5)) == holders - 1


def test_a_name_repeated_in_one_text_is_one() -> None:
    assert entity_connections(say("x.py and x.py", "nothing")) == []


def test_no_memories_have_no_edges() -> None:
    assert entity_connections([]) == []
    assert entity_connections(say("see x.py")) == []


@given(st.lists(st.lists(st.sampled_from("ABCDEFGH"), max_size=5), max_size=25))
def test_edges_by_names_are_few_and_sound(named: list[list[str]]) -> None:
    memories = say(*["see " + " ".join(f"{letter}{letter}-1" for letter in each) for each in named])
    edges = entity_connections(memories)
    assert edges == entity_connections(memories[::-1])
    assert len(set(ends(edges))) == len(edges)
    assert max(degrees(edges).values(), default=0) <= 3
    texts = {memory.id: set(memory.content.split()[1:]) for memory in memories}
    for edge in edges:
        assert edge.source_id < edge.target_id
        assert 0 < edge.strength <= 1
        assert texts[edge.source_id] & texts[edge.target_id]


def _by_ends(
    edges: Sequence[MemoryConnection],
) -> list[tuple[tuple[str, str], MemoryConnection]]:
    return list(zip(ends(edges), edges, strict=True))
