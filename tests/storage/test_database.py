"""One SQLite file: how it is opened, what is refused, and what survives."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import (
    FingerprintMismatchError,
    InvalidInputError,
    StorageError,
    StoreBusyError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
)
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.storage import database as database_module
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.schema import APPLICATION_ID, migrations, statements
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.storage.words import context_of_row
from cognitive_memory.stores import open_database
from cognitive_memory.testing import make_memory

Open = Callable[..., Database]

NOBODY = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens handles on ``path`` that are closed in the end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(Database(path, *arguments)))


def fill(path: Path, count: int = 200) -> None:
    with SQLitePersistence(Database(path)) as record:
        record.save_memories([make_memory(f"{i:04}", f"word{i} " * 50) for i in range(count)])


def alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def ids(record: SQLitePersistence) -> list[str]:
    return [memory.id for memory in record.find_memories()]


# Opening


def test_writes_survive_a_crash_and_a_power_cut(opened: Open) -> None:
    database = opened()
    mode = database.execute("PRAGMA journal_mode").fetchone()[0]
    assert (mode, database.pragma("synchronous")) == ("wal", 2)
    assert database.pragma("foreign_keys") == 1


@pytest.mark.parametrize(("given", "level"), [("full", 2), ("normal", 1)])
def test_what_is_synchronized_is_a_choice(path: Path, given: str, level: int) -> None:
    with closing(Database(path, synchronous=given)) as database:
        assert database.pragma("synchronous") == level
    settings = Settings(storage={"path": path, "synchronous": given})
    with closing(open_database(settings)) as database:
        assert database.pragma("synchronous") == level


@pytest.mark.parametrize("given", ["off", "FULL", "", "full; DROP TABLE memories"])
def test_what_no_store_can_promise_is_refused(path: Path, given: str) -> None:
    with pytest.raises(InvalidInputError, match=r"synchronous=.*; it must be one of full, normal"):
        Database(path, synchronous=given)
    assert not path.exists()


def test_a_new_store_names_itself(opened: Open, path: Path) -> None:
    opened().close()
    header = path.read_bytes()[:100]
    assert header[:16] == b"SQLite format 3\0"
    assert header[68:72] == b"CMEM" == APPLICATION_ID.to_bytes(4)
    assert int.from_bytes(header[60:64]) == len(migrations())


def test_an_empty_file_becomes_a_store(opened: Open, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert opened().pragma("application_id") == APPLICATION_ID


def test_opening_again_changes_nothing(opened: Open, path: Path) -> None:
    fill(path, 3)
    before = path.read_bytes()
    opened().close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["größe 🦊.db", "a?b#c%20.db", "mode=ro&x.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name, 1)
    assert (tmp_path / name).is_file()
    with SQLitePersistence(Database(tmp_path / name)) as record:
        assert ids(record) == ["0000"]


def test_a_relative_path_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("notes.db"), 1)
    assert (tmp_path / "notes.db").is_file()


# What is refused


def test_a_database_of_another_application_is_refused(opened: Open, path: Path) -> None:
    path.parent.mkdir()
    alter(path, "CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreFormatError, match=r"another application; set .*STORAGE__PATH"):
        opened()
    assert path.read_bytes() == before


def test_another_application_id_is_refused(opened: Open, path: Path) -> None:
    fill(path)
    alter(path, "PRAGMA application_id = 1")
    with pytest.raises(StoreFormatError, match="database of another application"):
        opened()


@pytest.mark.parametrize("size", [99, 100, 5_000])
def test_random_bytes_are_refused(opened: Open, path: Path, size: int) -> None:
    path.parent.mkdir()
    content = random.Random(size).randbytes(size)
    path.write_bytes(content)
    with pytest.raises(StoreFormatError, match=r"not a readable SQLite database .*backup"):
        opened()
    assert path.read_bytes() == content


def test_a_newer_schema_is_refused(opened: Open, path: Path) -> None:
    fill(path)
    alter(path, "PRAGMA user_version = 99")
    with pytest.raises(
        StoreFormatError,
        match=rf"schema 99, this version reads up to {len(migrations())}; upgrade",
    ):
        opened()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_store_is_never_read_as_a_smaller_one(path: Path, share: float) -> None:
    fill(path)
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    with (
        pytest.raises(StoreFormatError, match=r"not a readable SQLite database .*backup"),
        SQLitePersistence(Database(path)) as record,
    ):
        record.find_memories()


def test_a_folder_is_refused(opened: Open, path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreReadOnlyError, match="check that it is a file"):
        opened()


def test_a_file_in_the_way_of_the_folder_is_named(opened: Open, path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(
        StoreReadOnlyError, match=r"cannot create .*folder: .*COGNITIVE_MEMORY_DATA"
    ):
        opened()


# Read only


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """As a user whom permissions bind: for root, nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        if not os.access(database_module.__file__, os.R_OK):
            pytest.skip("root alone can read this checkout, and permissions do not bind root")
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A store that may be read and not written, in a folder of the same kind."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        fill(path, 3)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        yield path
        path.parent.chmod(0o755)


