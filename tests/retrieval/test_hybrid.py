"""Ranking by meaning and by words, with vectors and words that can be checked by eye."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    SearchResult,
)
from cognitive_memory.retrieval.hybrid import HybridRetrieval
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider, make_memory

TEXTS = {
    "same": "green tree",
    "words": "a green tree in an unfathomably large forest",
    "shape": "blank page",
    "far": "it is so",
    "mixed": "green or blue",
}


class Store:
    """The parts that a ranking stands on."""

    def __init__(self, path: Path) -> None:
        database = Database(path)
        self.provider = WordLengthProvider()
        self.record = SQLitePersistence(database)
        self.vectors = SQLiteVectorStorage(database)
        self.vectors.bind_embedding(self.provider.fingerprint, self.provider.dimension)

    def save(self, texts: dict[str, str], **fields: Any) -> None:
        memories = [make_memory(name, text, **fields) for name, text in texts.items()]
        self.record.save_memories(memories)
        rows = self.provider.encode_batch([memory.content for memory in memories])
        self.vectors.store_vectors(memories, [row[None] for row in rows])

    def engine(self, **settings: Any) -> HybridRetrieval:
        return HybridRetrieval(
            self.provider, self.record, self.vectors, self.record, self.record, **settings
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Holds ``TEXTS``; nothing changes it."""
    store = Store(tmp_path_factory.mktemp("shared") / "store.db")
    store.save(TEXTS)
    yield store
    store.record.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store.db")
    yield store
    store.record.close()


def ids(results: list[SearchResult]) -> list[str]:
    return [result.memory.id for result in results]


WORDS = st.sampled_from(["green", "tree", "blank", "it", "zebra", "?"])
QUERIES = st.lists(WORDS, min_size=1).map(" ".join)


@given(query=QUERIES, k=st.integers(1, 6), weight=st.sampled_from([0.0, 0.3, 2.0]))
def test_the_parts_add_up_and_order_the_results(
    shared: Store, query: str, k: int, weight: float
) -> None:
    results = shared.engine(lexical_weight=weight).search(query, k)
    everything = shared.engine(lexical_weight=weight).search(query, 100)
    assert results == everything[:k]
    assert len(everything) == len(TEXTS)
    assert everything == sorted(everything, key=lambda result: (-result.score, result.memory.id))
    for result in results:
        vector = shared.provider.encode(result.memory.content)
        cosine = float(vector @ shared.provider.encode(query))
        assert list(result.parts) == ["semantic", "lexical"]
        assert result.score == sum(result.parts.values())
        assert result.parts["semantic"] == pytest.approx(cosine, abs=1e-6)
        assert 0 <= result.parts["lexical"] <= weight
        assert result.memory == shared.record.get_memories([result.memory.id])[0]


def test_meaning_and_words_together(shared: Store) -> None:
    assert ids(shared.engine().search("green tree", 10)) == [
        "same",
        "shape",
        "words",
        "mixed",
        "far",
    ]


def test_the_best_words_get_the_full_weight(shared: Store) -> None:
    parts = {result.memory.id: result.parts for result in shared.engine().search("green tree", 10)}
    assert parts["same"]["lexical"] == 0.5
    assert 0 < parts["words"]["lexical"] < 0.5
    assert parts["shape"]["lexical"] == parts["far"]["lexical"] == 0


def test_without_a_lexical_weight_only_the_meaning_counts(shared: Store) -> None:
    results = shared.engine(lexical_weight=0.0).search("green tree", 10)
    assert ids(results)[:2] == ["same", "shape"]
    assert {result.parts["lexical"] for result in results} == {0.0}


def test_what_is_found_only_by_words_gets_its_cosine(store: Store) -> None:
    store.save({f"{number:02}": "green tree" for number in range(20)})
    store.save({"word": "an extraordinarily zebra"})
    engine = store.engine(candidates=1, lexical_weight=2.0)
    assert ids(engine.search("giraffe and tapir", 1)) != ["word"]
    best, *rest = engine.search("zebra trees", 2)
    assert best.memory.id == "word"
    assert best.parts["lexical"] == 2.0
    expected = store.provider.encode("zebra trees") @ store.provider.encode(best.memory.content)
    assert best.parts["semantic"] == pytest.approx(float(expected), abs=1e-6)
    assert ids(rest) == ["00"]


def test_a_memory_found_by_words_is_named_with_its_best_chunk(store: Store) -> None:
    store.save({"a": "green tree"})
    memory = make_memory("b", "it is so and then zebra")
    store.record.save_memories([memory])
    store.vectors.store_vectors([memory], [store.provider.encode_batch(["it is so", "zebra"])])
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
    store.save({"b": "blank", "a": "green it one four"})
    results = store.engine(lexical_weight=0.5).search("green", 2)
    assert [(result.memory.id, result.score) for result in results] == [("a", 1.0), ("b", 1.0)]


