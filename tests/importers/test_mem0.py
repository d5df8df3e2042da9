"""What mem0's get_all() returns, and what of it is carried over."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from systems import open_system

from cognitive_memory.core.errors import InvalidInputError, SourceError
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.importers import open_source
from cognitive_memory.importers.foreign import VECTORS
from cognitive_memory.importers.mem0 import Mem0Source

LIMIT = 1_000
RECORD = {
    "id": "5a8f",
    "memory": "Likes größe 🦊",
    "hash": "abc",
    "metadata": {"topic": "shoes"},
    "created_at": "2026-01-01T05:00:00.5-07:00",
    "updated_at": "2026-01-02T05:00:00-07:00",
    "user_id": "alice",
    "agent_id": None,
    "categories": ["likes", "sizes"],
}


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def taken(path: str) -> tuple[list[CognitiveMemory], dict[str, int]]:
    with Mem0Source(path) as source:
        count = source.check(LIMIT)
        memories = [memory for memory, _ in source.memories()]
        assert count == len(memories)
        assert list(source.connections()) == []
        return memories, dict(source.losses())


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_field_with_a_counterpart_is_carried_over(tmp_path: Path, wrapped: bool) -> None:
    path = write(tmp_path / "x.json", {"results": [RECORD]} if wrapped else [RECORD])
    moment = datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    memories, losses = taken(path)
    assert memories == [
        CognitiveMemory(
            id="mem0:5a8f",
            content="Likes größe 🦊",
            tags=("likes", "sizes"),
            source_type="mem0",
            created_date=moment,
            last_accessed=moment,
            metadata={
                "topic": "shoes",
                "user_id": "alice",
                "updated_at": "2026-01-02T05:00:00-07:00",
            },
        )
    ]
    assert losses == {VECTORS: 1, "hashes of texts": 1}


def test_what_cannot_be_kept_is_counted(tmp_path: Path) -> None:
    given = {
        "count": 90,
        "next": "https://…?page=2",
        "results": [
            {"id": "a", "memory": "text", "score": 0.5, "expiration_date": "2030-01-01"},
            {"id": "a", "memory": "text"},
            {"id": None, "memory": "text"},
            {"id": "c", "memory": None},
            {"id": "d", "memory": "text", "metadata": "x", "categories": "y", "created_at": "z"},
        ],
        "relations": [{"source": "alice", "relationship": "likes", "target": "shoes"}],
    }
    memories, losses = taken(write(tmp_path / "x.json", given))
    assert [memory.id for memory in memories] == ["mem0:a", "mem0:d"]
    assert memories[0].metadata == {"expiration_date": "2030-01-01"}
    assert losses == {
        VECTORS: 5,
        "relations between entities": 1,
        "scores of a search": 1,
        "expiration dates (kept as metadata, nothing expires)": 1,
        "records on other pages (save and import each)": 85,
        "creation times (the file's own time was taken)": 3,
        "records with the id of an earlier one": 1,
        "memories without a usable id": 1,
        "memories without text": 1,
        "metadata that is no JSON object": 1,
        "tags that are blank, no text or too long": 1,
    }


def test_relations_that_are_no_list_are_none(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text('{"results": [{"id": "a", "memory": "text"}], "relations": 3}')
    with Mem0Source(str(path)) as source:
        assert source.check(1000) == 1
        assert not [what for what in source.losses() if "relations" in what]


def test_importing_again_updates_and_never_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with open_system(tmp_path / "store.db") as system:
        for text, counts in (("one", (1, 0, 0)), ("one", (0, 0, 1)), ("two", (0, 1, 0))):
            with Mem0Source(write(path, [{**RECORD, "memory": text}])) as source:
                report = system.import_memories(source)
            assert (report.added, report.updated, report.unchanged) == counts
        assert [hit.memory.content for hit in system.search("two", k=5)] == ["two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8 at byte 0"),
        (b"3", "is no result of mem0's get_all"),
        (b'{"memories": []}', "is no result of mem0's get_all"),
        (b'[{"id": "a", "text": "x"}]', "is no result of mem0's get_all"),
        (b'{"format":"cognitive-memory","version":1}\n{}\n', "leave out --from"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        Mem0Source(str(path))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'redis'; it must be one of export, heimdall"):
        open_source("x", "redis")


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(SourceError, match=r"cannot read /nowhere\.json: No such file"):
        Mem0Source("/nowhere.json")