def test_an_unwritable_store_can_be_read(unwritable: Path) -> None:
    with bound_by_permissions(), SQLitePersistence(Database(unwritable)) as record:
        assert ids(record) == ["0000", "0001", "0002"]
        assert record.get_statistics()["read_only"] is True
        record.record_access(["0000"], make_memory("a").created_date)
        assert record.get_memories(["0000"])[0].access_count == 0
        with pytest.raises(StoreReadOnlyError, match="cannot be written; check its permissions"):
            record.delete_memories(["0000"])


@pytest.mark.parametrize("version", [0, 1])
def test_an_unwritable_store_of_an_older_schema_is_refused(unwritable: Path, version: int) -> None:
    unwritable.parent.chmod(0o755)
    unwritable.chmod(0o644)
    alter(unwritable, f"PRAGMA user_version = {version}")
    unwritable.chmod(0o444)
    unwritable.parent.chmod(0o555)
    with (
        bound_by_permissions(),
        pytest.raises(
            StoreReadOnlyError,
            match=f"schema {version} and must be migrated to {len(migrations())}",
        ),
    ):
        Database(unwritable)


def test_a_folder_that_cannot_be_written_is_named(unwritable: Path) -> None:
    with bound_by_permissions():
        with pytest.raises(
            StoreReadOnlyError, match=r"cannot create .*new: Permission denied; set"
        ):
            Database(unwritable.parent / "new" / "store.db")
        with pytest.raises(StoreReadOnlyError, match=r"other.db cannot be opened for writing"):
            Database(unwritable.parent / "other.db")


def test_an_unwritable_store_in_use_is_read_with_its_latest_changes(unwritable: Path) -> None:
    """What was committed lies in the write-ahead log for a while."""
    if os.geteuid() != 0:
        pytest.skip("two users are needed: one who writes, one who may only read")
    with SQLitePersistence(Database(unwritable)) as writer:
        writer.save_memories([make_memory("first")])
        with bound_by_permissions():
            reader = SQLitePersistence(Database(unwritable))
            assert ids(reader)[-1] == "first"
        writer.save_memories([make_memory("second")])
        with bound_by_permissions():
            assert ids(reader)[-1] == "second"
        reader.close()


