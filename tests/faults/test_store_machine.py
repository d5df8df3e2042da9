"""The real store, through two handles at once, against dictionaries and a brute-force search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from crash_writer import ItemLoader
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from systems import START, open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.consolidation import SOURCE_TYPE, members_of
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    MemoryType,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.retrieval.consolidation import ExtractiveConsolidation
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.testing import WordLengthProvider, make_memory

VOCABULARY = ("red", "blue", "green", "violet", "turquoise", "elephant", "größe")
SOURCES = ("/notes/a.md", "/notes/b.md")
EXAMPLES_PER_CRASH = 0.5

AT = st.integers(0, 1)
TEXT = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=7).map(" ".join)
TAGS = st.lists(st.sampled_from(["one", "two", "three"]), max_size=2, unique=True).map(tuple)
TAG = st.sampled_from(["one", "two", "three"])
PICK = st.integers(0, 1_000_000)
HOURS = st.integers(-2, 2)
FILTERS = st.none() | st.builds(
    MemoryFilter,
    tags=st.none() | TAGS,
    source_path=st.none() | st.sampled_from(SOURCES),
    hierarchy_levels=st.none() | st.lists(st.integers(0, 2), max_size=2).map(tuple),
    memory_types=st.none() | st.lists(st.sampled_from(list(MemoryType)), max_size=1).map(tuple),
    created_from=st.none() | HOURS.map(lambda hours: START + timedelta(hours=hours)),
    created_until=st.none() | HOURS.map(lambda hours: START + timedelta(hours=hours)),
)


class AbandonedError(Exception):
    """Raised in a transaction so that it is rolled back."""


class StoreMachine(RuleBasedStateMachine):
    """Each rule does the same to the store and to the model, and compares what both answer."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.provider = WordLengthProvider(words_per_chunk=3)
        self.memories: dict[str, CognitiveMemory] = {}
        self.edges: set[MemoryConnection] = set()
        self.is_consolidated = False
        self.ticks = self.given = 0
        self.handles = [self.open(), self.open()]

    def open(self) -> CognitiveMemorySystem:
        return open_system(
            Path(self.folder.name) / "store.db",
            self.provider,
            clock=self.clock,
            new_id=self.new_id,
            consolidation=ExtractiveConsolidation(),
        )

    def clock(self) -> datetime:
        self.ticks += 1
        return START + timedelta(minutes=self.ticks)

    def new_id(self) -> str:
        self.given += 1
        return f"m{self.given}"

    def pick(self, number: int) -> str:
        return sorted(self.memories)[number % len(self.memories)]

    def vectors(self, content: str) -> Vector:
        (spans,) = self.provider.chunk_batch([content])
        return self.provider.encode_batch([content[start:end] for start, end in spans])

    def forget(self, memory_ids: Sequence[str]) -> None:
        for memory_id in memory_ids:
            del self.memories[memory_id]
        self.edges = {e for e in self.edges if {e.source_id, e.target_id} <= self.memories.keys()}

    # Writing

    @rule(at=AT, texts=st.lists(TEXT, min_size=1, max_size=4), tags=TAGS, level=st.integers(0, 2))
    def store(self, at: int, texts: list[str], tags: tuple[str, ...], level: int) -> None:
        context = {"tags": list(tags), "hierarchy_level": level, "room": {"number": level}}
        ids = self.handles[at].store_experiences(texts, [context] * len(texts))
        now = START + timedelta(minutes=self.ticks)
        for memory_id, text in zip(ids, texts, strict=True):
            assert memory_id not in self.memories
            self.memories[memory_id] = make_memory(
                memory_id,
                text,
                tags=tags,
                hierarchy_level=level,
                memory_type=MemoryType.EPISODIC if level == 2 else MemoryType.SEMANTIC,
                metadata={"room": {"number": level}},
                created_date=now,
                last_accessed=now,
            )

    @precondition(lambda self: bool(self.memories))
    @rule(at=AT, number=PICK, text=TEXT, tags=TAGS, hours=HOURS)
    def save_again(
        self, at: int, number: int, text: str, tags: tuple[str, ...], hours: int
    ) -> None:
        old = self.memories[self.pick(number)]
        moment = START + timedelta(hours=hours)
        new = replace(old, content=text, tags=tags, created_date=moment)
        system = self.handles[at]
        with system.memories.transaction():
            system.memories.save_memories([new])
            system.vectors.store_vectors([new], [self.vectors(text)])
        self.memories[old.id] = new

    @precondition(lambda self: bool(self.memories))
    @rule(at=AT, number=PICK, text=TEXT)
    def abandon(self, at: int, number: int, text: str) -> None:
        system, memory_id = self.handles[at], self.pick(number)
        new = make_memory("abandoned", text)
        with suppress(AbandonedError), system.memories.transaction():
            system.memories.save_memories([new, make_memory(memory_id, text)])
            system.vectors.store_vectors([new], [self.vectors(text)])
            system.connections.add_connections([MemoryConnection("abandoned", memory_id)])
            hits = system.vectors.search_similar(self.vectors(text)[0], 1000)
            assert "abandoned" in {hit.memory_id for hit in hits}
            system.memories.delete_memories([memory_id])
            raise AbandonedError

    @rule(at=AT, source=st.sampled_from(SOURCES), texts=st.lists(TEXT, max_size=4), tags=TAGS)
    def load(self, at: int, source: str, texts: list[str], tags: tuple[str, ...]) -> None:
        new = [
            make_memory(
                f"{source}:{place}", text, source_path=source, source_type="items", tags=tags
            )
            for place, text in enumerate(texts)
        ]
        held = {m.id: m for m in self.memories.values() if m.source_path == source}
        loader = ItemLoader(new)
        report = self.handles[at].load_memories_from_source(loader, source)
        gone = held.keys() - {memory.id for memory in new}
        assert (report.added, report.deleted) == (
            len({memory.id for memory in new} - held.keys()),
            len(gone),
        )
        self.forget(sorted(gone))
        for memory in new:
            old = held.get(memory.id)
            self.memories[memory.id] = memory if old is None else _carried_over(memory, old)
        ids = {memory.id for memory in new}
        sequential = ConnectionType.SEQUENTIAL
        self.edges = {
            e for e in self.edges if e.source_id not in ids or e.connection_type != sequential
        } | set(loader.extract_connections(new))

    @precondition(lambda self: bool(self.memories))
    @rule(at=AT, one=PICK, other=PICK, strength=st.sampled_from([0.25, 0.5, 1.0]))
    def connect(self, at: int, one: int, other: int, strength: float) -> None:
        edge = MemoryConnection(self.pick(one), self.pick(other), strength=strength)
        self.handles[at].connections.add_connections([edge])
        same = (edge.source_id, edge.target_id, edge.connection_type)
        self.edges = {
            e for e in self.edges if (e.source_id, e.target_id, e.connection_type) != same
        } | {edge}

    # Deleting

    @precondition(lambda self: bool(self.memories))
    @rule(at=AT, number=PICK)
    def delete(self, at: int, number: int) -> None:
        memory_id = self.pick(number)
        assert self.handles[at].delete_memory_by_id(memory_id)["deleted_count"] == 1
        assert self.handles[1 - at].delete_memory_by_id(memory_id)["deleted_count"] == 0
        self.forget([memory_id])

    @precondition(lambda self: not self.is_consolidated)
    @rule(at=AT, tag=TAG)
    def delete_tag(self, at: int, tag: str) -> None:
        gone = [memory.id for memory in self.memories.values() if tag in memory.tags]
        assert self.handles[at].delete_memories_by_tags([tag])["deleted_count"] == len(gone)
        self.forget(gone)

    @rule(at=AT, source=st.sampled_from(SOURCES))
    def delete_source(self, at: int, source: str) -> None:
        gone = [memory.id for memory in self.memories.values() if memory.source_path == source]
        found = self.handles[at].delete_memories_by_source_path(source)
        assert found["deleted_count"] == len(gone)
        self.forget(gone)

    # Consolidation, which adds memories that are derived from the others

    @rule(at=AT)
    def consolidate(self, at: int) -> None:
        system = self.handles[at]
        system.consolidate_memories()
        self.is_consolidated = True
        for memory in system.memories.find_memories():
            if memory.source_type == SOURCE_TYPE:
                assert set(members_of(memory)) <= self.memories.keys()
                assert memory.id in system.vectors.get_vectors([memory.id])

    @rule(at=AT)
    def undo(self, at: int) -> None:
        self.handles[at].undo_consolidation()
        self.is_consolidated = False
        assert len(self.handles[1 - at].memories.find_memories()) == len(self.memories)

    # Reading

    @precondition(lambda self: not self.is_consolidated)
    @rule(at=AT, text=TEXT, filters=FILTERS, k=st.integers(1, 12))
    def search_by_vector(self, at: int, text: str, filters: MemoryFilter | None, k: int) -> None:
        query = self.provider.encode(text)
        hits = self.handles[at].vectors.search_similar(query, k, filters)
        scores = {
            memory.id: float((self.vectors(memory.content) @ query).max())
            for memory in self.memories.values()
            if matches(memory, filters)
        }
        assert [hit.score for hit in hits] == pytest.approx(
            sorted(scores.values(), reverse=True)[:k], abs=1e-6
        )
        for hit in hits:
            assert hit.score == pytest.approx(scores[hit.memory_id], abs=1e-6)
            rows = self.vectors(self.memories[hit.memory_id].content)
            assert float(rows[hit.chunk] @ query) == pytest.approx(hit.score, abs=1e-6)
        assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.memory_id))
        assert len({hit.memory_id for hit in hits}) == len(hits)

    @precondition(lambda self: not self.is_consolidated)
    @rule(at=AT, word=st.sampled_from(VOCABULARY), filters=FILTERS)
    def search_by_word(self, at: int, word: str, filters: MemoryFilter | None) -> None:
        record = self.handles[at].memories
        assert isinstance(record, SQLitePersistence)
        hits = record.search_text(word, 1000, filters)
        assert {hit.memory_id for hit in hits} == {
            memory.id
            for memory in self.memories.values()
            if word in memory.content.split() and matches(memory, filters)
        }
        assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.memory_id))

    @precondition(lambda self: not self.is_consolidated)
    @rule(at=AT, tag=TAG)
    def search_by_tag(self, at: int, tag: str) -> None:
        found = self.handles[at].get_memories_by_tags([tag])
        expected = [memory for memory in self.memories.values() if tag in memory.tags]
        expected.sort(key=lambda memory: memory.id)
        expected.sort(key=lambda memory: memory.created_date, reverse=True)
        assert found == expected

    @precondition(lambda self: not self.is_consolidated)
    @rule(at=AT, text=TEXT, filters=FILTERS)
    def recall(self, at: int, text: str, filters: MemoryFilter | None) -> None:
        groups = self.handles[at].retrieve_memories(text, filters=filters)
        now = START + timedelta(minutes=self.ticks)
        for result in groups["core"] + groups["peripheral"]:
            memory = self.memories[result.memory.id]
            assert result.memory == memory
            assert matches(memory, filters)
            self.memories[memory.id] = replace(
                memory,
                access_count=memory.access_count + 1,
                last_accessed=max(memory.last_accessed, now),
            )

    @rule(at=AT)
    def reopen(self, at: int) -> None:
        self.handles[at].close()
        self.handles[at] = self.open()

    @rule()
    def reopen_both(self) -> None:
        for system in self.handles:
            system.close()
        self.handles = [self.open(), self.open()]

    @invariant()
    def the_record_is_the_model(self) -> None:
        for system in self.handles:
            found = system.memories.find_memories()
            kept = {memory.id: memory for memory in found if memory.source_type != SOURCE_TYPE}
            assert kept == self.memories
            if not self.is_consolidated:
                assert len(found) == len(kept)
            edges = system.connections.get_connections(list(kept))
            drawn = (ConnectionType.EXPLICIT, ConnectionType.SEQUENTIAL)
            assert {edge for edge in edges if edge.connection_type in drawn} == self.edges
            vectors = system.vectors.get_vectors(list(kept))
            assert vectors.keys() == kept.keys()
            for memory_id, rows in vectors.items():
                np.testing.assert_array_equal(rows, self.vectors(kept[memory_id].content))

    def teardown(self) -> None:
        assert isinstance(self.handles[0].memories, SQLitePersistence)
        faults = self.handles[0].memories.check_integrity()
        for system in self.handles:
            system.close()
        self.folder.cleanup()
        assert faults == []


