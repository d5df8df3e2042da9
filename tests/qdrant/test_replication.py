"""SQLite is the record and Qdrant follows: what is written is found at once, and arrives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_server import Server
from replicas import FINGERPRINT, OpenPair, Pair, W, X, Y, Z, opened_pairs
from server_fixtures import empty_server, running_server

from cognitive_memory.core.errors import (
    DimensionMismatchError,
    FingerprintMismatchError,
    InvalidInputError,
    StorageError,
    StoreReadOnlyError,
)
from cognitive_memory.core.memory import MemoryFilter, MemoryType, VectorHit
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.maintenance import back_up, restore, vacuum
from cognitive_memory.storage.replicated_vectors import MAX_WAITING
from cognitive_memory.storage.replication import BATCH, Replication
from cognitive_memory.storage.sqlite_replacement import SQLiteEmbeddingReplacement
from cognitive_memory.testing import make_memory, unit
from cognitive_memory.testing.examples import NOON

running, server = running_server, empty_server


@pytest.fixture
def open_pair(tmp_path: Path, server: Server) -> Iterator[OpenPair]:
    with opened_pairs(tmp_path, server.url, timeout_seconds=60) as open_pair:
        yield open_pair


@pytest.fixture
def pair(open_pair: OpenPair) -> Pair:
    """A store whose outbox is applied when a test says so; ``first`` is applied."""
    pair = open_pair()
    pair.put(first=W)
    pair.drain()
    return pair


WRITES = ("/points/batch", "/points/delete", "/aliases")


def writes(server: Server) -> int:
    """How many changes the server was told."""
    return sum(map(server.asked, WRITES))


def queries(server: Server) -> int:
    """How many searches the server was asked."""
    return server.asked("/points/query/batch")


def apply(pair: Pair) -> None:
    """As the thread does, with a pause after a failure."""
    for _ in range(2):
        pair.apply()
        pair.pause()


# What is written is found, before and after the replica knows it


def test_what_was_stored_is_found_before_and_after_it_is_applied(
    pair: Pair, server: Server
) -> None:
    pair.put(a=X, b=unit(1, 1, 0, 0))
    assert pair.pending() == ["a", "b"]
    assert pair.found() == ["a", "b", "first"]
    pair.drain()
    assert pair.pending() == []
    before = queries(server)
    assert pair.found() == ["a", "b", "first"]
    assert queries(server) == before + 1
    pair.assert_equal()


def test_a_change_is_found_as_it_is_now_while_the_replica_has_it_as_it_was(pair: Pair) -> None:
    pair.put(a=X, b=unit(1, 1, 1, 1))
    pair.drain()
    pair.put(a=Z)
    assert pair.vectors.search_similar(X, 1) == [VectorHit("b", 0.5, 0)]
    assert pair.vectors.search_similar(Z, 1) == [VectorHit("a", 1.0, 0)]
    pair.drain()
    assert pair.vectors.search_similar(Z, 1) == [VectorHit("a", 1.0, 0)]
    pair.assert_equal()


def test_what_was_deleted_is_not_found_while_the_replica_has_it(pair: Pair) -> None:
    pair.put(a=X, b=Y)
    pair.drain()
    pair.drop("a")
    assert "a" not in pair.found()
    assert pair.pending() == ["a"]
    pair.drain()
    assert list(pair.replica.get_vectors(["a", "b"])) == ["b"]
    pair.assert_equal()


def test_scores_are_those_of_the_record_however_the_server_rounds(
    pair: Pair, server: Server
) -> None:
    rows = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    pair.put(**{f"m{n:02}": unit(*row) for n, row in enumerate(rows)})
    pair.drain()
    server.rounding = 4e-7
    hits = pair.record.search_similar(X, 31)
    assert pair.vectors.search_similar(X, 31) == hits
    for hit in hits:
        assert hit in pair.vectors.search_similar(X, 31, min_score=hit.score)
    assert server.rounding
    assert queries(server) == 32


def test_fewer_chunks_than_before(pair: Pair) -> None:
    pair.put(a=np.stack([X, Y, Z]))
    pair.drain()
    pair.put(a=np.stack([Y, W]))
    assert pair.vectors.search_similar(W, 1) == [VectorHit("a", 1.0, 1)]
    pair.drain()
    assert pair.replica.count() == 1 + 2
    pair.assert_equal()


@pytest.mark.parametrize(
    "change",
    [
        {"tags": ("new", "other")},
        {"tags": ()},
        {"hierarchy_level": 0},
        {"memory_type": MemoryType.SEMANTIC},
        {"source_path": "/elsewhere.md"},
        {"source_path": None},
        {"created_date": NOON.replace(year=2020)},
    ],
    ids=str,
)
def test_a_change_that_embeds_nothing_reaches_the_replica(
    pair: Pair, change: dict[str, object]
) -> None:
    before = make_memory("a", tags=("old",), source_path="/notes.md")
    after = replace(before, **change)  # type: ignore[arg-type]
    pair.put_memories([before], [X])
    pair.drain()
    pair.memories.save_memories([after])
    assert pair.pending() == ["a"]
    assert pair.difference().outdated == ["a"]
    filters = MemoryFilter(
        tags=after.tags or None,
        hierarchy_levels=(after.hierarchy_level,),
        memory_types=(after.memory_type,),
        source_path=after.source_path,
        created_until=after.created_date.replace(year=after.created_date.year + 1),
    )
    old = MemoryFilter(
        memory_ids=("a",),
        tags=("old",),
        hierarchy_levels=(2,),
        memory_types=("episodic",),
        source_path="/notes.md",
        created_from=NOON,
    )
    for _ in range(2):
        assert "a" in pair.found(filters=filters)
        assert pair.found(filters=old) == []
        pair.drain()
    pair.assert_equal()


def test_counting_accesses_sends_nothing(pair: Pair, server: Server) -> None:
    told = writes(server)
    pair.memories.record_access(["first"], NOON)
    assert pair.memories.get_memories(["first"])[0].access_count == 1
    assert pair.pending() == []
    assert not pair.replication.attempt()
    pair.drain()
    assert writes(server) == told


def test_connections_send_nothing(pair: Pair) -> None:
    from cognitive_memory.core.memory import MemoryConnection

    pair.memories.add_connections([MemoryConnection("first", "first")])
    assert pair.pending() == []


def test_what_a_failed_transaction_wrote_does_not_wait(pair: Pair) -> None:
    def fail() -> None:
        with pair.memories.transaction():
            pair.put(a=X)
            assert pair.found() == ["a", "first"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pair.pending() == []
    assert pair.found() == ["first"]


def test_within_a_transaction_the_server_is_not_asked(pair: Pair, server: Server) -> None:
    with pair.memories.transaction():
        pair.put(a=X)
        asked = len(server.requests)
        assert pair.found() == ["a", "first"]
        assert len(server.requests) == asked


def test_many_changes_of_a_memory_are_one(pair: Pair) -> None:
    for _ in range(3):
        pair.put(a=X)
        pair.put(b=Y)
    pair.put(a=Z)
    assert pair.pending() == ["b", "a"]
    pair.drop("a")
    assert pair.pending() == ["b", "a"]
    pair.drain()
    pair.assert_equal()


def test_a_memory_that_changes_while_it_is_sent_waits_again(
    pair: Pair, open_pair: OpenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_pair()
    send = pair.replica.store_vectors

    def sent_late(*given: object) -> None:
        monkeypatch.undo()
        other.put(a=Z)
        send(*given)  # type: ignore[arg-type]

    pair.put(a=X)
    monkeypatch.setattr(pair.replica, "store_vectors", sent_late)
    assert pair.replication.attempt()
    assert pair.difference().outdated == ["a"]
    assert pair.pending() == ["a"]
    assert pair.found(Z)[0] == "a"
    pair.drain()
    pair.assert_equal()


def test_more_than_one_batch(pair: Pair) -> None:
    rows = np.random.default_rng(1).normal(size=(2 * BATCH + 1, 4)).astype(np.float32)
    pair.put(**{f"m{n}": unit(*row) for n, row in enumerate(rows)})
    pair.drain()
    pair.assert_equal()
    assert pair.replica.count() == len(rows) + 1


# Bad input


@pytest.mark.parametrize("answers", ["the replica", "the record"])
@pytest.mark.parametrize(
    ("query", "error"),
    [
        (np.ones(3, dtype=np.float32), DimensionMismatchError),
        (np.array([np.nan, 0, 0, 0], dtype=np.float32), InvalidInputError),
        (np.array([np.inf, 0, 0, 0], dtype=np.float32), InvalidInputError),
        (np.zeros(4, dtype=np.float32), InvalidInputError),
        (np.float32(1), (DimensionMismatchError, InvalidInputError, IndexError)),
    ],
)
def test_a_bad_query_is_refused_as_the_record_refuses_it(
    pair: Pair, query: np.ndarray, error: type[Exception], answers: str, server: Server
) -> None:
    with pytest.raises(error) as expected:
        pair.record.search_similar(query, 3)
    if answers == "the record":
        pair.replication.report_failure(StorageError("it is away"))
    asked = len(server.requests)
    with pytest.raises(type(expected.value)) as caught:
        pair.vectors.search_similar(query, 3)
    assert str(caught.value) == str(expected.value)
    assert len(server.requests) == asked


@pytest.mark.parametrize("k", [0, -1])
def test_nothing_asked_for_is_nothing_found(pair: Pair, k: int) -> None:
    pair.put(a=X)
    assert pair.found(k=k) == []


def test_an_empty_store_asks_nobody_and_is_not_degraded(
    open_pair: OpenPair, server: Server
) -> None:
    pair = open_pair()
    assert pair.found() == []
    assert pair.vectors.notices() == []
    assert not pair.replication.attempt()
    assert pair.vectors.reconcile(repair=True).compared == 0
    assert server.requests == []


# Beginning, and beginning anew


def test_a_store_that_was_there_before_is_sent_and_the_record_answers_until_then(
    open_pair: OpenPair, server: Server
) -> None:
    pair = open_pair()
    pair.record.bind_embedding(FINGERPRINT, 4)
    names = [f"m{n}" for n in range(2 * BATCH)]
    memories = [make_memory(name) for name in names]
    pair.memories.save_memories(memories)
    pair.record.store_vectors(memories, [X[None]] * len(names))
    assert pair.pending() == []
    steps = 0
    while True:
        assert pair.found(k=len(names)) == sorted(names)
        assert queries(server) == 0
        (notice,) = pair.vectors.notices()
        assert notice.startswith("degraded: the derived index is ")
        if not pair.replication.attempt():
            break
        steps += 1
    assert steps == 3
    assert pair.vectors.notices() == []
    assert pair.found(k=len(names)) == sorted(names)
    assert queries(server) == 1
    pair.assert_equal()


def test_with_too_many_changes_the_record_answers(pair: Pair, server: Server) -> None:
    names = [f"m{n:04}" for n in range(MAX_WAITING)]
    pair.put(**dict.fromkeys(names, X))
    assert pair.found(k=3) == names[:3]
    asked = queries(server)
    assert asked == 1
    pair.put(one=X)
    assert pair.found(k=3) == names[:3]
    assert queries(server) == asked
    assert pair.vectors.notices() == [
        "degraded: the derived index is far behind; the embedded index answers, 1001 changes wait"
    ]


def test_stores_that_share_a_project_leave_each_other_alone(open_pair: OpenPair) -> None:
    one, other = open_pair("one.db"), open_pair("other.db")
    one.put(a=X)
    one.drain()
    other.put(a=Y, b=X)
    other.drain()
    assert one.found() == ["a"]
    one.assert_equal()
    other.assert_equal()


def test_a_store_that_moves_to_another_place_is_sent_and_what_was_there_is_deleted(
    open_pair: OpenPair,
) -> None:
    first = open_pair()
    first.put(a=X, b=Y)
    first.drain()
    elsewhere = open_pair(options={"collection": "elsewhere"})
    elsewhere.put(c=Z)
    elsewhere.drop("a")
    assert elsewhere.found() == ["b", "c"]
    elsewhere.drain()
    elsewhere.assert_equal()
    assert elsewhere.found() == ["b", "c"]
    # Back again: what had been sent there is of yesterday.
    assert first.found() == ["b", "c"]
    first.drain()
    first.assert_equal()
    assert first.replica.count() == 2


def test_two_processes_that_disagree_about_the_place_answer_rightly(open_pair: OpenPair) -> None:
    here = open_pair()
    there = open_pair(options={"collection": "elsewhere"})
    for number in range(3):
        here.put(**{f"h{number}": X})
        here.drain()
        there.put(**{f"t{number}": X})
        assert here.found() == there.found()
        there.drain()
        assert here.found() == there.found()
    there.assert_equal()


def test_a_restored_backup_is_sent_and_what_came_after_it_is_deleted(
    pair: Pair, tmp_path: Path, server: Server
) -> None:
    pair.put(a=X, b=Y)
    pair.drain()
    back_up(pair.database, tmp_path / "backup.db")
    pair.put(a=Z, c=X)
    pair.drop("b")
    pair.drain()
    asked = queries(server)
    restore(pair.database, tmp_path / "backup.db")
    assert pair.found() == ["a", "b", "first"]
    assert queries(server) == asked
    pair.drain()
    assert pair.found() == ["a", "b", "first"]
    assert queries(server) == asked + 1
    pair.assert_equal()


def test_a_backup_of_an_emptied_store_empties_the_replica(pair: Pair, tmp_path: Path) -> None:
    pair.drop("first")
    back_up(pair.database, tmp_path / "backup.db")
    pair.put(a=X)
    pair.drain()
    restore(pair.database, tmp_path / "backup.db")
    assert pair.found() == []
    pair.drain()
    assert pair.found() == []
    assert pair.replica.count() == 0


def test_a_store_that_takes_in_the_backup_of_another_leaves_it_alone(
    open_pair: OpenPair, tmp_path: Path
) -> None:
    one, other = open_pair("one.db"), open_pair("other.db")
    one.put(a=X)
    one.drain()
    back_up(one.database, tmp_path / "backup.db")
    restore(other.database, tmp_path / "backup.db")
    other.vectors.close()
    other = open_pair("other.db")
    other.drain()
    other.drop("a")
    other.drain()
    assert other.found() == []
    one.assert_equal()
    assert one.found() == ["a"]


def test_vacuum_sends_nothing(pair: Pair, server: Server) -> None:
    told = writes(server)
    vacuum(pair.database)
    pair.drain()
    assert writes(server) == told
    pair.assert_equal()


# Another embedding


def serve(pair: Pair, fingerprint: str, dimension: int) -> None:
    """As ``reembed`` does: all vectors are made beside the others, then put in their place."""
    replacement = SQLiteEmbeddingReplacement(pair.database)
    replacement.begin(fingerprint, dimension)
    while not replacement.serve(fingerprint):
        missing = replacement.find_missing(fingerprint, 100)
        rows = [np.eye(1, dimension, n % dimension, dtype=np.float32) for n in range(len(missing))]
        replacement.add_vectors(fingerprint, missing, rows)


@pytest.mark.parametrize("dimension", [4, 6])
def test_another_embedding_is_searched_in_the_record_until_all_of_it_is_sent(
    pair: Pair, server: Server, dimension: int
) -> None:
    pair.put(a=X, b=Y)
    pair.drain()
    old = pair.replica._held()
    assert old is not None
    replacement = SQLiteEmbeddingReplacement(pair.database)
    replacement.begin("new/n", dimension)
    memory = pair.memories.get_memories(["b"])
    replacement.add_vectors("new/n", memory, [np.eye(1, dimension, dtype=np.float32)])
    assert pair.pending() == []
    asked = queries(server)
    assert pair.found() == ["a", "b", "first"]  # before
    assert queries(server) == asked + 1
    serve(pair, "new/n", dimension)
    query = np.eye(1, dimension, dtype=np.float32)[0]
    expected = pair.record.search_similar(query, 10)
    assert pair.vectors.search_similar(query, 10) == expected  # during
    assert queries(server) == asked + 1
    assert old.count() == 3
    pair.drain()
    assert pair.vectors.search_similar(query, 10) == expected  # after
    assert queries(server) == asked + 2
    assert server.physical(f"memories@p-{pair.outbox.store_id()}") != old._required().collection
    # The vectors of before would not be kept up to date: none are left.
    assert old.count() == 0
    pair.assert_equal()


def test_going_back_to_the_embedding_of_before_sends_it_again(pair: Pair) -> None:
    pair.put(a=X, b=Y)
    pair.drain()
    serve(pair, "new/4", 4)
    pair.drain()
    assert SQLiteEmbeddingReplacement(pair.database).serve(FINGERPRINT)
    assert pair.found() == ["a", "b", "first"]
    pair.drain()
    assert pair.found() == ["a", "b", "first"]
    pair.assert_equal()


@pytest.mark.parametrize("dimension", [4, 6])
def test_an_embedding_that_is_replaced_amid_a_search_is_not_mixed_with_the_old_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, dimension: int
) -> None:
    pair.put(a=X, b=Y, c=unit(3, 4, 0, 0))
    pair.drain()
    search = pair.replica.search_similar_batch

    def searched_late(*given: object) -> object:
        monkeypatch.undo()
        found = search(*given)  # type: ignore[arg-type]
        serve(pair, "new/n", dimension)
        return found

    monkeypatch.setattr(pair.replica, "search_similar_batch", searched_late)
    if dimension == 4:
        hits = pair.vectors.search_similar(Z, 1)
        assert hits == pair.record.search_similar(Z, 1)
        assert hits[0].score == 1
    else:
        with pytest.raises(DimensionMismatchError):
            pair.vectors.search_similar(X, 1)


def test_the_vectors_of_another_embedding_are_refused(pair: Pair) -> None:
    with pytest.raises(FingerprintMismatchError):
        pair.vectors.bind_embedding("other/4", 4)
    with pytest.raises(FingerprintMismatchError):
        pair.vectors.check_embedding("other/4")


# A server that lost its data


def test_a_server_that_comes_back_empty_is_told_all_of_it_again(pair: Pair, server: Server) -> None:
    pair.put(a=X, b=Y)
    pair.drain()
    server.lose_everything()
    assert pair.found() == ["a", "b", "first"]
    (notice,) = pair.vectors.notices()
    assert notice.startswith("degraded: Qdrant at ")
    apply(pair)
    assert pair.vectors.notices() == []
    asked = queries(server)
    assert pair.found() == ["a", "b", "first"]
    assert queries(server) == asked + 1
    pair.assert_equal()


def test_what_is_written_to_a_server_that_lost_the_rest_brings_the_rest_back(
    pair: Pair, server: Server, open_pair: OpenPair
) -> None:
    pair.put(a=X)
    pair.drain()
    for writer in (pair, open_pair()):  # one that knows the collection, and one that begins
        server.lose_everything()
        writer.put(b=Y)
        apply(writer)
        assert writer.vectors.notices() == []
        writer.assert_equal()
        assert writer.found() == ["a", "b", "first"]


def test_a_collection_that_another_project_made_anew_is_not_taken_for_ours(
    pair: Pair, server: Server, open_pair: OpenPair
) -> None:
    pair.put(a=X)
    pair.drain()
    server.lose_everything()
    other = open_pair("other.db")
    other.put(z=X)
    other.drain()
    pair.put(b=Y)
    apply(pair)  # It is taken: the collection is there.
    assert pair.pending() == []
    assert pair.found() == ["a", "b", "first"]
    assert pair.vectors.notices() != []
    apply(pair)
    assert pair.vectors.notices() == []
    pair.assert_equal()
    assert other.found() == ["z"]


# Threads, processes, rights


def test_many_threads_search_while_others_write(open_pair: OpenPair, server: Server) -> None:
    pair = open_pair(kind=Replication)
    pair.put(**{f"kept{n}": X for n in range(5)})

    def write(name: str) -> None:
        for number in range(15):
            pair.put(**{f"{name}{number}": unit(1, 1, 0, 0)})
            if number % 3:
                pair.drop(f"{name}{number}")

    def look(_: int) -> None:
        for _ in range(10):
            found = pair.found(k=200)
            assert found[:5] == [f"kept{n}" for n in range(5)]
            assert len(set(found)) == len(found)

    with ThreadPoolExecutor(10) as pool:
        writers = [pool.submit(write, name) for name in "wv"]
        for done in [*pool.map(look, range(8))]:
            assert done is None
        for writer in writers:
            writer.result()
    assert pair.vectors.reconcile(repair=True).compared == 5 + 2 * 5
    pair.assert_equal()


def test_a_store_that_cannot_be_written_is_searched_in_the_replica(
    pair: Pair, open_pair: OpenPair, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.put(a=X)
    pair.drain()
    pair.put(b=Y)
    writable = Database.__init__

    def read_only(self: Database, path: Path, *given: object, **named: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("os.access", lambda _, mode: mode == 0)
            writable(self, path, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "__init__", read_only)
    reader = open_pair(kind=Replication)
    assert reader.database.read_only
    asked = queries(server)
    assert reader.found() == ["a", "b", "first"]
    assert queries(server) == asked + 1
    assert reader.pending() == ["b"]
    with pytest.raises(StoreReadOnlyError):
        reader.put(c=X)


def test_the_last_handle_may_close_while_nothing_was_ever_applied(open_pair: OpenPair) -> None:
    pair = open_pair()
    pair.put(a=X)
    pair.vectors.close()
    pair.vectors.close()
    assert open_pair().vectors.get_statistics()["replica"]["pending"] == 1


def test_changes_and_faults_are_told_in_the_statistics(pair: Pair) -> None:
    pair.put(a=X)
    told = {"target": pair.replication.target, "pending": 1, "fault": None}
    assert pair.vectors.get_statistics() == {"replica": told}


def test_the_fault_of_one_process_is_told_in_another_until_one_succeeds(
    pair: Pair, open_pair: OpenPair, server: Server
) -> None:
    other = open_pair()
    pair.put(a=X)
    server.status = 503
    assert not pair.replication.attempt()
    server.status = 200
    fault = pair.vectors.get_statistics()["replica"]["fault"]
    assert "answers 503" in fault
    assert other.vectors.get_statistics()["replica"]["fault"] == fault
    assert other.vectors.notices() == []
    assert other.replication.attempt()
    other.put(b=Y)
    assert other.vectors.get_statistics()["replica"]["fault"] is None


def test_nothing_is_logged_while_all_is_well(
    open_pair: OpenPair, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "cognitive_memory"):
        pair = open_pair(kind=Replication)
        pair.put(a=X)
        pair.found()
        pair.vectors.close()
    assert caplog.records == []
