"""What a Heimdall store leaves behind, and what of it is carried over."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from foreign_files import (
    HEIMDALL,
    NOON_JULIAN,
    NOON_SECONDS,
    OLD_HEIMDALL,
    heimdall_edge,
    heimdall_row,
    write_database,
)
from systems import open_system

from cognitive_memory.core.errors import SourceError
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.importers.foreign import VECTORS
from cognitive_memory.importers.heimdall import HeimdallSource
from cognitive_memory.testing import make_memory
from cognitive_memory.testing.examples import NOON

LIMIT = 1_000

Taken = tuple[list[CognitiveMemory], list[MemoryConnection], dict[str, int]]


def taken(path: Path) -> Taken:
    """Memories, connections and losses, the same when read again."""
    with HeimdallSource(str(path)) as source:
        count = source.check(LIMIT)
        memories = [memory for memory, _ in source.memories()]
        assert count == len(memories)
        return memories, list(source.connections()), dict(source.losses())


def heimdall(path: Path, *rows: dict[str, Any], edges: Any = (), **options: Any) -> Path:
    given = {"memories": rows, "memory_connections": edges}
    return write_database(path / "heimdall.db", HEIMDALL, given, **options)


def test_every_field_with_a_counterpart_is_carried_over(tmp_path: Path) -> None:
    row = heimdall_row(
        "größe/1",
        content="We dropped Redis.",
        memory_type="semantic",
        hierarchy_level=0,
        timestamp=NOON_SECONDS + 0.123456,
        last_accessed=NOON_SECONDS + 60,
        access_count=4,
        importance_score=0.7,
        tags=json.dumps(["adr", "größe"]),
        context_metadata=json.dumps(
            {
                "source_path": "/notes/a.md",
                "source_type": "documentation",
                "tags": ["adr"],
                "hierarchy_level": 0,
                "title": "Redis",
                "deep": {"n": [1, None]},
            }
        ),
    )
    memories, _, losses = taken(heimdall(tmp_path, row))
    assert memories == [
        CognitiveMemory(
            id="größe/1",
            content="We dropped Redis.",
            hierarchy_level=0,
            memory_type=MemoryType.SEMANTIC,
            importance_score=0.7,
            tags=("adr", "größe"),
            source_path="/notes/a.md",
            source_type="documentation",
            created_date=NOON + timedelta(microseconds=123_456),
            last_accessed=NOON + timedelta(minutes=1),
            access_count=4,
            metadata={"title": "Redis", "deep": {"n": [1, None]}},
        )
    ]
    assert losses == {VECTORS: 1}


def test_a_last_access_is_read_as_seconds_and_as_julian_day(tmp_path: Path) -> None:
    rows = [
        heimdall_row("julian", last_accessed=NOON_JULIAN + 1),
        heimdall_row("never", last_accessed=None),
        heimdall_row("seconds", last_accessed=NOON_SECONDS + 86_400),
    ]
    memories, _, _ = taken(heimdall(tmp_path, *rows))
    day = timedelta(days=1)
    assert [memory.last_accessed - NOON for memory in memories] == [day, day * 0, day]


def test_connections_keep_their_kind_and_strength(tmp_path: Path) -> None:
    edges = [
        heimdall_edge("a", "b", "sequential", 0.3),
        heimdall_edge("b", "a", "hierarchical", 1.0),
        heimdall_edge("a", "b", "associative", 0.9),
    ]
    _, connections, losses = taken(
        heimdall(tmp_path, heimdall_row("a"), heimdall_row("b"), edges=edges)
    )
    assert connections == [
        MemoryConnection("a", "b", ConnectionType.ASSOCIATIVE, 0.9),
        MemoryConnection("a", "b", ConnectionType.SEQUENTIAL, 0.3),
        MemoryConnection("b", "a", ConnectionType.HIERARCHICAL, 1.0),
    ]
    assert losses == {VECTORS: 2}


def test_connections_that_cannot_be_kept_are_counted(tmp_path: Path) -> None:
    rows = [heimdall_row("a"), heimdall_row("b"), heimdall_row("blank", content="\n")]
    edges = [
        heimdall_edge("a", "b", "consolidation", 0.9),
        heimdall_edge("a", "b", "reference", 0.4),
        heimdall_edge("a", "b", "weak", 0.0),
        heimdall_edge("a", "blank"),
        heimdall_edge("gone", "a"),
        {**heimdall_edge("b", "a"), "activation_count": 5, "context": "{}"},
    ]
    _, connections, losses = taken(heimdall(tmp_path, *rows, edges=edges))
    assert connections == [
        MemoryConnection("a", "b", ConnectionType.EXPLICIT, 0.9),
        MemoryConnection("b", "a", ConnectionType.ASSOCIATIVE, 0.5),
    ]
    assert losses == {
        VECTORS: 3,
        "activation counts of connections": 1,
        "contexts of connections": 1,
        "memories without text": 1,
        "connections of memories that are not there": 1,
        "names of connections ('consolidation' became 'explicit')": 1,
        "names of connections ('reference' became 'explicit')": 1,
        "connections beside a stronger one of the same kind": 1,
        "connections of strength 0": 1,
        "connections of memories that were left out": 1,
    }


LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "no text": ({"content": None}, None, "memories without text"),
    "bytes": ({"content": b"abc"}, None, "memories without text"),
    "NUL": ({"content": "a\0b"}, None, "memories whose text holds NUL"),
    "too long": ({"content": "x" * (LIMIT + 1)}, None, "exceeds 1,000 bytes"),
    "a tag that is no text": ({"tags": '["x", 1, ""]'}, {"tags": ("x",)}, "tags that are blank"),
    "tags that are no list": ({"tags": '"x"'}, {"tags": ()}, "tags that are blank"),
    "tags that are no JSON": ({"tags": "x, y"}, {"tags": ()}, "tags that are blank"),
    "metadata that is no JSON": ({"context_metadata": "{"}, {}, "metadata that is no JSON object"),
    "metadata in a list": ({"context_metadata": "[]"}, {}, "metadata that is no JSON object"),
    "half a character": ({"context_metadata": '{"a": "\\ud800"}'}, {}, "metadata that is no JSON"),
    "NaN in metadata": ({"context_metadata": '{"a": NaN}'}, {}, "metadata that is no JSON object"),
    "an unknown type": ({"memory_type": "x"}, {}, "memory types other than"),
    "an unknown level": ({"hierarchy_level": 7}, {}, "hierarchy levels other than 0, 1 and 2"),
    "too important": ({"importance_score": 3.0}, {"importance_score": 1.0}, "importance scores"),
    "less than unimportant": ({"importance_score": -1.0}, {}, "importance scores outside"),
    "dimensions": ({"dimensions": '{"a": [1]}'}, {}, "cognitive dimensions"),
    "strength": ({"strength": 0.5}, {}, "memory strengths other than 1"),
    "decay": ({"decay_rate": 0.2}, {}, "decay rates other than 0.1"),
    "consolidation": ({"consolidation_status": "candidate"}, {}, "consolidation states"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_what_cannot_be_kept_is_counted(tmp_path: Path, case: str) -> None:
    fields, expected, reason = LOSSES[case]
    memories, _, losses = taken(heimdall(tmp_path, heimdall_row("a", **fields)))
    if expected is None:
        assert memories == []
    else:
        assert memories == [make_memory("a", source_type="heimdall", **expected)]
    (found,) = [what for what in losses if what != VECTORS]
    assert reason in found
    assert losses[found] == (2 if case == "a tag that is no text" else 1)


def test_text_that_is_no_utf8_is_left_out(tmp_path: Path) -> None:
    path = heimdall(tmp_path, heimdall_row("a"), heimdall_row("b"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE memories SET content = CAST(x'ff61' AS TEXT) WHERE id = 'a'")
    database.close()
    memories, _, losses = taken(path)
    assert [memory.id for memory in memories] == ["b"]
    assert "is no Unicode" in "".join(losses)


def test_ids_that_are_numbers_become_texts(tmp_path: Path) -> None:
    """As a column without a type keeps them."""
    rows = [{**heimdall_row("a"), "id": number} for number in (1, 2)]
    edge = {**heimdall_edge("a", "b"), "source_id": 1, "target_id": 2}
    given = {"memories": rows, "memory_connections": [edge]}
    schema = HEIMDALL.replace("id TEXT", "id")
    memories, connections, _ = taken(write_database(tmp_path / "x.db", schema, given))
    assert [memory.id for memory in memories] == ["1", "2"]
    assert [(edge.source_id, edge.target_id) for edge in connections] == [("1", "2")]


def test_a_missing_time_is_that_of_the_file(tmp_path: Path) -> None:
    path = heimdall(tmp_path, heimdall_row("a", timestamp=None))
    (memory,), _, losses = taken(path)
    assert memory.created_date.timestamp() == pytest.approx(path.stat().st_mtime, abs=1e-3)
    assert losses["creation times (the file's own time was taken)"] == 1


def test_retrieval_statistics_are_counted(tmp_path: Path) -> None:
    given = {"memories": [heimdall_row("a")], "retrieval_stats": [{"memory_id": "a"}] * 3}
    assert taken(write_database(tmp_path / "x.db", HEIMDALL, given))[2] == {
        VECTORS: 1,
        "retrieval statistics": 3,
    }


def test_an_older_store_without_the_later_columns_is_read(tmp_path: Path) -> None:
    given = {
        "memories": [heimdall_row("a"), heimdall_row("b")],
        "memory_connections": [heimdall_edge("a", "b")],
    }
    memories, connections, losses = taken(write_database(tmp_path / "x.db", OLD_HEIMDALL, given))
    assert [memory.content for memory in memories] == ["text of a", "text of b"]
    assert len(connections) == 1
    assert losses == {VECTORS: 2}


def test_nothing_beside_a_store_with_a_write_ahead_log_is_made(tmp_path: Path) -> None:
    path = heimdall(tmp_path, heimdall_row("a"), write_ahead=True)
    assert len(taken(path)[0]) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["heimdall.db"]


def test_a_store_in_use_is_read_with_its_log_as_one_state(tmp_path: Path) -> None:
    path = heimdall(tmp_path, heimdall_row("a"), write_ahead=True)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("INSERT INTO memories (id, content, timestamp) VALUES ('b', 'text', 0)")
    with HeimdallSource(str(path)) as source:
        assert source.check(LIMIT) == 2
        writer.execute("DELETE FROM memories WHERE id = 'a'")
        assert [memory.id for memory, _ in source.memories()] == ["a", "b"]
    writer.close()


def test_importing_again_updates_and_keeps_what_use_has_added(tmp_path: Path) -> None:
    path = heimdall(
        tmp_path,
        heimdall_row("a", access_count=2),
        heimdall_row("b"),
        edges=[heimdall_edge("a", "b", "sequential")],
    )
    later = NOON + timedelta(days=9)
    with open_system(tmp_path / "store.db") as system:
        with HeimdallSource(str(path)) as source:
            first = system.import_memories(source)
        assert (first.added, first.connections_added, first.embedded) == (2, 1, 2)
        system.memories.record_access(["a"], later)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE memories SET content = 'other' WHERE id = 'b'")
        database.close()
        with HeimdallSource(str(path)) as source:
            again = system.import_memories(source)
        assert (again.added, again.updated, again.unchanged, again.embedded) == (0, 1, 1, 1)
        assert again.connections_unchanged == 1
        assert again.losses == {VECTORS: 2}
        (a, b) = system.memories.get_memories(["a", "b"])
        assert (a.access_count, a.last_accessed, b.content) == (3, later, "other")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.md"
    text.write_text("# Notes", encoding="utf-8")
    with pytest.raises(SourceError, match=r"notes\.md is no SQLite database"):
        HeimdallSource(str(text))
    with pytest.raises(SourceError, match=r"cannot read /nowhere/x\.db: No such file"):
        HeimdallSource("/nowhere/x.db")
    with pytest.raises(SourceError, match="Is a directory"):
        HeimdallSource(str(tmp_path))
    other = write_database(tmp_path / "other.db", "CREATE TABLE memories (id, content);", {})
    with pytest.raises(SourceError, match=r"no Heimdall database: it has no column memories\.m"):
        HeimdallSource(str(other))


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = heimdall(tmp_path, *(heimdall_row(f"{n:04}", content="x" * 900) for n in range(200)))
    raw = bytearray(path.read_bytes())
    raw[8_192:120_000] = b"\xff" * (120_000 - 8_192)
    path.write_bytes(raw)
    with (
        pytest.raises(SourceError, match=r"cannot read .*heimdall\.db as a Heimdall"),
        HeimdallSource(str(path)) as source,
    ):
        source.check(LIMIT)
