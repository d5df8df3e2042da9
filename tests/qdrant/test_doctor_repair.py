"""``doctor --repair`` brings Qdrant to the state of the record, and counts what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_server import Server, models
from replicas import FINGERPRINT, Pair, W, X, Y, Z
from server_fixtures import empty_server, running_server

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import StorageError, StoreBusyError, StoreUnavailableError
from cognitive_memory.diagnosis import Finding, diagnose
from cognitive_memory.storage.qdrant_filters import of_memories
from cognitive_memory.storage.reconciliation import Difference
from cognitive_memory.stores import create_vector_storage, open_database, open_stores
from cognitive_memory.testing import make_memory

running, server = running_server, empty_server


@pytest.fixture
def pair(tmp_path: Path, server: Server) -> Iterator[Pair]:
    """A store of five memories, one with three chunks, all of them applied."""
    with Pair(tmp_path / "store.db", server.url, options={"timeout_seconds": 60}) as pair:
        pair.put(a=X, b=Y, c=np.stack([X, Y, Z]), d=W, e=W)
        pair.drain()
        yield pair


class Hand:
    """Does by hand what nobody should do to the points of a store."""

    def __init__(self, server: Server, pair: Pair) -> None:
        self._client = server.client
        (self._collection,) = [each.name for each in self._client.get_collections().collections]
        self._project = f"p-{pair.outbox.store_id()}"

    def delete(self, name: str, first_chunk: int = 0) -> None:
        condition = of_memories(self._project, [name], first_chunk)
        self._client.delete(self._collection, models.FilterSelector(filter=condition))

    def set(self, name: str, **payload: Any) -> None:
        points = of_memories(self._project, [name])
        self._client.set_payload(self._collection, payload, points)

    def add(self, name: str, chunk: int = 0, chunks: int = 1, project: str | None = None) -> None:
        payload = {
            "project": project or self._project,
            "memory_id": name,
            "chunk": chunk,
            "chunks": chunks,
            "version": "by hand",
        }
        point = models.PointStruct(
            id=str(uuid4()), vector={"semantic": W.tolist()}, payload=payload
        )
        self._client.upsert(self._collection, [point])

    def count(self) -> int:
        return int(self._client.count(self._collection).count)


@pytest.fixture
def hand(server: Server, pair: Pair) -> Hand:
    return Hand(server, pair)


def lose_memory(hand: Hand) -> None:
    hand.delete("a")


def lose_last_chunk(hand: Hand) -> None:
    hand.delete("c", first_chunk=2)


def give_another_version(hand: Hand) -> None:
    hand.set("b", version="older")


def give_no_version(hand: Hand) -> None:
    hand.set("b", version=None)


def add_unknown(hand: Hand) -> None:
    hand.add("unknown")


def add_half_of_an_unknown(hand: Hand) -> None:
    hand.add("unknown", chunk=3, chunks=7)


def add_a_second_point(hand: Hand) -> None:
    hand.add("a")


def add_a_chunk_too_many(hand: Hand) -> None:
    hand.add("c", chunk=3, chunks=4)


FAULTS: dict[Callable[[Hand], None], Difference] = {
    lose_memory: Difference(missing=["a"], compared=5),
    lose_last_chunk: Difference(missing=["c"], compared=5),
    give_another_version: Difference(outdated=["b"], compared=5),
    give_no_version: Difference(outdated=["b"], compared=5),
    add_unknown: Difference(surplus=["unknown"], compared=5),
    add_half_of_an_unknown: Difference(surplus=["unknown"], compared=5),
    add_a_second_point: Difference(missing=["a"], compared=5),
    add_a_chunk_too_many: Difference(missing=["c"], compared=5),
}


@pytest.mark.parametrize("spoil", FAULTS)
def test_what_is_wrong_is_told_and_mended(
    pair: Pair, hand: Hand, spoil: Callable[[Hand], None]
) -> None:
    before = hand.count()
    spoil(hand)
    assert pair.vectors.reconcile(repair=False) == FAULTS[spoil]
    assert pair.pending() == []
    assert pair.vectors.reconcile(repair=True) == FAULTS[spoil]
    assert pair.vectors.reconcile(repair=True) == Difference(compared=5)
    assert hand.count() == before
    pair.assert_equal()


def test_everything_wrong_at_once(pair: Pair, hand: Hand) -> None:
    for spoil in (lose_memory, lose_last_chunk, give_another_version, add_unknown):
        spoil(hand)
    expected = Difference(["a", "c"], ["b"], ["unknown"], 5)
    assert pair.vectors.reconcile(repair=True) == expected
    assert pair.vectors.reconcile(repair=False) == Difference(compared=5)


def test_a_sound_replica_is_sent_nothing(pair: Pair, server: Server) -> None:
    server.requests.clear()
    assert pair.vectors.reconcile(repair=True) == Difference(compared=5)
    writes = ("/points/batch", "/points/delete", "/aliases")
    assert [each for each in server.requests if each.endswith(writes)] == []


def test_what_waits_is_not_counted_as_a_difference(pair: Pair) -> None:
    pair.put(a=Z, new=X)
    pair.drop("b")
    assert pair.vectors.reconcile(repair=False) == Difference(compared=5)
    assert pair.pending() == ["a", "new", "b"]
    assert pair.vectors.reconcile(repair=True) == Difference(compared=5)
    pair.assert_equal()


def test_what_was_lost_with_the_server_is_counted_and_sent(pair: Pair, server: Server) -> None:
    server.lose_everything()
    everything = Difference(missing=["a", "b", "c", "d", "e"], compared=5)
    assert pair.vectors.reconcile(repair=False) == everything
    assert server.client.get_collections().collections == []
    assert pair.vectors.reconcile(repair=True) == everything
    pair.assert_equal()
    assert pair.found() == pair.record_found()


def test_an_alias_that_is_gone_is_told_and_set_again(pair: Pair, server: Server) -> None:
    server.client._client.aliases.clear()
    with pytest.raises(StorageError, match="does not hold the vectors"):
        pair.vectors.reconcile(repair=False)
    assert pair.found() == pair.record_found()
    assert pair.vectors.reconcile(repair=True) == Difference(compared=5)
    pair.assert_equal()
    assert pair.vectors.notices() == []


def test_the_points_of_other_projects_are_left_alone(pair: Pair, hand: Hand) -> None:
    hand.add("a", project="another")
    hand.add("unknown", project="another")
    assert pair.vectors.reconcile(repair=True) == Difference(compared=5)
    assert hand.count() == 7 + 2


def test_while_it_is_mended_the_record_answers_for_what_is_missing(
    pair: Pair, hand: Hand, server: Server
) -> None:
    lose_memory(hand)
    assert "a" not in pair.found()
    pair.outbox.add(["a"])
    assert pair.found() == pair.record_found()


def test_a_repair_that_is_cut_off_is_completed_by_the_next(
    pair: Pair, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_memory(hand)
    add_a_second_point(hand)

    def fail(*_: object) -> None:
        raise StoreUnavailableError("it went away")

    with monkeypatch.context() as patched:
        patched.setattr(pair.replica, "store_vectors", fail)
        with pytest.raises(StoreUnavailableError):
            pair.vectors.reconcile(repair=True)
    assert pair.pending() == ["a"]
    assert pair.found() == pair.record_found()
    pair.vectors.reconcile(repair=True)
    pair.assert_equal()


def test_an_outage_is_no_empty_difference(pair: Pair, server: Server) -> None:
    server.status = 503
    for repair in (False, True):
        with pytest.raises(StoreUnavailableError):
            pair.vectors.reconcile(repair=repair)


def test_one_process_repairs_at_a_time(pair: Pair, server: Server, hand: Hand) -> None:
    lose_memory(hand)
    with Pair(pair.path, server.url, options={"timeout_seconds": 60}) as other:
        with other.replication._process_lock():
            assert pair.vectors.reconcile(repair=False).missing == ["a"]
            with pytest.raises(StoreBusyError):
                pair.vectors.reconcile(repair=True)
        pair.vectors.reconcile(repair=True)
        pair.assert_equal()


# As the command does it


def findings(settings: Settings, *, repair: bool = False) -> Finding:
    (found,) = [each for each in diagnose(settings, repair=repair) if each.check == "replica"]
    return found


@pytest.fixture
def settings(tmp_path: Path, server: Server) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        embedding={"provider": "none"},
        storage={"vectors": "qdrant"},
        qdrant={"url": server.url, "flush_seconds": 60.0},
    )


def fill(settings: Settings) -> None:
    memories, vectors = open_stores(settings)
    with memories, vectors:
        vectors.bind_embedding(FINGERPRINT, 4)
        given = [make_memory(name) for name in "abc"]
        with memories.transaction():
            memories.save_memories(given)
            vectors.store_vectors(given, [X[None], Y[None], Z[None]])


def test_doctor_names_the_place_and_the_counts(settings: Settings, server: Server) -> None:
    assert findings(settings) == Finding("replica", True, "no store to compare with")
    fill(settings)
    sound = findings(settings)
    assert sound.sound
    place, _, counts = sound.detail.partition(": 3 memories")
    assert place.startswith(f"{server.url} memories@default-")
    assert counts == " compared, 0 missing, 0 outdated, 0 surplus"
    server.lose_everything()
    assert findings(settings) == Finding(
        "replica",
        False,
        f"{place}: 3 memories compared, 3 missing, 0 outdated, 0 surplus, 0 pending; "
        "run 'cognitive-memory doctor --repair'",
    )
    mended = f"{place}: 3 memories compared, 3 missing, 0 outdated, 0 surplus; 3 repaired"
    assert findings(settings, repair=True) == Finding("replica", True, mended)
    assert findings(settings) == sound


def test_doctor_tells_of_an_outage(settings: Settings, server: Server) -> None:
    fill(settings)
    server.status = 500
    for repair in (False, True):
        found = findings(settings, repair=repair)
        assert not found.sound
        assert "it was told to fail" in found.detail


def test_doctor_ends_what_nobody_searches_any_more(settings: Settings, tmp_path: Path) -> None:
    fill(settings)
    embedded = Settings(data_dir=tmp_path / "data", embedding={"provider": "none"})
    unused = findings(embedded)
    assert unused.sound
    assert unused.detail.startswith("changes are collected for http://")
    assert findings(embedded, repair=True).detail.startswith("changes are no longer collected for")
    assert "replica" not in {each.check for each in diagnose(embedded)}
    database = open_database(embedded)
    with create_vector_storage(embedded, database) as vectors:
        vectors.delete_vectors(["a"])
    assert findings(settings, repair=True).sound
    assert findings(settings).detail.endswith(
        "2 memories compared, 0 missing, 0 outdated, 0 surplus"
    )
