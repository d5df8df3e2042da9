"""One client of Qdrant: a server or cluster by URL, a folder, or the memory of this process.

Needs the extra ``qdrant``; importing its client takes longer than a recall, so that it is imported
when the connection is first used and nowhere else.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import CognitiveMemoryError, ConfigurationError, MissingExtraError, StorageError
from ..core.interfaces import Closing
from .qdrant_errors import foreign_errors, from_opening, opening_errors, translated

QUANTIZATIONS = ("none", "scalar", "binary", "product")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class QdrantOptions:
    """Where Qdrant is and how it keeps vectors; ``None`` leaves a choice to the server.

    Without ``url`` and ``path`` everything is kept in memory, and gone with the connection. What
    decides how a collection is kept (shards, replicas, HNSW, quantization) applies when it is made.
    Raises ``ConfigurationError`` for what contradicts itself.
    """

    url: str | None = None
    path: str | None = None
    api_key: str | None = field(default=None, repr=False)
    prefer_grpc: bool = False
    grpc_port: int = 6334
    timeout_seconds: int = 10
    collection: str = "memories"
    project: str = "default"
    """Tenants share collections; a search never leaves its project."""
    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    on_disk: bool = False
    quantization: str = "none"
    hnsw_m: int | None = None
    hnsw_ef_construct: int | None = None
    search_ef: int | None = None
    search_exact: bool = False
    batch_size: int = 256
    """Points in one request, at most."""

    def __post_init__(self) -> None:
        if self.url and self.path:
            raise ConfigurationError(
                f"got COGNITIVE_MEMORY_QDRANT__URL={self.shown!r} and "
                f"COGNITIVE_MEMORY_QDRANT__PATH={self.path!r}; set one of them"
            )
        if self.quantization not in QUANTIZATIONS:
            raise ConfigurationError(
                f"COGNITIVE_MEMORY_QDRANT__QUANTIZATION={self.quantization!r}: "
                f"it must be one of {', '.join(QUANTIZATIONS)}"
            )
        # Not shown, whatever it is: a header that cannot be sent would be quoted by the client.
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigurationError(
                "COGNITIVE_MEMORY_QDRANT__API_KEY holds a line break or a character beyond ASCII; "
                "copy the key again"
            )

    @property
    def shown(self) -> str:
        """Where Qdrant is, as messages name it: without credentials."""
        if self.url:
            return re.sub(r"//[^/]*@", "//", self.url)
        return self.path or ":memory:"


class QdrantConnection(Closing):
    """A client that is opened when it is first used. Thread-safe.

    In memory and on a path, the client serves one thread at a time, and a path one process.
    """

    def __init__(self, options: QdrantOptions) -> None:
        self.options = options
        self._client: Any = None
        self._is_closed = False
        self._lock = RLock()

    @property
    def is_local(self) -> bool:
        """Whether the client itself holds the data, with no server behind it."""
        return not self.options.url

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The ``QdrantClient``; what its calls raise within leaves as errors of this package.

        Raises ``MissingExtraError``; ``StoreUnavailableError`` when the server does not answer in
        time; ``StoreBusyError`` when another process has the path open; ``StorageError`` for all
        else.
        """
        client = self._opened()
        turn: AbstractContextManager[object] = self._lock if self.is_local else nullcontext()
        with turn:
            try:
                yield client
            except CognitiveMemoryError:
                raise
            except foreign_errors() as error:
                # Without the cause: what the client says may quote headers, and so the key.
                raise translated(error, self.options) from None

    def close(self) -> None:
        """Close the client; closing twice is allowed, and what was in memory is gone."""
        with self._lock:
            self._is_closed = True
            client, self._client = self._client, None
            if client is not None:
                client.close()

    def _opened(self) -> Any:
        with self._lock:
            if self._is_closed:
                raise StorageError(f"{self.options.shown}: this connection is closed; open another")
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> Any:
        options = self.options
        try:
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise MissingExtraError(
                f"Qdrant needs {error.name}; pip install 'cognitive-memory-onnx[qdrant]'"
            ) from None
        faults = opening_errors()
        try:
            if options.url:
                self._warn_of_plain_key()
                return QdrantClient(
                    url=options.url,
                    # As a header: given as a key, the client prints a warning to standard error.
                    headers={"api-key": options.api_key} if options.api_key else None,
                    prefer_grpc=options.prefer_grpc,
                    grpc_port=options.grpc_port,
                    timeout=options.timeout_seconds,
                    # It would ask for the version in a thread of its own, and print what it finds.
                    check_compatibility=False,
                    # Loading certificates takes most of the time to open; http has no use for them.
                    verify=urlsplit(options.url).scheme != "http",
                )
            # Other threads may use it, since one at a time does.
            where = {"path": options.path} if options.path else {"location": ":memory:"}
            return QdrantClient(**where, force_disable_check_same_thread=True)
        except faults as error:
            raise from_opening(error, options) from None

    def _warn_of_plain_key(self) -> None:
        parts = urlsplit(self.options.url or "")
        if self.options.api_key and parts.scheme == "http" and not _is_loopback(parts.hostname):
            _log.warning("the API key travels unencrypted to %s; use https", self.options.shown)


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
