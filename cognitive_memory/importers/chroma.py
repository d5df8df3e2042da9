"""Documents of Chroma: its persistent folder, or the JSON of ``collection.get()``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from ..core.interfaces import ImportSource
from ..core.memory import CognitiveMemory, MemoryConnection
from ..core.similarity import Vector
from .foreign import VECTORS, ForeignSource, moment, number_of
from .foreign_database import DatabaseSource
from .foreign_json import read_json
from .sniffing import CHROMA_FILE, SQLITE_MAGIC, reason

_NEEDED = {
    "collections": ("id", "name"),
    "segments": ("id", "scope", "collection"),
    "embeddings": ("id", "segment_id", "embedding_id", "created_at"),
    "embedding_metadata": ("id", "key", "string_value", "int_value", "float_value"),
}
_DOCUMENT, _URI = "chroma:document", "chroma:uri"
_DEFAULT_DATABASE = ("default_tenant", "default_database")


def open_chroma(path: str) -> ImportSource:
    """A folder, its database file, or a JSON file; raises ``SourceError``."""
    given = Path(path)
    file = given / CHROMA_FILE if given.is_dir() else given
    if given.is_dir() and not file.exists():
        raise SourceError(f"{path} is no Chroma folder: it holds no {CHROMA_FILE}")
    try:
        with file.open("rb") as opened:
            is_database = opened.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {reason(error)}; check the path") from None
    return ChromaFolder(str(file)) if is_database else ChromaResult(str(file))


class _Documents(ForeignSource):
    """Records become memories: their id is ``chroma:<collection>:<id>``, the collection a tag."""

    def connections(self) -> Iterator[MemoryConnection]:
        """None: Chroma has no edges."""
        return iter(())

    def _document(
        self,
        collection: str,
        record_id: Any,
        text: Any,
        created: datetime | None,
        metadata: Mapping[str, Any],
    ) -> CognitiveMemory | None:
        if (known := self._id(record_id)) is None:
            return None
        if text is None:
            self._lose("records without a document (a vector or a URI alone)")
            return None
        fields = {
            "tags": self._tags([collection]),
            "source_type": "chroma",
            "metadata": self._metadata(metadata),
        }
        return self._memory(f"chroma:{collection}:{known}", text, created, fields)


class ChromaFolder(DatabaseSource, _Documents):
    """All collections of ``chroma.sqlite3``, as Chroma has written it since version 0.4."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "Chroma", _NEEDED)

    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each record that has a document; vectors never come along."""
        self._losses.clear()
        self._lose(VECTORS, self._number("SELECT count(*) FROM embeddings"))
        self._lose("metadata of collections", self._collection_metadata())
        self._lose("writes that Chroma has not applied (open it with Chroma once)", self._pending())
        for segment, collection in self._segments():
            for rows in self._records(segment):
                first = rows[0]
                metadata = {**_values(rows), **self._lists(first["id"])}
                memory = self._document(
                    collection,
                    first["embedding_id"],
                    metadata.pop(_DOCUMENT, None),
                    _utc(first["created_at"]),
                    _with_uri(metadata),
                )
                if memory is not None:
                    yield memory, None

    def _segments(self) -> list[tuple[str, str]]:
        """The metadata segment of each collection, and the name that tells it from others."""
        place = "NULL AS tenant_id, NULL AS database_name"
        join = ""
        if "databases" in self._columns and "database_id" in self._columns["collections"]:
            place = "databases.tenant_id AS tenant_id, databases.name AS database_name"
            join = "LEFT JOIN databases ON databases.id = collections.database_id"
        rows = self._rows(
            f"SELECT segments.id AS segment, collections.name AS name, {place} FROM segments "
            f"JOIN collections ON collections.id = segments.collection {join} "
            "WHERE segments.scope = 'METADATA' ORDER BY collections.id"
        )
        found = []
        for row in rows:
            place_of = (row["tenant_id"], row["database_name"])
            is_default = place_of in (_DEFAULT_DATABASE, (None, None))
            prefix = "" if is_default else f"{place_of[0]}/{place_of[1]}/"
            found.append((row["segment"], prefix + row["name"]))
        return found

    def _records(self, segment: str) -> Iterator[list[sqlite3.Row]]:
        """For each record its rows, one for each value; one row without a key if it has none."""
        flag = self._column("embedding_metadata", "bool_value")
        rows = self._rows(
            "SELECT embeddings.id AS id, embedding_id, created_at, key, string_value, "
            f"int_value, float_value, {flag} FROM embeddings "
            "LEFT JOIN embedding_metadata ON embedding_metadata.id = embeddings.id "
            "WHERE segment_id = ? ORDER BY embeddings.id, key",
            [segment],
        )
        for _, group in groupby(rows, key=lambda row: row["id"]):
            yield list(group)

    def _lists(self, record: int) -> dict[str, list[Any]]:
        if "embedding_metadata_array" not in self._columns:
            return {}
        lists: dict[str, list[Any]] = {}
        sql = "SELECT * FROM embedding_metadata_array WHERE id = ? ORDER BY rowid"
        for row in self._rows(sql, [record]):
            lists.setdefault(row["key"], []).append(_value(row))
        return lists

    def _collection_metadata(self) -> int:
        if "collection_metadata" not in self._columns:
            return 0
        return self._number("SELECT count(DISTINCT collection_id) FROM collection_metadata")

    def _pending(self) -> int:
        """Rows of Chroma's own log that its tables do not hold yet, as after a crash."""
        queue = self._columns.get("embeddings_queue", set())
        if not {"seq_id", "topic"} <= queue or "max_seq_id" not in self._columns:
            return 0
        return self._number(
            "SELECT count(*) FROM embeddings_queue JOIN segments "
            "ON segments.scope = 'METADATA' "
            "AND embeddings_queue.topic LIKE '%' || segments.collection "
            "LEFT JOIN max_seq_id ON max_seq_id.segment_id = segments.id "
            "WHERE typeof(max_seq_id.seq_id) != 'blob' "
            "AND embeddings_queue.seq_id > coalesce(max_seq_id.seq_id, 0)"
        )


