"""What Qdrant's client raises, over HTTP, over gRPC and on its own, as errors of this package."""

from __future__ import annotations

import json
import pickle
import sqlite3
from typing import TYPE_CHECKING, Any

from ..core.errors import (
    ConfigurationError,
    StorageError,
    StoreBusyError,
    StoreFormatError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from .qdrant_connection import QdrantOptions

_LONGEST_QUOTE = 300
_GATEWAY = (408, 429, 502, 503, 504)
"""Answers of what stands before a server, or of one that has too much to do."""


class NoCollectionError(StorageError):
    """A collection or an alias does not exist."""


def foreign_errors() -> tuple[type[Exception], ...]:
    """All that the client raises on purpose; it is imported by now."""
    import grpc
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    over_the_wire = (ApiException, QdrantException, httpx.HTTPError, httpx.InvalidURL)
    # AssertionError: an answer without a result. The rest: what the local mode raises itself.
    own = (AssertionError, ValueError, RuntimeError, OSError, sqlite3.Error)
    return (*over_the_wire, grpc.RpcError, *own)


def opening_errors() -> tuple[type[Exception], ...]:
    """What it raises, beside those, on a folder whose files are damaged."""
    damaged = (KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)
    return (*foreign_errors(), *damaged)


def from_opening(error: Exception, options: QdrantOptions) -> StorageError | ConfigurationError:
    """For what is raised before anything was sent or read."""
    if options.url:
        return ConfigurationError(
            f"COGNITIVE_MEMORY_QDRANT__URL={options.shown!r} cannot be used: "
            f"{_quoted(error, options)}; it must be like https://host:6333"
        )
    if isinstance(error, OSError) or "already accessed" in str(error):
        return _local(error, options)
    return StoreFormatError(
        f"{options.shown} is no folder of Qdrant's local mode, or is damaged: "
        f"{_quoted(error, options)}; set COGNITIVE_MEMORY_QDRANT__PATH to another folder"
    )


def translated(error: Exception, options: QdrantOptions) -> StorageError:
    """The error of this package that stands for one of ``foreign_errors``."""
    import grpc
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if not options.url:
        return _local(error, options)
    if isinstance(error, ResponseHandlingException):
        error = error.source
    if isinstance(error, UnexpectedResponse):
        return _from_status(error, options)
    if isinstance(error, grpc.RpcError):
        return _from_grpc(error, options)
    if isinstance(error, httpx.TimeoutException):
        return _unavailable(f"did not answer within {options.timeout_seconds} s", options)
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError):
        return _unavailable(f"does not answer ({_quoted(error, options)})", options)
    if isinstance(error, QdrantException):
        return _unavailable(f"has too much to do ({_quoted(error, options)})", options)
    if isinstance(
        error, ValueError | AssertionError | httpx.DecodingError | httpx.TooManyRedirects
    ):
        return _not_qdrant(options)
    return StorageError(f"Qdrant at {options.shown} cannot be used: {_quoted(error, options)}")


def _from_status(error: Any, options: QdrantOptions) -> StorageError:
    if error.status_code in (401, 403):
        return _refused(options)
    if error.status_code in _GATEWAY:
        return _unavailable(f"answers {error.status_code}", options)
    reason = _reason(error.content)
    if reason is None:
        return _not_qdrant(options)
    if error.status_code == 404:
        return NoCollectionError(_failed(reason, options))
    return StorageError(_failed(f"{error.status_code}: {reason}", options))


def _from_grpc(error: Any, options: QdrantOptions) -> StorageError:
    from grpc import StatusCode

    code = error.code()
    reason = error.details() or code.name
    if code is StatusCode.DEADLINE_EXCEEDED:
        return _unavailable(f"did not answer within {options.timeout_seconds} s", options)
    if code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED):
        return _refused(options)
    # A proxy that speaks HTTP/1 or another service ends a call with one of these.
    if code is StatusCode.UNIMPLEMENTED:
        return _not_qdrant(options)
    if code in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.CANCELLED):
        return _unavailable(
            f"(gRPC port {options.grpc_port}) does not answer ({_redacted(reason, options)})",
            options,
        )
    if code is StatusCode.NOT_FOUND:
        return NoCollectionError(_failed(reason, options))
    return StorageError(_failed(f"{code.name}: {reason}", options))


def _local(error: Exception, options: QdrantOptions) -> StorageError:
    text = str(error)
    if "already accessed" in text:
        return StoreBusyError(
            f"{options.shown} is open in another process; a path serves one at a time: end the "
            "other, or set COGNITIVE_MEMORY_QDRANT__URL to a server"
        )
    if isinstance(error, ValueError) and text.startswith("Collection ") and "not found" in text:
        return NoCollectionError(_failed(text, options))
    return StorageError(_failed(_quoted(error, options), options))


def _reason(content: bytes) -> str | None:
    """What Qdrant's error bodies say, ``None`` for a body of another program."""
    try:
        return str(json.loads(content)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _unavailable(what: str, options: QdrantOptions) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Qdrant at {options.shown} {what}; start it, or check COGNITIVE_MEMORY_QDRANT__URL and "
        "COGNITIVE_MEMORY_QDRANT__TIMEOUT_SECONDS"
    )


def _refused(options: QdrantOptions) -> StorageError:
    key = "the key" if options.api_key else "a request without a key"
    return StorageError(
        f"Qdrant at {options.shown} refuses {key}; set COGNITIVE_MEMORY_QDRANT__API_KEY to one "
        "that may read and write"
    )


def _not_qdrant(options: QdrantOptions) -> StorageError:
    variable = f"COGNITIVE_MEMORY_QDRANT__{'GRPC_PORT' if options.prefer_grpc else 'URL'}"
    return StorageError(f"{options.shown} answers, but not as Qdrant does; check {variable}")


def _failed(reason: str, options: QdrantOptions) -> str:
    return f"Qdrant at {options.shown} failed: {_redacted(reason, options)}"


def _quoted(error: Exception, options: QdrantOptions) -> str:
    return _redacted(str(error) or type(error).__name__, options)


def _redacted(text: str, options: QdrantOptions) -> str:
    """In one line, not endless, and without the key, should someone have sent it back."""
    if options.api_key:
        text = text.replace(options.api_key, "***")
    if options.url:
        text = text.replace(options.url, options.shown)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]} …"
