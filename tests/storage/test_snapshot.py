"""Snapshots of the index: whole or not at all, and never trusted."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from processes import unmeasured

from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.storage import snapshot
from cognitive_memory.storage.exact_index import ExactIndex
from cognitive_memory.storage.row_pages import PAGE_ROWS
from cognitive_memory.storage.snapshot import Snapshot, open_snapshot, write_snapshot

IDENTITY = {"epoch": "7f3a", "fingerprint": "all-MiniLM-L6-v2/fp32/384/0123"}
PREFIX_BYTES = 16


class Rows:
    """Rows with ids, and the same rows again whenever they are asked for."""

    def __init__(self, count: int, dimension: int = 3, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        numbers = generator.standard_normal((count, dimension)).astype(np.float32)
        self.dimension, self.rows = dimension, normalize(numbers)
        self.vector_ids = np.arange(count, dtype=np.int64) * 2 + 1
        self.owners = np.arange(count, dtype=np.int64) // 2 + 10
        self.chunks = (np.arange(count) % 2).astype(np.int32)

    def add_to(self, index: ExactIndex, start: int = 0, end: int | None = None) -> None:
        part = slice(start, end)
        index.append(self.vector_ids[part], self.owners[part], self.chunks[part], self.rows[part])

    def index(self, end: int | None = None) -> ExactIndex:
        index = ExactIndex(self.dimension)
        self.add_to(index, 0, end)
        return index


@contextmanager
def warnings() -> Iterator[list[str]]:
    """What is logged meanwhile, of any level."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    log, handler = logging.getLogger(snapshot.__name__), Keep()
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)


def reopened(path: Path, dimension: int = 3) -> Snapshot:
    with warnings() as messages:
        found = open_snapshot(path, IDENTITY, dimension)
    assert messages == []
    assert found is not None
    return found


def assert_damaged(path: Path, because: str = "") -> None:
    with warnings() as messages:
        assert open_snapshot(path, IDENTITY, 3) is None
    assert len(messages) == 1
    assert str(path) in messages[0]
    assert because in messages[0]
    assert messages[0].endswith("the index is built from the record")


def assert_ignored(path: Path, identity: dict[str, str], dimension: int) -> None:
    with warnings() as messages:
        assert open_snapshot(path, identity, dimension) is None
    assert messages == []


