"""The ranking and its parts, with vectors, words and edges that can be checked by eye."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    SearchResult,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.dimensions import CognitiveDimensionExtractor
from cognitive_memory.retrieval.activation import SpreadingActivation
from cognitive_memory.retrieval.bridges import ResidualBridges
from cognitive_memory.retrieval.hybrid import FLOOR, SCORE_DIGITS, HybridRetrieval
from cognitive_memory.retrieval.own_parts import Weights
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider, make_memory
from cognitive_memory.testing.examples import NOON

TEXTS = {
    "same": "green tree",
    "words": "a green tree in an unfathomably large forest",
    "shape": "blank page",
    "far": "it is so",
    "mixed": "green or blue",
}

PLAIN = Weights(activation=0, speaker=0, importance=0)
"""Meaning and words only."""

MEANING = Weights(lexical=0, activation=0, speaker=0, importance=0)

HALVES = {
    ConnectionType.SEQUENTIAL: (0.5, 0.5),
    ConnectionType.HIERARCHICAL: (0.5, 0.5),
    ConnectionType.EXPLICIT: (0.5, 0.5),
}


class Store:
    """The parts that a ranking stands on."""

    def __init__(self, path: Path, record: type[SQLitePersistence] = SQLitePersistence) -> None:
        database = Database(path)
        self.provider = WordLengthProvider()
        self.record = record(database)
        self.vectors = SQLiteVectorStorage(database)
        self.vectors.bind_embedding(self.provider.fingerprint, self.provider.dimension)

    def save(self, texts: dict[str, str], **fields: Any) -> None:
        self.put([make_memory(name, text, **fields) for name, text in texts.items()])

    def put(self, memories: Sequence[CognitiveMemory], rows: Sequence[Vector] = ()) -> None:
        """By default the vectors are those of the texts."""
        vectors = rows or self.provider.encode_batch([memory.content for memory in memories])
        self.record.save_memories(memories)
        self.vectors.store_vectors(memories, [np.atleast_2d(row) for row in vectors])

    def connect(self, *edges: MemoryConnection) -> None:
        self.record.add_connections(edges)

    def engine(self, weights: Weights = PLAIN, **settings: Any) -> HybridRetrieval:
        return HybridRetrieval(
            self.provider,
            self.record,
            self.vectors,
            self.record,
            SpreadingActivation(self.record, factors=HALVES),
            ResidualBridges(self.vectors, self.record),
            weights=weights,
            **settings,
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Holds ``TEXTS``, connected and described; nothing changes it."""
    store = Store(tmp_path_factory.mktemp("shared") / "store.db")
    for number, (name, text) in enumerate(TEXTS.items()):
        speaker = ("Ada", "Lin")[number % 2]
        store.save(
            {name: text},
            importance_score=number / 4,
            access_count=number,
            last_accessed=NOON - timedelta(days=number),
            metadata={"speaker": speaker},
        )
    store.connect(edge("same", "far"), edge("far", "words", 0.5), edge("mixed", "same", 0.25))
    yield store
    store.record.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store.db")
    yield store
    store.record.close()


def edge(
    source: str,
    target: str,
    strength: float = 1.0,
    kind: ConnectionType = ConnectionType.SEQUENTIAL,
) -> MemoryConnection:
    return MemoryConnection(source, target, kind, strength)


def ids(results: Sequence[SearchResult]) -> list[str]:
    return [result.memory.id for result in results]


def part(results: Sequence[SearchResult], name: str) -> dict[str, float]:
    return {result.memory.id: result.parts[name] for result in results}


def in_order(results: Sequence[SearchResult]) -> list[SearchResult]:
    """By score, then by id."""
    return sorted(results, key=lambda each: (-round(each.score, SCORE_DIGITS), each.memory.id))


# The parts together

WORDS = st.sampled_from(["green", "tree", "blank", "it", "zebra", "Ada", "?"])
QUERIES = st.lists(WORDS, min_size=1).map(" ".join)
WEIGHT = st.sampled_from([0.0, 0.3, 2.0])
WEIGHTS = st.builds(
    Weights,
    semantic=WEIGHT,
    lexical=WEIGHT,
    activation=WEIGHT,
    speaker=WEIGHT,
    importance=WEIGHT,
    recency=WEIGHT,
    access=WEIGHT,
    dimensions=WEIGHT,
)
OWN_PARTS = ("speaker", "importance", "recency", "access", "dimensions")


