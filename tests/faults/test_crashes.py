"""Writers are killed at random moments; what they were told is stored must be there, and whole."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from crash_writer import perform
from forks import Forks
from ledger import Journal, Operation, State, differences, replay, store_faults
from seeded import Item, WordHashProvider, chunks_of, install_provider, open_store

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.storage.schema import APPLICATION_ID, migrations

KILLS_OF_A_STORE = 14
"""After so many another store is begun, so that many kills fall where stores are made."""
PATIENCE_SECONDS = 300
GROWN = 4500
"""Vectors in a store that is large enough for its index to be kept in a file of its own."""
SAMPLE = 25


@dataclass
class Toll:
    """What happened, and what it cost."""

    kills: int = 0
    checked: int = 0
    """Acknowledged operations of the writers that were killed."""
    lost: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    amid: Counter[str] = field(default_factory=Counter)
    """What the killed were doing."""
    beside: Counter[str] = field(default_factory=Counter)
    """Files beside the store that a crash left, by what was done to them."""

    def lines(self) -> Iterator[str]:
        yield (
            f"crashes: {self.kills} SIGKILLs, {self.checked} acknowledged operations checked: "
            f"{len(self.lost)} lost, {len(self.half_written)} half-written, "
            f"{len(self.corrupt)} corrupt"
        )
        amid = ", ".join(f"{kind} {count}" for kind, count in self.amid.most_common())
        yield f"crashes: killed amid {amid}"
        if self.beside:
            beside = ", ".join(f"{count} {how}" for how, count in self.beside.most_common())
            yield f"crashes: of the files of derived indexes {beside}"


@dataclass
class Writer:
    """One that is started again each time it is killed."""

    name: str
    journal: Path
    pid: int = 0
    checked: int = 0


class Round:
    """Some writers on one store, until it has seen its share of kills."""

    def __init__(
        self, forks: Forks, folder: Path, rng: random.Random, toll: Toll, base: State
    ) -> None:
        self.path = folder / "store.db"
        self._forks = forks
        self._rng = rng
        self._toll = toll
        self._base = base
        """What the store holds from the beginning."""
        self._writers = [
            Writer(f"w{number}", folder.parent / f"{folder.name}w{number}.journal")
            for number in range(rng.choice([1, 2, 3, 4]))
        ]

    def run(self, kills: int) -> None:
        """At least so many kills; then everything is compared."""
        end = self._toll.kills + kills
        for writer in self._writers:
            self._start(writer)
        while self._toll.kills < end:
            one = self._rng.choice(self._writers)
            self._wait(one)
            if self._rng.random() < 0.5:
                self._forks.kill(one.pid)
                self._toll.kills += 1
                dead = [one]
            else:
                self._toll.kills += self._forks.kill_all()
                dead = self._writers
                self._damage_what_is_derived()
                self._kill_while_opening()
            self._look(dead)
            for writer in dead:
                self._start(writer)
        self._toll.kills += self._forks.kill_all()
        self._look(self._writers)
        self._compare_everything()

    def _start(self, writer: Writer) -> None:
        writer.pid = self._forks.start(
            "write",
            path=str(self.path),
            journal=str(writer.journal),
            name=writer.name,
            may_consolidate=len(self._base.items) < GROWN,
            seed=self._rng.randrange(1, 1_000_000),
        )

    def _wait(self, writer: Writer) -> None:
        """Until a moment in its opening, or in its work, counted in what it has noted."""
        if self._rng.random() < 0.25:
            time.sleep(self._rng.uniform(0, 0.04))
            return
        wanted = lines_of(writer.journal) + self._rng.randrange(3, 25)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while lines_of(writer.journal) < wanted:
            assert time.monotonic() < deadline, f"{writer.name} does nothing"
            time.sleep(0.001)
        time.sleep(self._rng.uniform(0, 0.01))

    def _kill_while_opening(self) -> None:
        """Processes that find the store as the crash has left it are killed as well."""
        for _ in range(self._rng.choice([0, 0, 1, 3])):
            for _ in range(self._rng.choice([1, 2])):
                self._forks.start("open", path=str(self.path))
            time.sleep(self._rng.uniform(0, 0.05))
            count = self._forks.kill_all()
            self._toll.kills += count
            self._toll.amid["recovery, search and closing"] += count

    def _damage_what_is_derived(self) -> None:
        """Nothing may depend on a file that can be made anew."""
        own = {self.path.name + ending for ending in ("", "-wal", "-shm")}
        for file in sorted(self.path.parent.iterdir()):
            if file.name in own:
                continue
            how = self._rng.choice(["left alone", "deleted", "cut", "altered"])
            content = bytearray(file.read_bytes())
            if how == "deleted":
                file.unlink()
            elif how == "cut" and content:
                os.truncate(file, self._rng.randrange(len(content)))
            elif how == "altered" and content:
                content[self._rng.randrange(len(content))] ^= 1 << self._rng.randrange(8)
                file.write_bytes(content)
            self._toll.beside[how] += 1

    def _look(self, dead: list[Writer]) -> None:
        """Settle what was pending, and compare what the dead touched since the last look."""
        with open_store(self.path) as system:
            for writer in dead:
                pending = replay(writer.journal).pending
                self._toll.amid[pending.kind if pending else "nothing"] += 1
                if pending:
                    self._settle(system, writer)
                found = replay(writer.journal, writer.checked)
                faults, _ = differences(system, found.state, found.recent)
                self._toll.lost += faults
                self._toll.checked += found.acknowledged - writer.checked
                writer.checked = found.acknowledged
        with closing(sqlite3.connect(self.path, timeout=PATIENCE_SECONDS)) as connection:
            ((answer,),) = connection.execute("PRAGMA integrity_check(1)")
            self._toll.corrupt += [answer] if answer != "ok" else []

    def _settle(self, system: CognitiveMemorySystem, writer: Writer) -> None:
        """Note whether the operation that did not return was done; it must be one of both."""
        found = replay(writer.journal)
        assert found.pending is not None
        operation = found.pending
        undone, _ = differences(system, found.state.before(operation), operation.keys)
        faults, ids = differences(system, found.state.after(operation), operation.keys)
        if faults and undone:
            self._toll.half_written.append(f"{operation}: done: {faults}; not begun: {undone}")
        log = Journal(writer.journal)
        log.end((ids[item.key] for item in operation.items if not faults), done=not faults)
        log.close()

    def _compare_everything(self) -> None:
        states = [self._base, *(replay(writer.journal).state for writer in self._writers)]
        with open_store(self.path) as system:
            for state in states:
                items = list(state.items)
                if state is self._base and len(items) > SAMPLE:
                    items = self._rng.sample(items, SAMPLE)
                faults, _ = differences(system, state, [*items, *state.gone])
                self._toll.lost += faults
            kept = [m for m in system.memories.find_memories() if m.source_type != "consolidation"]
            known = {item.key for state in states for item in state.items.values()}
            found = {memory.metadata["key"] for memory in kept}
            self._toll.half_written += [f"{key} was never stored" for key in found - known]
            self._toll.lost += [f"{key} is not there" for key in known - found]
            self._toll.corrupt += store_faults(system, self.path)


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


class Grounds:
    """What a store holds before its first writer is started: nothing, little, or much."""

    def __init__(self, folder: Path) -> None:
        self._grown = folder / "grown.db"
        self._state = State()

    def prepare(self, number: int, path: Path) -> State:
        """For the ``number``-th store, at ``path``."""
        path.parent.mkdir()
        if number % 3 == 0:
            return State()
        if number % 3 == 1:
            return make_first(path)
        if not self._grown.exists():
            self._grow()
        shutil.copyfile(self._grown, path)  # without the files beside it
        return self._state

    def _grow(self) -> None:
        items = [Item(key=f"basen{number}", words=6) for number in range(GROWN)]
        operation = Operation(kind="store", items=tuple(items))
        with open_store(self._grown, "keep") as system:
            self._state = State().after(operation, perform(system, operation))


def make_first(path: Path) -> State:
    """A store of the first schema with some memories, for whoever opens it first to migrate."""
    items = [Item(key=f"base{n}", memory_id=f"old-{n}", words=30) for n in range(20)]
    provider = WordHashProvider()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(migrations()[0])
        connection.execute("BEGIN")
        for name, value in (
            ("fingerprint", provider.fingerprint),
            ("dimension", str(provider.dimension)),
        ):
            connection.execute("INSERT INTO properties VALUES (?, ?)", [name, value])
        for pk, item in enumerate(items):
            insert(connection, pk, item.memory(item.memory_id or ""))
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    return State({item.key: item for item in items})


def insert(connection: sqlite3.Connection, pk: int, memory: CognitiveMemory) -> None:
    created = round(memory.created_date.timestamp() * 1_000_000)
    key, version = memory.metadata["key"], memory.metadata["version"]
    connection.execute(
        "INSERT INTO memories VALUES (?, ?, ?, 2, 'episodic', 0, NULL, 'manual_entry', ?, ?, 0, ?)",
        [
            pk,
            memory.id,
            memory.content,
            created,
            created,
            f'{{"key": "{key}", "version": {version}}}',
        ],
    )
    connection.executemany(
        "INSERT INTO tags VALUES (?, ?, ?)", [(pk, n, tag) for n, tag in enumerate(memory.tags)]
    )
    rows = WordHashProvider().encode_batch(chunks_of(memory.content))
    connection.executemany(
        "INSERT INTO vectors (memory_pk, chunk, vector) VALUES (?, ?, ?)",
        [(pk, chunk, row.astype("<f4").tobytes()) for chunk, row in enumerate(rows)],
    )


def test_nothing_acknowledged_is_lost_when_writers_are_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    kills = pytestconfig.getoption("crashes")
    site = install_provider(tmp_path)
    monkeypatch.syspath_prepend(site)
    rng, toll, grounds = random.Random(20_260_101), Toll(), Grounds(tmp_path)
    with Forks(tmp_path, site) as forks:
        for number in count():
            path = tmp_path / f"store{number}" / "store.db"
            crashes = Round(forks, path.parent, rng, toll, grounds.prepare(number, path))
            crashes.run(min(KILLS_OF_A_STORE, kills - toll.kills))
            shutil.rmtree(path.parent)
            if toll.kills >= kills:
                break
    for line in toll.lines():
        record_property("figure", line)
    assert toll.lost == toll.half_written == toll.corrupt == []
    assert toll.checked > 0
