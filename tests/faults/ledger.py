"""What a writer was told is stored: operations, the state they lead to, and the comparison.

A writer notes each operation in its journal before it begins, and again when the call has
returned. So a reader of the journal knows what was acknowledged, and of which one operation only
the store can say whether it was done.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from seeded import Item, WordHashProvider, chunks_of, item_from, to_json

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.consolidation import SOURCE_TYPE, members_of
from cognitive_memory.core.memory import CognitiveMemory, ConnectionType, MemoryFilter
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence

SAME = 0.99999
"""The least cosine of a text with itself, rounding included."""

Edge = tuple[str, str, str]
"""From a key to a key, and the type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call: what will be there afterwards, and what will be gone."""

    kind: str
    items: tuple[Item, ...] = ()
    removed: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    name: str = ""
    """Of the tag or source that the call names."""

    @property
    def keys(self) -> list[str]:
        """Of all that it touches."""
        ends = [end for edge in self.edges for end in edge[:2]]
        return list(dict.fromkeys([*(item.key for item in self.items), *self.removed, *ends]))


def operation_from(values: dict[str, Any]) -> Operation:
    """The inverse of ``to_json``."""
    return Operation(
        kind=values["kind"],
        items=tuple(item_from(each) for each in values["items"]),
        removed=tuple(values["removed"]),
        edges=tuple((one, other, kind) for one, other, kind in values["edges"]),
        name=values["name"],
    )


@dataclass(slots=True)
class State:
    """What must be stored, and what must be found no more."""

    items: dict[str, Item] = field(default_factory=dict)
    edges: set[Edge] = field(default_factory=set)
    gone: dict[str, Item] = field(default_factory=dict)

    def after(self, operation: Operation, ids: Iterable[str] = ()) -> State:
        """The state that an operation leads to; ``ids`` are those that the system gave."""
        dropped = set(operation.removed)
        loaded = {item.key for item in operation.items} if operation.kind == "load" else set()
        edges = {
            (one, other, kind)
            for one, other, kind in self.edges
            if not dropped & {one, other}
            and not (one in loaded and kind == ConnectionType.SEQUENTIAL)
        }
        items = {key: item for key, item in self.items.items() if key not in dropped}
        given: list[str | None] = list(ids) or [item.memory_id for item in operation.items]
        for item, memory_id in zip(operation.items, given, strict=True):
            items[item.key] = replace(item, memory_id=memory_id)
        gone = self.gone | {key: self.items[key] for key in dropped}
        return State(items, edges | set(operation.edges), gone)

    def before(self, operation: Operation) -> State:
        """The same state, in which what the operation would have added must not be found."""
        new = {item.key: item for item in operation.items if item.key not in self.items}
        return State(self.items, self.edges, self.gone | new)


class Journal:
    """The lines of one writer, each written by one call, so that only the last can be torn."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def begin(self, operation: Operation) -> None:
        """Before the call."""
        os.write(self._file, f'{{"begin": {to_json(operation)}}}\n'.encode())

    def end(self, ids: Iterable[str] = (), *, done: bool = True) -> None:
        """After the call returned, or once it is known whether it was done."""
        os.write(self._file, (json.dumps({"done": done, "ids": list(ids)}) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


@dataclass(slots=True)
class Replay:
    """What a journal says: the acknowledged state, and the operation that has not returned."""

    state: State
    pending: Operation | None
    acknowledged: int
    recent: set[str]
    """Keys touched by the operations after the first ``since``."""


def replay(path: Path, since: int = 0) -> Replay:
    """Read a journal, whose writer may have been killed while it wrote a line."""
    found = Replay(State(), None, 0, set())
    whole, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
    for line in whole.splitlines():
        values = json.loads(line)
        if "begin" in values:
            assert found.pending is None
            found.pending = operation_from(values["begin"])
            continue
        assert found.pending is not None
        if values["done"]:
            found.acknowledged += 1
            if found.acknowledged > since:
                found.recent.update(found.pending.keys)
            found.state = found.state.after(found.pending, values["ids"])
        found.pending = None
    return found


def differences(
    system: CognitiveMemorySystem, state: State, keys: Collection[str]
) -> tuple[list[str], dict[str, str]]:
    """What in the store is not as the state says, of these keys; and the ids found by key."""
    faults: list[str] = []
    ids: dict[str, str] = {}
    for key in keys:
        if key in state.items:
            found = _by_tag(system, state.items[key])
            if len(found) != 1:
                faults.append(f"{key}: {len(found)} memories have its tag, there must be 1")
                continue
            ids[key] = found[0].id
            faults += _present(system, state.items[key], found[0])
        elif key in state.gone:
            faults += _absent(system, state.gone[key])
    return faults + _edges(system, state, ids), ids


def _by_tag(system: CognitiveMemorySystem, item: Item) -> list[CognitiveMemory]:
    found = system.get_memories_by_tags([item.own_tag])
    return [memory for memory in found if memory.source_type != SOURCE_TYPE]


def _present(system: CognitiveMemorySystem, item: Item, memory: CognitiveMemory) -> list[str]:
    faults = []
    expected = replace(
        item.memory(item.memory_id or memory.id),
        last_accessed=memory.last_accessed,
        access_count=memory.access_count,
    )
    if memory != expected:
        faults.append(f"{item.key}: it is {memory}, it must be {expected}")
    vectors = WordHashProvider().encode_batch(chunks_of(item.content))
    held = system.vectors.get_vectors([memory.id]).get(memory.id)
    if held is None or not np.array_equal(held, vectors):
        count = None if held is None else len(held)
        faults.append(f"{item.key}: {count} vectors are not those of its {len(vectors)} chunks")
    for chunk in {0, len(vectors) // 2, len(vectors) - 1}:
        hits = system.vectors.search_similar(vectors[chunk], 1000, min_score=SAME)
        if memory.id not in {hit.memory_id for hit in hits}:
            faults.append(f"{item.key}: chunk {chunk} is not found by its vector")
    faults += [
        f"{item.key}: it is not found by {word!r}"
        for word in (item.key, item.last_word)
        if memory.id not in _by_word(system, word)
    ]
    if item.version:
        old = replace(item, version=item.version - 1).last_word
        if memory.id in _by_word(system, old):
            faults.append(f"{item.key}: it is found by {old!r}, a word of the text before")
    return faults


def _by_word(system: CognitiveMemorySystem, word: str) -> set[str]:
    assert isinstance(system.memories, SQLitePersistence)
    return {hit.memory_id for hit in system.memories.search_text(word, 1000)}


def _absent(system: CognitiveMemorySystem, item: Item) -> list[str]:
    """Also what quotes it must be gone: a consolidated memory has its words and tags."""
    found = {memory.id: "tag" for memory in system.get_memories_by_tags([item.own_tag])}
    found |= dict.fromkeys(_by_word(system, item.last_word), "word")
    vectors = WordHashProvider().encode_batch(chunks_of(item.content))
    hits = system.vectors.search_similar(vectors[-1], 1000, min_score=SAME)
    if item.memory_id is not None:
        found |= {hit.memory_id: "vector" for hit in hits if hit.memory_id == item.memory_id}
        found |= dict.fromkeys(system.vectors.get_vectors([item.memory_id]), "id of its vectors")
        found |= {m.id: "id" for m in system.memories.get_memories([item.memory_id])}
    return [f"{item.key}: it is gone, yet {each} has its {how}" for each, how in found.items()]


def _edges(system: CognitiveMemorySystem, state: State, ids: Mapping[str, str]) -> list[str]:
    keys = {memory_id: key for key, memory_id in ids.items()}
    keys |= {each.memory_id: each.key for each in state.items.values() if each.memory_id}
    found = {
        (keys.get(edge.source_id, edge.source_id), keys.get(edge.target_id, edge.target_id), kind)
        for edge in system.connections.get_connections(list(ids.values()))
        if (kind := edge.connection_type) in (ConnectionType.EXPLICIT, ConnectionType.SEQUENTIAL)
    }
    expected = {edge for edge in state.edges if set(edge[:2]) & ids.keys()}
    return [f"connections {sorted(found ^ expected)} differ"] if found != expected else []


def store_faults(system: CognitiveMemorySystem, path: Path) -> list[str]:
    """What is wrong with the file, and with what was derived in it."""
    assert isinstance(system.memories, SQLitePersistence)
    faults = list(system.memories.check_integrity())
    with closing(sqlite3.connect(path, timeout=120, isolation_level=None)) as connection:
        faults += [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        faults += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
        for check in (
            "INSERT INTO memories_text (memories_text) VALUES ('integrity-check')",
            "INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)",
        ):
            try:
                connection.execute(check)
            except sqlite3.DatabaseError as error:
                faults.append(f"words: {error}")
    return faults + _derived_faults(system)


def _derived_faults(system: CognitiveMemorySystem) -> list[str]:
    faults = []
    everything = {memory.id: memory for memory in system.memories.find_memories(MemoryFilter())}
    for memory in everything.values():
        if memory.source_type != SOURCE_TYPE:
            continue
        members = set(members_of(memory))
        edges = {
            edge.target_id
            for edge in system.connections.get_connections([memory.id])
            if edge.connection_type == ConnectionType.HIERARCHICAL
        }
        if not members or members != edges or not members <= everything.keys():
            faults.append(f"{memory.id} stands for {sorted(members)}, is tied to {sorted(edges)}")
        if memory.id not in system.vectors.get_vectors([memory.id]):
            faults.append(f"{memory.id} has no vector")
    return faults