@given(query=QUERIES, k=st.integers(1, 6), weights=WEIGHTS)
def test_the_parts_add_up_and_order_the_results(
    shared: Store, query: str, k: int, weights: Weights
) -> None:
    engine = shared.engine(
        weights, dimensions=CognitiveDimensionExtractor(), clock=lambda: NOON + timedelta(days=9)
    )
    results = engine.search(query, k)
    everything = engine.search(query, 64)
    assert results == everything[:k]
    assert sorted(ids(everything)) == sorted(TEXTS)
    assert everything == in_order(everything)
    names = [name for name in ("activation", *OWN_PARTS) if getattr(weights, name)]
    for result in everything:
        vector = shared.provider.encode(result.memory.content)
        cosine = float(vector @ shared.provider.encode(query))
        assert list(result.parts) == ["semantic", "lexical", *names]
        assert result.score == sum(result.parts.values())
        assert result.parts["semantic"] == pytest.approx(weights.semantic * cosine, abs=1e-6)
        for name in ("lexical", *(name for name in names if name != "activation")):
            assert 0 <= result.parts[name] <= getattr(weights, name) * (1 + 1e-6)
        assert result.memory == shared.record.get_memories([result.memory.id])[0]
        assert bool(result.explanation) == (result.parts.get("activation", 0) > 0)


def test_by_default_meaning_words_neighbors_speakers_and_importance_count(shared: Store) -> None:
    engine = HybridRetrieval(
        shared.provider,
        shared.record,
        shared.vectors,
        shared.record,
        SpreadingActivation(shared.record),
        ResidualBridges(shared.vectors, shared.record),
    )
    results = engine.search("did Ada or Lin see a green tree", 5)
    assert {tuple(result.parts) for result in results} == {
        ("semantic", "lexical", "activation", "speaker", "importance")
    }
    assert part(results, "speaker") == dict.fromkeys(TEXTS, 0.3)
    assert part(results, "importance") == {
        name: pytest.approx(0.05 * number / 4) for number, name in enumerate(TEXTS)
    }


def test_meaning_and_words_together(shared: Store) -> None:
    results = shared.engine().search("green tree", 10)
    assert ids(results) == ["same", "words", "mixed", "shape", "far"]
    # Words of five and of four letters: the same, 3 of sqrt(2 x 12), 2 of sqrt(2 x 3), none.
    assert part(results, "semantic") == pytest.approx(
        {"same": 1, "words": 3 / 24**0.5, "mixed": 2 / 6**0.5, "shape": 1, "far": 0}
    )


def test_the_best_words_get_the_full_weight(shared: Store) -> None:
    found = part(shared.engine().search("green tree", 10), "lexical")
    assert found["same"] == 0.5
    assert 0 < found["words"] < 0.5
    assert found["shape"] == found["far"] == 0


def test_without_a_lexical_weight_only_the_meaning_counts(shared: Store) -> None:
    results = shared.engine(MEANING).search("green tree", 10)
    assert ids(results)[:2] == ["same", "shape"]
    assert set(part(results, "lexical").values()) == {0.0}


def test_without_a_semantic_weight_only_the_words_order(shared: Store) -> None:
    weights = Weights(semantic=0, lexical=1, activation=0, speaker=0, importance=0)
    results = shared.engine(weights).search("green tree", 10)
    assert ids(results) == ["same", "words", "mixed", "far", "shape"]
    assert [result.score for result in results] == list(part(results, "lexical").values())


# Candidates


def test_what_is_found_only_by_words_gets_its_cosine(store: Store) -> None:
    store.save({f"{number:02}": "green tree" for number in range(20)})
    store.save({"word": "an extraordinarily zebra"})
    engine = store.engine(Weights(lexical=2, activation=0, speaker=0, importance=0), candidates=1)
    assert ids(engine.search("giraffe and tapir", 1)) != ["word"]
    best, *rest = engine.search("zebra trees", 2)
    assert best.memory.id == "word"
    assert best.parts["lexical"] == 2.0
    expected = store.provider.encode("zebra trees") @ store.provider.encode(best.memory.content)
    assert best.parts["semantic"] == pytest.approx(float(expected), abs=1e-6)
    assert ids(rest) == ["00"]


