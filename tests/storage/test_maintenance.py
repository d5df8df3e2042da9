"""Backups, restoring and vacuum, while others use the store and whatever goes wrong."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from processes import unmeasured
from systems import open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import (
    StorageError,
    StoreBusyError,
    StoreFormatError,
    StoreReadOnlyError,
)
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.maintenance import SECONDS_A_DAY, back_up, restore, vacuum
from cognitive_memory.storage.schema import APPLICATION_ID, migrations
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.words import context_of_row

DATABASE_OF_A_STORE = """
import sys
from pathlib import Path
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.maintenance import back_up, restore, vacuum
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider, make_memory

paths = [Path(each) for each in sys.argv[1:]]
database = Database(paths[0])
"""

WRITE_PAIRS = f"""{DATABASE_OF_A_STORE}
from itertools import count

record, vectors = SQLitePersistence(database), SQLiteVectorStorage(database)
provider = WordLengthProvider()
vectors.bind_embedding(provider.fingerprint, provider.dimension)
for number in count():
    with record.transaction():
        for side in ("left", "right"):
            memory = make_memory(f"{{side}}-{{number}}", f"{{side}} of {{number}}", tags=("pair",))
            record.save_memories([memory])
            vectors.store_vectors([memory], [provider.encode_batch([memory.content])])
            record.delete_memories([f"{{side}}-{{number - 40}}"])
    if number == 9:
        print("ready", flush=True)
"""
"""Stores and deletes memories by pairs, at full speed, until it is killed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "memories.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(Database(path, 0.05)) as database:
        yield database


@pytest.fixture
def system(path: Path) -> Iterator[CognitiveMemorySystem]:
    """A handle of its own on the store of ``database``."""
    with open_system(path) as system:
        yield system


def store(system: CognitiveMemorySystem, *texts: str) -> list[str]:
    return system.store_experiences(texts, [{"tags": [text.split()[0]]} for text in texts])


def contents(path: Path) -> list[str]:
    """The texts of a sound store."""
    with SQLitePersistence(Database(path)) as record:
        assert record.check_integrity() == []
        return sorted(memory.content for memory in record.find_memories())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While another process stores pairs."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_PAIRS, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=unmeasured(),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        _, errors = process.communicate()
    assert errors == b""


def assert_pairs(path: Path) -> int:
    """The number of the last pair in a sound store that holds pairs, each with its vectors."""
    texts = contents(path)
    numbers = sorted(int(text.rpartition(" ")[2]) for text in texts)
    last = numbers[-1]
    assert numbers == sorted([*range(max(last - 39, 0), last + 1)] * 2)
    assert sum(text.startswith("left") for text in texts) == len(texts) // 2
    return last


# Backup


def test_a_backup_is_a_store_in_one_file(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "blue is a color", "four legs")
    target = tmp_path / "backups" / "copy.db"
    assert back_up(database, target) == target.stat().st_size
    assert files(target.parent) == ["copy.db"]
    assert target.read_bytes()[18:20] == b"\1\1"  # needs no log to be read
    assert contents(target) == ["blue is a color", "four legs"]
    with open_system(target) as copy:
        assert copy.search("four legs")[0].memory.content == "four legs"