def assert_same(index: ExactIndex, other: ExactIndex) -> None:
    for found, expected in zip(index.living_ids(), other.living_ids(), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(all_rows(index), all_rows(other))
    query = normalize(np.arange(1, index.dimension + 1, dtype=np.float32))
    few = other.living_ids()[1][:3]
    for owners in (None, few):
        assert index.search(query, 5, owners) == other.search(query, 5, owners)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def all_rows(index: ExactIndex) -> Vector:
    empty = np.empty((0, index.dimension), dtype=np.float32)
    return np.concatenate([empty, *index.living_rows()])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of 40 rows of 3 numbers: 4 KiB of header, three columns and a matrix."""
    path = tmp_path_factory.mktemp("small") / "index"
    write_snapshot(Rows(40).index(), path, IDENTITY, 4)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@settings(max_examples=60)
@given(
    count=st.integers(0, 60),
    deleted=st.sets(st.integers(0, 130)),
    more=st.integers(0, 20),
    deleted_later=st.sets(st.integers(0, 170)),
    last_deletion=st.integers(0, 2**63 - 1),
)
def test_what_was_written_is_opened_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    deleted: set[int],
    more: int,
    deleted_later: set[int],
    last_deletion: int,
) -> None:
    """Deleted rows are left out; appending and deleting work as if it had never been closed."""
    path = tmp_path_factory.mktemp("store") / "index"
    rows = Rows(count + more)
    index = rows.index(count)
    index.delete(np.array(sorted(deleted), dtype=np.int64))
    write_snapshot(index, path, IDENTITY, last_deletion)
    content = path.read_bytes()
    found = reopened(path)
    assert found.last_deletion == last_deletion
    assert_same(found.index, index)
    living = index.living_ids()[0]
    assert found.index.last_vector_id == (living[-1] if len(living) else 0)
    for one in (index, found.index):
        rows.add_to(one, count)
        one.delete(np.array(sorted(deleted_later), dtype=np.int64))
    assert_same(found.index, index)
    assert path.read_bytes() == content
    write_snapshot(found.index, path, IDENTITY, last_deletion)
    assert_same(reopened(path).index, index)


@pytest.mark.parametrize("count", [PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS + 5_000])
def test_a_file_of_many_pages_and_blocks_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Rows are appended within the last mapped page, behind it and over several new ones."""
    monkeypatch.setattr(snapshot, "BLOCK_BYTES", 100_000)
    rows = Rows(count + PAGE_ROWS + 3, dimension=16)
    index = rows.index(count)
    write_snapshot(index, folder / "index", IDENTITY, 0)
    content = (folder / "index").read_bytes()
    found = reopened(folder / "index", 16).index
    assert_same(found, index)
    for start, end in ((count, count + 2), (count + 2, None)):
        for one in (index, found):
            rows.add_to(one, start, end)
        assert_same(found, index)
    assert (folder / "index").read_bytes() == content


def test_mapped_rows_are_not_copied_and_cannot_be_written(small: Path) -> None:
    """Each process that opens a snapshot shares the memory of its rows with the others."""
    rows = next(reopened(small).index.living_rows())
    assert not rows.flags.owndata
    assert not rows.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1.0


def test_parts_of_a_file_lie_where_the_format_says(small: Path) -> None:
    content, rows = small.read_bytes(), Rows(40)
    assert content[:12] == b"CMINDEX\0\x01\0\0\0"
    assert struct.unpack_from("<QQq", content, 16) == (40, 3, 4)
    expected: list[tuple[int, NDArray[np.generic]]] = [
        (4096, rows.vector_ids.astype("<i8")),
        (8192, rows.owners.astype("<i8")),
        (12288, rows.chunks.astype("<i4")),
        (16384, rows.rows.astype("<f4")),
    ]
    for start, part in expected:
        assert content[start : start + part.nbytes] == part.tobytes()
    assert len(content) == 16384 + 40 * 3 * 4


SMALL_BYTES = 16384 + 480


@settings(max_examples=300)
@given(byte=st.integers(0, SMALL_BYTES - 1), bit=st.integers(0, 7))
@example(byte=0, bit=0)  # the name of the format
@example(byte=7, bit=3)
@example(byte=8, bit=1)  # its number
@example(byte=12, bit=5)  # the prefix's checksum
@example(byte=16, bit=0)  # rows
@example(byte=23, bit=7)
@example(byte=24, bit=0)  # dimension
@example(byte=31, bit=6)
@example(byte=32, bit=2)  # last deletion
@example(byte=40, bit=4)  # identity
@example(byte=72, bit=0)  # the checksum of the body
@example(byte=76, bit=0)  # the zeros behind it
@example(byte=4092, bit=7)  # the header's checksum
@example(byte=4096, bit=0)  # the first vector id
@example(byte=4096 + 40 * 8, bit=0)  # the zeros behind the last
@example(byte=8192, bit=0)
@example(byte=12288, bit=0)
@example(byte=16384, bit=0)  # the first number of the matrix
@example(byte=SMALL_BYTES - 1, bit=7)
def test_a_flipped_bit_anywhere_is_noticed(small: Path, byte: int, bit: int) -> None:
    content = bytearray(small.read_bytes())
    assert len(content) == SMALL_BYTES
    content[byte] ^= 1 << bit
    damaged = small.with_name("damaged")
    damaged.write_bytes(content)
    assert_damaged(damaged)


def test_a_flipped_bit_in_any_block_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "BLOCK_BYTES", 1_000)
    path = folder / "index"
    write_snapshot(Rows(700).index(), path, IDENTITY, 0)
    assert_same(reopened(path).index, Rows(700).index())
    content = path.read_bytes()
    for start in range(4096, len(content), 1_000):
        for byte in (start, min(start + 999, len(content) - 1)):
            damaged = bytearray(content)
            damaged[byte] ^= 16
            path.write_bytes(damaged)
            assert_damaged(path, f"the block at byte {start} differs from its checksum")


LENGTHS = [0, 1, 7, 8, 11, 15, 16, 17, 71, 72, 4095, 4096, 4097, 8192, 16384, SMALL_BYTES - 1]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_truncated_file_is_noticed(small: Path, folder: Path, length: int) -> None:
    (folder / "index").write_bytes(small.read_bytes()[:length])
    assert_damaged(folder / "index")