def test_what_is_found_only_by_meaning_gets_its_words(store: Store) -> None:
    """All share the word; the best by meaning is the last by words, being the longest."""
    store.save({f"{number:02}": f"zebra {'it ' * number}" for number in range(9)})
    store.save({"near": "zebra " * 50})
    (best, *_) = store.engine(candidates=1).search("zebra", 1)
    assert best.memory.id == "00"
    by_meaning = store.engine(candidates=1).search("zebra zebra", 10)
    assert part(by_meaning, "lexical")["near"] > 0


def test_a_memory_found_by_words_is_named_with_its_best_chunk(store: Store) -> None:
    store.save({"a": "green tree"})
    rows = store.provider.encode_batch(["it is so", "zebra"])
    store.put([make_memory("b", "it is so and then zebra")], [rows])
    results = store.engine(candidates=1).search("zebra", 2)
    assert [(result.memory.id, result.chunk) for result in results] == [("b", 1), ("a", 0)]


def test_ties_are_broken_by_id(store: Store) -> None:
    names = "hcafbedg"
    store.save(dict.fromkeys(names, "green tree"))
    store.save({"0": "far more words than that"})
    for k in range(1, 9):
        assert ids(store.engine().search("green tree", k)) == sorted(names)[:k]


def test_ties_of_meaning_with_words_are_broken_by_id(store: Store) -> None:
    """0.5 by meaning and 0.5 by the word, against 1.0 by meaning alone."""
    store.save({"b": "blank", "a": "green it one four", "c": "?", "d": "!"})
    results = store.engine().search("green", 2)
    assert [(result.memory.id, result.score) for result in results] == [("a", 1.0), ("b", 1.0)]


