"""What a derived index has yet to learn of a store: kept by triggers, in the same transactions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from .database import Database
from .embeddings import Embedding, Embeddings

_TARGET, _BUILDING, _FAULT, _STORE = "outbox", "outbox_building", "outbox_fault", "store"


@dataclass(frozen=True, slots=True)
class Entry:
    """A memory that has changed; its number is that of its last change."""

    number: int
    memory_id: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """One state of a store, as its derived index should know it."""

    serving: Embedding | None
    target: str | None
    """The index that changes are collected for."""
    is_complete: bool
    """Whether it has held all of the store once, and nothing else."""
    entries: list[Entry]
    """The oldest changes that it does not know, in order."""
    is_uncommitted: bool
    """Whether this was seen from within a transaction that writes."""


class Outbox:
    """The changes of a ``Database`` that wait for ``target``, a derived index, in order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._embeddings = Embeddings(database)

    def store_id(self) -> str:
        """What tells this store from others that share an index; made when first asked for.

        Empty for a store without one that cannot be written.
        """
        with self._database.snapshot():
            known = self._database.get_property(_STORE)
        if known is None and not self._database.read_only:
            with self._database.transaction():
                self._database.execute(
                    "INSERT OR IGNORE INTO properties (name, value) VALUES (?, ?)",
                    [_STORE, uuid4().hex[:12]],
                )
                known = self._database.get_property(_STORE)
        return known or ""

    def adopt(self, store_id: str) -> None:
        """Take the place of another store."""
        with self._database.transaction():
            self._set(_STORE, store_id)

    def begin(self, target: str) -> None:
        """Collect changes for ``target``, which may hold anything: all of the store waits."""
        with self._database.transaction():
            self._set(_TARGET, target)
            self._set(_BUILDING, "yes")
            self._database.execute("DELETE FROM outbox")
            self._database.execute(
                "INSERT INTO outbox (memory_id) SELECT id FROM memories ORDER BY pk"
            )

    def complete(self, target: str) -> None:
        """Note that ``target`` has held all of the store, unless that is no longer asked."""
        with self._database.transaction():
            if self._database.get_property(_TARGET) == target:
                self._forget(_BUILDING)

    def end(self) -> None:
        """Collect no more changes."""
        with self._database.transaction():
            self._forget(_TARGET, _BUILDING, _FAULT)
            self._database.execute("DELETE FROM outbox")

    def look(self, limit: int) -> Backlog:
        """The state of the store now, with at most ``limit`` changes."""
        with self._database.snapshot():
            rows = self._database.execute(
                "SELECT entry, memory_id FROM outbox ORDER BY entry LIMIT ?", [limit]
            ).fetchall()
            return Backlog(
                self._embeddings.serving(),
                self._database.get_property(_TARGET),
                self._database.get_property(_BUILDING) is None,
                [Entry(*row) for row in rows],
                self._database.writing,
            )

    def target(self) -> str | None:
        """The index that changes are collected for."""
        with self._database.snapshot():
            return self._database.get_property(_TARGET)

    def count(self, target: str) -> int:
        """Memories that wait for ``target``: all, where changes are not collected for it."""
        with self._database.snapshot():
            is_begun = self._database.get_property(_TARGET) == target
            table = "outbox" if is_begun else "memories"
            return int(self._database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def unknown(self, memory_ids: Sequence[str]) -> list[str]:
        """Those that no memory has."""
        with self._database.snapshot():
            rows = self._database.execute(
                "SELECT value FROM json_each(?) "
                "WHERE NOT EXISTS (SELECT 1 FROM memories WHERE id = value)",
                [json.dumps(list(memory_ids))],
            ).fetchall()
        return [str(row[0]) for row in rows]

    def add(self, memory_ids: Sequence[str]) -> None:
        """Let these memories wait, too, whether they exist or not."""
        with self._database.transaction():
            self._database.execute_many(
                "INSERT INTO outbox (memory_id) VALUES (?) ON CONFLICT DO NOTHING",
                [(memory_id,) for memory_id in memory_ids],
            )

    def remove(self, entries: Sequence[Entry]) -> None:
        """Forget what the index has learned; a memory that changed again meanwhile stays."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM outbox WHERE entry IN (SELECT value FROM json_each(?))",
                [json.dumps([entry.number for entry in entries])],
            )
            self._forget(_FAULT)

    def fault(self) -> str | None:
        """Why the index could not be told last, in whichever process."""
        with self._database.snapshot():
            return self._database.get_property(_FAULT)

    def set_fault(self, fault: str | None) -> None:
        """Let other processes know."""
        with self._database.transaction():
            if fault is None:
                self._forget(_FAULT)
            else:
                self._set(_FAULT, fault)

    def _set(self, name: str, value: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO properties (name, value) VALUES (?, ?)", [name, value]
        )

    def _forget(self, *names: str) -> None:
        self._database.execute_many(
            "DELETE FROM properties WHERE name = ?", [(name,) for name in names]
        )
