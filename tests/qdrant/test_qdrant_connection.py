"""Opening, keys, and the errors of the client as errors of this package."""

from __future__ import annotations

import gc
import inspect
import logging
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from qdrant_server import models

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import (
    ConfigurationError,
    MissingExtraError,
    StorageError,
    StoreBusyError,
    StoreFormatError,
    StoreUnavailableError,
)
from cognitive_memory.qdrant_options import qdrant_options
from cognitive_memory.storage.qdrant_connection import (
    QUANTIZATIONS,
    QdrantConnection,
    QdrantOptions,
)
from cognitive_memory.storage.qdrant_errors import (
    NoCollectionError,
    foreign_errors,
    translated,
)

URL = "http://qdrant.test:6333"
KEY = "sk-1234"


# Options


def test_the_defaults_are_those_of_the_settings() -> None:
    assert qdrant_options(Settings()) == QdrantOptions()


def test_every_option_comes_from_a_setting() -> None:
    given = {
        "url": URL,
        "api_key": KEY,
        "prefer_grpc": True,
        "grpc_port": 7000,
        "timeout_seconds": 3,
        "collection": "notes",
        "project": "mine",
        "shard_number": 2,
        "replication_factor": 3,
        "write_consistency_factor": 2,
        "on_disk": True,
        "quantization": "scalar",
        "hnsw_m": 8,
        "hnsw_ef_construct": 64,
        "search_ef": 99,
        "search_exact": True,
        "batch_size": 10,
    }
    assert asdict(qdrant_options(Settings(qdrant=given))) == {**given, "path": None}
    assert qdrant_options(Settings(qdrant={"path": "x"})).path == "x"


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"QDRANT__URL='http://q' and .*PATH='p'; set one"):
        QdrantOptions(url="http://me:secret@q", path="p")
    with pytest.raises(ConfigurationError, match="one of none, scalar, binary, product"):
        QdrantOptions(quantization="turbo")


@pytest.mark.parametrize("key", ["sk\n1234", "schlüssel", "a\tb"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        QdrantOptions(url=URL, api_key=key)
    assert str(caught.value).startswith("COGNITIVE_MEMORY_QDRANT__API_KEY holds a line break")
    assert key not in str(caught.value)
    assert repr(key)[1:-1] not in str(caught.value)


def test_neither_key_nor_password_is_shown() -> None:
    options = QdrantOptions(url="https://me:secret@q.test:6333/x", api_key=KEY)
    assert KEY not in repr(options)
    assert options.shown == "https://q.test:6333/x"
    assert KEY not in repr(QdrantConnection(options))


@pytest.mark.parametrize(
    ("url", "key", "warns"),
    [
        ("http://qdrant.test:6333", KEY, True),
        ("https://qdrant.test:6333", KEY, False),
        ("http://qdrant.test:6333", None, False),
        ("http://localhost:6333", KEY, False),
        ("http://127.0.0.1:6333", KEY, False),
        ("http://[::1]:6333", KEY, False),
    ],
)
def test_a_key_on_an_open_line_is_warned_of(
    url: str, key: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        QdrantConnection(QdrantOptions(url=url, api_key=key)) as connection,
        connection.use() as client,
    ):
        assert client is not None
    expected = [f"the API key travels unencrypted to {url}; use https"] if warns else []
    assert [record.getMessage() for record in caplog.records] == expected
    assert KEY not in caplog.text


# Opening


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    with QdrantConnection(QdrantOptions(path=str(tmp_path / "q"))):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_closed_connection_says_so() -> None:
    connection = QdrantConnection(QdrantOptions())
    with connection.use():
        pass
    connection.close()
    connection.close()
    closed = pytest.raises(StorageError, match=":memory:: this connection is closed; open another")
    with closed, connection.use():
        pass


def test_one_client_serves_many_uses() -> None:
    with QdrantConnection(QdrantOptions()) as connection:
        with connection.use() as first:
            pass
        with connection.use() as second:
            pass
        assert first is second


# The client forgets to close the file that it could not lock.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*lock:pytest.PytestUnraisableExceptionWarning"
)
def test_a_path_serves_one_process(tmp_path: Path) -> None:
    options = QdrantOptions(path=str(tmp_path / "q"))
    with QdrantConnection(options) as first, QdrantConnection(options) as second:
        with first.use():
            pass
        busy = pytest.raises(StoreBusyError, match=r"is open in another process; .*QDRANT__URL")
        with busy, second.use():
            pass
    del busy
    gc.collect()


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    connection = QdrantConnection(QdrantOptions(path=str(tmp_path / "file" / "q")))
    with connection, pytest.raises(StorageError, match="Not a directory"), connection.use():
        pass


@pytest.mark.parametrize(
    "meta",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"collections": [1], "aliases": {}}',
        '{"collections": {"a": {"vectors": 7}}}',
    ],
)
def test_a_folder_that_is_damaged(meta: str, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(meta)
    connection = QdrantConnection(QdrantOptions(path=str(tmp_path)))
    refused = pytest.raises(StoreFormatError, match="is no folder of Qdrant's local mode")
    with connection, refused, connection.use():
        pass
    assert (tmp_path / "meta.json").read_text() == meta, "nothing is overwritten"


def test_a_damaged_point(tmp_path: Path) -> None:
    options = QdrantOptions(path=str(tmp_path))
    with QdrantConnection(options) as connection, connection.use() as client:
        client.create_collection("c", models.VectorParams(size=2, distance="Cosine"))
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0.0])])
    file = next(tmp_path.rglob("storage.sqlite"))
    database = sqlite3.connect(file)
    with database:
        database.execute("UPDATE points SET point = x'80'")
    database.close()
    connection = QdrantConnection(options)
    with connection, pytest.raises(StoreFormatError, match="or is damaged"), connection.use():
        pass