def test_the_order_does_not_depend_on_the_order_of_storing(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.db")
    texts = {f"{number:02}": f"{'green ' * (number % 5)} tree" for number in range(50)}
    edges = [edge(f"{number:02}", f"{number * 7 % 50:02}", 0.5) for number in range(50)]
    for each, turn in ((store, 1), (other, -1)):
        each.save(dict(list(texts.items())[::turn]))
        each.connect(*edges[::turn])
    weights = Weights()
    for query in ("green tree", "tree", "zebra it"):
        expected = store.engine(weights).search(query, 50)
        found = other.engine(weights).search(query, 50)
        assert ids(found) == ids(expected)
        assert [each.score for each in found] == pytest.approx([each.score for each in expected])
        assert [each.explanation for each in found] == [each.explanation for each in expected]
    other.record.close()


def test_filters_hold_for_both_searches(store: Store) -> None:
    store.save({"a": "green tree"}, tags=("wanted",))
    store.save({"b": "green tree", "c": "zebra"})
    filters = MemoryFilter(tags=("wanted",))
    assert ids(store.engine().search("zebra", 10, filters)) == ["a"]
    assert ids(store.engine().search("green", 10, filters)) == ["a"]
    assert store.engine().search("green", 10, MemoryFilter(tags=("none",))) == []


def test_more_than_the_candidates_can_be_asked_for(store: Store) -> None:
    store.save({f"{number}": "green tree" for number in range(9)})
    assert len(store.engine(candidates=2, considered=2).search("zebra", 9)) == 9


class Losing(SQLitePersistence):
    """Another process deletes the memory ``gone`` just before records are looked up."""

    def get_memories(self, memory_ids: Sequence[str]) -> list[CognitiveMemory]:
        self.delete_memories(["gone"])
        return super().get_memories(memory_ids)


def test_what_is_deleted_meanwhile_is_not_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", Losing)
    store.save({"gone": "green tree", "kept": "green tree", "next": "green it"})
    store.connect(edge("gone", "kept"), edge("kept", "gone"))
    weights = Weights(recency=0.1, access=0.1, dimensions=0.1)
    engine = store.engine(weights, dimensions=CognitiveDimensionExtractor())
    assert ids(engine.search("green tree", 2)) == ["kept", "next"]
    groups = engine.recall("green tree", 2)
    assert ids([*groups["core"], *groups["peripheral"]]) == ["kept", "next"]
    store.record.close()


def test_where_all_is_deleted_meanwhile_nothing_is_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", Losing)
    store.save({"gone": "green tree"})
    everything = Weights(recency=0.1, access=0.1, dimensions=0.1)
    engine = store.engine(everything, dimensions=CognitiveDimensionExtractor())
    assert engine.recall("green tree", 2) == {"core": [], "peripheral": [], "bridge": []}
    store.record.close()


# Neighbors

ACTIVE = Weights(lexical=0, speaker=0, importance=0)
REST = 1 - FLOOR
"""What the best of a ranking passes on, where it scores 1."""


def test_a_neighbor_gains_what_is_passed_on(store: Store) -> None:
    """The query is ``core`` itself; the neighbors are as unlike it as can be."""
    store.save({"core": "green", "next": "it", "second": "or", "alone": "so"})
    store.connect(edge("core", "next", 0.8), edge("next", "second", 0.5))
    results = store.engine(ACTIVE).search("green", 10)
    assert part(results, "semantic") == {"core": 1, "next": 0, "second": 0, "alone": 0}
    assert part(results, "activation") == pytest.approx(
        {
            "core": REST * 0.8 * 0.5 * 0.8 * 0.5,  # to next and back
            "next": REST * 0.8 * 0.5,
            "second": REST * 0.8 * 0.5 * 0.5 * 0.5,
            "alone": 0,
        }
    )
    assert ids(results) == ["core", "next", "second", "alone"]
    assert [result.explanation for result in results] == [
        "activated by next, a sequential neighbor",
        "activated by core, a sequential neighbor",
        "activated by next, a sequential neighbor",
        "",
    ]


def test_its_weight_scales_what_is_passed_on(store: Store) -> None:
    store.save({"core": "green", "next": "it"})
    store.connect(edge("core", "next"))
    weights = Weights(lexical=0, activation=0.5, speaker=0, importance=0)
    results = store.engine(weights).search("green", 10)
    assert part(results, "activation")["next"] == pytest.approx(0.5 * REST * 0.5)


def test_without_a_weight_neighbors_neither_gain_nor_join(store: Store) -> None:
    store.save({"core": "green", "next": "it", "other": "trees"})
    store.connect(edge("core", "next"))
    results = store.engine(MEANING, candidates=2).search("green", 2)
    assert ids(results) == ["core", "other"]
    assert {tuple(result.parts) for result in results} == {("semantic", "lexical")}
    assert {result.explanation for result in results} == {""}


def test_candidates_far_below_the_best_pass_nothing_on(store: Store) -> None:
    """``low`` has a cosine of 0.5 / sqrt(1.25) = 0.45, less than half of the best."""
    store.save({"best": "green", "low": "green it is", "next": "a"})
    store.connect(edge("low", "next"))
    results = store.engine(ACTIVE).search("green", 10)
    assert part(results, "semantic")["low"] == pytest.approx(1 / math.sqrt(5))
    assert set(part(results, "activation").values()) == {0.0}


@pytest.fixture
def crowd(store: Store) -> Store:
    """``core`` has neighbors that no search finds among twenty memories nearer to the query."""
    store.save({"core": "green tree"})
    store.save({f"{number:02}": "green trees" for number in range(20)})
    store.save({"joins": "a"}, tags=("wanted",))
    store.save({"other": "a"})
    store.connect(edge("core", "joins"), edge("core", "other"))
    return store


def test_neighbors_reached_by_activation_alone_join_the_ranking(crowd: Store) -> None:
    engine = crowd.engine(Weights(lexical=0, activation=4, speaker=0, importance=0), candidates=1)
    results = engine.search("green tree", 3)
    assert set(ids(results)) == {"core", "joins", "other"}
    joined = next(result for result in results if result.memory.id == "joins")
    assert joined.parts == {
        "semantic": 0.0,
        "lexical": 0.0,
        "activation": pytest.approx(4 * REST * 0.5),
    }
    assert joined.explanation == "activated by core, a sequential neighbor"


def test_neighbors_must_meet_the_filter(crowd: Store) -> None:
    engine = crowd.engine(Weights(lexical=0, activation=4, speaker=0, importance=0), candidates=1)
    some = tuple(f"{number:02}" for number in range(20))
    cases: list[tuple[MemoryFilter, set[str]]] = [
        (MemoryFilter(memory_ids=("core", "other", *some)), {"other"}),
        (MemoryFilter(memory_ids=("core", *some)), set()),
        (MemoryFilter(tags=("wanted",)), {"joins"}),
    ]
    for filters, joining in cases:
        shown = set(ids(engine.search("green tree", 5, filters)))
        assert shown & {"joins", "other"} == joining
    core = crowd.record.get_memories(["core"])
    crowd.record.save_memories([make_memory(core[0].id, core[0].content, tags=("wanted",))])
    found = ids(engine.search("green tree", 5, MemoryFilter(tags=("wanted",))))
    assert found == ["core", "joins"]


def test_the_strongest_neighbors_join(crowd: Store) -> None:
    crowd.connect(edge("core", "joins", 0.9), edge("core", "other", 0.8))
    engine = crowd.engine(
        Weights(lexical=0, activation=4, speaker=0, importance=0), candidates=1, considered=1
    )
    found = ids(engine.search("green tree", 9))
    assert "joins" in found
    assert "other" not in found


def test_cycles_and_edges_to_itself_only_add_what_comes_back(store: Store) -> None:
    store.save({"a": "green", "b": "it", "c": "or"})
    store.connect(edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("a", "a"), edge("b", "a"))
    results = store.engine(ACTIVE).search("green", 10)
    assert sorted(ids(results)) == ["a", "b", "c"]
    # From a to b by two edges, to c by one; in the next hop each passes half on to the others.
    b, c = REST * 1.0, REST * 0.5
    assert part(results, "activation") == pytest.approx(
        {"a": b * 1.0 + c * 0.5, "b": b + c * 0.5, "c": c + b * 0.5}
    )


# What a memory brings along


def test_what_a_named_speaker_said_gains(store: Store) -> None:
    store.put(
        [
            make_memory("ada", "Ada: it is so", metadata={"speaker": "Ada"}),
            make_memory("lin", "Lin: it is so", metadata={"speaker": "Lin"}),
        ]
    )
    weights = Weights(lexical=0, activation=0, speaker=0.3, importance=0)
    results = store.engine(weights).search("what did Lin say", 10)
    assert ids(results) == ["lin", "ada"]
    assert part(results, "speaker") == {"lin": 0.3, "ada": 0.0}


def test_recency_counts_from_the_given_clock(store: Store) -> None:
    moments = {"now": 0, "month": 30, "months": 60}
    for name, days in moments.items():
        store.save({name: "it"}, last_accessed=NOON - timedelta(days=days))
    weights = Weights(lexical=0, activation=0, speaker=0, importance=0, recency=0.4)
    results = store.engine(weights, clock=lambda: NOON).search("it", 10)
    assert part(results, "recency") == pytest.approx({"now": 0.4, "month": 0.2, "months": 0.1})
    later = store.engine(weights, clock=lambda: NOON + timedelta(days=30)).search("it", 10)
    assert part(later, "recency") == pytest.approx({"now": 0.2, "month": 0.1, "months": 0.05})
    assert ids(results) == ids(later) == list(moments)


def test_what_is_important_or_often_shown_gains(store: Store) -> None:
    store.save({"plain": "it"})
    store.save({"often": "it"}, access_count=10)
    store.save({"important": "it"}, importance_score=1.0)
    weights = Weights(lexical=0, activation=0, speaker=0, importance=0.5, access=0.1)
    results = store.engine(weights).search("it", 10)
    assert ids(results) == ["important", "often", "plain"]
    assert part(results, "importance") == {"important": 0.5, "often": 0, "plain": 0}
    assert part(results, "access") == pytest.approx(
        {"important": 0, "often": 0.0706, "plain": 0}, abs=1e-4
    )


def test_a_like_mood_gains(store: Store) -> None:
    store.save({"glad": "so happy and glad", "angry": "so angry and sick"})
    weights = Weights(lexical=0, activation=0, speaker=0, importance=0, dimensions=0.5)
    engine = store.engine(weights, dimensions=CognitiveDimensionExtractor())
    assert ids(engine.search("I am frustrated", 2))[0] == "angry"
    assert ids(engine.search("we are satisfied", 2))[0] == "glad"
    without = store.engine(weights).search("I am frustrated", 2)
    assert all("dimensions" not in result.parts for result in without)


# Groups


def grouped(store: Store, query: str, k: int, **settings: Any) -> dict[str, list[str]]:
    groups = store.engine(**settings).recall(query, k)
    return {name: ids(results) for name, results in groups.items()}


def test_an_empty_store_has_empty_groups(store: Store) -> None:
    assert grouped(store, "green", 5) == {"core": [], "peripheral": [], "bridge": []}
    assert grouped(store, "green", 5, weights=Weights())["core"] == []


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 1.0])
def test_core_reaches_its_share_of_the_best_score(shared: Store, ratio: float) -> None:
    ranked = shared.engine().search("green tree", 4)
    core = [result.memory.id for result in ranked if result.score >= ratio * ranked[0].score]
    groups = grouped(shared, "green tree", 4, core_ratio=ratio)
    assert groups["core"] == core
    assert groups["core"] + groups["peripheral"] == ids(ranked)


