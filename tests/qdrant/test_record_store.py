"""What only a record in Qdrant has to promise: whole memories, on a server without transactions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_server import Server
from record_handles import FINGERPRINT, W, X, Y, Z, bound, opened, requests_of
from server_fixtures import empty_server, running_server
from tcp_proxy import PASS, Fault, Proxy

from cognitive_memory.core.errors import (
    FingerprintMismatchError,
    StorageError,
    StoreUnavailableError,
)
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    VectorHit,
)
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.qdrant_record_payload import record_indexes
from cognitive_memory.storage.qdrant_words import Stemmer
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.testing import FILTER_CASES, FILTERED_MEMORIES, make_memory, unit

running, server = running_server, empty_server


def ids(memories: list[CognitiveMemory]) -> list[str]:
    return [memory.id for memory in memories]


# One write for a memory


def test_a_memory_and_all_its_vectors_are_one_operation(server: Server) -> None:
    handle = bound(server.url)
    requests_of(server)
    server.bodies.clear()
    handle.put(make_memory("a", tags=("red",)), X, Y, Z)
    (body,) = [body for body in server.bodies if hasattr(body, "operations")]
    (operation,) = body.operations
    points = operation.upsert.points
    assert [point.payload["chunk"] for point in points] == [0, 1, 2]
    assert [point.payload.get("content") for point in points] == ["text of a", None, None]
    assert requests_of(server).count("batch") == 1


def test_a_transaction_sends_nothing_before_its_end(server: Server) -> None:
    handle, other = bound(server.url), bound(server.url)
    with handle.record.transaction():
        handle.put(make_memory("a"), X)
        handle.put(make_memory("b"), Y)
        handle.record.add_connections([MemoryConnection("a", "b")])
        assert other.record.find_memories() == []
        assert other.vectors.search_similar(X, 10) == []
        assert other.record.search_text("text", 10) == []
    assert ids(other.record.find_memories()) == ["a", "b"]
    assert other.record.get_connections(["b"]) == [MemoryConnection("a", "b")]
    assert len(other.vectors.search_similar(X, 10)) == 2


def test_a_large_transaction_goes_in_requests_of_the_batch_size(server: Server) -> None:
    handle = bound(server.url, batch_size=3)
    with handle.record.transaction():
        for number in range(4):
            handle.put(make_memory(f"{number}"), X, Y)
        handle.put(make_memory("many"), X, Y, Z, W)
    sizes = [
        len(body.operations[0].upsert.points)
        for body in server.bodies
        if hasattr(body, "operations")
    ]
    assert sizes == [2, 2, 2, 2, 4]  # a memory is never divided
    assert handle.vectors.count() == 12


def test_a_request_holds_no_more_text_than_a_server_takes(server: Server) -> None:
    handle = bound(server.url)
    with handle.record.transaction():
        for number in range(3):
            handle.put(make_memory(f"{number}", "x" * 1_500_000), X)
    assert sum(hasattr(body, "operations") for body in server.bodies) == 3
    assert len(handle.record.find_memories()) == 3


def test_a_memory_without_vectors_is_kept_and_not_found_by_them() -> None:
    handle = bound()
    handle.put(make_memory("bare"))
    handle.put(make_memory("a"), X)
    assert ids(handle.record.find_memories()) == ["a", "bare"]
    assert [hit.memory_id for hit in handle.vectors.search_similar(X, 10)] == ["a"]
    assert list(handle.vectors.get_vectors(["a", "bare"])) == ["a"]
    assert handle.vectors.count() == 1
    assert handle.record.check_integrity() == ["1 memories lack vectors; load or store them again"]


def test_another_text_drops_the_vectors_of_the_one_before() -> None:
    handle = bound()
    handle.put(make_memory("a"), X, Y)
    handle.record.save_memories([make_memory("a", "another")])
    assert handle.vectors.get_vectors(["a"]) == {}
    assert handle.states() == {("a", 0, 0)}


def test_the_same_text_keeps_them_and_every_chunk_gets_the_new_fields() -> None:
    handle = bound()
    handle.put(make_memory("a", tags=("red",), source_path="/a"), X, Y)
    handle.record.save_memories([make_memory("a", tags=("blue",), importance_score=0.5)])
    assert handle.vectors.search_similar(Y, 1, MemoryFilter(tags=("red",))) == []
    for filters in (MemoryFilter(tags=("blue",)), None):
        assert handle.vectors.search_similar(Y, 1, filters) == [VectorHit("a", 1.0, 1)]
    assert handle.vectors.search_similar(Y, 1, MemoryFilter(source_path="/a")) == []
    (memory,) = handle.record.get_memories(["a"])
    assert memory == make_memory("a", tags=("blue",), importance_score=0.5)


def test_vectors_of_an_unknown_memory_are_refused() -> None:
    handle = bound()
    handle.record.save_memories([make_memory("a")])
    with pytest.raises(StorageError, match="'b' is not stored; save it before its vectors"):
        handle.vectors.store_vectors([make_memory("a"), make_memory("b")], [X[None], X[None]])
    assert handle.vectors.count() == 0


def test_deleting_a_memory_takes_all_that_hangs_on_it() -> None:
    handle = bound()
    for name, rows in {"a": [X], "b": [Y, X], "c": [X]}.items():
        handle.put(make_memory(name), *rows)
    edge = MemoryConnection("a", "c")
    handle.record.add_connections([MemoryConnection("a", "b"), MemoryConnection("b", "c"), edge])
    assert handle.record.delete_memories(["b", "unknown"]) == 1
    assert [hit.memory_id for hit in handle.vectors.search_similar(X, 10)] == ["a", "c"]
    assert handle.record.get_connections(["a", "b", "c"]) == [edge]
    assert [hit.memory_id for hit in handle.record.search_text("text", 10)] == ["a", "c"]
    assert handle.states() == {("a", 0, 1), ("c", 0, 1)}
    assert handle.record.get_statistics()["connections"] == 1
    assert handle.record.check_integrity() == []


def test_only_vectors_can_be_deleted() -> None:
    handle = bound()
    handle.put(make_memory("a"), X, Y)
    handle.record.add_connections([MemoryConnection("a", "a")])
    assert handle.vectors.delete_vectors(["a", "unknown"]) == 1
    assert handle.record.get_memories(["a"]) == [make_memory("a")]
    assert handle.record.get_connections(["a"]) == [MemoryConnection("a", "a")]


# What a transaction sees of itself


def test_reads_in_a_transaction_see_what_it_wrote() -> None:
    handle = bound()
    for name, row in {"kept": X, "changed": Y, "gone": Z}.items():
        handle.put(make_memory(name), row)
    handle.record.add_connections([MemoryConnection("kept", "gone")])
    with handle.record.transaction():
        handle.put(make_memory("new", "apples"), W)
        handle.record.save_memories([make_memory("changed", "oranges", tags=("red",))])
        handle.record.save_memories([make_memory("kept", tags=("red",))])
        handle.vectors.delete_vectors(["gone"])
        handle.record.delete_memories(["gone"])
        handle.record.add_connections([MemoryConnection("new", "kept")])
        assert ids(handle.record.find_memories()) == ["changed", "kept", "new"]
        assert ids(handle.record.find_memories(limit=2)) == ["changed", "kept"]
        red = MemoryFilter(tags=("red",))
        assert ids(handle.record.find_memories(red)) == ["changed", "kept"]
        assert [ids(each) for each in handle.record.iterate_memories(2)] == [
            ["changed", "kept"],
            ["new"],
        ]
        assert handle.record.get_connections(["kept"]) == [MemoryConnection("new", "kept")]
        assert handle.vectors.search_similar(W, 1) == [VectorHit("new", 1.0, 0)]
        assert handle.vectors.search_similar(X, 9, red) == [VectorHit("kept", 1.0, 0)]
        assert [hit.memory_id for hit in handle.vectors.search_similar(X, 9)] == ["kept", "new"]
        assert sorted(handle.vectors.get_vectors(["kept", "changed", "gone", "new"])) == [
            "kept",
            "new",
        ]
        assert [hit.memory_id for hit in handle.record.search_text("apples", 9)] == ["new"]
        assert [hit.memory_id for hit in handle.record.search_text("text", 9)] == ["kept"]
        assert [hit.memory_id for hit in handle.record.search_text("text", 9, red)] == ["kept"]
        handle.record.record_access(["new"], make_memory("x").last_accessed)
        assert handle.record.get_memories(["new"])[0].access_count == 1
    assert ids(handle.record.find_memories()) == ["changed", "kept", "new"]
    assert handle.vectors.search_similar(W, 1) == [VectorHit("new", 1.0, 0)]


def test_what_was_deleted_leaves_its_place_to_the_next() -> None:
    handle = bound()
    for name, row in {"a": X, "b": unit(2, 1, 0, 0), "c": Y}.items():
        handle.put(make_memory(name), row)
    with handle.record.transaction():
        handle.record.delete_memories(["a"])
        assert [hit.memory_id for hit in handle.vectors.search_similar(X, 1)] == ["b"]


@pytest.mark.parametrize("case", FILTER_CASES)
def test_filters_in_a_transaction_are_those_of_the_server(case: str) -> None:
    handle = bound()
    filters, expected = FILTER_CASES[case]
    with handle.record.transaction():
        handle.record.save_memories(FILTERED_MEMORIES)
        assert set(ids(handle.record.find_memories(filters))) == expected
        found = handle.record.search_text("shared", 10, filters)
        assert {hit.memory_id for hit in found} == expected


def test_a_failed_transaction_sends_nothing_at_all(server: Server) -> None:
    handle = bound(server.url)
    server.bodies.clear()

    def fail() -> None:
        with handle.record.transaction():
            handle.put(make_memory("a"), X)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(hasattr(body, "operations") for body in server.bodies)
    assert handle.record.find_memories() == []


def test_a_memory_deleted_and_saved_again_in_one_transaction_is_new() -> None:
    handle = bound()
    for name in "ab":
        handle.put(make_memory(name), X, Y)
    handle.record.add_connections([MemoryConnection("a", "b"), MemoryConnection("b", "a")])
    with handle.record.transaction():
        handle.record.delete_memories(["a"])
        handle.put(make_memory("a"), Z)
    assert handle.record.get_connections(["a", "b"]) == []
    assert handle.states() == {("a", 0, 1), ("b", 0, 2), ("b", 1, 2)}


def test_edges_that_are_there_are_not_written_again(server: Server) -> None:
    handle = bound(server.url)
    handle.record.save_memories([make_memory(name) for name in "abc"])
    edges = [MemoryConnection("a", "b", ConnectionType.ENTITY), MemoryConnection("b", "c")]
    handle.record.add_connections(edges)
    server.bodies.clear()
    handle.record.add_connections(edges)
    handle.record.replace_connections(["a"], edges[:1], [ConnectionType.ENTITY])
    assert not any(hasattr(body, "operations") for body in server.bodies)


# Several processes


def test_of_two_writers_of_one_memory_the_last_wins_whole() -> None:
    """Their operations may lie in any order; each sets in order what it finds afterwards."""
    first, second = make_memory("a", "first"), make_memory("a", "second")
    for order in ("A0 B0 B1 A1", "B0 A0 B1 A1", "A0 B0 A1 B1", "B0 A0 A1 B1"):
        handle = bound()
        handle.put(make_memory("a", "before"), X, Y, Z, W)
        plans = {"A": handle.planned(first, X, Y, Z), "B": handle.planned(second, W)}
        points = handle.project.required_points()
        for step in order.split():
            points.apply([plans[step[0]][int(step[1])]])
        points.remove(points.strays(points.first_points().model_copy(update={"must": None}))[0])
        (memory,) = handle.record.get_memories(["a"])
        expected = {"first": [X, Y, Z], "second": [W]}[memory.content]
        np.testing.assert_array_equal(handle.vectors.get_vectors(["a"])["a"], np.stack(expected))
        assert handle.record.check_integrity() == []
        assert handle.vectors.count() == len(expected)


def test_a_writer_removes_what_another_left_beside_its_text(server: Server) -> None:
    handle, other = bound(server.url), bound(server.url)
    handle.put(make_memory("a", "before"), X)
    with handle.record.transaction():
        handle.put(make_memory("a", "late"), W)
        other.put(make_memory("a", "early"), X, Y, Z)
    assert handle.record.get_memories(["a"]) == [make_memory("a", "late")]
    assert handle.states() == {("a", 0, 1)}


def test_what_a_text_had_beyond_its_successor_goes_in_the_same_request() -> None:
    handle = bound()
    handle.put(make_memory("a", "before"), X, Y, Z)
    handle.project.required_points().apply(handle.planned(make_memory("a", "after"), W))
    assert handle.states() == {("a", 0, 1)}


def test_a_change_of_fields_does_not_touch_a_text_that_is_no_more() -> None:
    handle = bound()
    handle.put(make_memory("a", "before"), X)
    plan = handle.planned(make_memory("a", "before", tags=("late",)))
    handle.put(make_memory("a", "after"), Y)
    handle.project.required_points().apply(plan)
    assert handle.record.get_memories(["a"]) == [make_memory("a", "after")]


def test_an_edge_to_a_memory_that_was_deleted_meanwhile_is_not_shown(server: Server) -> None:
    handle, other = bound(server.url), bound(server.url)
    handle.record.save_memories([make_memory("a"), make_memory("b")])
    with handle.record.transaction():
        handle.record.add_connections([MemoryConnection("a", "b")])
        other.record.delete_memories(["b"])
    assert handle.record.get_connections(["a"]) == []
    assert handle.record.get_connections(["b"]) == []


def test_points_beside_a_memory_are_named_and_removed() -> None:
    handle = bound()
    handle.put(make_memory("a"), X, Y)
    stale = handle.planned(make_memory("a", "stale"), X, Y, Z)[0]
    stale.upsert.points = stale.upsert.points[1:]
    handle.project.required_points().apply([stale])
    assert handle.record.check_integrity() == [
        "vectors of 1 texts belong to no memory; run 'cognitive-memory doctor --repair'",
        "1 memories lack vectors; load or store them again",
    ]
    handle.record.check_integrity(repair=True)
    assert handle.record.check_integrity() == ["1 memories lack vectors; load or store them again"]
    handle.put(make_memory("a"), X, Y)
    assert handle.record.check_integrity() == []


# Where it lies


def test_nothing_is_there_before_an_embedding_is_bound(server: Server) -> None:
    handle = opened(server.url)
    assert handle.record.find_memories() == []
    assert handle.record.get_memories(["a"]) == []
    assert handle.record.search_text("a", 1) == []
    assert handle.record.get_connections(["a"]) == []
    assert handle.record.delete_memories(["a"]) == 0
    assert handle.vectors.search_similar(X, 1) == []
    assert handle.vectors.delete_vectors(["a"]) == 0
    assert handle.vectors.count() == 0
    assert handle.record.get_statistics()["memories"] == 0
    assert handle.record.check_integrity() == []
    with handle.record.transaction():
        handle.record.replace_connections([], [])
    with pytest.raises(StorageError, match="no embedding is bound"):
        handle.record.save_memories([make_memory("a")])


def test_another_embedding_is_refused_as_long_as_there_are_memories(server: Server) -> None:
    handle = bound(server.url)
    handle.record.save_memories([make_memory("bare")])
    other = opened(server.url)
    calls: list[Callable[[], None]] = [
        lambda: other.vectors.check_embedding("other/8"),
        lambda: other.vectors.bind_embedding("other/8", 8),
    ]
    for call in calls:
        with pytest.raises(FingerprintMismatchError) as caught:
            call()
        assert f"memories embedded by {FINGERPRINT}" in str(caught.value)
        assert "COGNITIVE_MEMORY_QDRANT__PROJECT" in str(caught.value)
        assert "reembed" not in str(caught.value)
    handle.record.delete_memories(["bare"])
    other.vectors.bind_embedding("other/8", 8)
    other.record.save_memories([make_memory("a")])
    assert ids(opened(server.url).record.find_memories()) == ["a"]


def test_projects_do_not_see_each_other(server: Server) -> None:
    one, two = bound(server.url, project="one"), bound(server.url, project="two")
    one.put(make_memory("a", "apples"), X)
    one.record.add_connections([MemoryConnection("a", "a")])
    two.put(make_memory("a", "pears"), Y)
    assert ids(two.record.find_memories()) == ["a"]
    assert two.record.get_memories(["a"])[0].content == "pears"
    assert two.record.search_text("apples", 9) == []
    assert two.record.get_connections(["a"]) == []
    assert two.vectors.search_similar(X, 9) == [VectorHit("a", 0.0, 0)]
    assert two.record.delete_memories(["a"]) == 1
    assert one.record.get_memories(["a"])[0].content == "apples"
    assert two.record.get_statistics()["memories"] == 0


def test_what_is_filtered_by_is_indexed(server: Server) -> None:
    bound(server.url)
    bound(server.url)
    (indexed,) = server.indexes.values()
    assert record_indexes().keys() <= indexed.keys()


def test_a_folder_keeps_the_record(tmp_path: Path) -> None:
    handle = bound(path=str(tmp_path / "qdrant"))
    handle.put(make_memory("a", tags=("größe",)), X, Y)
    handle.record.add_connections([MemoryConnection("a", "a")])
    handle.record.close()
    handle.vectors.close()
    again = bound(path=str(tmp_path / "qdrant"))
    assert again.record.find_memories() == [make_memory("a", tags=("größe",))]
    assert again.record.get_connections(["a"]) == [MemoryConnection("a", "a")]
    assert again.vectors.count() == 2
    again.record.close()
    with pytest.raises(StorageError, match="closed; open another"):
        again.record.search_text("text", 1)


# Outages


def test_an_outage_is_never_an_empty_answer(server: Server) -> None:
    handle = bound(server.url)
    handle.put(make_memory("a"), X)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: handle.record.save_memories([make_memory("b")]),
        "get": lambda: handle.record.get_memories(["a"]),
        "find": handle.record.find_memories,
        "iterate": lambda: list(handle.record.iterate_memories()),
        "delete": lambda: handle.record.delete_memories(["a"]),
        "connect": lambda: handle.record.add_connections([MemoryConnection("a", "a")]),
        "edges": lambda: handle.record.get_connections(["a"]),
        "words": lambda: handle.record.search_text("text", 1),
        "statistics": handle.record.get_statistics,
        "check": handle.record.check_integrity,
        "vectors": lambda: handle.vectors.get_vectors(["a"]),
        "search": lambda: handle.vectors.search_similar(X, 1),
        "store": lambda: handle.vectors.store_vectors([make_memory("a")], [Y[None]]),
        "drop": lambda: handle.vectors.delete_vectors(["a"]),
        "count": handle.vectors.count,
    }
    server.status = 503
    for name, call in calls.items():
        with pytest.raises(StoreUnavailableError, match="answers 503; start it, or check"):
            raise AssertionError(f"{name} gave {call()!r}")
    handle.record.record_access(["a"], make_memory("a").last_accessed)
    server.status = 200
    assert handle.record.find_memories() == [make_memory("a")]
    assert handle.vectors.search_similar(X, 1) == [VectorHit("a", 1.0, 0)]


def test_what_an_outage_cut_off_is_whole_and_completed_by_repeating_it(server: Server) -> None:
    memories = [make_memory(f"{number:02}", f"text {number} " * 200) for number in range(40)]

    proxy = Proxy(("127.0.0.1", int(server.url.rpartition(":")[2])))

    def store(*faults: Fault) -> None:
        handle = bound(proxy.url, batch_size=8)
        with handle.record.transaction():
            for memory in memories:
                handle.put(memory, X, Y)
            proxy.faults += faults

    handle = bound(server.url)
    with proxy.serving():
        with pytest.raises(StoreUnavailableError):
            store(PASS, PASS, Fault(request_bytes=5_000))
        assert handle.record.find_memories() == memories[:8]
        assert handle.vectors.count() == 16
        assert handle.record.check_integrity() == []
        with pytest.raises(StoreUnavailableError):
            store(PASS, Fault(response_bytes=0))
        assert handle.record.check_integrity() == []
        store()
    assert handle.record.find_memories() == memories
    assert handle.vectors.count() == 80


# Words


TEXTS = {
    "redis": "We dropped Redis: the cache hit rate was 3%.",
    "caches": "Caching caches cached values; running runs ran.",
    "german": "Größe zählt nicht, groß schon.",
    "japanese": "Redisの設定 日本語テキスト",
    "code": "call read_file and write_file from snake_case code",
    "long": "the cache of the rest " * 60,
    "mixed": "Naïve résumé, co-operate; e-mail the 設 team 1848",
}


def test_stems_are_those_of_the_record_in_sqlite(tmp_path: Path) -> None:
    memories = [make_memory(name, text, tags=("Tag Größe",)) for name, text in TEXTS.items()]
    database = Database(tmp_path / "store.db")
    with SQLitePersistence(database) as record:
        record.save_memories(memories)
        database.execute(
            "CREATE VIRTUAL TABLE temp.v USING fts5vocab (main, memories_text, 'instance')"
        )
        rows = database.execute(
            "SELECT DISTINCT id, term FROM temp.v JOIN memories ON pk = doc"
        ).fetchall()
    for memory, stems in zip(memories, Stemmer().stems_of(memories), strict=True):
        expected = {term for name, term in rows if name == memory.id}
        assert {stem for stem in stems if not stem.endswith("*")} == expected


@pytest.mark.parametrize(
    "query",
    [
        "why was Redis dropped?",
        "cache",
        "the of",
        "caching rate of running",
        "größe",
        "設",
        "設定",
        "日本",
        "read_file",
        "resume naive",
        "Thursday January 2026",
        "1848 e-mail unknown",
    ],
)
def test_words_rank_as_in_sqlite(tmp_path: Path, query: str) -> None:
    memories = [make_memory(name, text) for name, text in TEXTS.items()]
    handle = bound()
    with SQLitePersistence(Database(tmp_path / "store.db")) as record:
        for each in (record, handle.record):
            each.save_memories(memories)
        for filters in (None, MemoryFilter(memory_ids=("redis", "long", "code", "mixed"))):
            expected = record.search_text(query, 10, filters, also=["german"])
            assert handle.record.search_text(query, 10, filters, also=["german"]) == expected
        assert record.search_text(query, 10) != []


def test_common_words_are_ranked_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few enough of them that a test can hold more than are looked at."""
    for module in ("word_ranking", "qdrant_word_search"):
        monkeypatch.setattr(f"cognitive_memory.storage.{module}.MAX_POSTINGS", 10)
    memories = [
        make_memory(f"{number:03}", f"apple pear {'plum ' * (number % 7)}{'fig' * (number > 55)}")
        for number in range(60)
    ]
    handle = bound()
    with SQLitePersistence(Database(tmp_path / "store.db")) as record:
        for each in (record, handle.record):
            each.save_memories(memories)
        for query in ("apple", "apple pear plum", "apple fig"):
            expected = record.search_text(query, 60)
            assert handle.record.search_text(query, 60) == expected
            some = MemoryFilter(memory_ids=("003", "057", "020"))
            assert handle.record.search_text(query, 5, some) == record.search_text(query, 5, some)


