"""What the processes do that are killed: one random operation after the other, for ever."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ledger import Journal, Operation, State, replay
from seeded import Item, open_store

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import StorageError
from cognitive_memory.core.interfaces import MemoryLoader
from cognitive_memory.core.memory import CognitiveMemory, ConnectionType, MemoryConnection

LIMIT = 24
"""Memories of one writer, from which on it deletes as many as it stores."""

KINDS = {
    "store": 6,
    "save": 5,
    "save again": 4,
    "merge": 4,
    "load": 4,
    "connect": 3,
    "delete": 3,
    "delete tag": 2,
    "delete source": 1,
    "consolidate": 1,
    "undo": 1,
    "search": 2,
    "recall": 2,
    "checkpoint": 2,
    "reopen": 2,
}
"""How often each is chosen, where it can be."""


class ItemLoader(MemoryLoader):
    """A source whose memories are given, each connected with the next."""

    kind = "items"

    def __init__(self, memories: Sequence[CognitiveMemory]) -> None:
        self._memories = list(memories)

    def find_sources(self, path: str) -> list[str]:
        return [path]

    def load_from_source(self, source: str, **options: Any) -> list[CognitiveMemory]:
        return self._memories

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        return [
            MemoryConnection(one.id, other.id, ConnectionType.SEQUENTIAL, 0.5)
            for one, other in pairwise(memories)
        ]


class Chooser:
    """Operations that are possible, at random; ``name`` begins the keys of all its items."""

    def __init__(self, name: str, rng: random.Random, *, may_consolidate: bool = True) -> None:
        self.name = name
        self.rng = rng
        self._weights = {k: n for k, n in KINDS.items() if may_consolidate or k != "consolidate"}

    def choose(self, state: State, number: int) -> Operation:
        """The ``number``-th operation."""
        weights = dict(self._weights)
        if len(state.items) > LIMIT:
            weights |= {"delete": 12, "delete tag": 6, "delete source": 3}
        while True:
            kind = self.rng.choices(list(weights), list(weights.values()))[0]
            if operation := self._make(kind, state, number):
                return operation

    def _make(self, kind: str, state: State, number: int) -> Operation | None:
        single = [item for item in state.items.values() if item.source is None]
        match kind:
            case "store":
                count = self.rng.choice([1, 1, 1, 2, 5])
                return Operation(kind=kind, items=tuple(self._items(number, count)))
            case "save":
                (item,) = self._items(number, 1)
                return Operation(kind=kind, items=(replace(item, memory_id=f"id-{item.key}"),))
            case "load":
                return self._load(state, number)
            case "save again" | "merge" | "delete" if single:
                return self._alter(kind, self.rng.choice(single), number)
            case "delete tag" if state.items:
                tag = self.rng.choice(list(state.items.values())).shared_tag
                return self._delete(kind, state, tag, lambda item: item.shared_tag == tag)
            case "delete source" if len(state.items) > len(single):
                source = self._source
                return self._delete(kind, state, source, lambda item: item.source == source)
            case "connect" if len(state.items) > 1:
                one, other = self.rng.sample(list(state.items), 2)
                return Operation(kind=kind, edges=((one, other, ConnectionType.EXPLICIT),))
            case "consolidate" | "undo" | "search" | "recall" | "checkpoint" | "reopen":
                return Operation(kind=kind)
        return None

    @property
    def _source(self) -> str:
        return f"/sources/{self.name}"

    def _items(self, number: int, count: int) -> list[Item]:
        return [
            Item(
                key=f"{self.name}n{number}x{place}",
                words=self.rng.choice([6, 8, 12, 30, 30, 400]),
                theme=self.rng.choice([None, None, 0, 1]),
            )
            for place in range(count)
        ]

    def _load(self, state: State, number: int) -> Operation:
        """The source as it has become: some memories changed, some gone, some new."""
        held = [item for item in state.items.values() if item.source == self._source]
        kept = [item for item in held if self.rng.random() < 0.7]
        changed = [
            replace(item, version=item.version + 1) if self.rng.random() < 0.4 else item
            for item in kept
        ]
        new = [
            replace(item, source=self._source, memory_id=f"{self._source}/{item.key}")
            for item in self._items(number, self.rng.randrange(4))
        ]
        items = (*changed, *new)
        return Operation(
            kind="load",
            items=items,
            removed=tuple(sorted({i.key for i in held} - {i.key for i in kept})),
            edges=tuple(
                (one.key, other.key, ConnectionType.SEQUENTIAL) for one, other in pairwise(items)
            ),
            name=self._source,
        )

    def _alter(self, kind: str, item: Item, number: int) -> Operation:
        if kind == "delete":
            return Operation(kind=kind, removed=(item.key,), name=item.memory_id or "")
        if kind == "merge":
            item = replace(item, gains=(*item.gains, f"gain-{self.name}-{number}"))
        else:
            item = replace(item, version=item.version + 1, words=self.rng.choice([6, 20, 40]))
        return Operation(kind=kind, items=(item,))

    def _delete(
        self, kind: str, state: State, name: str, goes: Callable[[Item], bool]
    ) -> Operation:
        removed = tuple(item.key for item in state.items.values() if goes(item))
        return Operation(kind=kind, removed=removed, name=name)


def perform(system: CognitiveMemorySystem, operation: Operation) -> list[str]:
    """Do it; the ids that the system gave."""
    items = operation.items
    match operation.kind:
        case "store":
            return system.store_experiences(
                [item.content for item in items], [item.context for item in items]
            )
        case "merge":
            gain = items[0].gains[-1]
            return [system.store_experience(items[0].content, {"tags": [gain], gain: True})]
        case "save" | "save again":
            _save(system, items[0])
        case "load":
            memories = [item.memory(item.memory_id or "") for item in items]
            system.load_memories_from_source(ItemLoader(memories), operation.name)
        case "delete":
            system.delete_memory_by_id(operation.name)
        case "delete tag":
            system.delete_memories_by_tags([operation.name])
        case "delete source":
            system.delete_memories_by_source_path(operation.name)
        case "consolidate":
            system.consolidate_memories()
        case "undo":
            system.undo_consolidation()
        case "search":
            system.search("theme0x0 theme0x1", 5)
        case "recall":
            system.retrieve_memories("theme1x0 theme1x1", max_results=5)
    return []


def _save(system: CognitiveMemorySystem, item: Item) -> None:
    assert item.memory_id is not None
    memory, provider = item.memory(item.memory_id), system.embedding_provider
    (spans,) = provider.chunk_batch([memory.content])
    rows = provider.encode_batch([memory.content[start:end] for start, end in spans])
    with system.memories.transaction():
        system.vectors.bind_embedding(provider.fingerprint, provider.dimension)
        system.memories.save_memories([memory])
        system.vectors.store_vectors([memory], [rows])


def connect(system: CognitiveMemorySystem, operation: Operation, state: State) -> None:
    """Draw the edges between the memories of the keys."""
    ids = {item.key: item.memory_id or "" for item in state.items.values()}
    system.connections.add_connections(
        [
            MemoryConnection(ids[one], ids[other], ConnectionType(kind), 0.5)
            for one, other, kind in operation.edges
        ]
    )


def checkpoint(path: Path) -> None:
    """Move the write-ahead log into the file, as any other process might at any time."""
    with closing(sqlite3.connect(path, timeout=120, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def write(*, path: str, journal: str, name: str, seed: int, may_consolidate: bool) -> None:
    """Go on from where the journal ends, until killed or left alone."""
    server = os.getppid()
    rng = random.Random(seed)
    chooser = Chooser(name, rng, may_consolidate=may_consolidate)
    known = replay(Path(journal))
    assert known.pending is None
    state, log = known.state, Journal(Path(journal))
    number = seed * 1000
    log.begin(Operation(kind="open"))
    system = open_store(Path(path))
    log.end()
    while os.getppid() == server:
        number += 1
        operation = chooser.choose(state, number)
        log.begin(operation)
        ids: list[str] = []
        if operation.kind == "reopen":
            system.close()
            system = open_store(Path(path))
        elif operation.kind == "checkpoint":
            checkpoint(Path(path))
        elif operation.kind == "connect":
            connect(system, operation, state)
        else:
            ids = perform(system, operation)
        log.end(ids)
        state = state.after(operation, ids)


def open_and_close(*, path: str) -> None:
    """Recover the store after a crash, search, and move its log into the file, again and again."""
    server = os.getppid()
    while os.getppid() == server:
        with open_store(Path(path)) as system:
            system.search("theme0x0", 3)


def fill(*, path: str, journal: str, name: str, room: int) -> None:
    """Store until no file may be ``room`` bytes larger than the store was, then go on freely."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    known, log = replay(Path(journal)), Journal(Path(journal))
    assert known.pending is None
    state, chooser = known.state, Chooser(name, random.Random(room))
    refused = 0

    def attempt(operation: Operation) -> None:
        nonlocal state, refused
        log.begin(operation)
        try:
            ids = perform(system, operation)
        except StorageError as error:
            if "free some" not in str(error) and "disk may be full" not in str(error):
                raise
            log.end(done=False)
            refused += 1
        else:
            log.end(ids)
            state = state.after(operation, ids)

    open_store(Path(path)).close()  # which moves the log into the file
    limit = Path(path).stat().st_size + room
    with open_store(Path(path)) as system:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        for number in range(1000):
            attempt(Operation(kind="store", items=tuple(chooser._items(number, 2))))
            if refused == 3:
                break
        assert refused == 3
        key, item = next(iter(state.items.items()))
        attempt(Operation(kind="delete", removed=(key,), name=item.memory_id or ""))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        refused = 0
        attempt(Operation(kind="store", items=tuple(chooser._items(2000, 2))))
        assert refused == 0


def warm_up(*, path: str) -> None:
    """Each operation once, so that a fork has nothing left to import."""
    chooser, state = Chooser("w", random.Random(0)), State()
    with open_store(Path(path)) as system:
        for number, kind in enumerate(["store", "save", "load", "save again", *KINDS]):
            operation = chooser._make(kind, state, number)
            if operation is None or kind in ("reopen", "checkpoint"):
                continue
            ids: list[str] = []
            if kind == "connect":
                connect(system, operation, state)
            else:
                ids = perform(system, operation)
            state = state.after(operation, ids)
    checkpoint(Path(path))


ROLES: dict[str, Callable[..., None]] = {
    "write": write,
    "open": open_and_close,
    "fill": fill,
    "warm_up": warm_up,
}