def _carried_over(new: CognitiveMemory, old: CognitiveMemory) -> CognitiveMemory:
    return replace(
        new,
        created_date=old.created_date if new.content == old.content else new.created_date,
        last_accessed=old.last_accessed,
        access_count=old.access_count,
    )


def matches(memory: CognitiveMemory, filters: MemoryFilter | None) -> bool:
    """What a filter says, in plain words."""
    if filters is None:
        return True
    asked: list[Callable[[], bool]] = []
    if filters.tags is not None:
        asked.append(lambda: bool(set(memory.tags) & set(filters.tags or ())))
    if filters.source_path is not None:
        asked.append(lambda: memory.source_path == filters.source_path)
    if filters.hierarchy_levels is not None:
        asked.append(lambda: memory.hierarchy_level in (filters.hierarchy_levels or ()))
    if filters.memory_types is not None:
        asked.append(lambda: memory.memory_type in (filters.memory_types or ()))
    if filters.created_from is not None:
        start = filters.created_from
        asked.append(lambda: start <= memory.created_date)
    if filters.created_until is not None:
        end = filters.created_until
        asked.append(lambda: memory.created_date < end)
    return all(condition() for condition in asked)


def test_the_store_does_what_dictionaries_do(pytestconfig: pytest.Config) -> None:
    examples = max(1, round(EXAMPLES_PER_CRASH * pytestconfig.getoption("crashes")))
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(max_examples=examples, stateful_step_count=30, deadline=None),
    )