class ChromaResult(_Documents):
    """What ``collection.get()`` returned, as JSON; the file's name stands for the collection's."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        given = read_json(path)
        ids = given.get("ids") if isinstance(given, dict) else None
        if not isinstance(ids, list):
            raise SourceError(f"{path} is no result of Chroma's collection.get(): no list of ids")
        self._columns_of = {"ids": ids}
        for name in ("documents", "metadatas"):
            values = given.get(name)
            if values is not None and (not isinstance(values, list) or len(values) != len(ids)):
                raise SourceError(f"{path} holds {len(ids)} ids, and not as many {name}")
            self._columns_of[name] = values or [None] * len(ids)
        self._vectors = number_of(given.get("embeddings"))

    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each record that has a document."""
        self._losses.clear()
        self._lose(VECTORS, self._vectors)
        taken: set[str] = set()
        collection = Path(self._path).stem
        for record_id, text, metadata in zip(*self._columns_of.values(), strict=True):
            memory = self._document(collection, record_id, text, self._modified, metadata or {})
            if memory is None:
                continue
            if memory.id in taken:
                self._lose("records with the id of an earlier one")
                continue
            taken.add(memory.id)
            yield memory, None


def _value(row: sqlite3.Row) -> Any:
    names = row.keys()
    if "bool_value" in names and row["bool_value"] is not None:
        return bool(row["bool_value"])
    values = (row["string_value"], row["int_value"], row["float_value"])
    return next((value for value in values if value is not None), None)


def _values(rows: list[sqlite3.Row]) -> dict[str, Any]:
    return {row["key"]: _value(row) for row in rows if row["key"] is not None}


def _with_uri(metadata: dict[str, Any]) -> dict[str, Any]:
    uri = metadata.pop(_URI, None)
    return metadata if uri is None else {"uri": uri, **metadata}


def _utc(value: Any) -> datetime | None:
    """SQLite's CURRENT_TIMESTAMP is UTC and does not say so."""
    found = moment(f"{value}+00:00") if isinstance(value, str) else moment(value)
    return found and found.astimezone(UTC)
