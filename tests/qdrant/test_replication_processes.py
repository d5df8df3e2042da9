"""Many processes, one replica: in order, by one at a time, and whoever is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from qdrant_server import Server
from replica_process import change, hang
from replicas import Pair, X, Y
from server_fixtures import proxy_before_server
from tcp_proxy import PASS, SILENCE, Fault, Proxy

HANG_SECONDS = 300
"""A guard against waiting for ever; nothing is measured."""

Start = Callable[..., BaseProcess]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().serving() as server:
        yield server


proxy = proxy_before_server


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a function in a process that knows the modules already; all are gone in the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["replica_process", "qdrant_client"])
    started: list[BaseProcess] = []

    def begin(function: Callable[..., None], *arguments: object) -> BaseProcess:
        process = context.Process(target=function, args=arguments, daemon=True)
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


def end(process: BaseProcess) -> None:
    """Wait until it has ended by itself, and well."""
    process.join(HANG_SECONDS)
    assert process.exitcode == 0


def test_many_processes_change_the_same_memories_while_answers_are_late(
    tmp_path: Path, server: Server, proxy: Proxy, start: Start
) -> None:
    proxy.rest = Fault(delay_seconds=0.005)
    path = str(tmp_path / "store.db")
    with Pair(Path(path), proxy.url, options={"timeout_seconds": 60}) as pair:
        pair.put(a=X)
        names = ["a", "b", "c"]
        writers = [start(change, path, proxy.url, seed, 25, names) for seed in range(4)]
        for writer in writers:
            end(writer)
        proxy.rest = PASS
        pair.drain()
        pair.assert_equal()


def test_the_turn_of_a_process_ends_with_it(
    tmp_path: Path, server: Server, proxy: Proxy, start: Start
) -> None:
    with Pair(tmp_path / "store.db", proxy.url, options={"timeout_seconds": 60}) as pair:
        pair.put(a=X)
        pair.drain()
        pair.put(b=Y)
        proxy.rest = SILENCE
        asked = proxy.connections
        holder = start(hang, str(pair.path), proxy.url)
        while proxy.connections == asked:
            assert holder.exitcode is None
            os.sched_yield()
        proxy.rest = PASS
        asked = proxy.connections
        assert not pair.replication.attempt()
        assert proxy.connections == asked
        assert pair.found() == ["a", "b"]
        holder.kill()
        holder.join()
        pair.drain()
        pair.assert_equal()


def test_whoever_is_killed_both_sides_are_equal_in_the_end(
    tmp_path: Path,
    server: Server,
    start: Start,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    rng = random.Random(7)
    path = str(tmp_path / "store.db")
    killed = 0
    while killed < int(request.config.getoption("crashes")):
        writers = [start(change, path, server.url, rng.random(), 10_000) for _ in range(2)]
        assert server.await_requests(rng.randrange(5, 40), HANG_SECONDS)
        assert [writer.exitcode for writer in writers] == [None, None]
        for writer in writers:
            writer.kill()
        for writer in writers:
            writer.join()
            killed += 1
        settle()
        with Pair(Path(path), server.url, options={"timeout_seconds": 60}) as pair:
            assert pair.memories.check_integrity() == []
            assert pair.found(k=100) == pair.record_found(k=100)
            pair.drain()
            pair.assert_equal()
            assert pair.found(k=100) == pair.record_found(k=100)
            assert pair.vectors.notices() == []
        settle()
    assert any("/points/batch" in each for each in server.requests)
    record_property("figure", f"{killed} writers with a replica killed, 0 differences")


def settle() -> None:
    """Wait until the server is done with what the dead had asked of it."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join()
