"""A TCP proxy that drops, delays and cuts connections, each as it is told beforehand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Lock, Thread

_BLOCK = 65_536


@dataclass(frozen=True)
class Fault:
    """What becomes of one connection; ``None`` passes everything on."""

    request_bytes: int | None = None
    """Cut when so much of the request was passed on."""
    response_bytes: int | None = None
    """Cut when so much of the response was passed on."""
    delay_seconds: float = 0.0
    """Hold back the response."""


PASS = Fault()
DROP = Fault(request_bytes=0)
SILENCE = Fault(delay_seconds=3_600)


def free_port() -> int:
    """Where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Proxy:
    """Stands before ``target``. ``faults`` meet the next connections, in order; then ``rest``."""

    target: tuple[str, int]
    faults: list[Fault] = field(default_factory=list)
    rest: Fault = PASS
    connections: int = 0
    port: int = 0
    closing: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[Proxy]:
        """Pass connections on at ``port``."""
        server = _Server(self)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def next_fault(self) -> Fault:
        with self.lock:
            self.connections += 1
            return self.faults.pop(0) if self.faults else self.rest


class _Server(ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        proxy = self.server.proxy
        fault = proxy.next_fault()
        with socket.create_connection(proxy.target) as upstream:
            answer = Thread(target=self._answer, args=(upstream, fault))
            answer.start()
            _pump(self.request, upstream, fault.request_bytes)
            if fault.request_bytes is not None:
                _hang_up(self.request)
            _hang_up(upstream)
            answer.join()

    def _answer(self, upstream: socket.socket, fault: Fault) -> None:
        # Waits for the end of the proxy, at most.
        self.server.proxy.closing.wait(fault.delay_seconds)
        _pump(upstream, self.request, fault.response_bytes)
        _hang_up(self.request)


def _pump(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Pass on ``most`` bytes, or all until one side hangs up."""
    passed = 0
    with suppress(OSError):
        while most is None or passed < most:
            block = source.recv(_BLOCK if most is None else min(_BLOCK, most - passed))
            if not block:
                return
            target.sendall(block)
            passed += len(block)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
