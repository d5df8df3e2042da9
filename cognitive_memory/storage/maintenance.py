"""Copies of a store, taken while it is used, and giving back the space of what is gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from glob import escape
from pathlib import Path
from stat import S_ISREG
from tempfile import mkstemp

from ..core.errors import StorageError, StoreFormatError, StoreFullError, StoreReadOnlyError
from ..core.leftovers import remove_leftovers
from .database import Database
from .outbox import Outbox
from .schema import APPLICATION_ID, schema_version
from .sqlite_errors import DAMAGED, primary_code

NEW_EPOCH = "UPDATE properties SET value = lower(hex(randomblob(16))) WHERE name = 'epoch'"
"""Every index that was made of the store is void: what it would catch up from is not there."""

SECONDS_A_DAY = 86_400
"""Longer than any copy takes."""

_OWN_FILES = ("", "-wal", "-shm", "-journal", "-vectors", "-replication")

_OTHER_BACKUP = "name a file that 'cognitive-memory backup' wrote"


def back_up(database: Database, target: Path) -> int:
    """Copy one state of the store, whatever others write meanwhile; the copy's size in bytes.

    The copy appears whole or not at all, and is checked first. Raises ``StorageError``, and
    ``StoreFormatError`` where the store is damaged.
    """
    if belongs_to(target, database.path):
        raise StorageError(f"{target} is the store itself; name another file for the backup")
    target = _replaceable(target)
    _refuse_log(target)
    fix = f"it was not copied to {target}; restore an earlier backup"
    with _beside(target) as copy:
        with _copying(database.path, copy, fix), closing(sqlite3.connect(copy)) as connection:
            database.copy_to(connection)
            # A copy is one file: a log beside it would be left behind when it is moved.
            connection.execute("PRAGMA journal_mode = DELETE")
            _check(connection, database.path, fix)
        _put_in_place(copy, target)
        return target.stat().st_size


def restore(database: Database, source: Path) -> None:
    """Make the store what it was when ``source`` was backed up, in one transaction.

    Processes that have it open see the restored state from their next call on. Raises
    ``StoreFormatError`` for what is no sound backup; the store is as it was then.
    """
    if database.read_only:
        raise StoreReadOnlyError(f"{database.path} cannot be written; check its permissions")
    with _beside(database.path) as copy:
        _take(source, copy)
        # Opening it brings an older schema up to date. The rest is done before it is put in place.
        with closing(Database(copy)) as taken, taken.transaction():
            taken.execute(NEW_EPOCH)
            # A remote index has to learn all of it, and knows this store by its own mark.
            Outbox(taken).end()
            Outbox(taken).adopt(Outbox(database).store_id())
        with _copying(source, copy, _OTHER_BACKUP), closing(sqlite3.connect(copy)) as connection:
            _give_pages_of(connection, database.pragma("page_size"))
            database.copy_from(connection)


def vacuum(database: Database) -> tuple[int, int]:
    """Give back the space of what was deleted; the store's size in bytes before and after.

    While another process reads an older state, the space is given back only when that is done.
    """
    before = _size(database.path)
    with database.transaction():
        database.execute("DELETE FROM vector_deletions")
        database.execute(NEW_EPOCH)
        database.execute("INSERT INTO memories_text (memories_text) VALUES ('optimize')")
    database.compact()
    return before, _size(database.path)


def _size(path: Path) -> int:
    """With the log, which holds what is not in the file yet."""
    log = Path(f"{path}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def belongs_to(target: Path, store: Path) -> bool:
    """Whether ``target`` is the file of a store, or one that it keeps, or will keep, beside it."""
    return any(_is_same(target, Path(f"{store}{end}")) for end in _OWN_FILES)


def _is_same(target: Path, other: Path) -> bool:
    try:
        return target.samefile(other)
    except OSError:  # one of them does not exist, or cannot be reached, which writing will tell
        return os.path.realpath(target) == os.path.realpath(other)


def _replaceable(target: Path) -> Path:
    """Where a copy is put so that links stay; raises ``StorageError`` for what is no file."""
    with suppress(OSError):  # it does not exist, or cannot be reached, which writing will tell
        if target.is_symlink():
            target = Path(os.path.realpath(target))
        if not S_ISREG(target.stat().st_mode):
            raise StorageError(f"{target} is a folder or a device; name a file for the backup")
    return target


def _refuse_log(target: Path) -> None:
    """Whoever opens a file applies the log beside it, whatever file the log was written for."""
    for log in (Path(f"{target}-wal"), Path(f"{target}-journal")):
        with suppress(OSError):  # most have none
            if log.stat().st_size:
                raise StorageError(
                    f"{target} is open as a store, or was when its process was killed, and "
                    f"{log.name} lies beside it; name another file for the backup"
                )


def _take(source: Path, copy: Path) -> None:
    """Copy a sound backup of a schema that this version reads."""
    try:
        with source.open("rb"):
            pass
    except OSError as error:
        raise StorageError(f"{source} cannot be read: {error.strerror}; {_OTHER_BACKUP}") from None
    with (
        _copying(source, copy, _OTHER_BACKUP),
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as backup,
        closing(sqlite3.connect(copy)) as taken,
    ):
        backup.backup(taken)
        if taken.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreFormatError(f"{source} is no store of this application; {_OTHER_BACKUP}")
        schema_version(taken, source)
        _check(taken, source, _OTHER_BACKUP)


def _check(connection: sqlite3.Connection, source: Path, fix: str) -> None:
    """Raise ``StoreFormatError`` where the copy of ``source`` is not sound."""
    fault = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if fault != "ok":
        raise StoreFormatError(f"{source} is damaged ({' '.join(fault.split())}); {fix}")


def _give_pages_of(connection: sqlite3.Connection, size: int) -> None:
    """Pages of ``size`` bytes: SQLite copies no others over a store that has a log."""
    if connection.execute("PRAGMA page_size").fetchone()[0] != size:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"PRAGMA page_size = {size}")
        connection.execute("VACUUM")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new file in the folder of ``path``, which is gone in the end unless it was moved."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, f"{escape(path.name)}.*.part*", SECONDS_A_DAY)
        handle, name = mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise StoreReadOnlyError(
            f"cannot write in {path.parent}: {error.strerror}; name a folder that can be written"
        ) from None
    try:
        yield Path(name)
    finally:
        for leftover in (name, f"{name}-wal", f"{name}-shm", f"{name}-journal"):
            Path(leftover).unlink(missing_ok=True)


def _put_in_place(copy: Path, target: Path) -> None:
    try:
        copy.replace(target)
        if hasattr(os, "O_DIRECTORY"):  # elsewhere, folders cannot be synced
            folder = os.open(target.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}; name another file") from None


@contextmanager
def _copying(source: Path, copy: Path, fix: str) -> Iterator[None]:
    """Turn SQLite's errors into this package's: damage is the source's, the rest the copy's."""
    try:
        yield
    except sqlite3.Error as error:
        code = primary_code(error)
        if code in DAMAGED:
            raise StoreFormatError(f"{source} is not a sound store ({error}); {fix}") from error
        if code == sqlite3.SQLITE_FULL:
            raise StoreFullError(f"no space left in {copy.parent}; free some") from error
        raise StorageError(
            f"cannot copy {source} to {copy.parent} ({error}); a disk may be full or failing: "
            "check both"
        ) from error