def test_a_filter_finds_its_own_among_more_than_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("word_ranking", "qdrant_word_search"):
        monkeypatch.setattr(f"cognitive_memory.storage.{module}.MAX_POSTINGS", 5)
    monkeypatch.setattr("cognitive_memory.storage.qdrant_word_search.MOST_HOLDERS", 10)
    handle = bound()
    handle.record.save_memories([make_memory(f"{number:03}", "apple") for number in range(100)])
    for number in range(0, 100, 9):
        (hit,) = handle.record.search_text("apple", 5, MemoryFilter(memory_ids=(f"{number:03}",)))
        assert hit.memory_id == f"{number:03}"


def test_words_of_the_whole_query_take_one_request(server: Server) -> None:
    handle = bound(server.url)
    handle.put(make_memory("a", "apple pear plum fig quince"), X)
    requests_of(server)
    handle.record.search_text("apple pear plum fig quince", 10)
    assert sorted(requests_of(server)) == ["batch", "count", "points"]


def test_statistics_count_what_is_there(server: Server) -> None:
    handle = bound(server.url)
    for memory in FILTERED_MEMORIES:
        handle.put(replace(memory, source_type="documentation"), X, Y)
    handle.record.add_connections(
        [MemoryConnection("loose", "concept"), MemoryConnection("loose", "episode")]
    )
    statistics = handle.record.get_statistics()
    assert statistics == {
        "path": f"Qdrant at {server.url}, project default",
        "bytes": None,
        "schema_version": 1,
        "fingerprint": FINGERPRINT,
        "read_only": False,
        "memories_by_level": {"0": 1, "1": 1, "2": 2},
        "memories_by_type": {"episodic": 2, "semantic": 2},
        "memories_by_source_type": {"documentation": 4},
        "memories": 4,
        "vectors": 8,
        "connections": 2,
        "sources": 2,
    }
