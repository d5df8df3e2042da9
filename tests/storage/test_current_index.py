"""The matrix of a store and its file: opened fast, never wrong, never in the way."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.storage import current_index, sqlite_vectors
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.exact_index import ExactIndex
from cognitive_memory.storage.maintenance import back_up, restore, vacuum
from cognitive_memory.storage.row_pages import PAGE_ROWS
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import make_memory

DIMENSION = 8

Open = Callable[[], SQLiteVectorStorage]


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (current_index, sqlite_vectors):
        monkeypatch.setattr(module, "LEAST_SAVED", 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def file(path: Path) -> Path:
    return Path(f"{path}-vectors")


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(SQLiteVectorStorage(Database(path)))


def rows(count: int, seed: int = 0) -> Vector:
    values = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return normalize(values.astype(np.float32))


def put(path: Path, names: list[str], vectors: Vector) -> None:
    """As another process would: through handles of its own, which save nothing when closed."""
    memories = [make_memory(name) for name in names]
    with closing(Database(path)) as database:
        storage = SQLiteVectorStorage(database)
        storage.bind_embedding("test/8", DIMENSION)
        with database.transaction():
            SQLitePersistence(database).save_memories(memories)
            storage.store_vectors(memories, list(vectors[:, None]))


def names(start: int, end: int) -> list[str]:
    return [f"m{number:04}" for number in range(start, end)]


def nearest(storage: SQLiteVectorStorage, vectors: Vector) -> list[str]:
    return [hits[0].memory_id for hits in storage.search_similar_batch(vectors, 1)]


@pytest.fixture
def filled(path: Path, file: Path) -> Vector:
    """A store of 50 vectors with its file."""
    vectors = rows(50)
    put(path, names(0, 50), vectors)
    with SQLiteVectorStorage(Database(path)) as storage:
        assert nearest(storage, vectors) == names(0, 50)
    assert file.is_file()
    return vectors


class Reads:
    """Counts the vectors that are read from the record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        append = ExactIndex.append

        def counted(index: ExactIndex, ids: Vector, *others: Vector) -> None:
            self.count += len(ids)
            append(index, ids, *others)  # type: ignore[arg-type]

        monkeypatch.setattr(ExactIndex, "append", counted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def test_opening_reads_the_file_and_not_the_record(
    filled: Vector, opened: Open, reads: Reads
) -> None:
    assert nearest(opened(), filled) == names(0, 50)
    assert reads.count == 0


def test_a_small_store_has_no_file(path: Path, file: Path) -> None:
    put(path, names(0, 19), rows(19))
    with SQLiteVectorStorage(Database(path)) as storage:
        nearest(storage, rows(19))
    assert not file.exists()


def test_the_record_is_read_in_the_memory_of_the_matrix(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    dimension, count = 512, 4_000
    monkeypatch.setattr(current_index, "READ_AT_ONCE", 100)
    vectors = np.zeros((count, 1, dimension), dtype=np.float32)
    vectors[np.arange(count), 0, np.arange(count) % dimension] = 1
    memories = [make_memory(name) for name in names(0, count)]
    with closing(Database(path)) as database:
        storage = SQLiteVectorStorage(database)
        storage.bind_embedding("test/512", dimension)
        SQLitePersistence(database).save_memories(memories)
        storage.store_vectors(memories, list(vectors))
    reader = opened()
    tracemalloc.start()
    try:
        (hit,) = reader.search_similar(vectors[7, 0], 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert hit.memory_id == "m0007"
    matrix = PAGE_ROWS * dimension * 4  # a page is reserved as a whole
    assert peak < matrix + vectors.nbytes / 2


def test_what_was_written_since_is_read_from_the_record(
    filled: Vector, path: Path, opened: Open, reads: Reads
) -> None:
    more = rows(5, seed=1)
    put(path, names(50, 55), more)
    with closing(Database(path)) as database:
        SQLiteVectorStorage(database).delete_vectors(names(0, 2))
    storage = opened()
    assert nearest(storage, np.concatenate([filled[2:], more])) == names(2, 55)
    assert not set(nearest(storage, filled[:2])) & set(names(0, 2))
    assert reads.count == 5


def test_the_file_is_written_anew_when_much_has_changed(
    filled: Vector, path: Path, file: Path, opened: Open, reads: Reads
) -> None:
    before = file.stat().st_ino
    more = rows(20, seed=1)
    put(path, names(50, 70), more)
    with opened() as storage:
        assert nearest(storage, more) == names(50, 70)
    assert file.stat().st_ino != before
    reads.count = 0
    assert nearest(opened(), np.concatenate([filled, more])) == names(0, 70)
    assert reads.count == 0


def test_a_writer_that_never_searches_leaves_a_file(path: Path, file: Path, opened: Open) -> None:
    memories = [make_memory(name) for name in names(0, 30)]
    with opened() as storage:
        storage.bind_embedding("test/8", DIMENSION)
        with SQLitePersistence(Database(path)) as record:
            record.save_memories(memories)
        storage.store_vectors(memories, list(rows(30)[:, None]))
    assert file.is_file()


def test_searches_go_on_while_the_file_is_written(filled: Vector, path: Path, opened: Open) -> None:
    storage = opened()
    for start in range(50, 250, 10):
        put(path, names(start, start + 10), rows(10, seed=start))
        assert nearest(storage, rows(10, seed=start)) == names(start, start + 10)
        assert nearest(storage, filled) == names(0, 50)


@pytest.mark.parametrize("place", [0, 30, 5_000, -1])
def test_a_damaged_file_is_not_believed(
    filled: Vector, file: Path, opened: Open, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert nearest(opened(), filled) == names(0, 50)
    assert f"the index snapshot {file} is not used" in caplog.text


def test_a_torn_file_is_not_believed(filled: Vector, file: Path, opened: Open) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    assert nearest(opened(), filled) == names(0, 50)


def test_a_file_of_another_store_is_not_believed(
    filled: Vector, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    vectors = rows(30, seed=9)
    put(other, names(100, 130), vectors)
    shutil.copy(file, f"{other}-vectors")
    with SQLiteVectorStorage(Database(other)) as storage:
        assert nearest(storage, vectors) == names(100, 130)


def test_a_store_that_was_set_back_by_a_copy_is_noticed(
    filled: Vector, path: Path, file: Path, opened: Open, tmp_path: Path
) -> None:
    """The ids of vectors that follow the copy are used a second time, for others."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "copy")
    first = rows(30, seed=1)
    put(path, names(50, 80), first)
    with opened() as storage:
        assert nearest(storage, first) == names(50, 80)
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy", path)
    second = rows(30, seed=2)
    put(path, names(200, 230), second)
    assert nearest(opened(), second) == names(200, 230)


def test_a_restored_store_is_searched_as_it_is_now(
    filled: Vector, path: Path, opened: Open, tmp_path: Path
) -> None:
    storage = opened()
    with closing(Database(path)) as database:
        back_up(database, tmp_path / "backup")
        put(path, names(50, 80), rows(30, seed=1))
        assert nearest(storage, rows(30, seed=1)) == names(50, 80)
        restore(database, tmp_path / "backup")
    put(path, names(200, 230), rows(30, seed=2))
    assert nearest(storage, rows(30, seed=2)) == names(200, 230)
    assert not set(nearest(storage, rows(30, seed=1))) & set(names(50, 80))


def test_a_vacuum_makes_the_file_void(filled: Vector, path: Path, opened: Open) -> None:
    storage = opened()
    assert nearest(storage, filled) == names(0, 50)
    with closing(Database(path)) as database:
        SQLiteVectorStorage(database).delete_vectors(names(0, 10))
        vacuum(database)
    assert nearest(storage, filled[10:]) == names(10, 50)
    assert nearest(opened(), filled[10:]) == names(10, 50)


def test_uncommitted_vectors_never_reach_the_file(
    path: Path, file: Path, filled: Vector, opened: Open
) -> None:
    before = file.read_bytes()
    memories = [make_memory(name) for name in names(50, 90)]
    vectors = rows(40, seed=3)
    with closing(Database(path)) as database:
        storage = SQLiteVectorStorage(database)

        def write_and_fail() -> None:
            with database.transaction():
                SQLitePersistence(database).save_memories(memories)
                storage.store_vectors(memories, list(vectors[:, None]))
                assert nearest(storage, vectors) == names(50, 90)
                raise KeyError

        with pytest.raises(KeyError):
            write_and_fail()
        assert not set(nearest(storage, vectors)) & set(names(50, 90))
        storage.close()
    assert file.read_bytes() == before


def test_a_folder_that_cannot_take_the_file_is_no_fault(
    path: Path, file: Path, opened: Open
) -> None:
    file.mkdir()
    vectors = rows(50)
    put(path, names(0, 50), vectors)
    with opened() as storage:
        assert nearest(storage, vectors) == names(0, 50)
    assert list(file.iterdir()) == []
    assert [each.name for each in path.parent.glob(".*")] == []