def test_the_order_does_not_depend_on_the_order_of_storing(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other.db")
    texts = {f"{number:02}": f"{'green ' * (number % 5)} tree" for number in range(50)}
    store.save(texts)
    other.save(dict(reversed(texts.items())))
    for query in ("green tree", "tree", "zebra it"):
        expected = [(result.memory.id, result.score) for result in store.engine().search(query, 50)]
        found = [(result.memory.id, result.score) for result in other.engine().search(query, 50)]
        assert ids(other.engine().search(query, 50)) == [memory_id for memory_id, _ in expected]
        assert found == expected
    other.record.close()


def test_filters_hold_for_both_searches(store: Store) -> None:
    store.save({"a": "green tree"}, tags=("wanted",))
    store.save({"b": "green tree", "c": "zebra"})
    filters = MemoryFilter(tags=("wanted",))
    assert ids(store.engine().search("zebra", 10, filters)) == ["a"]
    assert ids(store.engine().search("green", 10, filters)) == ["a"]


def test_more_than_the_candidates_can_be_asked_for(store: Store) -> None:
    store.save({f"{number}": "green tree" for number in range(9)})
    assert len(store.engine(candidates=2).search("zebra", 9)) == 9


# Groups


def grouped(store: Store, query: str, k: int, **settings: Any) -> dict[str, list[str]]:
    groups = store.engine(**settings).recall(query, k)
    return {name: ids(results) for name, results in groups.items()}


def test_an_empty_store_has_empty_groups(store: Store) -> None:
    assert grouped(store, "green", 5) == {"core": [], "peripheral": [], "bridge": []}


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.75, 1.0])
def test_core_reaches_its_share_of_the_best_score(shared: Store, ratio: float) -> None:
    ranked = shared.engine().search("green tree", 4)
    core = [result.memory.id for result in ranked if result.score >= ratio * ranked[0].score]
    groups = grouped(shared, "green tree", 4, core_ratio=ratio)
    assert groups["core"] == core
    assert groups["core"] + groups["peripheral"] == ids(ranked)


def test_the_best_is_core_even_where_its_score_is_negative(store: Store) -> None:
    memories = [make_memory("near", "x"), make_memory("far", "x")]
    store.record.save_memories(memories)
    query = store.provider.encode("green")
    side = store.provider.encode("it")
    store.vectors.store_vectors(memories, [(0.6 * side - 0.8 * query)[None], (-query)[None]])
    groups = store.engine().recall("green", 5)
    assert ids(groups["core"]) == ["near"]
    assert groups["core"][0].score == pytest.approx(-0.8)
    assert ids(groups["peripheral"]) == ["far"]


@pytest.fixture
def connected(store: Store) -> Store:
    """``core`` is connected with five others, of which the query finds none among its first."""
    store.save({"core": "green tree"})
    store.save(dict.fromkeys("vwxyz", "it is so unfathomably far"))
    store.record.add_connections(
        [
            MemoryConnection("core", "z", ConnectionType.SEQUENTIAL, 0.9),
            MemoryConnection("y", "core", ConnectionType.HIERARCHICAL, 0.5),
            MemoryConnection("core", "w", ConnectionType.EXPLICIT, 0.5),
            MemoryConnection("core", "x", ConnectionType.EXPLICIT, 0.4),
            MemoryConnection("core", "x", ConnectionType.SEQUENTIAL, 0.8),
            MemoryConnection("x", "v", ConnectionType.EXPLICIT, 1.0),
        ]
    )
    return store


def test_bridges_are_neighbors_of_the_core(connected: Store) -> None:
    groups = connected.engine().recall("green tree", 1)
    bridges = groups["bridge"]
    assert ids(bridges) == ["z", "x", "w"]
    assert [bridge.score for bridge in bridges] == pytest.approx([1.35, 1.2, 0.75])
    assert [bridge.parts for bridge in bridges] == [
        {"connection": bridge.score} for bridge in bridges
    ]
    assert [bridge.explanation for bridge in bridges] == [
        "sequential neighbor of core",
        "sequential neighbor of core",
        "explicit neighbor of core",
    ]


@pytest.mark.parametrize(("most", "expected"), [(0, []), (1, ["z"]), (9, ["z", "x", "w", "y"])])
def test_bridges_are_few(connected: Store, most: int, expected: list[str]) -> None:
    assert grouped(connected, "green tree", 1, max_bridges=most)["bridge"] == expected


def test_a_bridge_is_not_among_the_ranked(connected: Store) -> None:
    for k in range(1, 7):
        groups = grouped(connected, "green tree", k)
        shown = groups["core"] + groups["peripheral"]
        assert len(shown) == k
        assert not set(groups["bridge"]) & set(shown)
    assert groups["bridge"] == []


def test_a_bridge_meets_the_filter(connected: Store) -> None:
    tagged: CognitiveMemory = make_memory("x", "it is so unfathomably far", tags=("some",))
    core = make_memory("core", "green tree", tags=("some",))
    connected.record.save_memories([tagged, core])
    filters = MemoryFilter(tags=("some",))
    groups = connected.engine().recall("green tree", 1, filters)
    assert ids(groups["core"]) == ["core"]
    assert ids(groups["bridge"]) == ["x"]
    none = connected.engine().recall("green tree", 1, MemoryFilter(memory_ids=("core",)))
    assert none["bridge"] == []
