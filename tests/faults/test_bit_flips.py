"""One bit of the store's file is another: what notices it, and what does not.

SQLite keeps no checksums of its pages, so a bit inside a value can change it unnoticed. How many
are noticed is shown as figures. What must hold for each bit is that the store answers, or refuses
with an error of this package.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from crash_writer import connect, perform
from kept import items, store
from ledger import Operation, State, differences, store_faults
from seeded import install_provider, open_store

from cognitive_memory.core.errors import CognitiveMemoryError, StorageError
from cognitive_memory.core.memory import ConnectionType
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence

FLIPS_PER_CRASH = 2
PAIRS = 8


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, State]:
    """A store at rest, with everything in it that a store can hold."""
    monkeypatch.syspath_prepend(install_provider(tmp_path))
    path = tmp_path / "store.db"
    with open_store(path) as system:
        state = State()
        for number in range(PAIRS):
            state = store(system, state, *items(f"a{number}", f"b{number}", words=6 + number))
        edges = tuple(
            (f"a{number}n0", f"b{number}n0", ConnectionType.EXPLICIT) for number in range(PAIRS)
        )
        operation = Operation(kind="connect", edges=edges)
        connect(system, operation, state)
        state = state.after(operation)
        operation = Operation(kind="delete tag", removed=("b3n0",), name="tag-b3n0")
        perform(system, operation)
        state = state.after(operation)
    return path, state


def outcome(path: Path, state: State) -> str:
    """What becomes of checking and of reading everything."""
    try:
        with open_store(path) as system:
            found = store_faults(system, path)
            faults, _ = differences(system, state, [*state.items, *state.gone])
            system.search("a1n0 b2n0", 50)
    except (CognitiveMemoryError, sqlite3.DatabaseError):  # of the second, only our own checks
        return "refused"
    if found:
        return "found by the checks"
    return "another value, unnoticed" if faults else "harmless"


def test_a_flipped_bit_is_refused_or_found_or_no_more_than_another_value(
    whole: tuple[Path, State],
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    path, state = whole
    content = path.read_bytes()
    rng, outcomes = random.Random(3), Counter[str]()
    flips = FLIPS_PER_CRASH * pytestconfig.getoption("crashes")
    copy = path.with_name("copy.db")
    for _ in range(flips):
        for file in path.parent.glob("copy.db*"):
            file.unlink()
        altered = bytearray(content)
        altered[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        copy.write_bytes(altered)
        outcomes[outcome(copy, state)] += 1
    counts = ", ".join(f"{name} {count}" for name, count in outcomes.most_common())
    record_property("figure", f"bit flips: {flips} in the file of a store: {counts}")
    assert outcomes["refused"] + outcomes["found by the checks"] > 0


DAMAGE = {
    "metadata": "UPDATE memories SET metadata = '{' WHERE id = ?",
    "metadata that is no object": "UPDATE memories SET metadata = '7' WHERE id = ?",
    "type": "UPDATE memories SET memory_type = 'epigodic' WHERE id = ?",
    "time": f"UPDATE memories SET created_us = {2**62} WHERE id = ?",
    "text that is not UTF-8": "UPDATE memories SET content = CAST(x'ff' AS TEXT) WHERE id = ?",
    "connection": (
        "UPDATE connections SET connection_type = 'explycit' "
        "WHERE source_pk = (SELECT pk FROM memories WHERE id = ?)"
    ),
    "vector that is cut": (
        "UPDATE vectors SET vector = substr(vector, 5) "
        "WHERE memory_pk = (SELECT pk FROM memories WHERE id = ?)"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_value_is_refused_by_what_reads_it_and_found_by_the_check(
    whole: tuple[Path, State], damage: str
) -> None:
    """A value that cannot be read is an error of this package, wherever it stands."""
    path, state = whole
    memory_id = state.items["a1n0"].memory_id
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("context_words", 5, lambda *_: "")
        connection.execute("DROP TRIGGER memories_text_updated")
        assert connection.execute(DAMAGE[damage], [memory_id]).rowcount > 0
        connection.commit()
    with open_store(path) as system:
        assert isinstance(system.memories, SQLitePersistence)
        with pytest.raises(StorageError, match=r"store\.db"):
            differences(system, state, state.items)
        assert system.memories.check_integrity() != []