def test_the_best_is_core_even_where_its_score_is_negative(store: Store) -> None:
    query, side = store.provider.encode_batch(["green", "it"])
    store.put(
        [make_memory("near", "x"), make_memory("far", "x")], [0.6 * side - 0.8 * query, -query]
    )
    groups = store.engine(ACTIVE).recall("green", 5)
    assert ids(groups["core"]) == ["near"]
    assert groups["core"][0].score == pytest.approx(-0.8)
    assert ids(groups["peripheral"]) == ["far"]


def test_scores_that_tie_are_core_together_and_none_is_shown_twice(store: Store) -> None:
    """Equal to six digits, they are ordered by id; the limit lies between them."""
    query, side = store.provider.encode_batch(["green", "it"])

    def at(cosine: float) -> Vector:
        return np.asarray(cosine * query + math.sqrt(1 - cosine**2) * side, dtype=np.float32)

    memories = [make_memory(name, "x") for name in ("best", "below", "upon")]
    store.put(memories, [query, at(0.75 - 2e-7), at(0.75 + 2e-7)])
    below, upon = sorted(store.engine(MEANING).search("green", 3), key=lambda each: each.score)[:2]
    assert below.score < 0.75 < upon.score
    groups = grouped(store, "green", 3, weights=MEANING, core_ratio=0.75)
    assert groups == {"core": ["best", "below", "upon"], "peripheral": [], "bridge": []}


