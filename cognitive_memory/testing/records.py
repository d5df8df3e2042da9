"""What every ``MemoryStorage``, ``ConnectionGraph`` and ``LexicalIndex`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ..core.errors import InvalidInputError
from ..core.interfaces import ConnectionGraph, LexicalIndex, MemoryStorage
from ..core.memory import (
    LOADED_TYPES,
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    MemoryType,
    TextHit,
)
from .examples import FILTER_CASES, FILTERED_MEMORIES, NOON, make_memory

OpenMemories = Callable[[], MemoryStorage]

FULL = CognitiveMemory(
    id="größe/日本語 🦊",
    content="First line\n\tsecond, with 'quotes', \"more\" and 🦊\r\n",
    hierarchy_level=1,
    memory_type=MemoryType.SEMANTIC,
    importance_score=0.1 + 0.2,
    tags=("zebra", "größe", "a b"),
    source_path="/notes/größe.md",
    source_type="documentation",
    created_date=datetime(1903, 12, 17, 10, 35, 0, 123_457, tzinfo=UTC),
    last_accessed=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    access_count=7,
    metadata={"größe": [1, 2.5, None, True, {"deep": []}], "": "🦊"},
)
"""A memory with something unusual in every field."""


class MemoryStorageContract:
    """Define the fixture ``open_memories``: each call opens another handle on one, new store."""

    shares_store = True
    """Whether two handles serve one store at once."""

    takes_snapshots = True
    """Whether ``snapshot`` shows one state, while another handle writes."""

    @pytest.fixture
    def opened(self, open_memories: OpenMemories) -> Iterator[OpenMemories]:
        """Opens handles that are closed in the end."""
        with ExitStack() as stack:
            yield lambda: stack.enter_context(open_memories())

    @pytest.fixture
    def memories(self, opened: OpenMemories) -> MemoryStorage:
        """An empty store."""
        return opened()

    def test_what_was_saved_comes_back(self, memories: MemoryStorage) -> None:
        plain = make_memory("plain")
        memories.save_memories([FULL, plain])
        assert memories.get_memories([FULL.id, "plain"]) == [FULL, plain]

    def test_memories_come_in_the_order_asked_for(self, memories: MemoryStorage) -> None:
        memories.save_memories([make_memory(name) for name in "abc"])
        assert _ids(memories.get_memories(["c", "unknown", "a"])) == ["c", "a"]

    def test_empty_calls_are_no_error(self, memories: MemoryStorage) -> None:
        memories.save_memories([])
        memories.record_access([], NOON)
        assert memories.get_memories([]) == []
        assert memories.find_memories() == []
        assert memories.delete_memories([]) == 0

    def test_saving_again_replaces(self, memories: MemoryStorage) -> None:
        memories.save_memories([replace(FULL, id="a"), make_memory("b")])
        changed = make_memory("a", "other text", tags=("new",), metadata={"n": 1})
        memories.save_memories([changed])
        assert memories.get_memories(["a"]) == [changed]
        assert memories.find_memories(MemoryFilter(tags=("zebra",))) == []
        assert _ids(memories.find_memories()) == ["a", "b"]

    def test_a_memory_given_twice_is_refused(self, memories: MemoryStorage) -> None:
        before = make_memory("b", "before")
        memories.save_memories([before])
        twice = [make_memory("b", tags=("x",)), make_memory("a"), make_memory("b", tags=("x",))]
        with pytest.raises(InvalidInputError, match="'b' twice"):
            memories.save_memories(twice)
        assert memories.find_memories() == [before]

    def test_the_newest_come_first_and_ties_by_id(self, memories: MemoryStorage) -> None:
        later = NOON + timedelta(microseconds=1)
        memories.save_memories(
            [make_memory("c"), make_memory("a"), make_memory("d", created_date=later)]
        )
        memories.save_memories([make_memory("b")])
        assert _ids(memories.find_memories()) == ["d", "a", "b", "c"]

    @pytest.mark.parametrize("limit", [0, 1, 3, 4])
    def test_limit_is_the_most_that_comes_back(self, memories: MemoryStorage, limit: int) -> None:
        memories.save_memories([make_memory(name) for name in "abc"])
        assert _ids(memories.find_memories(limit=limit)) == ["a", "b", "c"][:limit]

    @pytest.mark.parametrize("case", FILTER_CASES)
    def test_filters(self, memories: MemoryStorage, case: str) -> None:
        memories.save_memories(FILTERED_MEMORIES)
        filters, expected = FILTER_CASES[case]
        newest_first = ["loose", "episode", "context", "concept"]
        found = _ids(memories.find_memories(filters))
        assert found == [memory_id for memory_id in newest_first if memory_id in expected]

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 1024])
    def test_all_memories_in_order_of_id(self, memories: MemoryStorage, batch_size: int) -> None:
        saved = [make_memory(name) for name in ("c", "B", "größe 🦊", "a", "")]
        memories.save_memories([*saved, FULL])
        batches = list(memories.iterate_memories(batch_size))
        assert [each for batch in batches for each in batch] == sorted(
            [*saved, FULL], key=lambda memory: memory.id
        )
        assert all(0 < len(batch) <= batch_size for batch in batches)

    def test_an_empty_store_gives_no_batch(self, memories: MemoryStorage) -> None:
        assert list(memories.iterate_memories()) == []

    def test_a_snapshot_is_one_state(self, memories: MemoryStorage, opened: OpenMemories) -> None:
        if not self.takes_snapshots:
            pytest.skip("this store has no snapshots")
        other = opened()
        memories.save_memories([make_memory("a"), make_memory("b")])
        with memories.snapshot():
            assert _ids(memories.find_memories()) == ["a", "b"]
            other.delete_memories(["b"])
            other.save_memories([make_memory("c")])
            assert _ids(memories.find_memories()) == ["a", "b"]
            assert [_ids(batch) for batch in memories.iterate_memories(1)] == [["a"], ["b"]]
        assert _ids(memories.find_memories()) == ["a", "c"]

    def test_deleted_memories_are_gone(self, memories: MemoryStorage) -> None:
        memories.save_memories([make_memory(name) for name in "abc"])
        assert memories.delete_memories(["a", "unknown", "c"]) == 2
        assert memories.delete_memories(["a"]) == 0
        assert _ids(memories.find_memories()) == ["b"]
        memories.save_memories([make_memory("a", "another")])
        assert memories.get_memories(["a"]) == [make_memory("a", "another")]

    def test_many_ids_at_once(self, memories: MemoryStorage) -> None:
        many = [make_memory(f"{number:05}") for number in range(3_000)]
        memories.save_memories(many)
        names = [memory.id for memory in many]
        assert memories.get_memories(names) == many
        memories.record_access(names, NOON)
        assert memories.delete_memories(names) == len(many)

    def test_a_failed_transaction_leaves_nothing(self, memories: MemoryStorage) -> None:
        def fail() -> None:
            with memories.transaction():
                memories.save_memories([make_memory("new"), make_memory("kept", "changed")])
                with memories.transaction():
                    memories.delete_memories(["kept"])
                assert _ids(memories.find_memories()) == ["new"]
                raise ZeroDivisionError

        memories.save_memories([make_memory("kept", "as it was")])
        with pytest.raises(ZeroDivisionError):
            fail()
        assert memories.find_memories() == [make_memory("kept", "as it was")]

    def test_a_transaction_keeps_all_of_it(self, memories: MemoryStorage) -> None:
        memories.save_memories([make_memory("a")])
        with memories.transaction():
            memories.save_memories([make_memory("b")])
            with memories.transaction():
                memories.delete_memories(["a"])
        assert _ids(memories.find_memories()) == ["b"]

    def test_each_access_counts(self, memories: MemoryStorage) -> None:
        memories.save_memories([make_memory("a", access_count=5), make_memory("b")])
        later = NOON + timedelta(days=1, microseconds=1)
        memories.record_access(["a", "unknown"], later)
        memories.record_access(["a"], NOON)
        (a, b) = memories.get_memories(["a", "b"])
        assert (a.access_count, a.last_accessed) == (7, later)
        assert b == make_memory("b")

    def test_statistics_are_json(self, memories: MemoryStorage) -> None:
        memories.save_memories(FILTERED_MEMORIES)
        statistics = json.loads(json.dumps(memories.get_statistics()))
        assert statistics["memories"] == 4
        assert statistics["memories_by_level"] == {"0": 1, "1": 1, "2": 2}
        assert statistics["memories_by_type"] == {"episodic": 2, "semantic": 2}

    def test_reopening_keeps_everything(self, opened: OpenMemories) -> None:
        first = opened()
        first.save_memories([FULL, *FILTERED_MEMORIES])
        first.delete_memories(["loose"])
        before = first.find_memories()
        first.close()
        first.close()
        assert opened().find_memories() == before
        assert len(before) == 4

    def test_another_handle_sees_every_change(
        self, memories: MemoryStorage, opened: OpenMemories
    ) -> None:
        if not self.shares_store:
            pytest.skip("this store serves one handle at a time")
        other = opened()
        assert other.find_memories() == []
        memories.save_memories([make_memory("a"), make_memory("b")])
        other.delete_memories(["a"])
        memories.record_access(["b"], NOON)
        assert other.get_memories(["b"])[0].access_count == 1
        assert _ids(memories.find_memories()) == ["b"]

    def test_threads_lose_nothing(self, memories: MemoryStorage) -> None:
        def work(thread: int) -> None:
            for number in range(10):
                with memories.transaction():
                    memories.save_memories([make_memory(f"{thread}-{number}")])
                    memories.record_access([f"{thread}-{number}"], NOON)
                assert memories.get_memories([f"{thread}-{number}"])[0].access_count == 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert len(memories.find_memories()) == 40


class ConnectionGraphContract(ABC):
    """Define the fixture ``graph``, and ``save_memories`` for the memories to connect."""

    @abstractmethod
    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Put memories into the record that the graph connects."""

    @pytest.fixture(autouse=True)
    def _saved(self, graph: ConnectionGraph) -> None:  # noqa: ARG002  (it opens the record)
        self.save_memories([make_memory(name) for name in ("a", "b", "c", "größe 🦊")])

    def test_an_edge_is_found_from_both_ends(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "größe 🦊", ConnectionType.HIERARCHICAL, 0.1 + 0.2)
        graph.add_connections([edge])
        for ends in (["a"], ["größe 🦊"], ["a", "größe 🦊"], ["unknown", "a"]):
            assert graph.get_connections(ends) == [edge]
        assert graph.get_connections(["b"]) == []

    def test_the_strongest_come_first(self, graph: ConnectionGraph) -> None:
        weak, strong = MemoryConnection("a", "b", strength=0.2), MemoryConnection("a", "c")
        middle = MemoryConnection("c", "a", strength=0.5)
        graph.add_connections([weak, middle, strong])
        assert graph.get_connections(["a"]) == [strong, middle, weak]

    def test_empty_calls_are_no_error(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "b")
        graph.add_connections([edge])
        graph.add_connections([])
        graph.replace_connections([], [])
        assert graph.get_connections([]) == []
        assert graph.get_connections(["a"]) == [edge]

    def test_the_same_ends_and_type_are_one_edge(self, graph: ConnectionGraph) -> None:
        first = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.9)
        second = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.4)
        other_type = MemoryConnection("a", "b", ConnectionType.EXPLICIT, 0.3)
        back = MemoryConnection("b", "a", ConnectionType.SEQUENTIAL, 0.2)
        graph.add_connections([first, other_type, back])
        graph.add_connections([second])
        assert graph.get_connections(["a", "b"]) == [second, other_type, back]

    @pytest.mark.parametrize("ends", [("a", "unknown"), ("unknown", "a")])
    def test_an_unknown_end_is_refused(self, graph: ConnectionGraph, ends: tuple[str, str]) -> None:
        with pytest.raises(InvalidInputError, match=r"'unknown'.*does not exist; store it first"):
            graph.add_connections([MemoryConnection("a", "b"), MemoryConnection(*ends)])
        assert graph.get_connections(["a"]) == []

    @pytest.mark.parametrize("strength", [0.0, -0.5, 1.001, math.inf, math.nan])
    def test_strength_out_of_range_is_refused(
        self, graph: ConnectionGraph, strength: float
    ) -> None:
        edges = [MemoryConnection("a", "b"), MemoryConnection("a", "c", strength=strength)]
        with pytest.raises(InvalidInputError, match=str(strength)):
            graph.add_connections(edges)
        assert graph.get_connections(["a"]) == []

    def test_strength_may_be_anything_above_zero_up_to_one(self, graph: ConnectionGraph) -> None:
        edges = [
            MemoryConnection("a", "b", strength=1.0),
            MemoryConnection("b", "c", strength=1e-9),
        ]
        graph.add_connections(edges)
        assert graph.get_connections(["b"]) == edges

    def test_replacing_drops_what_begins_there(self, graph: ConnectionGraph) -> None:
        outgoing = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.9)
        made_by_hand = MemoryConnection("a", "b", ConnectionType.EXPLICIT, 0.8)
        incoming = MemoryConnection("c", "a", ConnectionType.SEQUENTIAL, 0.7)
        elsewhere = MemoryConnection("b", "c", ConnectionType.HIERARCHICAL, 0.6)
        new = MemoryConnection("a", "c", ConnectionType.SEQUENTIAL, 0.5)
        graph.add_connections([outgoing, made_by_hand, incoming, elsewhere])
        graph.replace_connections(["a", "unknown"], [new])
        assert graph.get_connections(["a", "b", "c"]) == [made_by_hand, incoming, elsewhere, new]

    def test_replacing_drops_only_what_loaders_draw(self, graph: ConnectionGraph) -> None:
        edges = [
            MemoryConnection("a", "b", kind, 0.9 - 0.1 * number)
            for number, kind in enumerate(ConnectionType)
        ]
        graph.add_connections(edges)
        graph.replace_connections(["a"], [])
        kept = [edge for edge in edges if edge.connection_type not in LOADED_TYPES]
        assert graph.get_connections(["a"]) == kept

    def test_replacing_drops_the_kinds_asked_for(self, graph: ConnectionGraph) -> None:
        kinds = (ConnectionType.ASSOCIATIVE, ConnectionType.EXPLICIT)
        edges = [
            MemoryConnection("a", "b", kind, 0.9 - 0.1 * number)
            for number, kind in enumerate(ConnectionType)
        ]
        new = MemoryConnection("a", "c", ConnectionType.SEQUENTIAL, 0.1)
        graph.add_connections(edges)
        graph.replace_connections(["a"], [new], kinds)
        kept = [edge for edge in edges if edge.connection_type not in kinds]
        assert graph.get_connections(["a"]) == [*kept, new]
        graph.replace_connections(["a"], [], ())
        assert graph.get_connections(["a"]) == [*kept, new]

    def test_a_failed_replacement_drops_nothing(self, graph: ConnectionGraph) -> None:
        edge = MemoryConnection("a", "b", ConnectionType.SEQUENTIAL)
        graph.add_connections([edge])
        with pytest.raises(InvalidInputError, match="'unknown'"):
            graph.replace_connections(["a"], [MemoryConnection("a", "unknown")])
        assert graph.get_connections(["a"]) == [edge]

    def test_saving_a_memory_again_keeps_its_edges(self, graph: ConnectionGraph) -> None:
        edges = [MemoryConnection("a", "b", strength=0.9), MemoryConnection("c", "a", strength=0.8)]
        graph.add_connections(edges)
        self.save_memories([make_memory("a", "changed")])
        assert graph.get_connections(["a"]) == edges