@pytest.mark.parametrize("torn", [16, 4096, 10_000, SMALL_BYTES - 1])
def test_a_file_of_which_only_the_beginning_was_written_is_noticed(
    small: Path, folder: Path, torn: int
) -> None:
    """As a power failure leaves it: of the right length, and zeros from somewhere on."""
    (folder / "index").write_bytes(small.read_bytes()[:torn].ljust(SMALL_BYTES, b"\0"))
    assert_damaged(folder / "index")


def test_a_file_with_something_behind_it_is_noticed(small: Path, folder: Path) -> None:
    (folder / "index").write_bytes(small.read_bytes() + b"\0")
    assert_damaged(folder / "index", f"it has {SMALL_BYTES + 1} bytes, its header says")


def test_a_file_of_another_kind_is_noticed(folder: Path) -> None:
    path = folder / "index"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE memories (id TEXT)")
    connection.close()
    assert_damaged(path, "it is no index snapshot")
    path.write_bytes(bytes(SMALL_BYTES))
    assert_damaged(path, "it is no index snapshot")
    path.write_text("Remember the milk.\n", encoding="utf-8")
    assert_damaged(path, "it is no index snapshot")


def test_what_cannot_be_read_is_told(folder: Path) -> None:
    assert_damaged(folder, os.strerror(errno.EISDIR))


def test_no_file_is_no_snapshot(folder: Path) -> None:
    assert_ignored(folder / "index", IDENTITY, 3)
    assert_ignored(folder / "nowhere" / "index", IDENTITY, 3)


def test_rows_of_another_identity_or_dimension_are_not_taken(small: Path) -> None:
    others = [
        {**IDENTITY, "epoch": "7f3b"},
        {**IDENTITY, "fingerprint": IDENTITY["fingerprint"] + "4"},
        {**IDENTITY, "more": ""},
        {"epoch": IDENTITY["epoch"]},
        {"epoch": IDENTITY["fingerprint"], "fingerprint": IDENTITY["epoch"]},
        {},
    ]
    for identity in others:
        assert_ignored(small, identity, 3)
    assert_ignored(small, IDENTITY, 4)
    assert open_snapshot(small, dict(reversed(IDENTITY.items())), 3) is not None


def test_another_format_is_not_taken(small: Path, folder: Path) -> None:
    start = snapshot.MAGIC + struct.pack("<I", snapshot.FORMAT + 1)
    prefix = start + struct.pack("<I", zlib.crc32(start))
    (folder / "index").write_bytes(prefix + small.read_bytes()[PREFIX_BYTES:])
    assert_ignored(folder / "index", IDENTITY, 3)
    (folder / "index").write_bytes(prefix)
    assert_ignored(folder / "index", IDENTITY, 3)


def test_who_maps_the_old_file_keeps_it(folder: Path) -> None:
    path, old, new = folder / "index", Rows(500, seed=1), Rows(90, seed=2)
    write_snapshot(old.index(), path, IDENTITY, 1)
    first = reopened(path)
    write_snapshot(new.index(), path, IDENTITY, 2)
    assert_same(first.index, old.index())
    assert_same(reopened(path).index, new.index())
    # Its own rows are written over the file that they lie in.
    first.index.delete(old.vector_ids[:100])
    write_snapshot(first.index, path, IDENTITY, 3)
    assert_same(reopened(path).index, first.index)
    assert names(folder) == ["index"]


def test_a_copy_is_written_as_it_was_taken(folder: Path) -> None:
    rows = Rows(80)
    index = rows.index(50)
    index.delete(rows.vector_ids[:5])
    copy = index.copy()
    rows.add_to(index, 50)
    index.delete(rows.vector_ids[5:20])
    write_snapshot(copy, folder / "index", IDENTITY, 0)
    expected = rows.index(50)
    expected.delete(rows.vector_ids[:5])
    assert_same(reopened(folder / "index").index, expected)


def test_an_empty_index_can_be_written(folder: Path) -> None:
    write_snapshot(ExactIndex(3), folder / "index", IDENTITY, 9)
    found = reopened(folder / "index")
    assert (found.index.count, found.index.last_vector_id, found.last_deletion) == (0, 0, 9)
    assert found.index.search(np.array([1, 0, 0], dtype=np.float32), 3) == []
    assert found.index.sample(3) == []
    Rows(3).add_to(found.index)
    assert_same(found.index, Rows(3).index())


