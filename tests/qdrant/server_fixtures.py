"""One server for all tests of a module, and a proxy before it.

A module takes them by assignment: ``running, server = running_server, empty_server``.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from qdrant_server import Server
from tcp_proxy import Proxy


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    """To be assigned to ``running``."""
    with Server().serving() as server:
        yield server


@pytest.fixture
def empty_server(running: Server) -> Server:
    """Empty and sound, and asked nothing yet; to be assigned to ``server``."""
    running.reset()
    return running


@pytest.fixture
def proxy_before_server(server: Server) -> Iterator[Proxy]:
    """Passes everything on until it is told otherwise; to be assigned to ``proxy``."""
    parts = urlsplit(server.url)
    with Proxy((str(parts.hostname), int(parts.port or 0))).serving() as proxy:
        yield proxy