def test_all_that_tie_with_the_best_are_core_at_a_ratio_of_one(store: Store) -> None:
    store.save({"a": "green", "b": "green", "c": "it green"})
    groups = grouped(store, "green", 3, core_ratio=1.0)
    assert (groups["core"], groups["peripheral"]) == (["a", "b"], ["c"])


# Bridges


@pytest.fixture
def connected(store: Store) -> Store:
    """``core`` is connected with four others, of which the query finds none among its first."""
    store.save({"core": "green tree"})
    store.save(dict.fromkeys("vwxyz", "it is so unfathomably far"))
    store.connect(
        edge("core", "z", 0.9),
        edge("y", "core", 0.5, ConnectionType.HIERARCHICAL),
        edge("core", "w", 0.6, ConnectionType.EXPLICIT),
        edge("core", "x", 0.4, ConnectionType.EXPLICIT),
        edge("core", "x", 0.8),
        edge("x", "v", 1.0, ConnectionType.EXPLICIT),
    )
    return store


@pytest.mark.parametrize("weights", [PLAIN, Weights()], ids=["plain", "default"])
def test_bridges_are_those_of_the_discovery(connected: Store, weights: Weights) -> None:
    groups = connected.engine(weights).recall("green tree", 1)
    (core,) = groups["core"]
    query = connected.provider.encode("green tree")
    discovery = ResidualBridges(connected.vectors, connected.record)
    expected = discovery.find_bridges(query, {"core": core.score}, {"core"}, 3)
    assert [bridge.memory_id for bridge in expected] == ["z", "x", "w"]
    found = groups["bridge"]
    assert ids(found) == ["z", "x", "w"]
    for result, bridge in zip(found, expected, strict=True):
        assert (result.score, result.parts) == (bridge.score, bridge.parts)
        assert result.score == sum(result.parts.values())
        assert result.explanation == bridge.explanation
        assert result.memory == connected.record.get_memories([bridge.memory_id])[0]
    assert found[0].parts["connection"] == 0.9
    assert found[0].explanation == "sequential neighbor of core"