FULL_DISK = """
import os, resource, sys
import numpy as np
from pathlib import Path
from cognitive_memory.storage.exact_index import ExactIndex
from cognitive_memory.storage.snapshot import open_snapshot, write_snapshot

path, identity = Path(sys.argv[1]), {"epoch": "7f3a"}

def index(count):
    numbers, chunks = np.arange(1, count + 1), np.zeros(count, dtype=np.int32)
    made = ExactIndex(16)
    made.append(numbers, numbers, chunks, np.full((count, 16), 0.25, dtype=np.float32))
    return made

write_snapshot(index(9), path, identity, 0)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_snapshot(index(5_000), path, identity, 0)
except OSError as error:
    print(error.errno, open_snapshot(path, identity, 16).index.count, os.listdir(path.parent))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
@pytest.mark.parametrize("limit", [0, 10_000, 300_000])
def test_a_file_that_grows_too_large_leaves_the_old_one_and_no_other(
    folder: Path, limit: int
) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(folder / "index"), str(limit)]
    assert run(*command) == f"{errno.EFBIG} 9 ['index']\n"


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of its own")
@pytest.mark.parametrize("room", ["44k", "100k", "400k"])
def test_a_full_disk_leaves_the_old_file_and_no_other(folder: Path, room: str) -> None:
    """Space ends within the first column, a later one, the matrix."""
    mounting = 'mount -t tmpfs -o size="$1" none "$2" && exec "$3" -c "$4" "$2/index"'
    namespace = ["unshare", "-Urm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"]).returncode:
        pytest.skip("no mount namespaces here")
    arguments = [room, str(folder), sys.executable, FULL_DISK]
    assert run(*namespace, mounting, "sh", *arguments) == f"{errno.ENOSPC} 9 ['index']\n"


def run(*command: str) -> str:
    """What the command prints, which must end well."""
    ended = subprocess.run(
        command, capture_output=True, text=True, env=unmeasured(), timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_a_file_that_cannot_be_replaced_is_left(folder: Path) -> None:
    (folder / "index").mkdir()
    with pytest.raises(IsADirectoryError):
        write_snapshot(Rows(40).index(), folder / "index", IDENTITY, 0)
    assert names(folder) == ["index"]


@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="nothing is read-only for root"
)
def test_a_read_only_folder_is_told(folder: Path) -> None:
    write_snapshot(Rows(40).index(), folder / "index", IDENTITY, 0)
    folder.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            write_snapshot(Rows(41).index(), folder / "index", IDENTITY, 0)
    finally:
        folder.chmod(0o700)
    assert_same(reopened(folder / "index").index, Rows(40).index())
    assert names(folder) == ["index"]


def test_a_folder_that_does_not_exist_is_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_snapshot(Rows(40).index(), folder / "nowhere" / "index", IDENTITY, 0)
    assert names(folder) == []


def test_what_killed_writers_left_is_removed_after_an_hour(folder: Path) -> None:
    old, young = folder / f".index.{'0a' * 16}", folder / f".index.{'1b' * 16}"
    others = [folder / name for name in (".index.backup", f".index2.{'2c' * 16}", "index.old")]
    for path in (old, young, *others):
        path.write_bytes(b"unfinished")
    for path in (old, *others):
        os.utime(path, (time.time() - 3_700,) * 2)
    write_snapshot(Rows(3).index(), folder / "index", IDENTITY, 0)
    assert sorted(folder.iterdir()) == sorted([folder / "index", young, *others])


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from cognitive_memory.storage.exact_index import ExactIndex
from cognitive_memory.storage.snapshot import write_snapshot

count = 60_000
numbers = np.arange(1, count + 1)
index = ExactIndex(64)
rows = np.full((count, 64), 0.125, dtype=np.float32)
index.append(numbers, numbers, np.zeros(count, dtype=np.int32), rows)
print("ready", flush=True)
while True:
    write_snapshot(index, Path(sys.argv[1]), {"epoch": "7f3a"}, 0)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(folder: Path) -> None:
    """What it was writing lies beside it, until another writer clears it up."""
    path = folder / "index"
    index, identity = ExactIndex(64), {"epoch": "7f3a"}
    Rows(10, dimension=64).add_to(index)
    write_snapshot(index, path, identity, 0)
    for kill in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=unmeasured()
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            for _ in range(3 * kill + 1):  # in which the writer gets to another point each time
                with warnings() as messages:
                    found = open_snapshot(path, identity, 64)
                assert messages == []
                assert found is not None
                assert found.index.count in (10, 60_000)
            writer.kill()
