"""A server that does not answer, breaks off, refuses, or is none: one clear error, nothing lost."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from qdrant_server import Server
from server_fixtures import empty_server, proxy_before_server, running_server
from tcp_proxy import DROP, PASS, SILENCE, Fault, Proxy, free_port

from cognitive_memory.core.errors import (
    ConfigurationError,
    FingerprintMismatchError,
    StorageError,
    StoreUnavailableError,
)
from cognitive_memory.core.memory import CognitiveMemory, VectorHit
from cognitive_memory.core.similarity import Vector
from cognitive_memory.storage.qdrant_connection import QdrantConnection, QdrantOptions
from cognitive_memory.storage.qdrant_storage import QdrantStorage
from cognitive_memory.testing import make_memory

FINGERPRINT = "faults/4"
X, Y, Z, W = np.eye(4, dtype=np.float32)[:, None]
KEY = "sk-1234"
INDEXED = {"project", "memory_id", "chunk", "hierarchy_level", "memory_type", "tags"}
INDEXED |= {"source_path", "created_us"}


running, server, proxy = running_server, empty_server, proxy_before_server


def opened(url: str, **options: Any) -> QdrantStorage:
    given = {"timeout_seconds": 1, **options}
    return QdrantStorage(QdrantConnection(QdrantOptions(url=url, **given)))


def bound(url: str, **options: Any) -> QdrantStorage:
    storage = opened(url, **options)
    storage.bind_embedding(FINGERPRINT, 4)
    return storage


def refusal(storage: QdrantStorage, kind: type[StorageError] = StorageError) -> str:
    """What every operation says; a fault is never an empty result."""
    operations = {
        "store": lambda: storage.store_vectors([make_memory("a")], [X]),
        "search": lambda: storage.search_similar(X[0], 1),
        "read": lambda: storage.get_vectors(["a"]),
        "delete": lambda: storage.delete_vectors(["a"]),
        "count": storage.count,
        "list": lambda: list(storage.list_points()),
        "look": lambda: list(storage.list_points_of(["a"])),
        "bind": lambda: storage.bind_embedding(FINGERPRINT, 4),
        "check": lambda: storage.check_embedding(FINGERPRINT),
        "build": lambda: storage.building("other/4", 4),
        "clear": storage.delete_project,
    }
    messages = set()
    for operation in operations.values():
        with pytest.raises(StorageError) as caught:
            operation()
        assert type(caught.value) is kind
        messages.add(str(caught.value))
    assert len(messages) == 1
    return messages.pop()


# No answer


@pytest.mark.parametrize("prefer_grpc", [False, True])
def test_nobody_listens(prefer_grpc: bool) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    storage = opened(url, prefer_grpc=prefer_grpc, grpc_port=port)
    with storage, pytest.raises(StoreUnavailableError) as caught:
        storage.search_similar(X[0], 1)
    message = str(caught.value)
    assert message.startswith(f"Qdrant at {url} ")
    assert "does not answer (" in message
    assert "start it, or check COGNITIVE_MEMORY_QDRANT__URL" in message
    assert (f"gRPC port {port}" in message) is prefer_grpc


def test_a_server_that_goes_away_and_comes_back(server: Server, proxy: Proxy) -> None:
    with bound(proxy.url) as storage:
        storage.store_vectors([make_memory("a")], [X])
        proxy.rest = DROP
        assert "does not answer" in refusal(storage, StoreUnavailableError)
        proxy.rest = PASS
        assert storage.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]


def test_an_answer_that_takes_too_long(server: Server, proxy: Proxy) -> None:
    with bound(proxy.url) as storage:
        proxy.faults = [SILENCE]
        with pytest.raises(StoreUnavailableError, match="did not answer within 1 s; start it"):
            storage.search_similar(X[0], 1)
        assert storage.search_similar(X[0], 1) == []


def test_an_answer_over_grpc_that_takes_too_long(server: Server) -> None:
    grpc = ("127.0.0.1", server.grpc_port)
    with (
        Proxy(grpc, rest=SILENCE).serving() as proxy,
        opened(server.url, prefer_grpc=True, grpc_port=proxy.port) as storage,
        pytest.raises(StoreUnavailableError, match=r"within 1 s|gRPC port"),
    ):
        storage.count()


def test_an_answer_that_is_late_but_in_time(server: Server, proxy: Proxy) -> None:
    with bound(proxy.url, timeout_seconds=30) as storage:
        storage.store_vectors([make_memory("a")], [X])
        proxy.rest = Fault(delay_seconds=0.05)
        assert storage.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]


# Broken off


def text_of(memory: CognitiveMemory, vectors: Vector) -> str:
    """A version for what is stored."""
    return memory.content


CUTS = [
    *(Fault(request_bytes=number) for number in (0, 10, 400)),
    *(Fault(response_bytes=number) for number in (0, 5, 100)),
]


def contents(storage: QdrantStorage) -> tuple[object, ...]:
    states = sorted(storage.list_points(), key=lambda state: (state.memory_id, state.chunk))
    vectors = storage.get_vectors(["a", "b", "c"])
    return states, {name: rows.tolist() for name, rows in vectors.items()}, storage.count()


@pytest.mark.parametrize("passed", range(3))
@pytest.mark.parametrize("cut", CUTS)
def test_a_write_that_was_cut_off_is_completed_by_repeating_it(
    cut: Fault, passed: int, server: Server, proxy: Proxy
) -> None:
    memories = [make_memory(name) for name in "abc"]
    before = [np.concatenate([X, Y, Z, W])] * 3
    after = [np.concatenate([Y, Z]), W, np.concatenate([X, X, X])]
    with bound(proxy.url, batch_size=2, project="whole") as whole:
        whole.store_vectors(memories, before)
        whole.store_vectors(memories, after, version_of=text_of)
        expected = contents(whole)
    with bound(proxy.url, batch_size=2) as storage:
        storage.store_vectors(memories, before)
        proxy.faults = [*[PASS] * passed, cut]
        with pytest.raises(StoreUnavailableError):
            storage.store_vectors(memories, after, version_of=text_of)
        assert set(storage.get_vectors(["a", "b", "c"])) == {"a", "b", "c"}
        storage.store_vectors(memories, after, version_of=text_of)
        assert contents(storage) == expected


@pytest.mark.parametrize("cut", [DROP, *(Fault(response_bytes=number) for number in (0, 5, 100))])
def test_a_binding_that_was_cut_off_is_completed_by_repeating_it(
    cut: Fault, server: Server, proxy: Proxy
) -> None:
    with opened(proxy.url) as storage:
        storage.bind_embedding("0/4", 4)
        requests = proxy.connections
        for number in range(1, requests + 1):
            fingerprint = f"{number}/4"
            proxy.faults = [*[PASS] * (number - 1), cut]
            # It need not fail: where another has made the collection, that is as good.
            with suppress(StoreUnavailableError):
                storage.bind_embedding(fingerprint, 4)
            assert proxy.faults == []
            storage.bind_embedding(fingerprint, 4)
            assert set(server.indexes[server.physical("memories@default")]) == INDEXED
            storage.store_vectors([make_memory("a")], [X])
            with pytest.raises(FingerprintMismatchError, match=fingerprint):
                opened(proxy.url).check_embedding("other/4")
            assert storage.delete_vectors(["a"]) == 1
    assert requests > 8


# Refused


@pytest.mark.parametrize("prefer_grpc", [False, True])
@pytest.mark.parametrize(
    ("given", "named"), [("wrong", "the key"), (None, "a request without a key")]
)
def test_a_wrong_key(given: str | None, named: str, prefer_grpc: bool, server: Server) -> None:
    server.api_key = KEY
    options = {"prefer_grpc": prefer_grpc, "grpc_port": server.grpc_port}
    with bound(server.url, api_key=KEY, **options) as storage:
        assert storage.count() == 0
    with opened(server.url, api_key=given, **options) as storage:
        message = refusal(storage)
    assert message == (
        f"Qdrant at {server.url} refuses {named}; set COGNITIVE_MEMORY_QDRANT__API_KEY to one "
        "that may read and write"
    )


@pytest.mark.parametrize("status", [400, 409, 500, 507])
def test_a_server_that_fails_is_quoted(status: int, server: Server) -> None:
    with bound(server.url) as storage:
        server.status = status
        message = refusal(storage)
    assert message == (
        f"Qdrant at {server.url} failed: {status}: Service internal error: it was told to fail"
    )


def test_a_server_that_fails_over_grpc_is_quoted(server: Server) -> None:
    with bound(server.url, prefer_grpc=True, grpc_port=server.grpc_port) as storage:
        server.status = 500
        message = refusal(storage)
    assert message == f"Qdrant at {server.url} failed: INTERNAL: it was told to fail"


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_server_that_is_not_ready_may_be_asked_again(status: int, server: Server) -> None:
    with bound(server.url) as storage:
        server.status = status
        assert f"answers {status}; start it" in refusal(storage, StoreUnavailableError)


# Something else at the URL


@pytest.mark.parametrize(
    ("status", "page"),
    [
        (200, b"<html>Welcome</html>"),
        (404, b"<html>Not found</html>"),
        (500, b"<html>Oops</html>"),
        (302, b""),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"result": {"status": 7}}'),
        (404, b'{"detail": "Not Found"}'),
        (200, b"\xff\xfe"),
    ],
)
def test_a_server_that_is_not_qdrant(status: int, page: bytes, server: Server) -> None:
    with bound(server.url) as storage:
        server.status, server.page = status, page
        message = refusal(storage)
    assert message == (
        f"{server.url} answers, but not as Qdrant does; check COGNITIVE_MEMORY_QDRANT__URL"
    )


@pytest.mark.parametrize("url", ["http://[", "ftp://host", "http://host:99999999", "http://ho st"])
def test_an_address_that_is_none(url: str) -> None:
    with opened(url) as storage, pytest.raises(ConfigurationError) as caught:
        storage.count()
    assert str(caught.value).startswith(f"COGNITIVE_MEMORY_QDRANT__URL={url!r} cannot be used: ")
    assert "it must be like https://host:6333" in str(caught.value)


def test_a_key_that_is_sent_back_is_not_shown(server: Server) -> None:
    with bound(server.url, api_key=KEY) as storage:
        server.status = 400
        server.page = b'{"status": {"error": "api-key: %b\\nis bad"}}' % KEY.encode()
        message = refusal(storage)
    assert message == f"Qdrant at {server.url} failed: 400: api-key: *** is bad"


def test_a_long_reason_is_cut(server: Server) -> None:
    with bound(server.url) as storage:
        server.status = 400
        server.page = b'{"status": {"error": "%b"}}' % (b"x" * 10_000)
        assert len(refusal(storage)) < 400
