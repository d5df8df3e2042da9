"""Consolidating from the command line, with the real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_process import Cli

from cognitive_memory.storage.database import Database

TEXTS = (
    "Redis was down again this morning and the cache was cold.",
    "This morning Redis was down again, so the cache was cold.",
    "The cache was cold again this morning: Redis was down.",
    "Mont Blanc is the highest mountain of the Alps.",
)
KEYS = ["total_episodic", "consolidated", "failed", "skipped", "connections", "duplicates"]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Cli:
    """Three memories that say the same, and another."""
    cli = Cli(tmp_path_factory.mktemp("consolidate"), model_dir.parent)
    (cli.folder / "chat.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in TEXTS), encoding="utf-8"
    )
    cli.run("load", "chat.jsonl")
    return cli


def test_consolidate_look_first_and_take_it_back(cli: Cli) -> None:
    shown = cli.results("consolidate", "--dry-run", env={"COLUMNS": "100"}).splitlines()
    assert shown[0].startswith("1. 3 memories  [consolidated-")
    assert shown[1] in {f"   {text}" for text in TEXTS[:3]}
    assert set(shown[2:5]) <= {f"   - {text}" for text in TEXTS} | {""}
    assert shown[-1].startswith("4 episodes: 3 would be consolidated, 0 were earlier, ")
    assert cli.contents() == 4

    dry = cli.json("consolidate", "--dry-run")
    assert list(dry) == [*KEYS, "dry_run", "groups"]
    (group,) = dry["groups"]
    done = cli.json("consolidate")
    assert list(done) == [*KEYS, "dry_run"]
    assert (done["total_episodic"], done["consolidated"], done["failed"]) == (4, 3, 0)
    assert cli.contents() == 5
    results = cli.json("recall", "what was wrong with Redis?")["results"]
    (found,) = [each for each in results if each["id"] == group["id"]]
    assert found["content"] == group["content"]
    assert found["metadata"] == {
        "consolidated": True,
        "representative": group["representative"],
        "members": group["members"],
    }
    assert found["source_type"] == "consolidation"

    again = cli.results("consolidate")
    assert again.startswith("4 episodes: 0 consolidated, 3 were earlier, ")
    assert cli.contents() == 5
    assert cli.results("consolidate", "--undo") == "1 consolidated memories deleted\n"
    assert cli.json("consolidate", "--undo") == {"deleted": 0}
    assert cli.contents() == 4


def test_an_empty_store(cli: Cli, tmp_path: Path) -> None:
    empty = {"COGNITIVE_MEMORY_DATA_DIR": str(tmp_path / "empty")}
    Database(tmp_path / "empty/memories.db").close()
    line = (
        "4 episodes: 0 consolidated, 0 were earlier, 0 nearly repeat another; 0 connections found\n"
    )
    assert cli.results("consolidate", env=empty) == line.replace("4", "0")


def test_wrong_usage(cli: Cli) -> None:
    line = cli.usage_error("consolidate", "--undo", "--dry-run")
    assert line.endswith("argument --dry-run: not allowed with argument --undo")


def test_duplicates_by_setting(cli: Cli, tmp_path: Path) -> None:
    env = {"COGNITIVE_MEMORY_DATA_DIR": str(tmp_path), "COGNITIVE_MEMORY_STORAGE__DUPLICATES": ""}
    first, again = (cli.json("store", TEXTS[0], env=env)["id"] for _ in range(2))
    assert first != again
    env["COGNITIVE_MEMORY_STORAGE__DUPLICATES"] = "merge"
    merged = cli.json("store", TEXTS[0], "-t", "new", env=env)["id"]
    assert merged == min(first, again)
    env["COGNITIVE_MEMORY_STORAGE__DUPLICATES"] = "drop"
    line = cli.error("store", TEXTS[0], env=env, code=2)
    assert line == (
        "COGNITIVE_MEMORY_STORAGE__DUPLICATES='drop': it must be one of keep, link, merge"
    )
