"""What every ``MemoryStorage`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ..core.errors import InvalidInputError
from ..core.interfaces import MemoryStorage
from ..core.memory import CognitiveMemory, MemoryFilter, MemoryType
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

    many = 3_000
    """Memories at once: more than the store is asked for in one request or statement."""

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
        many = [make_memory(f"{number:05}") for number in range(self.many)]
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


def _ids(memories: Sequence[CognitiveMemory]) -> list[str]:
    return [memory.id for memory in memories]