def test_a_backup_replaces_an_older_one(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"
    target.write_text("something else")
    store(system, "first text")
    back_up(database, target)
    store(system, "second text")
    back_up(database, target)
    assert contents(target) == ["first text", "second text"]
    assert [name for name in files(tmp_path) if "part" in name] == []


def test_a_link_to_a_backup_stays_one(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "elsewhere" / "real.db")
    for _ in range(2):
        back_up(database, link)
        assert link.is_symlink()
    assert files(tmp_path / "elsewhere") == ["real.db"]
    assert contents(tmp_path / "elsewhere" / "real.db") == ["a text"]


def test_a_backup_may_be_relative(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    back_up(database, Path("copy.db"))
    assert contents(tmp_path / "copy.db") == ["a text"]
    store(system, "another")
    restore(database, Path("copy.db"))
    assert contents(database.path) == ["a text"]


def test_each_backup_is_one_state_of_a_store_that_is_written(path: Path, tmp_path: Path) -> None:
    with writing(path), closing(Database(path)) as database:
        seen: set[int] = set()
        while len(seen) < 8:
            back_up(database, tmp_path / "copy.db")
            seen.add(assert_pairs(tmp_path / "copy.db"))
    assert assert_pairs(path) >= max(seen)
    assert files(tmp_path) == ["copy.db", "store"]


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal", "-vectors", "-replication"])
def test_the_store_itself_is_no_place_for_a_backup(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path, end: str
) -> None:
    store(system, "a text")
    own = Path(f"{database.path}{end}")
    (tmp_path / "link.db").symlink_to(own)
    for target in (own, own.parent / ".." / "store" / own.name, tmp_path / "link.db"):
        with pytest.raises(StorageError, match="is the store itself; name another file"):
            back_up(database, target)
    assert contents(database.path) == ["a text"]


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_log_of_another_file_is_not_left_beside_a_backup(
    database: Database, tmp_path: Path, end: str
) -> None:
    """Whoever opened the backup would apply it, and read another state than that of the store."""
    target = tmp_path / "copy.db"
    back_up(database, target)
    log = Path(f"{target}{end}")
    log.write_bytes(b"what a process that was killed has left")
    before = target.read_bytes()
    with pytest.raises(StorageError, match=rf"is open as a store, or was .*copy\.db{end} lies"):
        back_up(database, target)
    assert target.read_bytes() == before
    log.write_bytes(b"")
    back_up(database, target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("folder", r"folder is a folder or a device; name a file for the backup"),
        ("pipe", r"pipe is a folder or a device; name a file for the backup"),
        ("file/copy.db", r"cannot write in file: .*; name a folder that can be written"),
        ("x" * 300, r"cannot write in \.: File name too long; name "),
        ("/proc/copy.db", r"cannot write in /proc: .*; name a folder that can be written"),
    ],
)
def test_where_nothing_can_be_written_is_named(
    database: Database, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match=message):
        back_up(database, Path(target))
    assert files(tmp_path) == ["file", "folder", "pipe", "store"]
    assert files(tmp_path / "folder") == []


def test_a_damaged_store_is_not_backed_up(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, *(f"text number {number} " * 20 for number in range(50)))
    system.close()
    database.close()
    damage(database.path)
    with closing(Database(database.path)) as database:
        (tmp_path / "copy.db").write_text("an earlier backup")
        with pytest.raises(StoreFormatError, match=r"memories.db is .*; restore an earlier backup"):
            back_up(database, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "an earlier backup"
    assert files(tmp_path) == ["copy.db", "store"]


def damage(path: Path) -> None:
    """Random bytes on all pages but the first two thirds, which opening needs."""
    content = bytearray(path.read_bytes())
    start = len(content) * 2 // 3 // 4096 * 4096
    content[start:] = random.Random(1).randbytes(len(content) - start)
    path.write_bytes(content)


def test_what_was_left_by_the_dead_is_removed_after_a_day(
    database: Database, tmp_path: Path
) -> None:
    old, new, other = (tmp_path / name for name in ("c[1].x.part", "c[1].y.part", "c1.x.part"))
    journal = tmp_path / "c[1].x.part-journal"
    for leftover in (old, new, other, journal):
        leftover.touch()
    for leftover in (old, other, journal):
        long_ago = leftover.stat().st_mtime - SECONDS_A_DAY - 1
        os.utime(leftover, (long_ago, long_ago))
    back_up(database, tmp_path / "c[1]")
    assert files(tmp_path) == ["c1.x.part", "c[1]", "c[1].y.part", "store"]


# Restoring


def test_a_store_that_others_have_open_is_restored_for_them(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    """Ids of vectors and of memories are used again; no index may take the new for the old."""
    store(system, "aa bb", "red wine")
    back_up(database, tmp_path / "copy.db")
    gone, _ = store(system, "four legs", "cccc dddd")
    system.delete_memory_by_id("m0")
    assert system.search("four legs")[0].memory.id == gone
    restore(database, tmp_path / "copy.db")
    assert [text for text, _ in parts(system, "four legs")] == ["red wine", "aa bb"]
    assert system.search("bb")[0].memory.content == "aa bb"
    assert found(database, "legs") == []
    assert system.get_memories_by_tags(["four"]) == []
    assert len(system.get_memories_by_tags(["red"])) == 1
    # Both get the numbers that the ones had which are gone.
    store(system, "elephants", "seven")
    with open_system(database.path) as fresh:
        for query in ("elephants", "four legs", "cccc dddd", "seven"):
            assert parts(system, query) == parts(fresh, query)
    assert system.search("elephants")[0].memory.content == "elephants"


def found(database: Database, words: str) -> list[str]:
    return [hit.memory_id for hit in SQLitePersistence(database).search_text(words, 9)]


def parts(system: CognitiveMemorySystem, query: str) -> list[tuple[str, float]]:
    return [(each.memory.content, each.parts["semantic"]) for each in system.search(query)]


def test_a_new_store_begins_as_a_backup(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text", "another text")
    back_up(database, tmp_path / "copy.db")
    target = tmp_path / "elsewhere" / "new.db"
    with closing(Database(target)) as new:
        restore(new, tmp_path / "copy.db")
    assert files(target.parent) == ["new.db"]
    assert contents(target) == ["a text", "another text"]
    with open_system(target) as opened:
        assert parts(opened, "a text") == parts(system, "a text")


def test_a_restored_store_shares_no_mark_with_the_backup(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    back_up(database, tmp_path / "copy.db")
    marks = {database.get_property("epoch")}
    for _ in range(2):
        restore(database, tmp_path / "copy.db")
        marks.add(database.get_property("epoch"))
    assert len(marks) == 3


def test_a_derived_index_learns_all_of_a_restored_store(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    with database.transaction():
        database.execute("INSERT INTO properties VALUES ('outbox', 'remote')")
    store(system, "another text")
    back_up(database, tmp_path / "copy.db")
    restore(database, tmp_path / "copy.db")
    assert database.get_property("outbox") is None
    assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_writer_is_not_disturbed(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    back_up(database, tmp_path / "copy.db")
    with system.memories.transaction():
        store(system, "another text")
        with pytest.raises(StoreBusyError, match=r"held by another process for 0.05 s; try again"):
            restore(database, tmp_path / "copy.db")
        with pytest.raises(StoreBusyError, match=r"held by another process for 0.05 s; try again"):
            vacuum(database)
    assert contents(database.path) == ["a text", "another text"]
    assert files(database.path.parent) == ["memories.db", "memories.db-shm", "memories.db-wal"]
    restore(database, tmp_path / "copy.db")
    assert contents(database.path) == ["a text"]


def test_a_reader_goes_on_with_what_it_began(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "a text")
    back_up(database, tmp_path / "copy.db")
    store(system, "another text")
    with system.memories.snapshot():
        assert len(system.search("text")) == 2
        restore(database, tmp_path / "copy.db")
        assert len(system.memories.find_memories()) == 2
        assert len(system.search("text")) == 2
    assert len(system.memories.find_memories()) == len(system.search("text")) == 1


def test_a_store_is_restored_while_a_process_writes_at_full_speed(
    path: Path, tmp_path: Path
) -> None:
    with writing(path), closing(Database(path)) as database:
        back_up(database, tmp_path / "copy.db")
        restore(database, tmp_path / "copy.db")
        vacuum(database)
    with SQLitePersistence(Database(path)) as record:
        assert record.check_integrity() == []
        sides = [memory.id.split("-") for memory in record.find_memories()]
    left, right = ({each[1] for each in sides if each[0] == side} for side in ("left", "right"))
    assert left == right


def make_older(path: Path, version: int) -> None:
    """A store of an older schema with one memory, its vector on axis 2."""
    vector = "00000000" * 2 + "0000803f" + "00000000" * 13
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("context_words", 5, context_of_row)
        for number, script in enumerate(migrations()[:version], 1):
            connection.executescript(script)
            if number == 1:
                connection.executescript(f"""
                    INSERT INTO memories VALUES (7, 'old', 'we do it', 2, 'episodic', 0.5, NULL,
                        'manual_entry', 1778198400000000, 1778198400000000, 3, '{{}}');
                    INSERT INTO properties VALUES ('fingerprint', 'word-lengths/16'),
                        ('dimension', '16');
                    INSERT INTO vectors (memory_pk, chunk, vector) VALUES (7, 0, x'{vector}');
                """)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


@pytest.mark.parametrize("version", range(1, len(migrations()) + 1))
def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path, version: int
) -> None:
    store(system, "another text")
    make_older(tmp_path / "old.db", version)
    before = (tmp_path / "old.db").read_bytes()
    restore(database, tmp_path / "old.db")
    assert contents(database.path) == ["we do it"]
    assert parts(system, "do") == [("we do it", 1.0)]
    assert found(database, "Friday") == ["old"]
    assert (tmp_path / "old.db").read_bytes() == before


@pytest.mark.parametrize("size", [512, 1024, 8192, 65536])
def test_pages_may_be_of_another_size(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path, size: int
) -> None:
    store(system, "a text")
    back_up(database, tmp_path / "copy.db")
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute("VACUUM")
    with closing(Database(other)) as paged:
        assert paged.pragma("page_size") == size
        restore(paged, tmp_path / "copy.db")
        assert paged.pragma("page_size") == size
        assert contents(other) == ["a text"]
        back_up(paged, tmp_path / "copy.db")
    store(system, "another text")
    restore(database, tmp_path / "copy.db")
    assert contents(database.path) == ["a text"]


def test_a_running_store_can_be_copied_from(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, "what is still in the log")
    with closing(Database(tmp_path / "other.db")) as other:
        restore(other, database.path)
    assert contents(tmp_path / "other.db") == ["what is still in the log"]


def alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_SOURCES: dict[str, tuple[Callable[[Path], object], type[StorageError], str]] = {
    "absent": (Path.unlink, StorageError, "cannot be read: No such file"),
    "a folder": (make_folder, StorageError, "cannot be read: Is a directory"),
    "a text": (lambda copy: copy.write_text("a text " * 99), StoreFormatError, "not a sound store"),
    "empty": (lambda copy: copy.write_bytes(b""), StoreFormatError, "no store of this app"),
    "of another application": (
        lambda copy: alter(copy, "PRAGMA application_id = 1"),
        StoreFormatError,
        "no store of this application",
    ),
    "of a newer schema": (
        lambda copy: alter(copy, "PRAGMA user_version = 99"),
        StoreFormatError,
        f"has schema 99, this version reads up to {len(migrations())}; upgrade cognitive-memory",
    ),
    "cut short": (lambda copy: os.truncate(copy, 40_000), StoreFormatError, "not a sound store"),
    "overwritten": (damage, StoreFormatError, "copy.db is "),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_what_is_no_sound_backup_changes_nothing(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path, kind: str
) -> None:
    spoil, error, message = BAD_SOURCES[kind]
    store(system, *(f"text number {number} " * 20 for number in range(50)))
    back_up(database, tmp_path / "copy.db")
    spoil(tmp_path / "copy.db")
    before = contents(database.path)
    with pytest.raises(error, match=message) as caught:
        restore(database, tmp_path / "copy.db")
    assert ".part" not in str(caught.value)
    assert "upgrade" in str(caught.value) or "name a file that 'cogn" in str(caught.value)
    assert contents(database.path) == before
    assert [name for name in files(database.path.parent) if "part" in name] == []


def test_a_store_that_is_damaged_inside_is_restored(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    store(system, *(f"text number {number} " * 20 for number in range(50)))
    back_up(database, tmp_path / "copy.db")
    before = contents(database.path)
    system.close()
    database.close()
    damage(database.path)
    with closing(Database(database.path)) as damaged:
        restore(damaged, tmp_path / "copy.db")
    assert contents(database.path) == before


# Vacuum


def test_vacuum_gives_space_back(database: Database, system: CognitiveMemorySystem) -> None:
    ids = store(system, *(f"text number {number} " * 50 for number in range(200)))
    for memory_id in ids[10:]:
        system.delete_memory_by_id(memory_id)
    before, after = vacuum(database)
    assert after < before / 3
    assert after == database.path.stat().st_size
    assert len(contents(database.path)) == 10


def test_other_handles_answer_rightly_after_a_vacuum(
    database: Database, system: CognitiveMemorySystem
) -> None:
    """What the other has not seen yet is no more among the deletions."""
    with open_system(database.path) as other:
        store(system, "aa bb", "ccc", "dddd", "eeeee")
        assert len(other.search("ccc")) == 4
        system.delete_memory_by_id("m1")
        system.delete_memory_by_id("m3")
        vacuum(database)
        assert [text for text, _ in parts(other, "ccc")] == [t for t, _ in parts(system, "ccc")]
        assert sorted(text for text, _ in parts(other, "ccc")) == ["aa bb", "dddd"]
        store(system, "fff")
        system.delete_memory_by_id("m0")
        assert sorted(text for text, _ in parts(other, "fff")) == ["dddd", "fff"]


def test_vacuum_beside_a_reader(database: Database, system: CognitiveMemorySystem) -> None:
    ids = store(system, *(f"text number {number} " * 50 for number in range(100)))
    with system.memories.snapshot():
        assert len(system.memories.find_memories()) == 100
        database.execute("DELETE FROM memories WHERE id <> ?", [ids[0]])
        before, after = vacuum(database)
        assert after >= before
        assert len(system.memories.find_memories()) == 100
        assert len(system.search("text")) == 10
    assert len(system.search("text")) == 1
    before, after = vacuum(database)
    assert after < before / 3


# Read-only stores, full disks, killed processes


def test_a_store_that_may_only_be_read_is_backed_up_and_not_replaced(
    database: Database,
    system: CognitiveMemorySystem,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store(system, "a text")
    back_up(database, tmp_path / "copy.db")
    system.close()
    database.close()
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK)
    with closing(Database(database.path)) as reader:
        assert reader.read_only
        back_up(reader, tmp_path / "second.db")
        with pytest.raises(StoreReadOnlyError, match="cannot be written; check its permissions"):
            restore(reader, tmp_path / "copy.db")
        with pytest.raises(StoreReadOnlyError, match="cannot be written; check its permissions"):
            vacuum(reader)
    monkeypatch.undo()
    assert contents(tmp_path / "second.db") == ["a text"]


LIMITED = f"""
import resource, sys
limit = int(sys.argv.pop())
work = sys.argv.pop()
{DATABASE_OF_A_STORE}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    {{"back_up": back_up, "restore": restore, "vacuum": vacuum}}[work](database, *paths[1:])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("work", "share"),
    [("back_up", 0.5), ("restore", 0.5), ("restore", 1.003), ("vacuum", 0.5)],
)
def test_a_full_disk_leaves_everything_as_it_was(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path, work: str, share: float
) -> None:
    """A limit on the size of files stands for a full disk; at 1.003 the copy fits, its log not."""
    store(system, *(f"text number {number} " * 20 for number in range(300)))
    copy = tmp_path / "copy.db"
    back_up(database, copy)
    store(system, "a later text")
    system.close()
    before, copied = contents(database.path), copy.read_bytes()
    database.close()
    limit = int(copy.stat().st_size * share)
    given = [str(copy)] if work != "vacuum" else []
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(database.path), *given, work, str(limit)],
        capture_output=True,
        text=True,
        env=unmeasured(),
        check=True,
    )
    assert result.stderr == ""
    name, _, message = result.stdout.partition(" ")
    assert name in ("StorageError", "StoreFullError")
    assert "check both" in message or "free some" in message
    assert contents(database.path) == before
    assert copy.read_bytes() == copied
    assert [name for name in files(tmp_path) + files(database.path.parent) if "part" in name] == []


RESTORE_IN_TURN = f"""{DATABASE_OF_A_STORE}
print("ready", flush=True)
while True:
    for path in paths[1:]:
        restore(database, path)
"""

BACK_UP_AGAIN = f"""{DATABASE_OF_A_STORE}
print("ready", flush=True)
while True:
    back_up(database, paths[1])
"""

KILLS = int(os.environ.get("KILLS", "5"))
"""How often each of the tests below kills a process, at random."""


def kill_amid(script: str, *paths: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, paths)], stdout=subprocess.PIPE, env=unmeasured()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    assert process.wait() == -9
    process.stdout.close()


def test_a_store_is_the_old_one_or_the_restored_one_whenever_the_process_is_killed(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    states = []
    for name, count in (("first", 60), ("second", 90)):
        store(system, *(f"{name} number {number} " * 20 for number in range(count)))
        back_up(database, tmp_path / f"{name}.db")
        states.append((contents(database.path), parts(system, "a query")))
    chance = random.Random(5)
    for _ in range(KILLS):
        copies = (tmp_path / "first.db", tmp_path / "second.db")
        kill_amid(RESTORE_IN_TURN, database.path, *copies, seconds=chance.uniform(0, 0.2))
        assert (contents(database.path), parts(system, "a query")) in states
    others = {"memories.db", "memories.db-wal", "memories.db-shm"}
    left = set(files(database.path.parent)) - others
    assert all(name.startswith("memories.db.") and ".part" in name for name in left)


def test_a_backup_is_there_whole_whenever_the_process_is_killed(
    database: Database, system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    target = tmp_path / "copies" / "copy.db"
    chance = random.Random(6)
    for number in range(KILLS):
        store(system, *(f"{number} text {each} " * 20 for each in range(10)))
        back_up(database, target)
        kill_amid(BACK_UP_AGAIN, database.path, target, seconds=chance.uniform(0, 0.1))
        assert contents(target) == contents(database.path)
    left = set(files(target.parent)) - {"copy.db"}
    assert all(name.startswith("copy.db.") and ".part" in name for name in left)
