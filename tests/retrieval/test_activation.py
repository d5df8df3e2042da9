"""Spreading activation over edges whose shares can be added up by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import Activation, ConnectionType, MemoryConnection
from cognitive_memory.retrieval.activation import FACTORS, SpreadingActivation
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.testing import make_memory

NAMES = "abcdefgh"
SEQUENTIAL, EXPLICIT = ConnectionType.SEQUENTIAL, ConnectionType.EXPLICIT
HALVES = {SEQUENTIAL: (0.5, 0.25), EXPLICIT: (0.5, 0.5)}
"""Half along an edge, a quarter against one that says what follows."""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[SQLitePersistence]:
    """The memories ``a`` to ``h``, not connected."""
    with SQLitePersistence(Database(tmp_path / "store.db")) as record:
        record.save_memories([make_memory(name) for name in NAMES])
        yield record


@pytest.fixture
def engine(record: SQLitePersistence) -> Callable[..., SpreadingActivation]:
    def make(**options: Any) -> SpreadingActivation:
        return SpreadingActivation(record, **{"factors": HALVES, **options})

    return make


def edge(ends: str, strength: float = 1.0, kind: ConnectionType = SEQUENTIAL) -> MemoryConnection:
    return MemoryConnection(ends[0], ends[1], kind, strength)


Make = Callable[..., SpreadingActivation]


def amounts(received: dict[str, Activation]) -> dict[str, float]:
    return {name: activation.amount for name, activation in received.items()}


# One hop


def test_what_follows_receives_more_than_what_went_before(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ab", 0.8), edge("ca", 0.8)])
    assert engine(hops=1).activate({"a": 0.5}) == {
        "b": Activation(0.2, "a", "sequential", 0.2),  # 0.5 x 0.8 x 0.5
        "c": Activation(0.1, "a", "sequential", 0.1),  # 0.5 x 0.8 x 0.25
    }


def test_what_several_pass_on_adds_up_and_the_strongest_is_named(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ac", 0.5), edge("bc"), edge("cb", 0.5, EXPLICIT)])
    received = engine(hops=1).activate({"a": 1.0, "b": 0.75})
    # 0.25 from a; from b 0.375 along the one edge, 0.1875 against the other.
    assert received["c"] == Activation(0.8125, "b", "sequential", 0.375)
    assert engine(hops=1).activate({"a": 1.0, "b": 0.25})["c"].by == "a"


def test_two_edges_between_the_same_memories_both_count(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ab", 0.5), edge("ab", 1.0, EXPLICIT)])
    received = engine(hops=1).activate({"a": 1.0})
    assert received == {"b": Activation(0.75, "a", "explicit", 0.5)}


def test_seeds_receive_as_others_do(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("ab")])
    assert amounts(engine(hops=1).activate({"a": 1.0, "b": 1.0})) == {"a": 0.25, "b": 0.5}


def test_types_without_a_factor_pass_nothing(record: SQLitePersistence, engine: Make) -> None:
    kinds = (ConnectionType.HIERARCHICAL, ConnectionType.ASSOCIATIVE, ConnectionType.ENTITY)
    record.add_connections([edge("ab", 1.0, kind) for kind in kinds])
    assert engine().activate({"a": 1.0, "b": 1.0}) == {}


def test_a_factor_may_be_for_one_direction_only(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("ab"), edge("ca")])
    for factor, found in (((0.5, 0.0), {"b": 0.5}), ((0.0, 0.5), {"c": 0.5})):
        one_way = engine(factors={SEQUENTIAL: factor}, hops=1)
        assert amounts(one_way.activate({"a": 1.0})) == found


def test_by_default_found_edges_pass_nothing_and_what_follows_counts_more(
    record: SQLitePersistence,
) -> None:
    found = (ConnectionType.ASSOCIATIVE, ConnectionType.ENTITY)
    record.add_connections([edge("ab", 1.0, kind) for kind in found])
    default = SpreadingActivation(record)
    assert default.activate({"a": 1.0}) == {}
    record.add_connections([edge("ca"), edge("ad")])
    received = amounts(SpreadingActivation(record, hops=1).activate({"a": 1.0}))
    assert received == {"d": FACTORS[SEQUENTIAL][0], "c": FACTORS[SEQUENTIAL][1]}
    assert received["d"] > received["c"] > 0


# Further hops


def test_each_hop_passes_on_what_was_received(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("ab"), edge("bc"), edge("cd")])
    assert engine().activate({"a": 1.0}) == {
        "b": Activation(0.5, "a", "sequential", 0.5),
        "c": Activation(0.25, "b", "sequential", 0.25),
        "a": Activation(0.125, "b", "sequential", 0.125),
    }


@pytest.mark.parametrize(("hops", "reached"), [(0, ""), (1, "b"), (2, "abc"), (3, "abcd")])
def test_activation_travels_as_far_as_the_hops(
    record: SQLitePersistence, engine: Make, hops: int, reached: str
) -> None:
    record.add_connections([edge("ab"), edge("bc"), edge("cd")])
    assert sorted(engine(hops=hops).activate({"a": 1.0})) == list(reached)


def test_every_hop_decays(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("ab"), edge("bc")])
    received = amounts(engine(decay=0.5).activate({"a": 1.0}))
    assert received == {"b": 0.25, "c": 0.0625, "a": 0.03125}
    assert engine(decay=0.0).activate({"a": 1.0}) == {}


def test_what_comes_by_two_ways_adds_up_over_the_hops(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ab", 0.25), edge("ac"), edge("cb")])
    received = engine().activate({"a": 1.0})
    # 0.125 straight from a; 0.25 by way of c, which is the strongest.
    assert received["b"] == Activation(0.375, "c", "sequential", 0.25)
    record.add_connections([edge("ab", 0.75)])
    assert engine().activate({"a": 1.0})["b"] == Activation(0.625, "a", "sequential", 0.375)


def test_a_cycle_only_gives_back_less(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("ab"), edge("bc"), edge("ca")])
    along = {SEQUENTIAL: (0.5, 0.0)}
    received = engine(factors=along, hops=3).activate({"a": 1.0})
    assert amounts(received) == {"b": 0.5, "c": 0.25, "a": 0.125}
    assert amounts(engine(factors=along, hops=6, max_sources=32).activate({"a": 1.0})) == {
        "b": 0.5 + 0.0625,
        "c": 0.25 + 0.03125,
        "a": 0.125 + 0.015625,
    }


def test_an_edge_to_itself_passes_nothing(record: SQLitePersistence, engine: Make) -> None:
    record.add_connections([edge("aa"), edge("aa", 1.0, EXPLICIT)])
    assert engine().activate({"a": 1.0}) == {}
    record.add_connections([edge("ab")])
    assert amounts(engine().activate({"a": 1.0})) == {"b": 0.5, "a": 0.125}


# Bounds


def test_only_the_most_active_pass_on_and_half_as_many_in_each_further_hop(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ab"), edge("cd"), edge("ef"), edge("bg"), edge("dh")])
    along = {SEQUENTIAL: (0.5, 0.0)}
    seeds = {"a": 1.0, "c": 0.8, "e": 0.6}
    received = engine(factors=along, max_sources=2).activate(seeds)
    assert amounts(received) == {"b": 0.5, "d": 0.4, "g": 0.25}
    received = engine(factors=along, max_sources=4).activate(seeds)
    assert amounts(received) == pytest.approx({"b": 0.5, "d": 0.4, "f": 0.3, "g": 0.25, "h": 0.2})
    assert amounts(engine(factors=along, max_sources=1).activate(seeds)) == {"b": 0.5}
    assert engine(max_sources=0).activate(seeds) == {}


def test_among_equally_active_ones_the_first_id_passes_on(
    record: SQLitePersistence, engine: Make
) -> None:
    record.add_connections([edge("ab"), edge("cd")])
    one = engine(max_sources=1)
    assert amounts(one.activate({"c": 1.0, "a": 1.0})) == {"b": 0.5}


@pytest.mark.parametrize("amount", [0.0, -0.5, -math.inf, math.nan])
def test_what_is_not_active_passes_nothing(
    record: SQLitePersistence, engine: Make, amount: float
) -> None:
    record.add_connections([edge("ab"), edge("cb")])
    assert engine(hops=1).activate({"a": amount}) == {}
    assert amounts(engine(hops=1).activate({"a": amount, "c": 1.0})) == {"b": 0.5}


def test_nobody_and_unknown_ones_activate_nobody(engine: Make) -> None:
    assert engine().activate({}) == {}
    assert engine().activate({"a": 1.0, "unknown": 2.0}) == {}


def test_the_result_does_not_depend_on_the_order_of_storing(tmp_path: Path) -> None:
    edges = [edge("ac"), edge("bc"), edge("cd", 0.5), edge("dc", 0.5, EXPLICIT), edge("ba", 0.5)]
    found = []
    for turn in (1, -1):
        with SQLitePersistence(Database(tmp_path / f"{turn}.db")) as record:
            record.save_memories([make_memory(name) for name in NAMES[::turn]])
            record.add_connections(edges[::turn])
            seeds = dict(list({"a": 1.0, "b": 1.0}.items())[::turn])
            found.append(SpreadingActivation(record, factors=HALVES).activate(seeds))
    assert found[0] == found[1]


PAIRS = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from([SEQUENTIAL, EXPLICIT, ConnectionType.ENTITY]),
)
STRENGTHS = st.sampled_from([0.25, 0.5, 1.0])


@given(
    drawn=st.dictionaries(PAIRS, STRENGTHS, max_size=20),
    seeds=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    hops=st.integers(0, 4),
    decay=st.sampled_from([0.5, 1.0]),
)
def test_it_is_the_product_of_a_matrix_and_a_vector(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: dict[tuple[str, str, ConnectionType], float],
    seeds: dict[str, float],
    hops: int,
    decay: float,
) -> None:
    matrix = np.zeros((len(NAMES), len(NAMES)))
    for (one, other, kind), strength in drawn.items():
        along, against = HALVES.get(kind, (0.0, 0.0))
        if one != other:
            matrix[NAMES.index(other), NAMES.index(one)] += decay * strength * along
            matrix[NAMES.index(one), NAMES.index(other)] += decay * strength * against
    active = np.array([max(seeds.get(name, 0.0), 0.0) for name in NAMES])
    total = np.zeros(len(NAMES))
    for _ in range(hops):
        active = matrix @ active
        total += active
    with SQLitePersistence(Database(tmp_path_factory.mktemp("graph") / "store.db")) as record:
        record.save_memories([make_memory(name) for name in NAMES])
        record.add_connections(
            [MemoryConnection(*ends, strength) for ends, strength in drawn.items()]
        )
        engine = SpreadingActivation(
            record, factors=HALVES, hops=hops, decay=decay, max_sources=1_000
        )
        received = engine.activate(seeds)
    assert amounts(received) == pytest.approx(
        {name: amount for name, amount in zip(NAMES, total, strict=True) if amount}
    )
    for name, activation in received.items():
        assert 0 < activation.share <= activation.amount * (1 + 1e-9)
        assert activation.by != name
        ends = {frozenset(ends[:2]) for ends in drawn if ends[2] == activation.connection_type}
        assert frozenset((activation.by, name)) in ends
