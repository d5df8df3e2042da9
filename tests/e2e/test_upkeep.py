"""Backup, restore, vacuum and reembed as commands, with two small models of a plugin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_process import Cli

PROVIDERS = """
from cognitive_memory.core.errors import EmbeddingError
from cognitive_memory.testing import WordLengthProvider


def old(settings):
    return WordLengthProvider(16, name="old")


def new(settings):
    return WordLengthProvider(5, words_per_chunk=3, name="new")


def failing(settings):
    provider = new(settings)
    encode = provider.encode_batch

    def encode_batch(texts):
        provider.encode_batch = fail
        return encode(texts)

    def fail(texts):
        raise EmbeddingError("the model failed")

    provider.encode_batch = encode_batch
    return provider
"""


class Models(Cli):
    """The command line with one of the models above."""

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """The old model, unless another is named."""
        return super().environment(
            {
                "PYTHONPATH": str(self.folder / "site"),
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "old",
                **(changes or {}),
            }
        )


NEW = {"COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "new"}
FAILING = {"COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "failing"}


@pytest.fixture
def cli(tmp_path: Path) -> Models:
    record = tmp_path / "site" / "models-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: models\nVersion: 1.0\n")
    points = "".join(f"{name} = two_models:{name}\n" for name in ("old", "new", "failing"))
    (record / "entry_points.txt").write_text(f"[cognitive_memory.embedding_providers]\n{points}")
    (record.parent / "two_models.py").write_text(PROVIDERS)
    return Models(tmp_path, tmp_path / "models")


def contents(cli: Cli) -> list[str]:
    """What recall finds, by its text."""
    return sorted(each["content"] for each in cli.json("recall", "text")["results"])


def findings(cli: Cli, **options: Any) -> dict[str, str]:
    output = cli.run("doctor", "--json", **options)
    return {each["check"]: each["detail"] for each in json.loads(output.stdout)["findings"]}


def test_back_up_and_restore(cli: Models) -> None:
    cli.store_text("a first text")
    line = cli.results("backup", "copies/one.db")
    assert line == "copies/one.db: 0.1 MB, checked\n"
    cli.store_text("a second text")
    document = cli.json("backup", "two.db")
    assert document == {"path": "two.db", "bytes": (cli.folder / "two.db").stat().st_size}
    assert cli.results("restore", "copies/one.db") == (f"{cli.store} is as copies/one.db has it\n")
    assert contents(cli) == ["a first text"]
    assert cli.json("restore", "two.db") == {"path": str(cli.store)}
    assert contents(cli) == ["a first text", "a second text"]
    shutil.rmtree(cli.data)
    cli.run("restore", "two.db")
    assert contents(cli) == ["a first text", "a second text"]
    assert sorted(path.name for path in cli.folder.iterdir()) == [
        "copies",
        "data",
        "site",
        "two.db",
    ]


@pytest.mark.parametrize(
    "command", [("backup", "copy.db"), ("vacuum",), ("reembed",), ("reembed", "--rollback")]
)
def test_there_has_to_be_a_store(cli: Models, command: tuple[str, ...]) -> None:
    assert cli.error(*command) == (
        f"{cli.store} does not exist; the first store creates it: check COGNITIVE_MEMORY_DATA_DIR"
    )
    assert not cli.data.exists()
    assert not (cli.folder / "copy.db").exists()


def test_a_store_is_not_overwritten_by_its_backup(cli: Models) -> None:
    cli.store_text("a text")
    message = f"{cli.store} is the store itself; name another file for the backup"
    assert cli.error("backup", str(cli.store)) == message
    assert contents(cli) == ["a text"]


def test_what_is_no_backup_is_not_restored(cli: Models) -> None:
    cli.store_text("a text")
    (cli.folder / "notes.txt").write_text("a text that is no database\n" * 9)
    advice = "name a file that 'cognitive-memory backup' wrote"
    assert cli.error("restore", "notes.txt") == (
        f"notes.txt is not a sound store (file is not a database); {advice}"
    )
    assert cli.error("restore", "absent.db") == (
        f"absent.db cannot be read: No such file or directory; {advice}"
    )
    assert contents(cli) == ["a text"]


def test_a_store_that_cannot_be_opened_has_to_be_moved_away(cli: Models) -> None:
    cli.store_text("a text")
    cli.run("backup", "copy.db")
    cli.store.write_bytes(b"damage" * 999)
    assert cli.error("restore", "copy.db").endswith(
        "to restore a backup in its place, move it away first, with its -wal and -shm"
    )
    cli.store.unlink()
    cli.run("restore", "copy.db")
    assert contents(cli) == ["a text"]


def test_vacuum(cli: Models) -> None:
    (cli.folder / "long.txt").write_text("word " * 50_000)
    cli.run("load", "long.txt")
    cli.store_text("a text")
    cli.run("delete", "--source", "long.txt")
    document = cli.json("vacuum")
    assert document["bytes_after"] < document["bytes_before"] / 2
    assert document["bytes_after"] == cli.store.stat().st_size
    assert cli.results("vacuum") == "0.1 MB before, 0.1 MB after\n"
    assert contents(cli) == ["a text"]


def test_reembed_and_back(cli: Models) -> None:
    cli.store_text("a first text")
    cli.store_text("a second text of more words")
    refused = cli.error("recall", "text", env=NEW)
    assert "holds vectors of old/16, the configured model gives new/5" in refused
    assert "run 'cognitive-memory reembed'" in refused
    assert cli.results("reembed", env=NEW) == (
        "new/5 serves; 2 of 2 memories embedded now\n"
        "old/16 is kept: --rollback goes back, --discard frees its space\n"
    )
    assert len(cli.json("recall", "text", env=NEW)["results"]) == 2
    assert findings(cli, env=NEW)["embedding"] == "store and model agree on new/5"
    assert "new/5" in cli.results("status", env=NEW)
    assert "holds vectors of new/5" in findings(cli, code=1)["embedding"]
    assert "holds vectors of new/5" in cli.error("store", "a third text")
    assert cli.results("reembed", "--rollback") == (
        "old/16 serves again; set COGNITIVE_MEMORY_EMBEDDING__MODEL=old\n"
    )
    assert contents(cli) == ["a first text", "a second text of more words"]
    assert cli.json("reembed", "--discard") == {"deleted": 3}
    assert "no embedding that served before old/16 is kept" in cli.error("reembed", "--rollback")
    assert cli.json("reembed") == {
        "fingerprint": "old/16",
        "previous": None,
        "memories": 2,
        "embedded": 0,
    }
    assert cli.usage_error("reembed", "--rollback", "--discard").endswith(
        "argument --discard: not allowed with argument --rollback"
    )


def test_an_interrupted_reembed_goes_on(cli: Models) -> None:
    lines = (json.dumps({"text": f"line {number} of many"}) for number in range(700))
    (cli.folder / "chat.jsonl").write_text("\n".join(lines), encoding="utf-8")
    cli.run("load", "chat.jsonl")
    assert cli.error("reembed", env=FAILING) == "the model failed"
    sound = findings(cli)
    assert sound["embedding"] == "store and model agree on old/16"
    assert "700 memories, sound" in sound["store"]
    assert len(cli.json("recall", "line")["results"]) > 0
    refused = "no embedding that served before old/16 is kept"
    assert refused in cli.error("reembed", "--rollback")
    report = cli.json("reembed", env=NEW)
    assert report["memories"] == 700
    assert report["embedded"] == 700 - 512
    assert "700 memories, sound" in findings(cli, env=NEW)["store"]


def test_how_a_store_is_synchronized_is_checked(cli: Models) -> None:
    variable = "COGNITIVE_MEMORY_STORAGE__SYNCHRONOUS"
    message = cli.error("store", "a text", env={variable: "off"}, code=2)
    assert variable in message
    assert "full" in message
    assert not cli.store.exists()
    cli.run("store", "a text", env={variable: "normal"})
    assert contents(cli) == ["a text"]
