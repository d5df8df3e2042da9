"""The cache on disk: what it gives out is sound, and no fault of its file stops an embedding."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from processes import unmeasured

from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.cache import CachedEmbeddingProvider
from cognitive_memory.encoding.disk_cache import APPLICATION_ID, ROWS_AT_ONCE, DiskCache
from cognitive_memory.testing import WordLengthProvider

PLENTY = 10_000_000
PAGE = 4096

Open = Callable[..., DiskCache]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def open_cache(path: Path) -> Iterator[Open]:
    """Opens caches that are closed in the end."""
    opened: list[DiskCache] = []

    def open_one(max_bytes: int = PLENTY, at: Path = path) -> DiskCache:
        opened.append(DiskCache(at, max_bytes))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


def entries(count: int, dimension: int = 4, first: int = 0) -> dict[bytes, Vector]:
    """Keys of their number, and vectors that hold nothing else."""
    return {
        number.to_bytes(4, "big"): np.full(dimension, number, dtype=np.float32)
        for number in range(first, first + count)
    }


def numbers(found: dict[bytes, Vector]) -> list[int]:
    """Which entries were found, after a look at each value."""
    for key, vector in found.items():
        assert vector.dtype == np.float32
        assert set(vector.tolist()) == {float(int.from_bytes(key, "big"))}
    return sorted(int.from_bytes(key, "big") for key in found)


def fill(path: Path, wanted: dict[bytes, Vector]) -> None:
    """A cache file at rest."""
    cache = DiskCache(path, PLENTY)
    cache.put_many("model", wanted)
    cache.close()


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=unmeasured())


# What it keeps


def test_vectors_come_back_exactly(open_cache: Open) -> None:
    kept = {
        b"any": np.random.default_rng(3).standard_normal(384).astype(np.float32),
        b"odd": np.array([np.nan, np.inf, -0.0, 1e-45] * 96, dtype=np.float32),
    }
    open_cache().put_many("model", kept)
    found = open_cache().get_many("model", list(kept), 384)
    assert {key: vector.tobytes() for key, vector in found.items()} == {
        key: vector.tobytes() for key, vector in kept.items()
    }


def test_what_is_given_out_belongs_to_the_caller(open_cache: Open) -> None:
    cache = open_cache()
    cache.put_many("model", entries(3))
    for vector in cache.get_many("model", list(entries(3)), 4).values():
        vector[:] = 9
    assert numbers(cache.get_many("model", list(entries(3)), 4)) == [0, 1, 2]


def test_fingerprints_and_dimensions_are_kept_apart(open_cache: Open) -> None:
    cache = open_cache()
    keys = list(entries(7))
    cache.put_many("model/4", entries(5))
    cache.put_many("other/8", entries(7, dimension=8))
    assert numbers(cache.get_many("model/4", keys, 4)) == [0, 1, 2, 3, 4]
    assert numbers(cache.get_many("other/8", keys, 8)) == [0, 1, 2, 3, 4, 5, 6]
    assert cache.get_many("model/4", keys, 8) == {}
    assert cache.get_many("third/4", keys, 4) == {}
    assert cache.get_many("model/4", [], 4) == {}


def test_the_next_process_finds_what_this_one_wrote(path: Path) -> None:
    fill(path, entries(3))
    code = """
import sys
from pathlib import Path
from cognitive_memory.encoding.disk_cache import DiskCache