def test_an_unwritable_store_at_rest_is_read_anew_once_others_have_written(
    unwritable: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("two users are needed: one who writes, one who may only read")
    with bound_by_permissions():
        reader = SQLitePersistence(Database(unwritable))
        assert ids(reader)[-1] == "0002"
    with SQLitePersistence(Database(unwritable)) as writer:
        writer.save_memories([make_memory("while open")])
        with bound_by_permissions():
            assert ids(reader)[-1] == "while open"
        reader.close()
    with bound_by_permissions():
        reader = SQLitePersistence(Database(unwritable))
    fill(unwritable, 5)
    with bound_by_permissions():
        assert ids(reader)[-2:] == ["0004", "while open"]
    unwritable.parent.chmod(0o755)
    unwritable.rename(unwritable.with_name("moved.db"))
    with bound_by_permissions():
        assert ids(reader)[-2:] == ["0004", "while open"]
    reader.close()


# Full, busy, closed


def test_a_full_store_keeps_what_it_had_and_goes_on(opened: Open) -> None:
    database = opened()
    record = SQLitePersistence(database)
    record.save_memories([make_memory("before")])
    database.execute(f"PRAGMA max_page_count = {database.pragma('page_count') + 10}")
    with pytest.raises(StoreFullError, match=r"no space left for .*store.db; free some"):
        record.save_memories([make_memory(f"{i}", "x" * 1000) for i in range(100)])
    assert ids(record) == ["before"]
    assert record.check_integrity() == ["1 memories have no vector; load or store them again"]
    database.execute("PRAGMA max_page_count = 1000000")
    record.save_memories([make_memory("after")])
    assert ids(record) == ["after", "before"]


def test_a_full_store_rolls_back_the_whole_transaction(opened: Open) -> None:
    database = opened()
    record = SQLitePersistence(database)
    database.execute(f"PRAGMA max_page_count = {database.pragma('page_count') + 10}")

    def overflow() -> None:
        with database.transaction():
            record.save_memories([make_memory("small")])
            record.save_memories([make_memory("large", "x" * 100_000)])

    with pytest.raises(StoreFullError, match="no space left"):
        overflow()
    assert ids(record) == []


def test_a_store_that_is_held_is_busy(opened: Open) -> None:
    holder, waiting = SQLitePersistence(opened()), SQLitePersistence(opened(0.05))
    with holder.transaction():
        with pytest.raises(StoreBusyError, match=r"for 0.05 s; try again, or raise .*BUSY_TIMEOUT"):
            waiting.save_memories([make_memory("a")])
        assert ids(waiting) == []
    waiting.save_memories([make_memory("a")])
    assert ids(holder) == ["a"]


def test_a_file_that_is_read_while_it_is_prepared_is_busy(opened: Open, path: Path) -> None:
    """The switch to the write-ahead log needs the file for itself, and waits for it."""
    fill(path, 3)
    alter(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM memories").fetchone()
        with pytest.raises(StoreBusyError, match=r"was held by another process for 0.05 s"):
            opened(0.05)
        reader.execute("COMMIT")
        assert len(ids(SQLitePersistence(opened(0.05)))) == 3


def test_a_closed_store_says_so(opened: Open) -> None:
    record = SQLitePersistence(opened())
    record.close()
    record.close()
    with pytest.raises(StorageError, match="was closed; open the store again"):
        record.find_memories()
    with pytest.raises(StorageError, match="was closed; open the store again"):
        record.save_memories([make_memory("a")])


def test_other_faults_carry_the_message_of_sqlite(opened: Open) -> None:
    database = opened()
    with pytest.raises(StorageError, match=r"store.db: no such table: absent"), database.snapshot():
        database.execute("SELECT * FROM absent")
    with database.snapshot():
        assert database.execute("SELECT 1").fetchone() == (1,)


# Transactions


def test_nested_transactions_are_one(opened: Open) -> None:
    database = opened()
    record = SQLitePersistence(database)

    def fail() -> None:
        with database.transaction():
            with database.transaction():
                record.save_memories([make_memory("inner")])
            assert database.writing
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not database.writing
    assert ids(record) == []


def test_a_transaction_has_changes_from_its_first_write_on(opened: Open) -> None:
    database = opened()
    record = SQLitePersistence(database)
    record.save_memories([make_memory("a")])
    seen = [database.has_changes]
    with database.transaction():
        seen.append(database.has_changes)
        assert ids(record) == ["a"]
        assert record.delete_memories(["unknown"]) == 0
        seen.append(database.has_changes)
        with database.transaction():
            record.save_memories([make_memory("b")])
        seen.append(database.has_changes)
    seen.append(database.has_changes)
    with database.transaction():
        seen.append(database.has_changes)
    assert seen == [False, False, False, True, False, False]


def test_what_is_not_committed_is_seen_by_no_other(opened: Open) -> None:
    writer, reader = SQLitePersistence(opened()), SQLitePersistence(opened())
    with writer.transaction():
        writer.save_memories([make_memory("a")])
        assert ids(writer) == ["a"]
        assert ids(reader) == []
    assert ids(reader) == ["a"]


def test_a_snapshot_sees_one_state(opened: Open) -> None:
    database = opened()
    reader, writer = SQLitePersistence(database), SQLitePersistence(opened())
    with database.snapshot():
        assert ids(reader) == []
        writer.save_memories([make_memory("a")])
        assert ids(reader) == []
    assert ids(reader) == ["a"]


# Migrations


def test_a_script_is_cut_into_its_statements() -> None:
    with closing(sqlite3.connect(":memory:")) as one, closing(sqlite3.connect(":memory:")) as other:
        for connection in (one, other):
            connection.create_function("context_words", 5, context_of_row)
        for script in migrations():
            one.executescript(script)
            for statement in statements(script):
                other.execute(statement)
        schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert one.execute(schema).fetchall() == other.execute(schema).fetchall()


def test_a_failed_migration_leaves_nothing(opened: Open, path: Path) -> None:
    """The first migration meets a table that is in its way half through."""
    path.parent.mkdir()
    alter(path, "CREATE TABLE connections (something TEXT)")
    alter(path, f"PRAGMA application_id = {APPLICATION_ID}")
    with pytest.raises(StorageError, match="table connections already exists"):
        opened()
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()
    assert (tables, version) == ([("connections",)], (0,))


FIRST = """
    INSERT INTO memories VALUES (
        7, 'old', 'We dropped Redis.', 2, 'episodic', 0.5, '/notes/adr/cache.md', 'markdown',
        1778198400000000, 1778198400000000, 3, '{"speaker": "Ada", "room": {"name": "blue"}}'
    );
    INSERT INTO memories VALUES (
        9, 'plain', '缓存很冷', 0, 'semantic', 0, NULL, 'manual_entry', 0, 0, 0, '{}'
    );
    INSERT INTO tags VALUES (7, 1, 'decision');
    INSERT INTO tags VALUES (7, 0, 'größe');
"""
"""Two memories as schema 1 kept them; 1778198400000000 is 2026-05-08, 0 is 1970-01-01."""


def make_first(path: Path, statements: str = FIRST) -> None:
    """A store as the first release wrote it: schema 1, whose words are those of the texts."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(migrations()[0])
        connection.executescript(statements)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        found = connection.execute(
            "SELECT rowid FROM memories_text WHERE memories_text MATCH 'redis OR 2026 OR ada'"
        )
        assert found.fetchall() == [(7,)] * ("Redis" in statements)


def check_words(path: Path) -> None:
    """Raises where the full-text index is not that of the memories."""
    alter(path, "INSERT INTO memories_text (memories_text) VALUES ('integrity-check')")
    # Only so is it compared with the table that it is made from.
    alter(path, "INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)")


def found(record: SQLitePersistence, query: str) -> list[str]:
    return [hit.memory_id for hit in record.search_text(query, 10)]


def test_the_check_of_the_words_sees_a_difference(path: Path) -> None:
    fill(path, 1)
    alter(path, "DROP TRIGGER memories_text_updated")
    alter(path, "UPDATE memories SET context = 'other words'")
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        check_words(path)


def test_memories_of_the_first_schema_are_found_by_what_describes_them(path: Path) -> None:
    make_first(path)
    with SQLitePersistence(Database(path)) as record:
        assert record.get_statistics()["schema_version"] == len(migrations())
        for query in ("redis", "May 2026", "Friday", "decision", "größe", "Ada", "blue", "cache"):
            assert found(record, query) == ["old"], query
        for query in ("Thursday 1970", "缓存", "冷"):
            assert found(record, query) == ["plain"], query
        assert found(record, "notes adr speaker") == []
    check_words(path)


def test_memories_of_the_first_schema_are_as_they_were(path: Path, tmp_path: Path) -> None:
    make_first(path)
    moment = datetime(2026, 5, 8, tzinfo=UTC)
    old = CognitiveMemory(
        id="old",
        content="We dropped Redis.",
        importance_score=0.5,
        tags=("größe", "decision"),
        source_path="/notes/adr/cache.md",
        source_type="markdown",
        created_date=moment,
        last_accessed=moment,
        access_count=3,
        metadata={"speaker": "Ada", "room": {"name": "blue"}},
    )
    contexts = []
    with SQLitePersistence(Database(path)) as record:
        memories = record.find_memories()
        assert memories[0] == old
    with SQLitePersistence(Database(tmp_path / "new.db")) as record:
        record.save_memories(memories)
    for file in (path, tmp_path / "new.db"):
        with closing(sqlite3.connect(file)) as connection:
            contexts.append(
                connection.execute("SELECT id, context FROM memories ORDER BY id").fetchall()
            )
    assert contexts[0] == contexts[1]


def test_a_store_of_the_first_schema_goes_on_like_any_other(path: Path) -> None:
    make_first(path)
    with SQLitePersistence(Database(path)) as record:
        (old,) = record.get_memories(["old"])
        record.save_memories([replace(old, tags=("kept",), metadata={"speaker": "Lin"})])
        assert found(record, "Ada größe") == []
        assert found(record, "Lin") == found(record, "kept") == ["old"]
    check_words(path)
    with SQLitePersistence(Database(path)) as record:
        record.save_memories([replace(old, content="We kept Redis."), make_memory("new", "Redis")])
        assert found(record, "dropped") == []
        assert record.delete_memories(["plain", "new"]) == 2
        assert found(record, "缓存") == []
        assert found(record, "redis") == found(record, "Ada") == ["old"]
    check_words(path)


def test_an_empty_store_of_the_first_schema_is_migrated(path: Path) -> None:
    make_first(path, "")
    fill(path, 3)
    with SQLitePersistence(Database(path)) as record:
        assert sorted(found(record, "Thursday")) == ["0000", "0001", "0002"]
    check_words(path)


def test_a_store_that_cannot_be_migrated_stays_as_it_was(opened: Open, path: Path) -> None:
    broken = "UPDATE memories SET metadata = '{' WHERE id = 'plain'"
    make_first(path, f"{FIRST}; {broken};")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"store.db: user-defined function raised exception"):
        opened()
    assert path.read_bytes()[100:] == before[100:]
    alter(path, "UPDATE memories SET metadata = '{}' WHERE id = 'plain'")
    assert found(SQLitePersistence(opened()), "Friday") == ["old"]


CREATE = """
import sys
from pathlib import Path
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.testing import make_memory

print("ready", flush=True)
sys.stdin.readline()
with SQLitePersistence(Database(Path(sys.argv[1]))) as record:
    record.save_memories([make_memory(sys.argv[2])])
"""


@pytest.mark.parametrize("start", [None, make_first], ids=["new", "first schema"])
def test_many_processes_create_one_store(path: Path, start: Callable[[Path], None] | None) -> None:
    if start:
        start(path)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CREATE, str(path), str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate() for process in processes]
    assert outputs == [("", "")] * 4
    assert [process.returncode for process in processes] == [0] * 4
    with SQLitePersistence(Database(path)) as record:
        assert sorted(found(record, "Thursday")) == ["0", "1", "2", "3", *["plain"] * bool(start)]
    check_words(path)


VECTORS = """
    INSERT INTO properties VALUES ('fingerprint', 'old/4'), ('dimension', '4');
    INSERT INTO vectors (memory_pk, chunk, vector) VALUES
        (7, 0, x'0000803f000000000000000000000000'),
        (7, 1, x'000000000000803f0000000000000000'),
        (9, 0, x'00000000000000000000803f00000000');
    DELETE FROM vectors WHERE vector_id = 2;
"""
"""Unit vectors on the axes 0, 1 and 2, of which the second is gone."""


def test_vectors_of_the_first_schema_serve_on(path: Path) -> None:
    make_first(path, FIRST + VECTORS)
    with SQLiteVectorStorage(Database(path)) as vectors:
        vectors.check_embedding("old/4")
        with pytest.raises(FingerprintMismatchError, match="holds vectors of old/4"):
            vectors.check_embedding("new/4")
        query = np.eye(4, dtype=np.float32)
        hits = vectors.search_similar_batch(query[:3], 1)
        assert [[(hit.memory_id, hit.score) for hit in found] for found in hits] == [
            [("old", 1.0)],
            [("old", 0.0)],
            [("plain", 1.0)],
        ]
        assert vectors.count() == 2
    with SQLitePersistence(Database(path)) as record:
        assert record.get_statistics()["fingerprint"] == "old/4"
        assert record.check_integrity() == []


def test_each_store_has_a_mark_of_its_own(tmp_path: Path) -> None:
    marks = set()
    for name in ("a.db", "b.db"):
        with closing(Database(tmp_path / name)) as database:
            marks.add(database.get_property("epoch"))
    assert len(marks) == 2
    assert None not in marks
