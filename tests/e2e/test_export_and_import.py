"""``export`` and ``import`` as people and programs use them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import COMMAND, HANG_SECONDS, Cli

TEXTS = ("Mont Blanc is the highest mountain of the Alps.", "Cook spaghetti for nine minutes.")


@pytest.fixture
def cli(tmp_path: Path, model_dir: Path) -> Cli:
    """A store with two texts and a file, whose sections are connected."""
    folder = tmp_path / "one"
    folder.mkdir()
    cli = Cli(folder, model_dir.parent)
    for text in TEXTS:
        cli.store_text(text, "--tag", "größe")
    (folder / "notes.md").write_text("# A\n\nIntro.\n\n## B\n\nMore.\n", encoding="utf-8")
    cli.json("load", "notes.md")
    return cli


@pytest.fixture
def other(tmp_path: Path, model_dir: Path) -> Cli:
    """Another, empty store."""
    folder = tmp_path / "two"
    folder.mkdir()
    return Cli(folder, model_dir.parent)


def test_a_store_moves_as_a_file(cli: Cli, other: Cli) -> None:
    dump = other.folder / "dump.jsonl"
    report = cli.json("export", str(dump), "--vectors")
    assert report == {"memories": 4, "connections": 2, "vectors": 4}
    taken = other.json("import", "dump.jsonl")
    assert (taken["added"], taken["connections_added"], taken["embedded"]) == (4, 2, 0)
    assert taken["losses"] == {}
    other.json("export", "again.jsonl", "--vectors")
    assert (other.folder / "again.jsonl").read_bytes() == dump.read_bytes()
    (found, *_) = other.json("recall", "pasta")["results"]
    assert found["content"] == TEXTS[1]


def test_what_a_killed_export_left_is_removed_by_the_next(cli: Cli) -> None:
    old, fresh, other = (
        cli.folder / f".{name}.{letter * 32}.part"
        for name, letter in (("d[1].jsonl", "a"), ("d[1].jsonl", "b"), ("d1.jsonl", "a"))
    )
    for each in (old, fresh, other):
        each.touch()
    for each in (old, other):
        os.utime(each, (0, 0))
    cli.json("export", "d[1].jsonl")
    left = sorted(each.name for each in cli.folder.iterdir() if "jsonl" in each.name)
    assert left == [other.name, fresh.name, "d[1].jsonl"]


def test_a_store_moves_through_a_pipe(cli: Cli, other: Cli) -> None:
    with subprocess.Popen(
        [*COMMAND, "export"],
        stdout=subprocess.PIPE,
        env=cli.environment(),
        cwd=cli.folder,
    ) as exporting:
        importing = subprocess.run(
            [*COMMAND, "import"],
            stdin=exporting.stdout,
            capture_output=True,
            env=other.environment(),
            cwd=other.folder,
            timeout=HANG_SECONDS,
            check=True,
        )
    assert exporting.returncode == 0
    assert importing.stdout.decode().splitlines() == [
        "4 memories added, 0 updated, 0 unchanged",
        "2 connections added, 0 updated, 0 unchanged",
        "4 memories embedded by the configured model",
    ]
    assert cli.results("export").encode() == other.results("export").encode()


def test_importing_again_changes_nothing(cli: Cli) -> None:
    cli.json("export", "dump.jsonl")
    assert cli.results("import", "dump.jsonl").splitlines() == [
        "0 memories added, 0 updated, 4 unchanged",
        "0 connections added, 0 updated, 2 unchanged",
    ]


def test_conflicts_are_replaced_skipped_or_refused(cli: Cli, other: Cli) -> None:
    cli.json("export", str(other.folder / "dump.jsonl"))
    other.json("import", "dump.jsonl")
    lines = (other.folder / "dump.jsonl").read_text(encoding="utf-8")
    changed = lines.replace("nine minutes", "ten minutes").encode()
    message = other.error("import", "--on-conflict", "error", stdin=changed)
    assert "is stored already and differs" in message
    assert "1 skipped" in other.results("import", "--on-conflict", "skip", stdin=changed)
    assert other.json("import", stdin=changed)["updated"] == 1
    assert "ten minutes" in other.results("export")


def test_a_bad_file_is_refused_and_nothing_is_written(cli: Cli, other: Cli) -> None:
    whole = cli.results("export").encode()
    lines = whole.splitlines(keepends=True)
    torn = other.error("import", stdin=b"".join(lines[:3]))
    assert torn.startswith("standard input:3: the file ends here without its last line")
    broken = other.error("import", stdin=whole.replace(b'"content"', b'"contents"', 1))
    assert broken.startswith("standard input:2: memory lacks field 'content'")
    assert "is empty" in other.error("import", stdin=b"")
    assert "No such file" in other.error("import", "absent.jsonl")
    assert "is a folder" in other.error("import", ".")
    assert other.contents() == 0


def test_wrong_usage_is_told_apart(cli: Cli) -> None:
    assert "--json needs a FILE" in cli.usage_error("export", "--json")
    assert "--from mem0 needs a FILE" in cli.usage_error("import", "--from", "mem0")
    assert "invalid choice" in cli.usage_error("import", "--from", "redis", "x")
    assert "invalid choice" in cli.usage_error("import", "--on-conflict", "merge", "x")


def test_a_file_is_replaced_when_the_export_is_whole(cli: Cli) -> None:
    (cli.folder / "real.jsonl").write_text("before", encoding="utf-8")
    (cli.folder / "dump.jsonl").symlink_to("real.jsonl")
    before = {each.name for each in cli.folder.iterdir()}
    cli.results("export", "dump.jsonl")
    assert {each.name for each in cli.folder.iterdir()} == before
    assert (cli.folder / "dump.jsonl").is_symlink()
    assert (cli.folder / "real.jsonl").read_bytes().endswith(b'"connections":2}}\n')


def test_what_cannot_be_written_is_named(cli: Cli) -> None:
    assert "cannot write absent/dump.jsonl: No such file" in cli.error(
        "export", "absent/dump.jsonl"
    )
    assert "cannot write data: Is a directory" in cli.error("export", "data")
    assert "cannot write /dev/full: No space left" in cli.error("export", "/dev/full")
    assert Path("/dev/full").exists()


def test_a_store_is_not_overwritten_by_its_export(cli: Cli) -> None:
    before = cli.store.read_bytes()
    (cli.folder / "link").symlink_to(cli.store)
    for target in (str(cli.store), f"{cli.store}-wal", f"{cli.store}-vectors", "link"):
        assert "is the store itself; name another file" in cli.error("export", target)
    assert cli.store.read_bytes() == before


def test_a_failed_export_leaves_the_file_as_it_was(cli: Cli) -> None:
    target = cli.folder / "dump.jsonl"
    target.write_text("before", encoding="utf-8")
    before = {each.name for each in cli.folder.iterdir()}
    cli.store.write_bytes(b"no database")
    for left in cli.data.glob("*-wal"):
        left.unlink()
    cli.error("export", "dump.jsonl")
    assert target.read_text(encoding="utf-8") == "before"
    assert {each.name for each in cli.folder.iterdir()} == before


def test_a_reader_that_goes_away_ends_an_export(cli: Cli) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        result = subprocess.run(
            [*COMMAND, "export"],
            stdout=gone,
            stderr=subprocess.PIPE,
            env=cli.environment(),
            timeout=HANG_SECONDS,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, b"")


def write_heimdall(folder: Path) -> str:
    from sqlite3 import connect

    with connect(folder / "heimdall.db") as database:
        database.executescript(
            "CREATE TABLE memories (id TEXT, content TEXT, memory_type TEXT, "
            "hierarchy_level INTEGER, timestamp REAL, tags TEXT);"
            "CREATE TABLE memory_connections (source_id TEXT, target_id TEXT, strength REAL, "
            "connection_type TEXT);"
            "INSERT INTO memories VALUES ('a', 'Cook spaghetti.', 'episodic', 2, 0, '[\"x\"]');"
            "INSERT INTO memories VALUES ('b', ' ', 'episodic', 2, 0, NULL);"
        )
    database.close()
    return "heimdall.db"


def write_chroma(folder: Path) -> str:
    found = {"ids": ["a", "b"], "documents": ["Cook spaghetti.", " "], "metadatas": None}
    (folder / "notes.json").write_text(json.dumps(found), encoding="utf-8")
    return "notes.json"


def write_mem0(folder: Path) -> str:
    found = [{"id": "a", "memory": "Cook spaghetti."}, {"id": "b", "memory": " "}]
    (folder / "mem0.json").write_text(json.dumps({"results": found}), encoding="utf-8")
    return "mem0.json"


@pytest.mark.parametrize(
    ("kind", "write", "memory_id"),
    [
        ("heimdall", write_heimdall, "a"),
        ("chroma", write_chroma, "chroma:notes:a"),
        ("mem0", write_mem0, "mem0:a"),
    ],
)
def test_what_others_leave_behind_is_taken_with_a_report(
    other: Cli, kind: str, write: Callable[[Path], str], memory_id: str
) -> None:
    name = write(other.folder)
    lines = other.results("import", "--from", kind, name).splitlines()
    assert lines[0] == "1 memories added, 0 updated, 0 unchanged"
    assert lines[2] == "1 memories embedded by the configured model"
    assert "not carried over: 1 memories without text" in lines
    again = other.json("import", "--from", kind, name)
    assert (again["added"], again["unchanged"]) == (0, 1)
    assert again["losses"]["memories without text"] == 1
    (found,) = other.json("recall", "pasta")["results"]
    assert found["id"] == memory_id
    assert f"--from {kind}" in other.error("import", name)
