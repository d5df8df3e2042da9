"""Small files as other systems write them, made from what is known of their layouts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NOON_SECONDS = 1_767_268_800.0
"""2026-01-01 12:00 UTC."""
NOON_JULIAN = 2_461_042.0
"""The same as a Julian day."""

HEIMDALL = """
CREATE TABLE memories (
    id TEXT PRIMARY KEY, content TEXT, memory_type TEXT, hierarchy_level INTEGER,
    dimensions TEXT DEFAULT '{}', timestamp REAL, strength REAL DEFAULT 1.0,
    access_count INTEGER DEFAULT 0, last_accessed REAL, decay_rate REAL DEFAULT 0.1,
    importance_score REAL DEFAULT 0.0, consolidation_status TEXT DEFAULT 'none', tags TEXT,
    context_metadata TEXT, cognitive_embedding TEXT
);
CREATE TABLE memory_connections (
    id INTEGER PRIMARY KEY, source_id TEXT, target_id TEXT, strength REAL,
    connection_type TEXT, activation_count INTEGER DEFAULT 1, context TEXT,
    UNIQUE (source_id, target_id, connection_type)
);
CREATE TABLE retrieval_stats (id INTEGER PRIMARY KEY, memory_id TEXT);
"""
OLD_HEIMDALL = """
CREATE TABLE memories (
    id TEXT PRIMARY KEY, content TEXT, memory_type TEXT, hierarchy_level INTEGER, timestamp REAL
);
CREATE TABLE memory_connections (
    source_id TEXT, target_id TEXT, strength REAL, connection_type TEXT
);
"""
CHROMA = """
CREATE TABLE tenants (id TEXT PRIMARY KEY);
CREATE TABLE databases (id TEXT PRIMARY KEY, name TEXT, tenant_id TEXT);
CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT, database_id TEXT);
CREATE TABLE collection_metadata (collection_id TEXT, key TEXT, str_value TEXT);
CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, collection TEXT);
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT, seq_id BLOB,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE embedding_metadata (
    id INTEGER, key TEXT, string_value TEXT, int_value INTEGER, float_value REAL,
    bool_value INTEGER, PRIMARY KEY (id, key)
);
CREATE TABLE embedding_metadata_array (
    id INTEGER, key TEXT, string_value TEXT, int_value INTEGER, float_value REAL,
    bool_value INTEGER
);
CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, topic TEXT, id TEXT);
CREATE TABLE max_seq_id (segment_id TEXT PRIMARY KEY, seq_id INTEGER);
INSERT INTO tenants VALUES ('default_tenant');
INSERT INTO databases VALUES ('d0', 'default_database', 'default_tenant');
"""
OLD_CHROMA = """
CREATE TABLE collections (id TEXT PRIMARY KEY, topic TEXT, name TEXT);
CREATE TABLE segments (id TEXT PRIMARY KEY, type TEXT, scope TEXT, topic TEXT, collection TEXT);
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT, seq_id BLOB, created_at TIMESTAMP
);
CREATE TABLE embedding_metadata (
    id INTEGER, key TEXT, string_value TEXT, int_value INTEGER, float_value REAL
);
CREATE TABLE embeddings_queue (seq_id INTEGER PRIMARY KEY, topic TEXT, id TEXT);
CREATE TABLE max_seq_id (segment_id TEXT PRIMARY KEY, seq_id BLOB);
"""

Rows = Mapping[str, Iterable[Mapping[str, Any]]]


def write_database(path: Path, schema: str, rows: Rows, *, write_ahead: bool = False) -> Path:
    """A database with this schema and, by table, these rows."""
    database = sqlite3.connect(path)
    if write_ahead:
        database.execute("PRAGMA journal_mode = WAL")
    with database:
        database.executescript(schema)
        for table, given in rows.items():
            for row in given:
                names = ", ".join(row)
                marks = ", ".join("?" * len(row))
                database.execute(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values())
                )
    database.close()
    return path


def heimdall_row(memory_id: str, **fields: Any) -> dict[str, Any]:
    """A memory of Heimdall whose other fields do not matter."""
    return {
        "id": memory_id,
        "content": f"text of {memory_id}",
        "memory_type": "episodic",
        "hierarchy_level": 2,
        "timestamp": NOON_SECONDS,
        **fields,
    }


def heimdall_edge(
    source: str, target: str, kind: str = "associative", strength: float = 0.5
) -> dict[str, Any]:
    """A connection of Heimdall."""
    return {
        "source_id": source,
        "target_id": target,
        "connection_type": kind,
        "strength": strength,
    }


def write_chroma(folder: Path, documents: Mapping[str, str | None]) -> Path:
    """A Chroma folder with one collection, ``notes``, of these documents."""
    folder.mkdir()
    rows: dict[str, list[dict[str, Any]]] = {
        "collections": [{"id": "c0", "name": "notes", "database_id": "d0"}],
        "segments": [
            {"id": "s0", "type": "metadata", "scope": "METADATA", "collection": "c0"},
            {"id": "v0", "type": "vector", "scope": "VECTOR", "collection": "c0"},
        ],
        "embeddings": [],
        "embedding_metadata": [],
        "max_seq_id": [{"segment_id": "s0", "seq_id": len(documents)}],
    }
    for number, (name, text) in enumerate(documents.items(), start=1):
        rows["embeddings"].append(
            {
                "id": number,
                "segment_id": "s0",
                "embedding_id": name,
                "seq_id": number,
                "created_at": "2026-01-01 12:00:00",
            }
        )
        if text is not None:
            rows["embedding_metadata"].append(
                {"id": number, "key": "chroma:document", "string_value": text}
            )
    write_database(folder / "chroma.sqlite3", CHROMA, rows)
    return folder


def add_rows(path: Path, rows: Rows) -> None:
    """More rows for a database that is there."""
    write_database(path, "", rows)
