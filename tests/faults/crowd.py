"""What writers and readers do that use one store at once, and how readers tell what they saw."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from zlib import crc32

from ledger import SAME
from seeded import Item, WordHashProvider, chunks_of, open_store

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence

LIMIT = 50
"""Memories of one writer, from which on it deletes one for each it stores: the store stays small,
so that searching takes as long at the end as at the beginning."""
QUERIES_PER_SECOND = 4
"""Of one reader."""


def item_of(key: str) -> Item:
    """The item that a key alone decides."""
    code = crc32(key.encode())
    return Item(key=key, words=8 + code % 30, theme=code % 7 if code % 3 else None)


@dataclass
class Acknowledged:
    """What the writers were told, read from their journals as these grow."""

    folder: Path
    kept: dict[str, None] = field(default_factory=dict)
    """In the order in which they were read."""
    going: set[str] = field(default_factory=set)
    """Those whose deletion had begun."""
    gone: list[str] = field(default_factory=list)
    _read: dict[Path, int] = field(default_factory=dict)

    def refresh(self) -> None:
        """Take over whole lines."""
        for path in sorted(self.folder.glob("*.acknowledged")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
            self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
            for line in whole.decode().splitlines():
                what, _, key = line.partition(" ")
                self._take(what, key)

    def _take(self, what: str, key: str) -> None:
        match what:
            case "kept":
                self.kept[key] = None
            case "going":
                self.going.add(key)
                self.kept.pop(key, None)
            case "gone":
                self.gone.append(key)


def put(*, path: str, folder: str, name: str) -> None:
    """Store and delete as fast as the store takes it, until there is a file named ``stop``."""
    log = os.open(Path(folder) / f"{name}.acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    server, stop = os.getppid(), Path(folder) / "stop"
    held: list[tuple[str, str]] = []
    number = 0
    with open_store(Path(path), "keep") as system:
        while os.getppid() == server and not stop.exists():
            number += 1
            item = item_of(f"{name}n{number}")
            held.append((item.key, system.store_experience(item.content, item.context)))
            os.write(log, f"kept {item.key}\n".encode())
            if len(held) > LIMIT:
                key, memory_id = held.pop(number % LIMIT)
                os.write(log, f"going {key}\n".encode())
                assert system.delete_memory_by_id(memory_id)["deleted_count"] == 1
                os.write(log, f"gone {key}\n".encode())


def look(*, path: str, folder: str, name: str, seconds: float, seed: int) -> None:
    """Search at a steady pace for what was acknowledged before; note how long each search took."""
    rng, acknowledged = random.Random(seed), Acknowledged(Path(folder))
    took: list[float] = []
    with open_store(Path(path), "keep") as system:
        system.search("theme0x0", 1)
        begin = time.monotonic()
        due = begin + rng.random() / QUERIES_PER_SECOND
        while due < begin + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / QUERIES_PER_SECOND
            acknowledged.refresh()
            took.append(_look_once(system, acknowledged, rng))
    (Path(folder) / f"{name}.seconds").write_text(json.dumps(took))


def _look_once(
    system: CognitiveMemorySystem, acknowledged: Acknowledged, rng: random.Random
) -> float:
    recent = list(acknowledged.kept)[-16:]
    key = rng.choice(recent if rng.random() < 0.5 else list(acknowledged.kept))
    deleted = rng.choice(acknowledged.gone[-16:]) if acknowledged.gone else None
    item = item_of(key)
    begin = time.perf_counter()
    results = system.search(chunks_of(item.content)[0], 5)
    took = time.perf_counter() - begin
    for result in results:
        assert_whole(system, item_of(result.memory.metadata["key"]), result.memory.id)
    ways = {"search": {result.memory.metadata["key"] for result in results}}
    ways |= found_by(system, item)
    if missing := [way for way, keys in ways.items() if key not in keys]:
        acknowledged.refresh()
        assert key in acknowledged.going, f"{key} was acknowledged and not found by {missing}"
    if deleted is not None:
        seen = [way for way, keys in found_by(system, item_of(deleted)).items() if deleted in keys]
        assert not seen, f"{deleted} was deleted and is found by {seen}"
    return took


def assert_whole(system: CognitiveMemorySystem, item: Item, memory_id: str) -> None:
    """Unless it was deleted since: a memory is all there, with all its vectors, or not at all."""
    memory = system.retrieve_memory(memory_id)
    if memory is not None:
        expected = item.memory(memory_id)
        assert memory == replace(expected, last_accessed=memory.last_accessed)
    held = system.vectors.get_vectors([memory_id])
    if memory_id in held:
        assert len(held[memory_id]) == len(chunks_of(item.content))


def found_by(system: CognitiveMemorySystem, item: Item) -> dict[str, set[str]]:
    """Keys found by the item's tag, its last word and its vector."""
    assert isinstance(system.memories, SQLitePersistence)
    query = WordHashProvider().encode(chunks_of(item.content)[-1])
    words = system.memories.search_text(item.last_word, 100)
    hits = system.vectors.search_similar(query, 100, min_score=SAME)
    ids = {"word": [hit.memory_id for hit in words], "vector": [hit.memory_id for hit in hits]}
    found = {
        way: {memory.metadata["key"] for memory in system.memories.get_memories(each)}
        for way, each in ids.items()
    }
    tagged = system.get_memories_by_tags([item.own_tag])
    return {**found, "tag": {memory.metadata["key"] for memory in tagged}}


ROLES: dict[str, Callable[..., None]] = {"put": put, "look": look}
