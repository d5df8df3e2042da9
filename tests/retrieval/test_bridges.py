"""Bridges, with unit vectors and edges that can be checked by eye."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import (
    Bridge,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.retrieval.bridges import ResidualBridges
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import make_memory, unit

X, Y, Z, W = np.eye(4, dtype=np.float32)
XY, XZ, YZ = unit(1, 1, 0, 0), unit(1, 0, 1, 0), unit(0, 1, 1, 0)
HALF = math.sqrt(0.5)
"""The cosine of 45 degrees."""


class Store:
    """Vectors and edges in one file."""

    def __init__(self, path: Path) -> None:
        database = Database(path)
        self.record = SQLitePersistence(database)
        self.vectors = SQLiteVectorStorage(database)
        self.vectors.bind_embedding("bridges/4", 4)

    def save(self, **rows: Vector) -> None:
        memories = [make_memory(name) for name in rows]
        self.record.save_memories(memories)
        self.vectors.store_vectors(memories, [np.atleast_2d(row) for row in rows.values()])

    def close(self) -> None:
        self.record.close()

    def connect(self, *edges: MemoryConnection) -> None:
        self.record.add_connections(edges)

    def find(
        self,
        query: Vector,
        activated: Mapping[str, float],
        exclude: tuple[str, ...] = (),
        k: int = 10,
        filters: MemoryFilter | None = None,
        **settings: Any,
    ) -> list[Bridge]:
        engine = ResidualBridges(self.vectors, self.record, **settings)
        return engine.find_bridges(query, activated, exclude, k, filters)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store.db")
    yield store
    store.close()


def ids(bridges: list[Bridge]) -> list[str]:
    return [bridge.memory_id for bridge in bridges]


def edge(source: str, target: str, strength: float) -> MemoryConnection:
    return MemoryConnection(source, target, ConnectionType.SEQUENTIAL, strength)


# By vectors


def test_a_bridge_is_near_to_what_the_query_does_not_explain(store: Store) -> None:
    """Activated is half query, half Y: what is left of it is Y."""
    store.save(activated=XY, same_rest=Y, elsewhere=Z, answer=X)
    (bridge,) = store.find(X, {"activated": 0.7})
    assert bridge.memory_id == "same_rest"
    assert bridge.parts == {"residual": 1.0, "connection": 0.0, "direct": 0.0}
    assert bridge.score == 1.0
    assert bridge.explanation == "close to activated, not to the question"


def test_what_resembles_the_query_scores_less(store: Store) -> None:
    store.save(activated=XY, unlike=unit(0, 1, 1, 0), like=unit(1, 1, 0, 0))
    unlike, like = store.find(X, {"activated": 1.0})
    assert (unlike.memory_id, like.memory_id) == ("unlike", "like")
    assert unlike.score == pytest.approx(HALF)
    assert like.score == pytest.approx(HALF - 0.5 * HALF)
    assert like.parts["direct"] == pytest.approx(-0.5 * HALF)
    (opposite,) = store.find(-X, {"activated": 1.0}, exclude=("unlike",))
    assert opposite.parts["direct"] == 0


def test_activation_weighs_what_is_left(store: Store) -> None:
    store.save(more=XY, less=XZ, y=Y, z=Z)
    strong, weak = store.find(X, {"more": 0.8, "less": 0.4})
    assert (strong.memory_id, weak.memory_id) == ("y", "z")
    assert strong.score == pytest.approx(2 / math.sqrt(5))
    assert weak.score == pytest.approx(1 / math.sqrt(5))
    assert weak.explanation == "close to less, not to the question"


def test_activations_count_relative_to_their_largest(store: Store) -> None:
    store.save(more=XY, less=XZ, y=Y, z=Z, connected=W)
    store.connect(edge("less", "connected", 0.9))
    small = store.find(X, {"more": 0.02, "less": 0.01})
    large = store.find(X, {"more": 20.0, "less": 10.0})
    assert small == large
    assert ids(small) == ["y", "connected", "z"]


def test_the_best_chunk_counts(store: Store) -> None:
    store.save(activated=XY, many=np.stack([W, Y, W]), one=unit(0, 1, 0, 0.5))
    many, one = store.find(X, {"activated": 1.0})
    assert (many.memory_id, one.memory_id) == ("many", "one")
    assert many.score == 1.0


def test_the_most_direct_chunk_counts_against_it(store: Store) -> None:
    store.save(activated=XY, partly=np.stack([Y, X]))
    (bridge,) = store.find(X, {"activated": 1.0})
    assert bridge.score == pytest.approx(1 - 0.5)


def test_an_activated_memory_counts_by_the_mean_of_its_chunks(store: Store) -> None:
    store.save(activated=np.stack([X, Y]), y=Y)
    (bridge,) = store.find(X, {"activated": 1.0})
    assert bridge.score == pytest.approx(1.0)


# By edges


def test_a_neighbor_is_a_bridge_from_either_end(store: Store) -> None:
    store.save(activated=X, before=W, after=W)
    store.connect(edge("before", "activated", 0.5), edge("activated", "after", 0.8))
    after, before = store.find(X, {"activated": 1.0})
    assert (after.memory_id, after.score) == ("after", 0.8)
    assert (before.memory_id, before.score) == ("before", 0.5)
    assert after.explanation == before.explanation == "sequential neighbor of activated"


def test_the_strongest_edge_times_activation_counts(store: Store) -> None:
    store.save(one=X, other=X, far=W)
    store.connect(
        edge("one", "far", 0.6),
        MemoryConnection("far", "other", ConnectionType.EXPLICIT, 1.0),
        edge("one", "other", 1.0),
    )
    (bridge,) = store.find(X, {"one": 1.0, "other": 0.5})
    assert bridge.parts["connection"] == 0.6
    assert bridge.explanation == "sequential neighbor of one"
    (bridge,) = store.find(X, {"one": 0.5, "other": 1.0})
    assert bridge.parts["connection"] == 1.0
    assert bridge.explanation == "explicit neighbor of other"


def test_the_larger_part_is_named(store: Store) -> None:
    store.save(activated=XY, both=Y)
    store.connect(edge("activated", "both", 0.5))
    (bridge,) = store.find(X, {"activated": 1.0})
    assert bridge.score == 1.5
    assert bridge.explanation == "close to activated, not to the question"
    store.connect(edge("activated", "both", 1.0))
    (bridge,) = store.find(X, {"activated": 1.0})
    assert bridge.explanation == "sequential neighbor of activated"


def test_a_cycle_and_a_loop_are_edges_like_others(store: Store) -> None:
    store.save(a=X, b=W, c=W)
    store.connect(edge("a", "b", 0.9), edge("b", "c", 0.9), edge("c", "a", 0.8), edge("a", "a", 1))
    assert ids(store.find(X, {"a": 1.0})) == ["b", "c"]
    assert store.find(X, {"a": 1.0, "b": 1.0, "c": 1.0}) == []


def test_where_edges_give_enough_likeness_is_not_asked(store: Store) -> None:
    store.save(activated=XY, connected=W, near=Y)
    store.connect(edge("activated", "connected", 0.5))
    assert ids(store.find(X, {"activated": 1.0}, k=1)) == ["connected"]
    assert ids(store.find(X, {"activated": 1.0}, k=2)) == ["near", "connected"]


# What is never a bridge, and limits


def test_what_is_shown_or_activated_is_no_bridge(store: Store) -> None:
    store.save(activated=XY, shown=Y, other=Y)
    store.connect(edge("activated", "shown", 1.0))
    assert ids(store.find(X, {"activated": 1.0}, exclude=("shown", "unknown"))) == ["other"]


def test_hidden_memories_never_use_up_the_candidates(store: Store) -> None:
    shown = {f"{number:02}": Y for number in range(30)}
    store.save(activated=XY, bridge=YZ, **shown)
    found = store.find(X, {"activated": 1.0}, exclude=tuple(shown), candidates=1)
    assert ids(found) == ["bridge"]


@pytest.mark.parametrize("min_score", [0.0, 0.5, 0.8, 0.80001, 1.1])
def test_the_threshold_is_inclusive(store: Store, min_score: float) -> None:
    store.save(activated=X, strong=W, weak=W)
    store.connect(edge("activated", "strong", 0.8), edge("activated", "weak", 0.5))
    found = store.find(X, {"activated": 1.0}, min_score=min_score)
    scores = {"strong": 0.8, "weak": 0.5}
    assert ids(found) == [name for name, score in scores.items() if score >= min_score]


@pytest.mark.parametrize("k", range(5))
def test_ties_are_broken_by_id_and_k_is_the_most(store: Store, k: int) -> None:
    store.save(activated=XY, d=Y, b=Y, a=Y)
    assert ids(store.find(X, {"activated": 1.0}, k=k)) == ["a", "b", "d"][:k]


def test_a_bridge_meets_the_filter(store: Store) -> None:
    store.save(activated=XY, near=Y, connected=W)
    store.connect(edge("activated", "connected", 0.9))
    assert ids(store.find(X, {"activated": 1.0})) == ["near", "connected"]
    tagged = make_memory("connected", tags=("red",))
    store.record.save_memories([tagged])
    red = MemoryFilter(tags=("red",))
    assert ids(store.find(X, {"activated": 1.0}, filters=red)) == ["connected"]
    near = MemoryFilter(memory_ids=("near", "activated"))
    assert ids(store.find(X, {"activated": 1.0}, filters=near)) == ["near"]
    none = MemoryFilter(memory_ids=("near",), tags=("red",))
    assert store.find(X, {"activated": 1.0}, filters=none) == []


# Degenerate input


def test_an_empty_store_has_no_bridges(store: Store) -> None:
    assert store.find(X, {}) == []
    assert store.find(X, {"unknown": 1.0}) == []


def test_one_memory_has_no_bridges(store: Store) -> None:
    store.save(only=XY)
    assert store.find(X, {"only": 1.0}) == []


def test_identical_memories_are_near_to_what_is_left(store: Store) -> None:
    store.save(c=XY, a=XY, b=XY)
    assert ids(store.find(X, {"c": 1.0})) == ["a", "b"]


@pytest.mark.parametrize("amount", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_is_not_active_leads_nowhere(store: Store, amount: float) -> None:
    store.save(a=XY, b=Y)
    store.connect(edge("a", "b", 1.0))
    assert store.find(X, {"a": amount}) == []
    assert store.find(X, {}) == []


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_query_without_direction_finds_nothing(store: Store, value: float) -> None:
    store.save(a=XY, b=Y)
    assert store.find(np.full(4, value, dtype=np.float32), {"a": 1.0}) == []


def test_where_the_query_says_all_only_edges_lead_on(store: Store) -> None:
    store.save(activated=X, near=X, connected=W)
    assert store.find(X, {"activated": 1.0}) == []
    store.connect(edge("activated", "connected", 0.5))
    assert ids(store.find(X, {"activated": 1.0})) == ["connected"]


def test_what_cancels_out_leaves_nothing(store: Store) -> None:
    store.save(one=unit(1, 1, 0, 0), other=unit(1, -1, 0, 0), y=Y)
    assert store.find(X, {"one": 1.0, "other": 1.0}) == []


@given(seed=st.integers(0, 10_000), k=st.integers(0, 8), shown=st.integers(0, 10))
def test_always(tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, shown: int) -> None:
    generator = np.random.default_rng(seed)
    with closing(Store(tmp_path_factory.mktemp("always") / "store.db")) as store:
        rows = generator.integers(-2, 3, (12, 4)).astype(np.float32) + 0.5
        names = [f"{number:02}" for number in generator.permutation(12)]
        store.save(**{name: unit(*row) for name, row in zip(names, rows, strict=True)})
        ends = generator.choice(12, (20, 2))
        store.connect(*(edge(names[a], names[b], 0.1 + 0.02 * n) for n, (a, b) in enumerate(ends)))
        activated = {name: float(generator.random()) for name in names[:4]}
        query = unit(*generator.standard_normal(4))
        found = store.find(query, activated, tuple(names[:shown]), k)
        assert len(found) <= k
        assert not {*ids(found)} & {*activated, *names[:shown]}
        everything = store.find(query, activated, tuple(names[:shown]), 12)
        assert {*ids(found)} <= {*ids(everything)}
        assert len(found) == min(k, len(everything))
        assert found == sorted(found, key=lambda each: (-round(each.score, 6), each.memory_id))
        for bridge in found:
            assert bridge.score == sum(bridge.parts.values())
            assert bridge.score >= 0.25 - 1e-6
            assert 0 <= bridge.parts["residual"] <= 1 + 1e-6
            assert 0 <= bridge.parts["connection"] <= 1
            assert -0.5 - 1e-6 <= bridge.parts["direct"] <= 0
            assert bridge.explanation
            assert "\n" not in bridge.explanation
