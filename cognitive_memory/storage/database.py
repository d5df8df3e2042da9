"""One SQLite file: opening it safely, its schema, its transactions, its errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from ..core.errors import InvalidInputError, StorageError, StoreBusyError, StoreReadOnlyError
from .schema import APPLICATION_ID, migrations, schema_version, statements
from .sqlite_errors import BUSY, held, primary_code, translate

_SYNCHRONOUS = ("full", "normal")


class Database:
    """A connection that many threads share, one at a time.

    ``synchronous`` says what a transaction survives once it is done: ``full`` a power cut,
    ``normal`` a crash of this process. A file that this process may not write is opened for
    reading only. Raises ``InvalidInputError``, ``StoreFormatError`` for a file that is no store or
    has a newer schema, and the other ``StorageError`` classes for what their names say.
    """

    def __init__(
        self, path: Path, busy_timeout_seconds: float = 10.0, *, synchronous: str = "full"
    ) -> None:
        self.path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        if synchronous not in _SYNCHRONOUS:
            raise InvalidInputError(
                f"got synchronous={synchronous!r}; it must be one of {', '.join(_SYNCHRONOUS)}"
            )
        self._synchronous = synchronous
        self._lock = RLock()
        self._depth = 0
        self._changes_before = 0
        self._at_rest: tuple[int, ...] | None = None
        """The state of a file that is read as if nobody could write it."""
        # Writing needs the folder, too: the write-ahead log lies beside the file.
        self.read_only = os.access(path, os.F_OK) and not (
            os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
        )
        with self.errors():
            self._connection = self._connect()
            try:
                # Before the first transaction, and so before there is anything to lose.
                self._connection.execute("PRAGMA schema_version")
                self._identity = _identity_of(path)
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreReadOnlyError(
                    f"cannot create {self.path.parent}: {error.strerror}; "
                    "set COGNITIVE_MEMORY_DATA_DIR to a folder that can be written"
                ) from None
        mode = "mode=rwc"
        if self.read_only:
            # WAL needs shared memory beside the file. A store that someone writes has it; at rest
            # it cannot be created, and is not needed.
            self._at_rest = _state_at_rest(self.path)
            mode = "mode=ro" if self._at_rest is None else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=self._busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _prepare(self) -> None:
        version = schema_version(self._connection, self.path)
        if self.read_only:
            if version < len(migrations()):
                raise StoreReadOnlyError(
                    f"{self.path} has schema {version} and must be migrated to "
                    f"{len(migrations())}, but cannot be written"
                )
            return
        self._write_ahead()
        self._connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        # On macOS, fsync leaves data in the disk's cache; elsewhere this is without effect.
        self._connection.execute("PRAGMA fullfsync = ON")
        if version < len(migrations()):
            self._migrate()

    def _write_ahead(self) -> None:
        while True:
            try:
                row = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.Error as error:
                if primary_code(error) not in BUSY:
                    raise
                # Another process is opening the new file. The switch waits for nobody, while a
                # transaction waits for as long as the timeout says.
                self._connection.execute("BEGIN EXCLUSIVE")
                self._connection.execute("ROLLBACK")
            else:
                if row[0] != "wal":
                    raise StorageError(
                        f"{self.path} lies on a file system without shared memory, so that readers "
                        "and writers would wait for each other; set COGNITIVE_MEMORY_DATA_DIR to a "
                        "folder of a local disk"
                    )
                return

    def _migrate(self) -> None:
        from .words import context_of_row

        self._connection.create_function("context_words", 5, context_of_row, deterministic=True)
        with self.transaction():
            # Another process may have done it while this one waited for the lock.
            done = schema_version(self._connection, self.path)
            for number, script in enumerate(migrations()[done:], done + 1):
                for statement in statements(script):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """Writes inside it are durable together or not at all; inner ones join the outer.

        An impatient one does not wait for other writers; it raises ``StoreBusyError`` at once.
        """
        with self._lock, self.errors():
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            if self.read_only:
                raise StoreReadOnlyError(
                    f"{self.path} cannot be written; check its permissions, or set "
                    "COGNITIVE_MEMORY_DATA_DIR to a folder that can be written"
                )
            self._begin(patient)
            self._changes_before = self._connection.total_changes
            self._depth = 1
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def _begin(self, patient: bool) -> None:
        if not patient:
            self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._check_place()
        finally:
            if not patient:
                milliseconds = round(1000 * self._busy_timeout_seconds)
                self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def _check_place(self) -> None:
        """Raise ``StorageError`` when the file is gone: what is written to it would be, too."""
        try:
            is_there = _identity_of(self.path) == self._identity
        except OSError:
            is_there = False
        if not is_there:
            self._connection.execute("ROLLBACK")
            raise StorageError(
                f"{self.path} was moved, deleted or replaced while it was open; nothing was "
                "written: open the store again"
            )

    @property
    def writing(self) -> bool:
        """Whether a write transaction is open."""
        return self._depth > 0

    @property
    def has_changes(self) -> bool:
        """Whether a write transaction is open and has changed a row."""
        return self.writing and self._connection.total_changes > self._changes_before

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads inside it see one state of the store, whatever other processes write."""
        with self._lock, self.errors():
            if self._connection.in_transaction:
                yield
                return
            self._follow_writers()
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def _follow_writers(self) -> None:
        """Open a file anew that was at rest and is not any more: SQLite takes no notice."""
        if self._at_rest is None:
            return
        try:
            is_as_it_was = _state_at_rest(self.path) == self._at_rest
        except OSError:  # it was moved away, and what is open can still be read
            return
        if not is_as_it_was:
            self._connection.close()
            self._connection = self._connect()
            self._prepare()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One statement; its rows must be read within ``transaction`` or ``snapshot``."""
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """One statement for many rows; the number of rows changed."""
        return self._connection.executemany(sql, rows).rowcount

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy the whole database, one state of it, whatever others write.

        Raises ``sqlite3.Error``, of which only the caller can say which file it concerns.
        """
        with self._lock:
            # In one step: a copy in several would begin anew with each write of another process.
            self._connection.backup(target, progress=self._end_waiting)

    def copy_from(self, source: sqlite3.Connection) -> None:
        """Replace the whole database in one transaction; others see all of it or nothing.

        ``source`` must have pages of the same size.
        """
        with self._lock, self.errors():
            source.backup(self._connection, progress=self._end_waiting)

    def _end_waiting(self, status: int, _remaining: int, _total: int) -> None:
        """A copy has waited for the timeout by now, and would do so for ever."""
        if status in BUSY:
            raise StoreBusyError(held(self.path, self._busy_timeout_seconds))

    def compact(self) -> None:
        """Rewrite the file without free pages, and fold the log into it."""
        with self._lock, self.errors():
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def pragma(self, name: str) -> int:
        """The value of a numeric pragma."""
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def get_property(self, name: str) -> str | None:
        """What the store remembers under a name, within a snapshot."""
        row = self._connection.execute(
            "SELECT value FROM properties WHERE name = ?", [name]
        ).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's errors into this package's, with a fix."""
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self.path, self._busy_timeout_seconds) from error


def _state_at_rest(path: Path) -> tuple[int, ...] | None:
    """What changes whenever somebody writes the file; ``None`` while somebody has it open."""
    if Path(f"{path}-wal").exists():
        return None
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _identity_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
