"""SQLite files of other systems, read only: nothing beside or in them is touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from .foreign import ForeignSource, first_missing
from .sniffing import SQLITE_MAGIC, reason, tables_of

_WRITE_AHEAD = 2
"""In the 19th byte of a file whose journal is a write-ahead log."""


class DatabaseSource(ForeignSource):
    """One state of a database, from when it is opened to when it is closed.

    ``needed``: the columns without which a file is none of ``kind``.
    """

    def __init__(self, path: str, kind: str, needed: Mapping[str, Sequence[str]]) -> None:
        super().__init__(path)
        self._kind = kind
        self._database = _connect(path, kind)
        try:
            with self._reading():
                self._database.execute("BEGIN")
                self._columns = tables_of(self._database)
            if missing := first_missing(needed, self._columns):
                raise SourceError(f"{path} is no {kind} database: it has no {missing}")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        """The rows, streamed."""
        with self._reading():
            yield from self._database.execute(sql, values)

    def _number(self, sql: str) -> int:
        return next(int(row[0] or 0) for row in self._rows(sql))

    def _column(self, table: str, name: str, otherwise: str = "NULL") -> str:
        """The column in SQL; older files, which lack it, give another value."""
        return name if name in self._columns[table] else f"{otherwise} AS {name}"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SourceError(
                f"cannot read {self._path} as a {self._kind} database: {error}; "
                "close what writes to it, or check it with SQLite's integrity_check"
            ) from None


def _connect(path: str, kind: str) -> sqlite3.Connection:
    try:
        with Path(path).open("rb") as file:
            head = file.read(100)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {reason(error)}; check the path") from None
    if not head.startswith(SQLITE_MAGIC):
        raise SourceError(f"{path} is no SQLite database, so no {kind} store; check the path")
    # Of a file with a write-ahead log, an ordinary reader would create two more beside it; where
    # nobody has it open, it can be read as it is.
    is_at_rest = head[18] == _WRITE_AHEAD and not Path(f"{path}-wal").exists()
    mode = "mode=ro&immutable=1" if is_at_rest else "mode=ro"
    database = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?{mode}", uri=True, isolation_level=None
    )
    database.row_factory = sqlite3.Row
    # Text that is no UTF-8 shall be told apart, and not stop everything.
    database.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return database
