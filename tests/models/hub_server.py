"""A Hugging Face hub on this machine: as much of its protocol as a download needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Hub:
    """What to serve, how to fail, and what was asked for."""

    repository: str
    revision: str
    files: Mapping[str, bytes]
    status: int = 200
    """Answered instead of any file unless it is 200."""
    cuts: int = 0
    """How often a transfer of the largest file breaks off half-way."""
    resumes: bool = True
    """Whether a transfer that broke off can be taken up again; if not, the answer is 500."""
    branch: str = "main"
    """Another name for ``revision``."""
    announced: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 that large files are said to have."""
    portal: bool = False
    """Whether everything is answered by a page that asks to log in."""
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        """Answer requests at ``endpoint``."""
        server = _Server(self)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, body: bool) -> None:
        hub = self.server.hub
        given = self.headers.get("Range", "")
        hub.requests.append(f"{self.command} {self.path} {given}".rstrip())
        name = self.path
        for revision in (hub.revision, hub.branch):
            name = name.removeprefix(f"/{hub.repository}/resolve/{revision}/")
        content = hub.files.get(name)
        if hub.portal:
            self._send(200, b"<html>Please log in.</html>", body)
        elif hub.status != 200 or content is None:
            self._send(hub.status if hub.status != 200 else 404, b"no", body)
        elif given and not hub.resumes:
            self._send(500, b"no", body)
        else:
            start = int(given.removeprefix("bytes=").rstrip("-") or 0)
            headers = {
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "X-Repo-Commit": hub.revision,
                "Accept-Ranges": "bytes",
            }
            if name in hub.announced:
                headers["X-Linked-Etag"] = f'"{hub.announced[name]}"'
                headers["X-Linked-Size"] = str(len(content))
            if given:
                last = len(content) - 1
                headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            self._send(206 if given else 200, content[start:], body, headers)

    def _send(
        self, status: int, content: bytes, body: bool, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        hub = self.server.hub
        if body and hub.cuts and len(content) > max(map(len, hub.files.values())) // 2:
            hub.cuts -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        if body:
            self.wfile.write(content)