cache = DiskCache(Path(sys.argv[1]), 10_000_000)
found = cache.get_many("model", [bytes([0, 0, 0, number]) for number in range(5)], 4)
cache.close()
print(sorted((key[-1], vector.tolist()) for key, vector in found.items()))
"""
    result = run(code, path)
    expected = [(number, [float(number)] * 4) for number in range(3)]
    assert (result.stdout, result.stderr) == (f"{expected}\n", "")


def test_processes_that_begin_it_at_once_share_it(path: Path, open_cache: Open) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from cognitive_memory.encoding.disk_cache import DiskCache

mine = int(sys.argv[2])
sys.stdin.read()
cache = DiskCache(Path(sys.argv[1]), 10_000_000)
for number in range(mine, mine + 50):
    cache.put_many("model", {number.to_bytes(4, "big"): np.full(4, number, dtype=np.float32)})
cache.close()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(first)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in range(0, 200, 50)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    # A write that finds the file busy is given up, but never harms it.
    for process in processes:
        with process:
            assert process.stderr is not None
            assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
    found = numbers(open_cache().get_many("model", list(entries(200)), 4))
    assert len(found) > 100


def test_a_relative_path_is_that_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_cache: Open
) -> None:
    cache = open_cache(at=Path("begun.db"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cache.put_many("model", entries(1))
    assert (tmp_path / "begun.db").is_file()


def test_reloading_unchanged_documents_embeds_nothing(open_cache: Open) -> None:
    class Refusing(WordLengthProvider):
        def encode_batch(self, texts: Sequence[str]) -> Vector:
            assert not texts, "everything is on disk"
            return super().encode_batch(texts)

    texts = [f"document {'x' * (number % 12)} {number}" for number in range(200)]
    with CachedEmbeddingProvider(
        WordLengthProvider(), memory_bytes=0, disk=open_cache()
    ) as provider:
        expected = provider.encode_batch(texts)
    with CachedEmbeddingProvider(Refusing(), memory_bytes=0, disk=open_cache()) as provider:
        assert np.array_equal(provider.encode_batch(texts), expected)
        statistics = provider.statistics
        assert (statistics.hits, statistics.disk_hits, statistics.misses) == (0, 200, 0)
        assert statistics.hit_rate == 1.0


def test_many_threads_share_it(open_cache: Open) -> None:
    cache = open_cache()

    def work(first: int) -> list[int]:
        mine = entries(20, first=first)
        for key, vector in mine.items():
            cache.put_many("model", {key: vector})
        return numbers(cache.get_many("model", list(mine), 4))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(0, 320, 20)))
    assert found == [list(range(first, first + 20)) for first in range(0, 320, 20)]


# Its bound


def used_bytes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count")
        )
    return int(pages - free) * PAGE


def test_the_oldest_go_when_the_file_is_full(path: Path, open_cache: Open) -> None:
    cache = open_cache(200_000)
    for number in range(0, 600, 10):
        cache.put_many("model", entries(10, dimension=384, first=number))
    found = numbers(cache.get_many("model", list(entries(600)), 384))
    cache.close()
    assert found == list(range(600 - len(found), 600)), "the newest without a gap"
    assert len(found) > 200_000 * 0.6 / (384 * 4)
    assert used_bytes(path) <= 200_000
    assert path.stat().st_size <= 200_000 + ROWS_AT_ONCE * 2 * 384 * 4


@pytest.mark.parametrize("dimensions", [(1024, 16), (16, 1024)])
def test_vectors_of_all_lengths_share_the_bound(
    path: Path, open_cache: Open, dimensions: tuple[int, int]
) -> None:
    cache = open_cache(400_000)
    for dimension in dimensions:
        cache.put_many(f"model/{dimension}", entries(2000, dimension=dimension))
    keys = list(entries(2000))
    assert 1999 in numbers(cache.get_many(f"model/{dimensions[1]}", keys, dimensions[1]))
    cache.close()
    assert used_bytes(path) <= 400_000
    assert path.stat().st_size <= 400_000 + ROWS_AT_ONCE * 2 * 1024 * 4


def test_one_large_batch_does_not_outgrow_the_bound(path: Path, open_cache: Open) -> None:
    cache = open_cache(100_000)
    cache.put_many("model", entries(3000, dimension=384))
    journal = path.with_name("cache.db-wal").stat().st_size
    cache.close()
    assert path.stat().st_size <= 100_000 + ROWS_AT_ONCE * 2 * 384 * 4
    assert journal < 6_000_000, "less than half of what was written"


def test_a_bound_that_was_lowered_shrinks_the_file(path: Path, open_cache: Open) -> None:
    fill(path, entries(1000, dimension=384))
    assert path.stat().st_size > 1_500_000
    cache = open_cache(100_000)
    cache.put_many("model", entries(1, dimension=384, first=5000))
    assert 5000 in numbers(cache.get_many("model", list(entries(1, first=5000)), 384))
    cache.close()
    assert path.stat().st_size <= 200_000


@pytest.mark.parametrize("max_bytes", [0, 1, 5000])
def test_a_bound_too_small_for_anything_holds_nothing(open_cache: Open, max_bytes: int) -> None:
    cache = open_cache(max_bytes)
    cache.put_many("model", entries(100))
    assert cache.get_many("model", list(entries(100)), 4) == {}


# Files that are damaged


BEGUN_ANEW = "embedding cache {} was unreadable and is begun anew"


def damaged(kind: str, content: bytes) -> bytes:
    if kind == "noise":
        return random.Random(5).randbytes(30_000)
    if kind == "text":
        return b"[settings]\nname = value\n"
    if kind == "half":
        return content[: len(content) // 2 + 7]
    if kind == "header only":
        return content[:100]
    return content[:4096] + bytes(len(content) - 4096)


@pytest.mark.parametrize("kind", ["noise", "text", "half", "header only", "zeros"])
def test_an_unreadable_file_is_begun_anew(
    kind: str, path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    fill(path, entries(900))
    path.write_bytes(damaged(kind, path.read_bytes()))
    cache = open_cache()
    for _ in range(2):
        numbers(cache.get_many("model", list(entries(900)), 4))
    cache.put_many("model", entries(900))
    cache.put_many("model", entries(900))
    assert numbers(cache.get_many("model", list(entries(900)), 4)) == list(range(900))
    assert [record.getMessage() for record in caplog.records] == [BEGUN_ANEW.format(path)]
    assert numbers(open_cache().get_many("model", list(entries(900)), 4)) == list(range(900))


def test_an_empty_file_is_taken(path: Path, open_cache: Open) -> None:
    path.touch()
    cache = open_cache()
    cache.put_many("model", entries(2))
    assert numbers(cache.get_many("model", list(entries(2)), 4)) == [0, 1]


def test_a_vector_with_a_flipped_bit_is_not_given_out(path: Path, open_cache: Open) -> None:
    fill(path, entries(50, dimension=16))
    content = bytearray(path.read_bytes())
    place = content.find(np.full(16, 7, dtype="<f4").tobytes())
    assert place > 0
    content[place + 9] ^= 1
    path.write_bytes(content)
    cache = open_cache()
    others = [number for number in range(50) if number != 7]
    assert numbers(cache.get_many("model", list(entries(50)), 16)) == others
    cache.put_many("model", entries(1, dimension=16, first=7))
    assert numbers(cache.get_many("model", list(entries(50)), 16)) == list(range(50))


@pytest.mark.parametrize("value", ["zeroblob(16)", "'text'", "7", "1.5", "randomblob(16)", "x''"])
@pytest.mark.parametrize("column", ["vector", "digest"])
def test_values_that_were_replaced_are_not_given_out(
    path: Path, open_cache: Open, column: str, value: str
) -> None:
    fill(path, entries(3))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE embeddings SET {column} = {value} WHERE entry = 2")
    assert numbers(open_cache().get_many("model", list(entries(3)), 4)) == [0, 2]


def test_vectors_that_changed_places_are_not_given_out(path: Path, open_cache: Open) -> None:
    fill(path, entries(3))
    with closing(sqlite3.connect(path)) as connection, connection:
        first, second = connection.execute(
            "SELECT vector, digest FROM embeddings ORDER BY entry LIMIT 2"
        ).fetchall()
        update = "UPDATE embeddings SET vector = ?, digest = ? WHERE entry = ?"
        connection.executemany(update, [(*second, 1), (*first, 2)])
    assert numbers(open_cache().get_many("model", list(entries(3)), 4)) == [2]


def test_whatever_is_damaged_nothing_false_is_given_out(tmp_path: Path) -> None:
    """Bytes anywhere in the file, its headers and its schema included."""
    sound = tmp_path / "sound.db"
    fill(sound, entries(60, dimension=16))
    content = sound.read_bytes()
    keys = list(entries(60))
    chance = random.Random(11)
    given_out = recovered = 0
    for number in range(300):
        damage = bytearray(content)
        for _ in range(chance.choice([1, 3, 50])):
            damage[chance.randrange(len(damage))] = chance.randrange(256)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damage)
        cache = DiskCache(path, PLENTY)
        given_out += len(numbers(cache.get_many("model", keys, 16)))
        cache.put_many("model", entries(60, dimension=16))
        recovered += numbers(cache.get_many("model", keys, 16)) == list(range(60))
        cache.close()
    assert given_out > 300 * 30, "most of the damage is small"
    assert recovered > 300 * 0.9, "the rest has lost the mark that says whose the file is"


# Files of others


@pytest.mark.parametrize("mark", [0, 0x434D454D], ids=["unmarked", "a store of memories"])
@pytest.mark.parametrize("table", ["embeddings (mine TEXT)", "notes (mine TEXT)"])
def test_the_database_of_another_application_is_left_alone(
    path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture, table: str, mark: int
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA application_id = {mark}")
        connection.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()
    cache = open_cache()
    for _ in range(2):
        cache.put_many("model", entries(2))
        assert cache.get_many("model", list(entries(2)), 4) == {}
    message = f"embedding cache {path} is not used: it is a database of another application"
    assert [record.getMessage() for record in caplog.records] == [message]
    cache.close()
    assert path.read_bytes() == before
    assert sorted(path.parent.glob("cache.db*")) == [path]


def test_a_damaged_database_of_another_application_is_left_alone(
    path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (mine TEXT)")
    content = bytearray(path.read_bytes())
    content[18:24] = b"\xff" * 6  # versions of the format that no SQLite reads
    path.write_bytes(content)
    open_cache().put_many("model", entries(2))
    assert "is not used: file is not a database" in caplog.text
    assert path.read_bytes() == content


def test_the_file_says_whose_it_is(path: Path) -> None:
    fill(path, entries(1))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


# Places that cannot be written


@pytest.mark.parametrize("kind", ["the path is a folder", "a file is where the folder should be"])
def test_a_place_that_cannot_be_used_costs_only_the_cache(
    kind: str, tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "the path is a folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text("content")
        path = tmp_path / "file" / "cache.db"
    with CachedEmbeddingProvider(
        WordLengthProvider(), memory_bytes=0, disk=DiskCache(path, PLENTY)
    ) as provider:
        for _ in range(3):
            expected = WordLengthProvider().encode("one two")
            assert np.array_equal(provider.encode("one two"), expected)
        assert provider.statistics.misses == 3
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith(f"embedding cache {path} is not used: ")
    assert path.is_dir() or (tmp_path / "file").read_text() == "content"


def test_a_missing_folder_is_made(tmp_path: Path, open_cache: Open) -> None:
    open_cache(at=tmp_path / "a" / "b" / "cache.db").put_many("model", entries(1))
    assert (tmp_path / "a" / "b" / "cache.db").is_file()


FILLER = """
import json, logging, resource, sys
from pathlib import Path
import numpy as np
from cognitive_memory.encoding.disk_cache import DiskCache

