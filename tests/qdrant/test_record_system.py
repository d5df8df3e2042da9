"""The whole system with its record in Qdrant, in this process and by the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qdrant_server import Server
from server_fixtures import empty_server, running_server

from cognitive_memory import Settings, create_system
from cognitive_memory.core.errors import ConfigurationError, StoreUnavailableError
from cognitive_memory.core.interfaces import CognitiveSystem
from cognitive_memory.core.memory import MemoryFilter
from cognitive_memory.diagnosis import diagnose
from cognitive_memory.importers.json_lines import JsonLinesSource
from cognitive_memory.qdrant_stores import open_qdrant_stores
from cognitive_memory.testing import make_memory

COMMAND = (sys.executable, "-m", "cognitive_memory.cli")
HANG_SECONDS = 120
"""A guard against a process that never ends; nothing is measured."""

TEXTS = (
    "We dropped Redis because the cache hit rate was only three percent.",
    "Redis was dropped: three percent cache hits did not pay for it.",
    "Cook spaghetti for nine minutes and keep some of the water.",
    "Mont Blanc is the highest mountain of the Alps.",
)
NOTES = (
    "# Caches\n\nThe cache was cold.\n\n## Redis\n\nWe dropped it in May.\n\n## Next\n\nNothing.\n"
)


running, server = running_server, empty_server


@pytest.fixture
def open_system(
    server: Server, model_dir: Path, tmp_path: Path
) -> Iterator[Callable[..., CognitiveSystem]]:
    """Systems whose record is on the server, or with ``record="sqlite"`` in a file."""
    opened: list[CognitiveSystem] = []

    def open_one(record: str = "qdrant", **qdrant: Any) -> CognitiveSystem:
        system = create_system(
            Settings(
                data_dir=tmp_path / "data",
                models_dir=model_dir.parent,
                storage={"record": record},
                qdrant={"url": server.url, "timeout_seconds": 120, **qdrant},
            )
        )
        opened.append(system)
        return system

    yield open_one
    for system in opened:
        system.close()


def test_it_ranks_as_the_record_in_a_file_does(open_system: Callable[..., CognitiveSystem]) -> None:
    systems = [open_system(), open_system("sqlite")]
    dump = io.BytesIO()
    ranked = []
    for system in systems:
        if system is systems[0]:
            system.store_experiences(TEXTS, [{"tags": ["adr"]}] * len(TEXTS))
            system.export_memories(dump)
        else:
            dump.seek(0)
            system.import_memories(JsonLinesSource(dump, "dump"))
        results = system.search("why was Redis dropped?", k=4)
        ranked.append([(r.memory.id, r.memory.content, dict(r.parts)) for r in results])
    for ours, theirs in zip(*ranked, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2] == pytest.approx(theirs[2], abs=1e-5)


def test_it_stores_recalls_loads_consolidates_and_deletes(
    open_system: Callable[..., CognitiveSystem], tmp_path: Path
) -> None:
    system, other = open_system(), open_system()
    ids = system.store_experiences(TEXTS, [{"tags": ["adr"]}] * len(TEXTS))
    groups = other.retrieve_memories("why no Redis?")
    assert groups["core"][0].memory.content in TEXTS[:2]
    assert other.retrieve_memory(groups["core"][0].memory.id).access_count == 1  # type: ignore[union-attr]
    assert groups["core"][0].parts["lexical"] > 0

    notes = tmp_path / "notes.md"
    notes.write_text(NOTES)
    loaded = system.load(notes)
    assert (loaded.added, loaded.unchanged) == (3, 0)
    again = other.load(notes)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 3)
    notes.write_text(NOTES.replace("in May", "in June"))
    changed = other.load(notes)
    assert (changed.added, changed.updated, changed.deleted) == (0, 1, 0)
    assert any("June" in each.memory.content for each in system.search("dropped in June"))
    assert len(system.get_memories_by_tags(["adr"])) == 4

    report = system.consolidate_memories()
    assert report["connections"] > 0
    stats = other.get_memory_stats()["storage_stats"]
    assert stats["connections"] >= report["connections"]
    assert system.consolidate_memories()["consolidated"] == 0
    assert other.undo_consolidation() == stats["memories"] - 7

    assert other.delete_memory_by_id(ids[0])["deleted_count"] == 1
    assert system.retrieve_memory(ids[0]) is None
    assert system.delete_memories_by_source_path(str(notes))["deleted_count"] == 3
    assert other.delete_memories_by_tags(["adr"])["deleted_count"] == 3
    assert system.get_memory_stats()["memory_counts"]["total"] == 0
    assert system.search("Redis") == []


def test_a_near_duplicate_is_merged(
    open_system: Callable[..., CognitiveSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGNITIVE_MEMORY_STORAGE__DUPLICATES", "merge")
    system = open_system()
    first = system.store_experience(TEXTS[0], {"tags": ["one"]})
    assert system.store_experiences([TEXTS[0], TEXTS[0]], [{"tags": ["two"]}, None]) == [first] * 2
    (memory,) = system.get_memories_by_tags(["two"])
    assert memory.tags == ("one", "two")


def test_a_project_moves_into_another(open_system: Callable[..., CognitiveSystem]) -> None:
    """The way to another embedding, too: nothing of the first one stops meanwhile."""
    old, new = open_system(), open_system(project="next")
    old.store_experiences(TEXTS)
    dump = io.BytesIO()
    assert old.export_memories(dump, vectors=True).vectors == 4
    dump.seek(0)
    assert new.import_memories(JsonLinesSource(dump, "dump")).added == 4
    assert [r.memory for r in new.search("pasta", k=4)] == [
        r.memory for r in old.search("pasta", k=4)
    ]


def test_doctor_tells_of_the_memories_and_their_embedding(
    server: Server, model_dir: Path, tmp_path: Path
) -> None:
    settings = Settings(
        models_dir=model_dir.parent,
        storage={"record": "qdrant"},
        qdrant={"url": server.url, "timeout_seconds": 120},
    )
    record, _ = open_qdrant_stores(settings)
    where = f"Qdrant at {server.url}, project default"

    def told(given: Settings = settings) -> list[tuple[str, bool, str]]:
        found = [(each.check, each.sound, each.detail) for each in diagnose(given)]
        return [each for each in found if each[0] != "model"]

    assert told() == [
        ("store", True, f"{where}: nothing is stored yet; the first store makes its collection"),
        ("embedding", True, "the store holds no vectors yet"),
    ]
    with record, create_system(settings) as system:
        system.store_experience(TEXTS[0])
        fingerprint = system.embedding_provider.fingerprint
        assert told() == [
            ("store", True, f"{where}: 1 memories, sound"),
            ("embedding", True, f"store and model agree on {fingerprint}"),
        ]
        elsewhere = replace(settings, models_dir=tmp_path)
        absent = f"the store holds {fingerprint}; no model to compare with"
        assert told(elsewhere)[1] == ("embedding", True, absent)
        record.save_memories([make_memory("bare")])
    fault = f"{where}: 1 memories lack vectors; load or store them again"
    assert told()[0] == ("store", False, fault)


def test_settings_that_lose_memories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="set COGNITIVE_MEMORY_QDRANT__URL"):
        create_system(Settings(storage={"record": "qdrant"}))
    with pytest.raises(ConfigurationError, match="unset COGNITIVE_MEMORY_STORAGE__VECTORS=faiss"):
        create_system(
            Settings(
                storage={"record": "qdrant", "vectors": "faiss"}, qdrant={"url": "http://h:6333"}
            )
        )


def test_an_outage_is_an_error_of_every_call(
    server: Server, open_system: Callable[..., CognitiveSystem]
) -> None:
    system = open_system()
    system.store_experience(TEXTS[0])
    server.status = 503
    calls: list[Callable[[], object]] = [
        lambda: system.store_experience(TEXTS[1]),
        lambda: system.retrieve_memories("Redis"),
        lambda: system.search("Redis", filters=MemoryFilter(tags=("adr",))),
        system.get_memory_stats,
        lambda: system.delete_memory_by_id("a"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="start it, or check"):
            raise AssertionError(call())


# The command line


class Cli:
    """Processes that have nothing in common but the server."""

    def __init__(self, url: str, models: Path, folder: Path) -> None:
        self._folder = folder
        # Not coverage's: tests in one process cover it all, and the client is slow to import.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "COGNITIVE_MEMORY_MODELS_DIR": str(models),
            "COGNITIVE_MEMORY_OFFLINE": "true",
            "COGNITIVE_MEMORY_STORAGE__RECORD": "qdrant",
            "COGNITIVE_MEMORY_QDRANT__URL": url,
            "COGNITIVE_MEMORY_QDRANT__TIMEOUT_SECONDS": "60",
        }

    def run(self, *arguments: str, code: int = 0, project: str = "default") -> tuple[str, str]:
        """What a process prints to standard output and standard error."""
        environment = {**self.environment, "COGNITIVE_MEMORY_QDRANT__PROJECT": project}
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            env=environment,
            cwd=self._folder,
            timeout=HANG_SECONDS,
            check=False,
            text=True,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self.run(*arguments, "--json", **options)[0])


@pytest.fixture
def cli(server: Server, model_dir: Path, tmp_path: Path) -> Cli:
    return Cli(server.url, model_dir.parent, tmp_path)


def test_commands_share_what_the_server_holds(cli: Cli, server: Server, tmp_path: Path) -> None:
    first = cli.json("store", TEXTS[0], "--tag", "adr")["id"]
    (tmp_path / "notes.md").write_text(NOTES)
    assert cli.json("load", "notes.md")["added"] == 3
    assert cli.json("load", "notes.md")["unchanged"] == 3
    (best, *_) = cli.json("recall", "cache hit rate of Redis", "-k", "2")["results"]
    assert best["id"] == first
    assert "shared words" in cli.run("recall", "why was Redis dropped?", "--explain")[0]
    status, _ = cli.run("status")
    assert f"Qdrant at {server.url}, project default (schema 1)" in status
    assert status.startswith("4 memories")
    findings = {each["check"]: each for each in cli.json("doctor")["findings"]}
    assert all(each["sound"] for each in findings.values())
    assert findings["store"]["detail"].endswith("4 memories, sound")
    assert findings["embedding"]["detail"].startswith("store and model agree on")
    cli.run("consolidate")
    cli.run("consolidate", "--undo")
    cli.run("export", "dump.jsonl", "--vectors")
    taken = cli.json("import", "dump.jsonl", project="other")
    assert (taken["added"], taken["embedded"]) == (4, 0)
    assert cli.json("delete", "--tag", "adr")["deleted"] == 1
    assert cli.json("status")["memory_counts"]["total"] == 3
    other = cli.json("status", project="other")
    assert other["memory_counts"]["total"] == 4
    assert not list(tmp_path.rglob("*.db"))
    # Apart from those of a derived index, whose repair deletes what its record does not have.
    assert {name.rpartition("-")[0] for name in server.created} == {"memories-record"}


@pytest.mark.parametrize("command", ["backup", "restore", "vacuum", "reembed"])
def test_work_on_a_file_is_refused(cli: Cli, command: str) -> None:
    arguments = ["copy.db"] if command in ("backup", "restore") else []
    output, errors = cli.run(command, *arguments, code=2)
    assert output == ""
    assert "the store is no file" in errors
    assert "the snapshots of Qdrant, or 'cognitive-memory export'" in errors


def test_commands_say_that_the_server_is_out_of_reach(cli: Cli, server: Server) -> None:
    cli.json("store", TEXTS[0])
    server.status = 503
    for arguments in (("recall", "Redis"), ("store", TEXTS[1]), ("status",), ("delete", "a")):
        output, errors = cli.run(*arguments, code=1)
        assert output == ""
        assert f"Qdrant at {server.url} answers 503; start it, or check" in errors
    findings = {each["check"]: each for each in cli.json("doctor", code=1)["findings"]}
    assert not findings["store"]["sound"]
    assert "answers 503" in findings["store"]["detail"]