@pytest.mark.parametrize(("most", "expected"), [(0, []), (1, ["z"]), (9, ["z", "x", "w", "y"])])
def test_bridges_are_few(connected: Store, most: int, expected: list[str]) -> None:
    assert grouped(connected, "green tree", 1, max_bridges=most)["bridge"] == expected


def test_a_bridge_is_not_among_the_ranked(connected: Store) -> None:
    for k in range(1, 7):
        groups = grouped(connected, "green tree", k, weights=Weights())
        shown = groups["core"] + groups["peripheral"]
        assert len(shown) == k
        assert not set(groups["bridge"]) & set(shown)
    assert groups["bridge"] == []


def test_a_bridge_meets_the_filter(connected: Store) -> None:
    texts = {"x": "it is so unfathomably far", "core": "green tree"}
    connected.record.save_memories(
        [make_memory(name, text, tags=("some",)) for name, text in texts.items()]
    )
    groups = connected.engine().recall("green tree", 1, MemoryFilter(tags=("some",)))
    assert ids(groups["core"]) == ["core"]
    assert ids(groups["bridge"]) == ["x"]
    none = connected.engine().recall("green tree", 1, MemoryFilter(memory_ids=("core",)))
    assert none["bridge"] == []


# Whatever is asked, and wherever


@settings(max_examples=60)
@given(query=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), k=st.integers(1, 7))
def test_any_text_ranks_everything(shared: Store, query: str, k: int) -> None:
    results = shared.engine(Weights()).search(query, k)
    assert len(results) == min(k, len(TEXTS))
    assert results == in_order(results)
    assert all(math.isfinite(result.score) for result in results)


@pytest.mark.parametrize(
    ("query", "shares_words"),
    [
        ("the of and where", False),
        ("?! ... --", False),
        ('"', False),
        ("'' OR \"\"", True),
        ("green AND (tree OR NOT", True),
        ("NEAR(green tree, 2) content:green ^green green*", True),
        ("緑の木はどこですか", False),
        ("зелёное дерево", False),
        ("ต้นไม้สีเขียว", False),
        ("🌳", False),
        (" ".join(f"word{number}" for number in range(10_000)), False),
        ("green " * 10_000, True),
    ],
    ids=lambda value: str(value)[:12].encode("unicode_escape").decode(),
)
def test_unusual_queries_are_queries(shared: Store, query: str, shares_words: bool) -> None:
    groups = shared.engine(Weights(), dimensions=CognitiveDimensionExtractor()).recall(query, 3)
    shown = [*groups["core"], *groups["peripheral"]]
    assert len(shown) == 3
    assert shown == in_order(shown)
    assert all(result.score == sum(result.parts.values()) for result in shown)
    assert any(result.parts["lexical"] for result in shown) == shares_words


RANK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_hybrid import Store, Weights

store = Store(Path(sys.argv[2]))
for query in sys.argv[3:]:
    results = store.engine(Weights()).search(query, 50)
    print(json.dumps([[each.memory.id, each.score, each.explanation] for each in results]))
"""


def test_another_process_ranks_the_same_and_so_does_a_reopened_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store(path)
    store.save({f"{number:02}": f"{'green ' * (number % 5)}tree" for number in range(50)})
    store.connect(*(edge(f"{n:02}", f"{n * 7 % 50:02}", 0.5) for n in range(50)))
    queries = ["green tree", "tree", "zebra it"]
    expected = [store.engine(Weights()).search(query, 50) for query in queries]
    store.record.close()
    reopened = Store(path)
    assert [reopened.engine(Weights()).search(query, 50) for query in queries] == expected
    reopened.record.close()
    shown = [
        [[each.memory.id, each.score, each.explanation] for each in results] for results in expected
    ]
    for seed in ("0", "1"):
        output = subprocess.run(
            [sys.executable, "-c", RANK, str(Path(__file__).parent), str(path), *queries],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert [json.loads(line) for line in output.stdout.splitlines()] == shown
