"""Exports of this package: JSON Lines, checked as a whole before any of it is taken."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO

from ..core import export_format
from ..core.errors import InvalidInputError, SourceError
from ..core.interfaces import Closing, ImportSource
from ..core.memory import CognitiveMemory, MemoryConnection
from ..core.similarity import Vector
from .sniffing import hint, reason

_MAX_HEADER_BYTES = 65_536
"""Of the first line: a file of another kind may have no line ends at all."""


def open_export(path: str) -> JsonLinesSource:
    """The export at ``path``, or on standard input for ``"-"``; raises ``SourceError``."""
    if path == "-":
        if sys.stdin is None:
            raise SourceError("standard input is closed; give the path of an export")
        return JsonLinesSource(sys.stdin.buffer, "standard input")
    try:
        if Path(path).is_dir():
            raise SourceError(f"{path} is a folder, not an export{hint(path)}")
        return JsonLinesSource(Path(path).open("rb"), path)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {reason(error)}; check the path") from None


class JsonLinesSource(ImportSource):
    """An export in an open file, which it closes; ``name`` stands for it in errors.

    What can be read only once, as a pipe, is copied to a temporary file first.
    """

    is_exact = True

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name = name
        self._file = file if file.seekable() else _copy(file, name)
        self._start = self._file.tell()
        self._dimension: int | None = None
        self._max_text_bytes = 0

    def check(self, max_text_bytes: int) -> int:
        """Read every line; the number of memories. A fault is named with its line."""
        self._max_text_bytes = max_text_bytes
        self._read_header()
        number = 1
        with _Contents() as contents:
            with self._reading():
                for number, line in self._lines():
                    with self._naming(number, line):
                        self._check_line(contents, number, line)
            with self._naming(number):
                contents.check_complete()
            return contents.memories

    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each memory, and its vectors in an export that holds them."""
        for number, line in self._lines():
            with self._naming(number, line):
                record = export_format.decode_line(line)
                if "memory" not in record:
                    return
                given = self._decode_memory(record)
            yield given

    def connections(self) -> Iterator[MemoryConnection]:
        """Each edge."""
        for number, line in self._lines():
            # Most lines are memories, and what they hold is not asked for.
            if line.startswith(b'{"memory":'):
                continue
            with self._naming(number, line):
                record = export_format.decode_line(line)
                edge = export_format.decode_connection(record) if "connection" in record else None
            if edge is not None:
                yield edge

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> None:
        with self._reading():
            self._file.seek(self._start)
            line = self._file.readline(_MAX_HEADER_BYTES)
        try:
            record = export_format.decode_line(line)
        except InvalidInputError:
            record = {}
        if record.get("format") != export_format.FORMAT:
            raise SourceError(f"{self._name} is not an export of cognitive-memory{hint(line)}")
        with self._naming(1, line):
            self.fingerprint, self._dimension = export_format.decode_header(record)

    def _check_line(self, contents: _Contents, number: int, line: bytes) -> None:
        record = export_format.decode_line(line)
        kind = next(iter(record), "")
        contents.expect(kind)
        if kind == "memory":
            contents.add_memory(self._decode_memory(record)[0].id, number)
        elif kind == "connection":
            contents.add_connection(export_format.decode_connection(record), number)
        else:
            contents.end = export_format.decode_end(record)

    def _decode_memory(self, record: dict[str, object]) -> tuple[CognitiveMemory, Vector | None]:
        return export_format.decode_memory(record, self._dimension, self._max_text_bytes)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines after the first, by number."""
        with self._reading():
            self._file.seek(self._start)
            self._file.readline()
            yield from enumerate(self._file, start=2)

    @contextmanager
    def _naming(self, number: int, line: bytes = b"\n") -> Iterator[None]:
        try:
            yield
        except InvalidInputError as error:
            problem = str(error)
            if not line.endswith(b"\n"):
                problem = "the file is cut off in this line; copy it, or export, again"
            raise InvalidInputError(f"{self._name}:{number}: {problem}") from None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(f"cannot read {self._name}: {error.strerror}; try again") from None
        except sqlite3.Error as error:
            raise SourceError(
                f"cannot note what {self._name} holds: {error}; free space for temporary files"
            ) from None


def _copy(file: BinaryIO, name: str) -> BinaryIO:
    """A temporary file, which its owner closes."""
    try:
        with file, ExitStack() as opened:
            spool = opened.enter_context(tempfile.TemporaryFile())
            copyfileobj(file, spool)
            spool.seek(0)
            opened.pop_all()
    except OSError as error:
        raise SourceError(
            f"cannot copy {name} to a temporary file: {reason(error)}; free some space, or set "
            "TMPDIR to another folder"
        ) from None
    return spool


_ORDER = "an export holds its header, memories, connections and the end, in this order"


class _Contents(Closing):
    """What an export has held so far, kept on disk: refuses what repeats, dangles or is astray."""

    def __init__(self) -> None:
        self.memories = 0
        self.connections = 0
        self.end: tuple[int, int] | None = None
        # A nameless database: SQLite keeps it in memory while it is small, and deletes it.
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute("CREATE TABLE memories (id TEXT PRIMARY KEY, line) WITHOUT ROWID")
        self._seen.execute(
            "CREATE TABLE edges (source TEXT, target TEXT, type TEXT, line, "
            "PRIMARY KEY (source, target, type)) WITHOUT ROWID"
        )
        self._seen.execute("BEGIN")

    def expect(self, kind: str) -> None:
        """Refuse a line of this kind where it may not stand."""
        if self.end is not None:
            raise InvalidInputError("stands after the end; remove it, or export again")
        if kind not in ("memory", "connection", "end") or (kind == "memory" and self.connections):
            raise InvalidInputError(f"got a line that holds {kind!r} here; {_ORDER}")

    def add_memory(self, memory_id: str, line: int) -> None:
        """Refuse an id that was there before."""
        row = self._seen.execute("SELECT line FROM memories WHERE id = ?", [memory_id]).fetchone()
        if row:
            raise InvalidInputError(f"repeats the id {memory_id!r} of line {row[0]}; remove one")
        self._seen.execute("INSERT INTO memories VALUES (?, ?)", [memory_id, line])
        self.memories += 1

    def add_connection(self, edge: MemoryConnection, line: int) -> None:
        """Refuse an edge that was there before, or has an end that was not."""
        for end in (edge.source_id, edge.target_id):
            if not self._seen.execute("SELECT 1 FROM memories WHERE id = ?", [end]).fetchone():
                raise InvalidInputError(
                    f"connects memory {end!r}, which the file does not hold; remove the line"
                )
        key = [edge.source_id, edge.target_id, str(edge.connection_type)]
        row = self._seen.execute(
            "SELECT line FROM edges WHERE source = ? AND target = ? AND type = ?", key
        ).fetchone()
        if row:
            raise InvalidInputError(f"repeats the connection of line {row[0]}; remove one")
        self._seen.execute("INSERT INTO edges VALUES (?, ?, ?, ?)", [*key, line])
        self.connections += 1

    def check_complete(self) -> None:
        """Refuse an export without its end, or with another number of lines than that says."""
        if self.end is None:
            raise InvalidInputError(
                "the file ends here without its last line, so that something is cut off; "
                "copy it, or export, again"
            )
        if self.end != (self.memories, self.connections):
            raise InvalidInputError(
                f"names {self.end[0]} memories and {self.end[1]} connections, the file holds "
                f"{self.memories} and {self.connections}; copy it, or export, again"
            )

    def close(self) -> None:
        """Drop what was kept."""
        self._seen.close()
