"""What Chroma leaves behind, in its folder or as JSON, and what of it is carried over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_files import OLD_CHROMA, add_rows, write_chroma, write_database
from systems import open_system

from cognitive_memory.core.errors import SourceError
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.importers.chroma import open_chroma
from cognitive_memory.importers.foreign import VECTORS
from cognitive_memory.testing import make_memory

LIMIT = 1_000
URI_ALONE = "records without a document (a vector or a URI alone)"


def taken(path: Path) -> tuple[list[CognitiveMemory], dict[str, int]]:
    """Memories and losses, the same when read again."""
    with open_chroma(str(path)) as source:
        count = source.check(LIMIT)
        memories = [memory for memory, _ in source.memories()]
        assert count == len(memories)
        assert list(source.connections()) == []
        return memories, dict(source.losses())


def document(name: str, text: str, **fields: Any) -> CognitiveMemory:
    return make_memory(
        f"chroma:notes:{name}", text, tags=("notes",), source_type="chroma", **fields
    )


def test_documents_become_memories(tmp_path: Path) -> None:
    folder = write_chroma(tmp_path / "db", {"a": "first", "größe/1": "Größe 日本"})
    memories, losses = taken(folder)
    assert memories == [document("a", "first"), document("größe/1", "Größe 日本")]
    assert losses == {VECTORS: 2}
    assert taken(folder / "chroma.sqlite3") == (memories, losses)


def test_metadata_of_every_type_is_carried_over(tmp_path: Path) -> None:
    folder = write_chroma(tmp_path / "db", {"a": "first", "b": "second"})
    values = [
        {"id": 1, "key": "text", "string_value": "x"},
        {"id": 1, "key": "whole", "int_value": 3},
        {"id": 1, "key": "real", "float_value": 1.5},
        {"id": 1, "key": "flag", "bool_value": 0},
        {"id": 1, "key": "chroma:uri", "string_value": "file:///a.png"},
    ]
    lists = [
        {"id": 2, "key": "names", "string_value": "z"},
        {"id": 2, "key": "flags", "bool_value": 1},
        {"id": 2, "key": "names", "string_value": "a"},
    ]
    add_rows(
        folder / "chroma.sqlite3",
        {"embedding_metadata": values, "embedding_metadata_array": lists},
    )
    (first, second), _ = taken(folder)
    assert first.metadata == {
        "text": "x",
        "whole": 3,
        "real": 1.5,
        "flag": False,
        "uri": "file:///a.png",
    }
    assert first.metadata["flag"] is False
    assert second.metadata == {"names": ["z", "a"], "flags": [True]}


def test_what_cannot_be_kept_is_counted(tmp_path: Path) -> None:
    texts = {"a": "first", "blank": " ", "alone": None, "long": "x" * (LIMIT + 1), "nul": "a\0"}
    folder = write_chroma(tmp_path / "db", texts)
    add_rows(
        folder / "chroma.sqlite3",
        {
            "collection_metadata": [
                {"collection_id": "c0", "key": "one", "str_value": "x"},
                {"collection_id": "c0", "key": "two", "str_value": "y"},
            ],
            "embeddings_queue": [
                {"seq_id": number, "topic": "persistent://default/default/c0", "id": "z"}
                for number in (5, 6, 7)
            ],
        },
    )
    memories, losses = taken(folder)
    assert [memory.id for memory in memories] == ["chroma:notes:a"]
    assert losses == {
        VECTORS: 5,
        "metadata of collections": 1,
        "writes that Chroma has not applied (open it with Chroma once)": 2,
        "memories without text": 1,
        URI_ALONE: 1,
        "memories whose text holds NUL, is no Unicode or exceeds 1,000 bytes": 2,
    }


def test_collections_of_other_databases_have_their_names_in_the_id(tmp_path: Path) -> None:
    folder = write_chroma(tmp_path / "db", {"a": "first"})
    add_rows(
        folder / "chroma.sqlite3",
        {
            "databases": [{"id": "d1", "name": "work", "tenant_id": "me"}],
            "collections": [{"id": "c1", "name": "notes", "database_id": "d1"}],
            "segments": [{"id": "s1", "type": "metadata", "scope": "METADATA", "collection": "c1"}],
            "embeddings": [
                {"id": 9, "segment_id": "s1", "embedding_id": "a", "created_at": "2026-01-01"}
            ],
            "embedding_metadata": [{"id": 9, "key": "chroma:document", "string_value": "second"}],
        },
    )
    memories, _ = taken(folder)
    assert [memory.id for memory in memories] == ["chroma:notes:a", "chroma:me/work/notes:a"]


def test_a_folder_of_an_early_version_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    write_database(
        folder / "chroma.sqlite3",
        OLD_CHROMA,
        {
            "collections": [{"id": "c0", "name": "notes"}],
            "segments": [{"id": "s0", "scope": "METADATA", "collection": "c0"}],
            "embeddings": [
                {
                    "id": 1,
                    "segment_id": "s0",
                    "embedding_id": "a",
                    "created_at": "2026-01-01 12:00:00",
                }
            ],
            "embedding_metadata": [{"id": 1, "key": "chroma:document", "string_value": "first"}],
            "max_seq_id": [{"segment_id": "s0", "seq_id": b"\0\1"}],
            "embeddings_queue": [{"seq_id": 1, "topic": "c0", "id": "a"}],
        },
    )
    assert taken(folder) == ([document("a", "first")], {VECTORS: 1})


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_result_of_get_is_read(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "notes.json",
        {
            "ids": ["a", "b", "a", "c", ""],
            "documents": ["first", None, "again", "third", "no id"],
            "metadatas": [{"n": 1}, None, None, None, None],
            "embeddings": [[0.1], [0.2], [0.3], [0.4], [0.5]],
            "included": ["documents"],
        },
    )
    memories, losses = taken(path)
    moments = {memory.created_date for memory in memories}
    assert [(memory.id, memory.content) for memory in memories] == [
        ("chroma:notes:a", "first"),
        ("chroma:notes:c", "third"),
    ]
    assert memories[0].metadata == {"n": 1}
    assert memories[0].tags == ("notes",)
    assert [moment.timestamp() for moment in moments] == [
        pytest.approx(path.stat().st_mtime, abs=1e-3)
    ]
    assert losses == {
        VECTORS: 5,
        URI_ALONE: 1,
        "records with the id of an earlier one": 1,
        "memories without a usable id": 1,
    }


def test_embeddings_that_are_no_list_are_none(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "notes.json", {"ids": ["a"], "documents": ["text"], "embeddings": 5}
    )
    memories, losses = taken(path)
    assert [memory.content for memory in memories] == ["text"]
    assert losses == {}


def test_importing_again_updates_and_never_duplicates(tmp_path: Path) -> None:
    folder = write_chroma(tmp_path / "db", {"a": "first", "b": "second"})
    with open_system(tmp_path / "store.db") as system:
        for counts in ((2, 0), (0, 2)):
            with open_chroma(str(folder)) as source:
                report = system.import_memories(source)
            assert (report.added, report.unchanged) == counts
        assert [hit.memory.content for hit in system.search("second", k=1)] == ["second"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no list of ids"),
        ('{"ids": "a"}', "no list of ids"),
        ('{"ids": ["a"], "documents": []}', "holds 1 ids, and not as many documents"),
        ('{"ids": ["a"], "metadatas": {"a": 1}}', "holds 1 ids, and not as many metadatas"),
        ('{"format":"cognitive-memory"}', "leave out --from"),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        open_chroma(str(path))


def test_folders_and_databases_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no Chroma folder: it holds no chroma\.sqlite3"):
        open_chroma(str(tmp_path))
    with pytest.raises(SourceError, match="cannot read /nowhere: No such file"):
        open_chroma("/nowhere")
    other = write_database(tmp_path / "x.db", "CREATE TABLE notes (id);", {})
    with pytest.raises(SourceError, match="no Chroma database: it has no table 'collections'"):
        open_chroma(str(other))