def entries(numbers):
    return {n.to_bytes(4, "big"): np.full(384, n, dtype=np.float32) for n in numbers}

messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger().addHandler(handler)
cache = DiskCache(Path(sys.argv[1]), 10_000_000)
cache.put_many("model", entries(range(5)))
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
for start in range(5, 2000, 300):
    cache.put_many("model", entries(range(start, start + 300)))
found = cache.get_many("model", list(entries(range(2000))), 384)
sound = all(set(v.tolist()) == {int.from_bytes(k, "big")} for k, v in found.items())
early = sum(int.from_bytes(k, "big") < 5 for k in found)
cache.close()
print(json.dumps({"messages": messages, "early": early, "sound": sound, "found": len(found)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of its own")
def test_on_a_full_disk_it_is_only_read(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounting = 'mount -t tmpfs -o size=600k none "$1" && exec "$2" -c "$3" "$1/cache.db"'
    if shutil.which("unshare") is None or run_in_namespace("true").returncode:
        pytest.skip("no mount namespaces here")
    result = run_in_namespace(mounting, str(place), sys.executable, FILLER)
    assert result.stderr == ""
    outcome = json.loads(result.stdout)
    message = f"embedding cache {place}/cache.db is only read from now on: database or disk is full"
    assert outcome["messages"] == [message]
    assert (outcome["early"], outcome["sound"]) == (5, True)
    assert 5 <= outcome["found"] < 400


def run_in_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_write_that_fails_midway_leaves_nothing_half_written(
    path: Path, open_cache: Open
) -> None:
    result = run(FILLER, path, 300_000)
    assert result.stderr == ""
    outcome = json.loads(result.stdout)
    assert len(outcome["messages"]) == 1
    assert outcome["messages"][0].startswith(f"embedding cache {path} is ")
    assert outcome["sound"]
    found = numbers(open_cache().get_many("model", list(entries(2000)), 384))
    assert found[:5] == [0, 1, 2, 3, 4]
    # Each transaction as a whole or not at all.
    assert (len(found) - 5) % 300 % ROWS_AT_ONCE == 0


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything"
)
def test_a_folder_that_may_not_be_written_costs_only_the_cache(
    tmp_path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    cache = open_cache(at=tmp_path / "locked" / "cache.db")
    for _ in range(2):
        cache.put_many("model", entries(2))
        assert cache.get_many("model", list(entries(2)), 4) == {}
    assert caplog.text.count("is not used: unable to open database file") == 1


def test_a_file_that_may_not_be_written_is_read(
    path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    fill(path, entries(2))
    # What permissions do to others, this does to root, too: the connection may not write.
    cache = open_cache()
    assert numbers(cache.get_many("model", list(entries(2)), 4)) == [0, 1]
    assert cache._connection is not None
    cache._connection.execute("PRAGMA query_only = ON")
    for first in (2, 4):
        cache.put_many("model", entries(2, first=first))
        assert numbers(cache.get_many("model", list(entries(6)), 4)) == [0, 1]
    message = (
        f"embedding cache {path} is only read from now on: attempt to write a readonly database"
    )
    assert [record.getMessage() for record in caplog.records] == [message]


def test_a_file_that_another_holds_is_waited_for_and_then_done_without(
    path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    fill(path, entries(2))
    cache = open_cache()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        cache.put_many("model", entries(2, first=2))
        assert numbers(cache.get_many("model", list(entries(4)), 4)) == [0, 1]
        other.execute("ROLLBACK")
    assert caplog.records == [], "nothing is wrong with the file"
    cache.put_many("model", entries(2, first=2))
    assert numbers(cache.get_many("model", list(entries(4)), 4)) == [0, 1, 2, 3]


# The end, and forks


def test_a_closed_cache_holds_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(path, entries(2))
    cache = DiskCache(path, PLENTY)
    cache.put_many("model", entries(2))
    cache.close()
    cache.close()
    cache.put_many("model", entries(4))
    assert cache.get_many("model", list(entries(4)), 4) == {}
    assert caplog.records == []
    assert not path.with_name("cache.db-wal").exists()


def test_nothing_is_made_before_the_first_use(path: Path) -> None:
    DiskCache(path, PLENTY).close()
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_both_sides_of_a_fork_use_it(path: Path, open_cache: Open) -> None:
    """In a process of its own, which forks while its threads write."""
    result = run(FORKER, path)
    assert (result.stdout, result.stderr, result.returncode) == ("all well\n", "", 0)
    found = numbers(open_cache().get_many("model", list(entries(4000)), 4))
    assert set(found) >= {1000, 1001, 1002, 1003, 2000, 2001, 2002, 2003}


FORKER = """
import os, signal, sys, threading, warnings
from pathlib import Path
import numpy as np
from cognitive_memory.encoding.disk_cache import DiskCache

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

def entries(first, count):
    numbers = range(first, first + count)
    return {number.to_bytes(4, "big"): np.full(4, number, dtype=np.float32) for number in numbers}

cache = DiskCache(Path(sys.argv[1]), 10_000_000)
cache.put_many("model", entries(0, 10))
stop = threading.Event()

def write():
    while not stop.is_set():
        cache.put_many("model", entries(0, 100))

threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
signal.alarm(40)
for turn in range(4):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        cache.put_many("model", entries(1000 + turn, 1))
        sound = len(cache.get_many("model", list(entries(0, 10)), 4)) == 10
        cache.close()
        os._exit(0 if sound else 3)
    cache.put_many("model", entries(2000 + turn, 1))
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
cache.close()
print("all well")
"""


def test_threads_that_use_it_while_it_is_closed(path: Path, open_cache: Open) -> None:
    cache = open_cache()
    begun = threading.Barrier(5)

    def work(first: int) -> None:
        begun.wait()
        for number in range(first, first + 30):
            cache.put_many("model", entries(1, first=number))
            numbers(cache.get_many("model", list(entries(200)), 4))

    with ThreadPoolExecutor(4) as threads:
        results = threads.map(work, range(0, 120, 30))
        begun.wait()
        cache.close()
        list(results)
    numbers(open_cache().get_many("model", list(entries(200)), 4))


def test_faults_of_the_file_are_warnings_of_this_module(
    path: Path, open_cache: Open, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"noise" * 1000)
    open_cache().put_many("model", entries(1))
    [record] = caplog.records
    assert (record.name, record.levelno) == (DiskCache.__module__, logging.WARNING)
