"""An outage of Qdrant loses nothing and holds up nobody, and it ends by itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from qdrant_server import Server
from replicas import OpenPair, Pair, X, Y, Z, opened_pairs
from server_fixtures import proxy_before_server, running_server
from tcp_proxy import DROP, PASS, SILENCE, Fault, Proxy, free_port

from cognitive_memory.core.errors import (
    MissingExtraError,
    StorageError,
    StoreBusyError,
    StoreUnavailableError,
)
from cognitive_memory.storage.replication import Replication

HANG_SECONDS = 120
"""A guard against waiting for ever; nothing is measured."""

KEY = "sk-1234"
LOGGER = "cognitive_memory.storage.replication"


running, proxy = running_server, proxy_before_server


@pytest.fixture
def server(running: Server) -> Server:
    """Empty and sound, and locked."""
    running.reset()
    running.api_key = KEY
    return running


@pytest.fixture
def open_pair(tmp_path: Path, proxy: Proxy) -> Iterator[OpenPair]:
    """They reach the server through the proxy."""
    with opened_pairs(tmp_path, proxy.url, timeout_seconds=1, api_key=KEY) as open_pair:
        yield open_pair


@pytest.fixture
def pair(open_pair: OpenPair) -> Pair:
    """A store whose outbox is applied when a test says so; ``a`` is applied."""
    pair = open_pair()
    pair.put(a=X)
    pair.drain()
    return pair


def drops(server: Server, proxy: Proxy) -> None:
    proxy.rest = DROP


def is_silent(server: Server, proxy: Proxy) -> None:
    proxy.rest = SILENCE


def cuts(server: Server, proxy: Proxy) -> None:
    proxy.rest = Fault(response_bytes=20)


def fails(server: Server, proxy: Proxy) -> None:
    server.status = 500


def is_overloaded(server: Server, proxy: Proxy) -> None:
    server.status = 503


def has_another_key(server: Server, proxy: Proxy) -> None:
    server.api_key = "another"


def is_another_program(server: Server, proxy: Proxy) -> None:
    server.page = b"<html>Welcome</html>"


OUTAGES = [drops, is_silent, cuts, fails, is_overloaded, has_another_key, is_another_program]


def mend(server: Server, proxy: Proxy) -> None:
    proxy.rest = PASS
    server.status, server.page, server.api_key = 200, None, KEY


@pytest.mark.parametrize("begin", OUTAGES)
def test_an_outage_loses_nothing_blocks_nothing_and_is_told(
    begin: Callable[[Server, Proxy], None],
    pair: Pair,
    server: Server,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin(server, proxy)
    asked = proxy.connections
    pair.put(b=Y)
    assert proxy.connections == asked  # whoever stores asks nobody
    assert not pair.replication.attempt()
    assert proxy.connections <= asked + 1
    asked = proxy.connections
    assert pair.found() == ["a", "b"]
    pair.put(c=Z)
    assert pair.found(Z, k=1) == ["c"]
    assert not pair.replication.attempt()
    assert proxy.connections == asked  # nor in the pause that follows
    (notice,) = pair.vectors.notices()
    assert notice.startswith("degraded: ")
    assert notice.endswith("; the embedded index answers, 2 changes wait")
    told = pair.vectors.get_statistics()["replica"]
    assert told["pending"] == 2
    assert told["fault"] in notice
    assert KEY not in notice

    mend(server, proxy)
    pair.pause()
    pair.apply()
    assert pair.vectors.notices() == []
    assert pair.vectors.get_statistics()["replica"]["fault"] is None
    searches = server.asked("/query")
    assert pair.found() == ["a", "b", "c"]
    assert server.asked("/query") == searches + 1
    pair.assert_equal()
    assert [record.getMessage() for record in caplog.records if record.name == LOGGER] == [
        f"the derived index cannot be used: {told['fault']}",
        "the derived index can be used again",
    ]


@pytest.mark.parametrize("begin", OUTAGES)
def test_the_first_search_of_an_outage_asks_once_and_the_others_do_not(
    begin: Callable[[Server, Proxy], None], pair: Pair, server: Server, proxy: Proxy
) -> None:
    begin(server, proxy)
    asked = proxy.connections
    assert pair.vectors.notices() == []
    for _ in range(3):
        assert pair.found() == ["a"]
        assert proxy.connections <= asked + 1
    assert pair.vectors.notices() != []
    mend(server, proxy)
    pair.pause()
    assert not pair.replication.attempt()
    assert pair.vectors.notices() == []


def test_a_server_that_was_never_there(open_pair: OpenPair) -> None:
    pair = open_pair(url=f"http://127.0.0.1:{free_port()}")
    pair.put(a=X, b=Y)
    assert pair.replication.attempt()  # all of the store waits
    assert not pair.replication.attempt()
    assert pair.found() == ["a", "b"]
    assert pair.pending() == ["a", "b"]
    assert "does not answer" in pair.vectors.notices()[0]


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_pauses_grow_to_a_bound_and_begin_anew_after_a_success(
    open_pair: OpenPair, proxy: Proxy, jitter: float
) -> None:
    pair = open_pair(jitter=jitter)
    pair.put(a=X)
    pair.drain()
    for _ in range(2):
        proxy.rest = DROP
        pair.put(b=Y)
        pauses = []
        for _ in range(12):
            asked = proxy.connections
            assert not pair.replication.attempt()
            assert proxy.connections == asked + 1
            begin = pair.clock.now
            while not pair.clock.now >= pair.replication._retry_at:
                pair.clock.now = np.nextafter(pair.replication._retry_at, 0)
                assert not pair.replication.attempt()
                pair.clock.now = pair.replication._retry_at
            assert proxy.connections == asked + 1
            pauses.append(pair.clock.now - begin)
        full = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0, 30.0]
        assert pauses == pytest.approx([each * (0.5 + jitter / 2) for each in full])
        proxy.rest = PASS
        pair.apply()
        pair.assert_equal()


def test_searches_that_fail_at_once_count_as_one_failure(
    pair: Pair, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(8)
    ask = pair.replica.search_similar_batch

    def together(*given: Any) -> Any:
        barrier.wait(HANG_SECONDS)
        return ask(*given)

    monkeypatch.setattr(pair.replica, "search_similar_batch", together)
    proxy.rest = DROP
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: pair.found(), range(8)):
            assert found == ["a"]
    assert pair.replication._failures == 1


@pytest.mark.parametrize(
    "cut", [Fault(request_bytes=300), Fault(response_bytes=0), Fault(response_bytes=100)]
)
@pytest.mark.parametrize("passed", range(4))
def test_a_batch_that_is_cut_off_anywhere_is_completed_by_the_next_attempt(
    pair: Pair, proxy: Proxy, cut: Fault, passed: int
) -> None:
    pair.put(a=np.stack([Y, Z]), b=X)
    pair.drain()
    pair.put(a=Z, c=np.stack([X, Y, Z]))
    pair.drop("b")
    proxy.faults = [*[PASS] * passed, cut]
    pair.apply()
    assert pair.found() == pair.record_found()
    pair.pause()
    pair.apply()
    pair.assert_equal()
    assert pair.replica.count() == 4


def test_an_answer_that_comes_too_late_leaves_the_change_waiting(pair: Pair, proxy: Proxy) -> None:
    """It was applied; applying it again changes nothing."""
    pair.put(b=Y)
    proxy.rest = SILENCE
    assert not pair.replication.attempt()
    assert "did not answer within 1 s" in pair.vectors.notices()[0]
    assert pair.pending() == ["b"]
    proxy.rest = PASS
    pair.pause()
    pair.apply()
    pair.assert_equal()


# The thread


def announced(caplog: pytest.LogCaptureFixture, message: str) -> Event:
    """Is set when it is logged."""
    event = Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if message in record.getMessage():
                event.set()

    logging.getLogger(LOGGER).addHandler(Listener())
    return event


@pytest.fixture
def _no_listeners() -> Iterator[None]:
    yield
    logging.getLogger(LOGGER).handlers.clear()


@pytest.mark.usefixtures("_no_listeners")
def test_the_thread_takes_up_what_waits_when_the_server_is_back(
    open_pair: OpenPair, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.rest = DROP
    lost, back = announced(caplog, "cannot be used"), announced(caplog, "used again")
    pair = open_pair(kind=Replication)
    pair.put(a=X)
    assert lost.wait(HANG_SECONDS)
    pair.put(b=Y)
    proxy.rest = PASS
    assert back.wait(HANG_SECONDS)
    pair.vectors.close()
    open_pair().assert_equal()


@pytest.mark.usefixtures("_no_listeners")
def test_the_thread_notices_that_the_server_is_back_where_nothing_waits(
    open_pair: OpenPair, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    lost, back = announced(caplog, "cannot be used"), announced(caplog, "used again")
    with open_pair() as first:
        first.put(a=X)
        first.drain()
    pair = open_pair(kind=Replication)
    proxy.rest = DROP
    assert pair.found() == ["a"]
    assert lost.is_set()
    proxy.rest = PASS
    assert back.wait(HANG_SECONDS)
    assert pair.vectors.notices() == []


def test_closing_flushes_what_waits(open_pair: OpenPair) -> None:
    with open_pair(kind=Replication) as pair:
        pair.put(a=X, b=Y)
    open_pair().assert_equal()


def test_closing_does_not_wait_for_a_server_that_is_away(open_pair: OpenPair, proxy: Proxy) -> None:
    proxy.rest = DROP
    with open_pair(kind=Replication) as pair:
        pair.put(a=X, b=Y)
    assert open_pair().vectors.get_statistics()["replica"]["pending"] == 2
    assert proxy.connections <= 2


def test_closing_while_a_request_hangs_leaves_it_to_the_thread(
    open_pair: OpenPair, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.rest = SILENCE
    pair = open_pair(kind=Replication, options={"timeout_seconds": 2})
    pair.vectors._flush_seconds = 0.0
    pair.put(a=X)
    while not proxy.connections:
        os.sched_yield()
    pair.vectors.close()
    thread = pair.replication._thread
    assert thread is not None
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()
    with pytest.raises(StorageError, match="was closed"):
        pair.replication._outbox.look(1)
    assert open_pair().pending() == ["a"]


# Faults of our own side


def test_a_record_that_others_write_to_is_no_outage(pair: Pair) -> None:
    pair.put(b=Y)
    pair.replication._database.execute("PRAGMA busy_timeout = 0")
    with pair.memories.transaction():
        assert not pair.replication.attempt()
    assert pair.vectors.notices() == []
    assert pair.pending() == ["b"]
    pair.apply()
    pair.assert_equal()


def test_while_another_process_applies_this_one_does_not(pair: Pair, open_pair: OpenPair) -> None:
    other = open_pair()
    pair.put(b=Y)
    with other.replication._process_lock() as has_turn:
        assert has_turn
        assert not pair.replication.attempt()
        with pytest.raises(StoreBusyError, match="another process applies the changes of"):
            pair.drain()
        assert pair.pending() == ["b"]
        assert pair.vectors.notices() == []
        assert pair.found() == ["a", "b"]
    pair.drain()
    pair.assert_equal()


def test_a_lock_file_that_cannot_be_written_is_told(pair: Pair) -> None:
    path = Path(f"{pair.path}-replication")
    path.unlink()
    path.mkdir()
    pair.put(b=Y)
    assert not pair.replication.attempt()
    assert str(pair.path) in pair.vectors.notices()[0]
    assert pair.found() == ["a", "b"]


def test_a_client_that_is_not_installed_is_told(
    open_pair: OpenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = open_pair()
    pair.put(a=X)
    pair.drain()
    other = open_pair()
    monkeypatch.setitem(__import__("sys").modules, "qdrant_client", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        other.found()


def test_an_address_that_is_none_is_told(open_pair: OpenPair) -> None:
    pair = open_pair()
    pair.put(a=X)
    pair.drain()
    wrong = open_pair(url="http://[")
    wrong.put(b=Y)
    wrong.apply()
    assert "COGNITIVE_MEMORY_QDRANT__URL='http://['" in wrong.vectors.notices()[0]
    assert wrong.found() == ["a", "b"]


def test_what_the_replica_raises_reaches_whoever_drains(pair: Pair, proxy: Proxy) -> None:
    proxy.rest = DROP
    pair.put(b=Y)
    with pytest.raises(StoreUnavailableError):
        pair.drain()
    assert pair.pending() == ["b"]
    proxy.rest = PASS
    pair.drain()
    pair.assert_equal()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_leaves_the_work_to_its_parent(open_pair: OpenPair) -> None:
    pair = open_pair(kind=Replication)
    pair.put(a=X)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            pair.replication.wake()
            pair.replication.close(60.0)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    pair.put(b=Y)
    pair.vectors.close()
    open_pair().assert_equal()