class LexicalIndexContract(ABC):
    """Define the fixture ``lexical``, and ``save_memories`` for the memories to find."""

    @abstractmethod
    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Put memories into the record that the index searches."""

    def save(self, **texts: str) -> None:
        """Save a memory for each id and text."""
        self.save_memories([make_memory(name, text) for name, text in texts.items()])

    def test_a_shared_word_finds(self, lexical: LexicalIndex) -> None:
        self.save(a="We dropped Redis.", b="The cache was cold", c="redistribution")
        (hit,) = lexical.search_text("why was REDIS dropped?", 10, None)[:1]
        assert hit.memory_id == "a"
        assert hit.score > 0
        assert _hit_ids(lexical.search_text("redis", 10)) == ["a"]

    @pytest.mark.parametrize("query", ["apple", "the", "apple quince the", "cherry"])
    def test_scores_lie_above_0_up_to_1(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="the apple", b="the apple and the quince", c="the cherry " * 200, d="the the")
        hits = lexical.search_text(query, 10)
        assert hits
        assert all(0 < hit.score <= 1 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_more_shared_words_rank_higher(self, lexical: LexicalIndex) -> None:
        self.save(one="apple banana cherry", two="apple quince cherry", no="plum and pear")
        assert _hit_ids(lexical.search_text("apple quince", 10)) == ["two", "one"]

    def test_ties_are_broken_by_id(self, lexical: LexicalIndex) -> None:
        self.save(c="apple", a="apple", d="apple", b="apple", best="apple quince")
        for k in range(7):
            hits = lexical.search_text("apple quince", k)
            assert _hit_ids(hits) == ["best", "a", "b", "c", "d"][:k]

    def test_those_asked_for_come_along(self, lexical: LexicalIndex) -> None:
        self.save(c="apple", a="apple", d="apple", b="apple quince", no="plum")
        everything = lexical.search_text("apple quince", 9)
        for k, also, found in (
            (1, [], "b"),
            (1, ["d", "c"], "bcd"),
            (2, ["d", "b", "d"], "bad"),
            (4, ["no", "unknown"], "bacd"),
        ):
            hits = lexical.search_text("apple quince", k, also=also)
            assert _hit_ids(hits) == list(found)
            assert hits == [hit for hit in everything if hit.memory_id in found]
        assert lexical.search_text("pear", 9, also=["a"]) == []

    def test_those_asked_for_must_meet_the_filter(self, lexical: LexicalIndex) -> None:
        self.save_memories(FILTERED_MEMORIES)
        filters, expected = FILTER_CASES["one tag"]
        also = [memory.id for memory in FILTERED_MEMORIES]
        assert _hit_ids(lexical.search_text("shared", 1, filters, also)) == sorted(expected)

    @pytest.mark.parametrize("query", ["", " \n", "?!", "***", '"', "' OR ''", "--", "()", "🦊"])
    def test_a_query_without_words_finds_nothing(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="apple pie")
        assert lexical.search_text(query, 10) == []

    @pytest.mark.parametrize(
        "query",
        [
            '"apple',
            "apple* AND (",
            "content:apple",
            "NEAR(apple, 2)",
            "NOT apple",
            "-apple ^apple +apple",
            "apple\0\x01",
            "apple " * 10_000,
            " ".join(["apple", *(f"w{number}" for number in range(10_000))]),
            "a_p_p_l_e " * 100 + "apple",
        ],
        ids=lambda query: query[:20].encode("unicode_escape").decode(),
    )
    def test_any_text_is_a_query(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="an apple a day")
        assert _hit_ids(lexical.search_text(query, 10)) == ["a"]

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("Die Größe zählt", "größe"),
            ("résumé", "RÉSUMÉ"),
            ("re\u0301sume\u0301", "résumé"),
            ("résumé", "re\u0301sume\u0301"),
            ("η Ελληνική γλώσσα", "ελληνική"),
            ("русский язык", "ЯЗЫК"),
            ("日本語 テキスト", "日本語"),
            ("हिन्दी भाषा", "हिन्दी"),
            ("the price in 1848", "1848"),
        ],
    )
    def test_words_of_any_script(self, lexical: LexicalIndex, text: str, query: str) -> None:
        self.save(a=text, b="something else")
        assert _hit_ids(lexical.search_text(query, 10)) == ["a"]

    @pytest.mark.parametrize("case", FILTER_CASES)
    def test_filters(self, lexical: LexicalIndex, case: str) -> None:
        self.save_memories(FILTERED_MEMORIES)
        filters, expected = FILTER_CASES[case]
        assert _hit_ids(lexical.search_text("shared", 10, filters)) == sorted(expected)
        assert _hit_ids(lexical.search_text("shared", 1, filters)) == sorted(expected)[:1]

    def test_replaced_words_are_no_longer_found(self, lexical: LexicalIndex) -> None:
        self.save(a="apple pie", b="apple juice")
        self.save(a="quince jam")
        assert _hit_ids(lexical.search_text("apple", 10)) == ["b"]
        assert _hit_ids(lexical.search_text("quince", 10)) == ["a"]

    def test_an_empty_index_finds_nothing(self, lexical: LexicalIndex) -> None:
        assert lexical.search_text("apple", 10) == []


def _ids(memories: Sequence[CognitiveMemory]) -> list[str]:
    return [memory.id for memory in memories]


def _hit_ids(hits: Sequence[TextHit]) -> list[str]:
    return [hit.memory_id for hit in hits]
