"""Clocks that jump, backwards and forwards, by days and years."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ledger import store_faults
from systems import START, open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.memory import MemoryFilter
from cognitive_memory.retrieval.activation import SpreadingActivation
from cognitive_memory.retrieval.bridges import ResidualBridges
from cognitive_memory.retrieval.hybrid import HybridRetrieval
from cognitive_memory.retrieval.own_parts import Weights
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


class Clock:
    """A clock that jumps."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


JUMPS = [0, 3, -10, -10, 400, -800, 1]
"""Days."""


def test_a_clock_that_jumps_loses_nothing_and_orders_by_what_it_showed(
    path: Path, clock: Clock
) -> None:
    moments = {}
    for number, days in enumerate(JUMPS):
        clock.now += timedelta(days=days)
        with open_system(path, prefix=f"{number}-", clock=clock) as system:
            for _ in range(2):
                moments[system.store_experience("red elephant", {"tags": ["all"]})] = clock.now
    with open_system(path, clock=clock) as system:
        found = system.get_memories_by_tags(["all"])
        assert {memory.id: memory.created_date for memory in found} == moments
        expected = sorted(moments, key=lambda name: (-moments[name].timestamp(), name))
        assert [memory.id for memory in found] == expected
        for name, moment in moments.items():
            only = MemoryFilter(created_from=moment, created_until=moment + timedelta(seconds=1))
            same = {other for other, its in moments.items() if its == moment}
            assert {r.memory.id for r in system.search("red", 100, only)} == same, name
        assert store_faults(system, path) == []


def test_the_last_access_never_goes_back(path: Path, clock: Clock) -> None:
    with open_system(path, clock=clock) as system:
        memory_id = system.store_experience("red elephant")
        latest = clock.now
        for count, days in enumerate(JUMPS, 1):
            clock.now += timedelta(days=days)
            latest = max(latest, clock.now)
            system.retrieve_memories("elephant")
            memory = system.retrieve_memory(memory_id)
            assert memory is not None
            assert (memory.access_count, memory.last_accessed) == (count, latest)


def test_what_lies_in_the_future_is_as_recent_as_can_be(path: Path, clock: Clock) -> None:
    """As after a clock that was ahead has been set right: no score is beyond its weight."""
    database = Database(path)
    record, vectors = SQLitePersistence(database), SQLiteVectorStorage(database)
    provider = WordLengthProvider()
    retrieval = HybridRetrieval(
        provider,
        record,
        vectors,
        record,
        SpreadingActivation(record),
        ResidualBridges(vectors, record),
        weights=Weights(recency=0.25),
        clock=clock,
    )
    system = CognitiveMemorySystem(provider, record, vectors, record, retrieval, clock=clock)
    with system:
        recency = {}
        for days in (400, -400, -30):
            clock.now = START + timedelta(days=days)
            recency[system.store_experience("red elephant")] = days
        clock.now = START
        shown = {recency[r.memory.id]: r.parts["recency"] for r in system.search("elephant")}
    assert shown == pytest.approx({400: 0.25, -30: 0.125, -400: 0.25 * 2 ** (-400 / 30)}, abs=1e-6)
