"""A record in Qdrant and one in SQLite, changed alike at random, answer alike at every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_handles import FINGERPRINT, Handle, W, X, Y, Z, bound

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.interfaces import MemoryRecord, VectorStorage
from cognitive_memory.core.memory import ConnectionType, MemoryConnection, MemoryFilter
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import make_memory
from cognitive_memory.testing.examples import NOON

Stores = tuple[MemoryRecord, VectorStorage]
Step = Callable[[MemoryRecord, VectorStorage], Any]

IDS = ("a", "b", "c", "größe 🦊", "e")
TEXTS = ("an apple a day", "a pear and an apple", "plums", "read_file of plums")
TAGS = ("red", "blue", "größe")
FILTERS = (
    None,
    MemoryFilter(tags=("red", "größe")),
    MemoryFilter(hierarchy_levels=(1,)),
    MemoryFilter(created_from=NOON + timedelta(hours=2), memory_ids=("a", "b", "e")),
)


def put(draw: random.Random) -> Step:
    memory = make_memory(
        draw.choice(IDS),
        draw.choice(TEXTS),
        tags=tuple(draw.sample(TAGS, draw.randrange(3))),
        hierarchy_level=draw.randrange(3),
        created_date=NOON + timedelta(hours=draw.randrange(4)),
        source_path=draw.choice([None, "/a.md"]),
    )
    rows = np.stack(draw.sample([X, Y, Z, W], draw.randrange(1, 4)))

    def step(record: MemoryRecord, vectors: VectorStorage) -> None:
        with record.transaction():
            record.save_memories([memory])
            vectors.store_vectors([memory], [rows])

    return step


def tag(draw: random.Random) -> Step:
    memory_id, tags = draw.choice(IDS), tuple(draw.sample(TAGS, 2))

    def step(record: MemoryRecord, _: VectorStorage) -> None:
        changed = [replace(each, tags=tags) for each in record.get_memories([memory_id])]
        record.save_memories(changed)

    return step


def delete(draw: random.Random) -> Step:
    gone = draw.sample(IDS, draw.randrange(3))
    return lambda record, _: record.delete_memories(gone)


def drop(draw: random.Random) -> Step:
    gone = draw.sample(IDS, draw.randrange(3))
    return lambda _, vectors: vectors.delete_vectors(gone)


def access(draw: random.Random) -> Step:
    seen, moment = draw.sample(IDS, 2), NOON + timedelta(hours=draw.randrange(9))
    return lambda record, _: record.record_access(seen, moment)


def connect(draw: random.Random) -> Step:
    edges = [
        MemoryConnection(
            draw.choice(IDS),
            draw.choice(IDS),
            draw.choice([ConnectionType.ENTITY, ConnectionType.EXPLICIT]),
            draw.choice([0.25, 0.5, 1.0]),
        )
        for _ in range(draw.randrange(3))
    ]
    replaced = draw.sample(IDS, draw.randrange(3))

    def step(record: MemoryRecord, _: VectorStorage) -> str | None:
        try:
            record.replace_connections(replaced, edges, [ConnectionType.ENTITY])
        except InvalidInputError as error:
            return str(error)
        return None

    return step


STEPS = (put, put, put, tag, delete, drop, access, connect, connect)


def answers(record: MemoryRecord, vectors: VectorStorage) -> list[Any]:
    found: list[Any] = [
        list(record.iterate_memories(2)),
        record.get_connections(IDS),
        record.get_connections(IDS[:1]),
        {name: rows.tolist() for name, rows in vectors.get_vectors(IDS).items()},
    ]
    for filters in FILTERS:
        found += [
            record.find_memories(filters),
            record.find_memories(filters, 2),
            vectors.search_similar(X, 9, filters),
            vectors.search_similar(W, 2, filters, 0.5),
            record.search_text("the apple of plums", 9, filters, also=["a"]),
        ]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_both_answer_alike(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    database = Database(tmp_path / "store.db")
    handle: Handle = bound(batch_size=draw.choice([1, 2, 256]))
    stores: list[Stores] = [
        (SQLitePersistence(database), SQLiteVectorStorage(database)),
        (handle.record, handle.vectors),
    ]
    stores[0][1].bind_embedding(FINGERPRINT, 4)
    for _ in range(20):
        steps = [draw.choice(STEPS)(draw) for _ in range(draw.randrange(1, 5))]
        fails = draw.random() < 0.2
        together = fails or draw.random() < 0.5
        seen: list[list[Any]] = []
        for record, vectors in stores:
            results: list[Any] = []
            with ExitStack() as stack:
                if fails:
                    stack.enter_context(pytest.raises(ZeroDivisionError))
                stack.enter_context(record.transaction() if together else nullcontext())
                for step in steps:
                    results += [step(record, vectors), answers(record, vectors)]
                if fails:
                    raise ZeroDivisionError
            seen.append([*results, answers(record, vectors)])
        assert seen[1] == seen[0]
    bare = [each.id for each in handle.record.find_memories()]
    missing = len(bare) - len(handle.vectors.get_vectors(bare))
    faults = handle.record.check_integrity()
    assert faults == (
        [f"{missing} memories lack vectors; load or store them again"] * bool(missing)
    )
    for record, vectors in stores:
        record.close()
        vectors.close()
