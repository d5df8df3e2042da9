"""Memories, connections and words in one SQLite file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any

import numpy as np

from ..core.errors import (
    InvalidInputError,
    StoreBusyError,
    StoreFormatError,
    StoreFullError,
)
from ..core.interfaces import MemoryRecord
from ..core.memory import (
    LOADED_TYPES,
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    TextHit,
    check_distinct,
)
from .database import Database
from .embeddings import SERVING, Embeddings
from .filters import to_microseconds, where
from .integrity import find_faults
from .memory_rows import UPSERT, select_memories, to_row
from .word_ranking import Pks, rank_by_words
from .words import query_words

_EdgeKey = tuple[int, int, str]
"""Source, target and type of an edge, its ends as the file numbers memories."""

_TYPES = {str(kind): kind for kind in ConnectionType}


class SQLitePersistence(MemoryRecord):
    """The record, its edges and its full-text index. Thread-safe through its ``Database``."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside it become durable together, or none of them."""
        return self.database.transaction()

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Insert, or replace those with the same id; connections of a replaced one stay.

        Raises ``InvalidInputError`` for a memory given twice.
        """
        check_distinct(memories)
        with self.database.transaction():
            self.database.execute_many(UPSERT, (to_row(memory) for memory in memories))
            self.database.execute_many(
                "DELETE FROM tags WHERE memory_pk = (SELECT pk FROM memories WHERE id = ?)",
                [(memory.id,) for memory in memories],
            )
            self.database.execute_many(
                "INSERT INTO tags (memory_pk, position, tag) "
                "SELECT pk, ?, ? FROM memories WHERE id = ?",
                [
                    (position, tag, memory.id)
                    for memory in memories
                    for position, tag in enumerate(memory.tags)
                ],
            )

    def get_memories(self, memory_ids: Sequence[str]) -> list[CognitiveMemory]:
        """Those that exist, in the order asked for."""
        found = self._select(MemoryFilter(memory_ids=tuple(memory_ids)))
        by_id = {memory.id: memory for memory in found}
        return [by_id[memory_id] for memory_id in memory_ids if memory_id in by_id]

    def find_memories(
        self, filters: MemoryFilter | None = None, limit: int | None = None
    ) -> list[CognitiveMemory]:
        """Those that match, newest first, ties by id."""
        return self._select(
            filters, "ORDER BY created_us DESC, id LIMIT ?", [-1 if limit is None else limit]
        )

    def iterate_memories(self, batch_size: int = 1024) -> Iterator[list[CognitiveMemory]]:
        """All memories in order of id, in the memory of one batch."""
        batch = self._select(None, "ORDER BY id LIMIT ?", [batch_size])
        while batch:
            yield batch
            tail = "AND id > ? ORDER BY id LIMIT ?"
            batch = self._select(None, tail, [batch[-1].id, batch_size])

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads inside it see one state of the file; other threads of this handle wait."""
        return self.database.snapshot()

    def delete_memories(self, memory_ids: Sequence[str]) -> int:
        """Number of memories that were there and are gone, with all that hangs on them."""
        with self.database.transaction():
            return self.database.execute(
                "DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?))",
                [json.dumps(list(memory_ids))],
            ).rowcount

    def record_access(self, memory_ids: Sequence[str], moment: datetime) -> None:
        """Count one access to each, unless the store cannot be written just now.

        The counts are worth less than the answer that they count, so they never delay it.
        """
        if self.database.read_only or not memory_ids:
            return
        with (
            suppress(StoreBusyError, StoreFullError),
            self.database.transaction(patient=False),
        ):
            self.database.execute(
                "UPDATE memories SET access_count = access_count + 1, "
                "last_accessed_us = max(last_accessed_us, ?) "
                "WHERE id IN (SELECT value FROM json_each(?))",
                [to_microseconds(moment), json.dumps(list(memory_ids))],
            )

    def add_connections(self, connections: Sequence[MemoryConnection]) -> None:
        """Insert, or replace the edge of the same ends and type.

        Raises ``InvalidInputError`` when an end does not exist or the strength is not in (0, 1].
        """
        with self.database.transaction():
            self._put_edges(self._edge_rows(connections))

    def replace_connections(
        self,
        memory_ids: Sequence[str],
        connections: Sequence[MemoryConnection],
        kinds: Collection[ConnectionType] = LOADED_TYPES,
    ) -> None:
        """Drop the edges of these kinds that begin at these memories, and add others."""
        with self.database.transaction():
            wanted = self._edge_rows(connections)
            rows = self.database.execute(
                "SELECT source_pk, target_pk, connection_type, strength FROM connections "
                "WHERE connection_type IN (SELECT value FROM json_each(?)) AND source_pk IN "
                "(SELECT pk FROM memories WHERE id IN (SELECT value FROM json_each(?)))",
                [json.dumps(list(kinds)), json.dumps(list(memory_ids))],
            )
            held = {row[:3]: row[3] for row in rows}
            # Only what differs is written: of the edges of a whole store, that is little.
            self.database.execute_many(
                "DELETE FROM connections "
                "WHERE source_pk = ? AND target_pk = ? AND connection_type = ?",
                held.keys() - wanted.keys(),
            )
            self._put_edges({key: wanted[key] for key in wanted if held.get(key) != wanted[key]})

    def _edge_rows(self, connections: Sequence[MemoryConnection]) -> dict[_EdgeKey, float]:
        """The strength of each edge; of the same ends and type the last one counts."""
        for edge in connections:
            if not 0 < edge.strength <= 1:
                raise InvalidInputError(
                    f"got connection strength {edge.strength}; it must be above 0, at most 1"
                )
        ends = {end for edge in connections for end in (edge.source_id, edge.target_id)}
        condition, values = _in_list(ends)
        pks = dict(self.database.execute(f"SELECT id, pk FROM memories WHERE {condition}", values))
        if len(pks) < len(ends):
            raise InvalidInputError(
                f"cannot connect memory {min(ends - pks.keys())!r}: it does not exist; "
                "store it first"
            )
        return {
            (pks[edge.source_id], pks[edge.target_id], str(edge.connection_type)): edge.strength
            for edge in connections
        }

    def _put_edges(self, edges: Mapping[_EdgeKey, float]) -> None:
        self.database.execute_many(
            "INSERT OR REPLACE INTO connections "
            "(source_pk, target_pk, connection_type, strength) VALUES (?, ?, ?, ?)",
            ((*key, strength) for key, strength in edges.items()),
        )

    def get_connections(self, memory_ids: Sequence[str]) -> list[MemoryConnection]:
        """All edges that begin or end at one of these memories, strongest first."""
        with self.database.snapshot():
            wanted = json.dumps(self._pks(*_in_list(memory_ids)).tolist())
            rows = self.database.execute(
                "SELECT * FROM connections WHERE source_pk IN (SELECT value FROM json_each(?1)) "
                "UNION ALL "
                "SELECT * FROM connections WHERE target_pk IN (SELECT value FROM json_each(?1)) "
                "AND source_pk NOT IN (SELECT value FROM json_each(?1))",
                [wanted],
            ).fetchall()
            ends = json.dumps(list({pk for row in rows for pk in row[:2]}))
            # Looked up once for each memory, not once for each end of an edge.
            ids = dict(
                self.database.execute(
                    "SELECT pk, id FROM memories WHERE pk IN (SELECT value FROM json_each(?))",
                    [ends],
                )
            )
        try:
            edges = [
                MemoryConnection(ids[source], ids[target], _TYPES[kind], strength)
                for source, target, kind, strength in rows
            ]
        except KeyError as error:
            raise StoreFormatError(
                f"a connection of {self.database.path} is damaged: {error} is no type of "
                "connection, or no memory; restore the store from a backup"
            ) from error
        edges.sort(key=lambda e: (-e.strength, e.source_id, e.target_id, e.connection_type))
        return edges

    def search_text(
        self,
        query: str,
        k: int,
        filters: MemoryFilter | None = None,
        also: Collection[str] = (),
    ) -> list[TextHit]:
        """The ``k`` best memories by their words, best first, ties by id, and those of ``also``.

        Words are those of the text (FTS5, Porter stems), its day, tags, file and metadata; how
        they are weighed says ``word_ranking``.
        """
        words = query_words(query)
        if not words or k <= 0:
            return []
        with self.database.snapshot():
            ranking = rank_by_words(words, self._postings, self._count("memories"))
            allowed = None if filters is None else self._pks(*where(filters))
            asked = self._pks(*_in_list(also))
            chosen = ranking.choose(k, allowed, asked)
            rows = self.database.execute(
                "SELECT pk, id, length(content) FROM memories "
                "WHERE pk IN (SELECT value FROM json_each(?))",
                [json.dumps(chosen.tolist())],
            ).fetchall()
        ids = {pk: memory_id for pk, memory_id, _ in rows}
        scores = ranking.scores({pk: length for pk, _, length in rows})
        inside = set(scores) if allowed is None else set(allowed.tolist())
        hits = [TextHit(ids[pk], score) for pk, score in scores.items() if pk in inside]
        hits.sort(key=lambda hit: (-hit.score, hit.memory_id))
        kept = set(also)
        return hits[:k] + [hit for hit in hits[k:] if hit.memory_id in kept]

    def _postings(self, expression: str, limit: int) -> Pks:
        """Memories that match, in the order in which they were stored, at most ``limit``."""
        # As one value: ten thousand rows would be ten thousand tuples.
        row = self.database.execute(
            "SELECT group_concat(rowid) FROM "
            "(SELECT rowid FROM memories_text WHERE memories_text MATCH ? LIMIT ?)",
            [expression, limit],
        ).fetchone()
        return np.fromstring(row[0] or "", dtype=np.int64, sep=",")

    def _pks(self, condition: str, values: Sequence[Any]) -> Pks:
        rows = self.database.execute(f"SELECT pk FROM memories WHERE {condition}", values)
        return np.array(rows.fetchall(), dtype=np.int64).ravel()

    def get_statistics(self) -> dict[str, Any]:
        """JSON values: counts by level and type, size in bytes, schema version, fingerprint."""

        def counts(column: str) -> dict[str, int]:
            sql = f"SELECT {column}, count(*) FROM memories GROUP BY 1 ORDER BY 1"
            return {str(key): count for key, count in self.database.execute(sql)}

        with self.database.snapshot():
            serving = Embeddings(self.database).serving()
            return {
                "path": str(self.database.path),
                "bytes": self.database.pragma("page_count") * self.database.pragma("page_size"),
                "schema_version": self.database.pragma("user_version"),
                "fingerprint": serving.fingerprint if serving else None,
                "read_only": self.database.read_only,
                "memories_by_level": counts("hierarchy_level"),
                "memories_by_type": counts("memory_type"),
                "memories_by_source_type": counts("source_type"),
                "memories": self._count("memories"),
                "vectors": self._count(f"vectors WHERE embedding = ({SERVING})"),
                "connections": self._count("connections"),
                "sources": self._count("memories", "DISTINCT source_path"),
            }

    def check_integrity(self) -> list[str]:
        """Faults found in the file, none if it is sound; reads all of it."""
        return find_faults(self.database)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _count(self, table: str, what: str = "*") -> int:
        row = self.database.execute(f"SELECT count({what}) FROM {table}")
        return int(row.fetchone()[0])

    def _select(
        self, filters: MemoryFilter | None, tail: str = "", tail_values: Sequence[Any] = ()
    ) -> list[CognitiveMemory]:
        condition, values = where(filters)
        return select_memories(self.database, f"{condition} {tail}", [*values, *tail_values])


def _in_list(memory_ids: Collection[str]) -> tuple[str, list[Any]]:
    return "id IN (SELECT value FROM json_each(?))", [json.dumps(list(memory_ids))]