# Errors


def foreign_classes() -> Iterator[type[Exception]]:
    """Every exception class that the client or what it stands on defines."""
    import httpx
    import qdrant_client.common.client_exceptions as common
    import qdrant_client.http.exceptions as rest

    for module in (httpx, common, rest):
        for _, value in inspect.getmembers(module, inspect.isclass):
            # Neither streams nor cookies are used.
            unused = (httpx.StreamError, httpx.CookieConflict)
            if issubclass(value, Exception) and not issubclass(value, unused):
                yield value


def made(kind: type[Exception]) -> Exception:
    """An instance, whatever its constructor asks for."""
    import httpx
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    request = httpx.Request("GET", URL)
    known: dict[type[Exception], Any] = {
        ResponseHandlingException: lambda: ResponseHandlingException(ValueError("x")),
        UnexpectedResponse: lambda: UnexpectedResponse(500, "", b"x", httpx.Headers()),
        ResourceExhaustedResponse: lambda: ResourceExhaustedResponse("slow down", 3),
        httpx.HTTPStatusError: lambda: httpx.HTTPStatusError(
            "x", request=request, response=httpx.Response(500, request=request)
        ),
    }
    return known[kind]() if kind in known else kind("reason")


def test_every_error_of_the_client_has_a_counterpart() -> None:
    from qdrant_client.http.exceptions import ResponseHandlingException

    options = QdrantOptions(url=URL)
    kinds = set(foreign_classes())
    assert len(kinds) > 20
    for kind in kinds:
        error = made(kind)
        assert isinstance(error, foreign_errors()), kind
        for raised in (error, ResponseHandlingException(error)):
            assert type(translated(raised, options)).__module__.startswith("cognitive_memory.")
            assert URL in str(translated(raised, options)), kind


@pytest.mark.parametrize(
    "name",
    [
        *("ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout", "ConnectError"),
        *("ReadError", "WriteError", "CloseError", "RemoteProtocolError", "ProxyError"),
    ],
)
def test_what_may_pass_is_unavailable(name: str) -> None:
    import httpx

    error = translated(made(getattr(httpx, name)), QdrantOptions(url=URL))
    assert type(error) is StoreUnavailableError


def test_too_much_to_do() -> None:
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

    error = translated(ResourceExhaustedResponse("slow down", 3), QdrantOptions(url=URL))
    assert type(error) is StoreUnavailableError
    assert "has too much to do (slow down)" in str(error)


class RpcFaultError(Exception):
    """Stands where ``grpc.RpcError`` does, which a call object of the library implements."""

    def __init__(self, code: Any, reason: str | None) -> None:
        self._code, self._reason = code, reason

    def code(self) -> Any:
        return self._code

    def details(self) -> str | None:
        return self._reason


def test_every_status_of_grpc_has_a_counterpart() -> None:
    import grpc

    fault = type("Fault", (RpcFaultError, grpc.RpcError), {})
    options = QdrantOptions(url=URL, prefer_grpc=True, grpc_port=7000, api_key=KEY)
    found = {
        code.name: type(translated(fault(code, reason), options))
        for code in grpc.StatusCode
        for reason in (None, f"said {KEY}")
    }
    special: dict[str, type[Exception]] = {
        "DEADLINE_EXCEEDED": StoreUnavailableError,
        "UNAVAILABLE": StoreUnavailableError,
        "RESOURCE_EXHAUSTED": StoreUnavailableError,
        "CANCELLED": StoreUnavailableError,
        "NOT_FOUND": NoCollectionError,
    }
    assert found == {code.name: special.get(code.name, StorageError) for code in grpc.StatusCode}
    for code in grpc.StatusCode:
        assert KEY not in str(translated(fault(code, f"said {KEY}"), options))
    not_qdrant = str(translated(fault(grpc.StatusCode.UNIMPLEMENTED, ""), options))
    assert not_qdrant.endswith("not as Qdrant does; check COGNITIVE_MEMORY_QDRANT__GRPC_PORT")


def test_a_fault_of_the_local_mode_is_quoted() -> None:
    with QdrantConnection(QdrantOptions()) as connection:
        with connection.use() as client:
            client.create_collection("c", models.VectorParams(size=2, distance="Cosine"))
        failed = pytest.raises(StorageError, match=r"Qdrant at :memory: failed: .*expected dim: 2")
        with failed, connection.use() as client:
            client.upsert("c", [models.PointStruct(id=1, vector=[1.0])])
        missing = pytest.raises(NoCollectionError, match="Collection x not found")
        with missing, connection.use() as client:
            client.get_collection("x")


def test_faults_of_others_pass() -> None:
    with QdrantConnection(QdrantOptions()) as connection:
        for error in (ZeroDivisionError(), KeyboardInterrupt(), StoreUnavailableError("mine")):
            with pytest.raises(type(error)) as caught, connection.use():
                raise error
            assert caught.value is error


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    missing = pytest.raises(
        MissingExtraError,
        match=r"needs qdrant_client; pip install 'cognitive-memory-onnx\[qdrant\]'",
    )
    with QdrantConnection(QdrantOptions()) as connection, missing, connection.use():
        pass


def test_the_quantizations_are_those_of_the_setting() -> None:
    for name in QUANTIZATIONS:
        assert Settings(qdrant={"quantization": name}).qdrant.quantization == name
