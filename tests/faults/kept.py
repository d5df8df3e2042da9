"""Stores of known content for fault tests: what was acknowledged, and what is still there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crash_writer import perform
from ledger import Operation, State, differences, store_faults
from seeded import Item, open_store

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem

NOBODY = 65_534


def items(*keys: str, words: int = 30) -> tuple[Item, ...]:
    """Of two to three chunks each, unless told otherwise."""
    return tuple(Item(key=f"{key}n0", words=words) for key in keys)


def store(system: CognitiveMemorySystem, state: State, *new: Item) -> State:
    """Store them in one call; the state once it has returned."""
    operation = Operation(kind="store", items=new)
    return state.after(operation, perform(system, operation))


def assert_kept(path: Path, state: State) -> None:
    """A fresh handle finds all that was acknowledged, nothing else, and a sound file."""
    with open_store(path) as system:
        assert_kept_in(system, path, state)


def assert_kept_in(system: CognitiveMemorySystem, path: Path, state: State) -> None:
    """The same through a handle that is open."""
    faults, ids = differences(system, state, [*state.items, *state.gone])
    assert faults == []
    assert {memory.id for memory in system.memories.find_memories()} == set(ids.values())
    assert store_faults(system, path) == []


def copy_files(path: Path, folder: Path) -> Path:
    """The file and its write-ahead log as a crash at this moment would leave them."""
    folder.mkdir()
    copy = folder / path.name
    for ending in ("", "-wal"):
        shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
    return copy


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whom permissions bind, which root is not."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def assert_found(system: CognitiveMemorySystem, state: State) -> None:
    """The handle finds all that was acknowledged, and nothing that is gone."""
    faults, _ = differences(system, state, [*state.items, *state.gone])
    assert faults == []
