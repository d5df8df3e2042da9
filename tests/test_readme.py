"""What the documents say can be run runs: Python, commands, options, scripts, tasks and links."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cognitive_memory import Settings, create_system
from cognitive_memory.cli import _parser
from cognitive_memory.cli.common import PROGRAM

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
NOTE = "We dropped Redis: the cache hit rate was 3%."


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def command_lines() -> list[list[str]]:
    lines = "".join(blocks("sh")).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def code_spans(document: Path) -> list[list[str]]:
    """The words of each piece of code within a sentence or table."""
    prose = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [span.split() for span in re.findall(r"`([^`\n]+)`", prose)]


def options_by_command(
    parser: argparse.ArgumentParser, command: str = ""
) -> Iterator[tuple[str, set[str]]]:
    """``("recall", {"-k", "--tag", …})``, and so on down to ``model pull``."""
    yield command, set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from options_by_command(inner, f"{command} {name}".strip())


OPTIONS = dict(options_by_command(_parser()))


@pytest.fixture
def home(
    model_dir: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder of a user who has notes, where the user stands, and the model that is ready."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COGNITIVE_MEMORY_MODELS_DIR", str(models_dir))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tea.md").write_text("# Tea\n\nGreen, 70 degrees.\n", encoding="utf-8")
    return tmp_path


def test_the_example_of_a_system(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example, _ = blocks("python")
    exec(compile(example, README, "exec"), {})
    first, *others, groups = capsys.readouterr().out.splitlines()
    assert first.endswith(NOTE)
    assert "Green, 70 degrees." in others
    assert groups == "dict_keys(['core', 'peripheral', 'bridge'])"
    assert (home / "notes-memory" / "memories.db").exists()


def test_the_example_of_embeddings(home: Path) -> None:
    _, example = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(example, README, "exec"), names)
    assert names["vectors"].shape == (2, 384)
    assert names["vectors"].dtype == np.float32
    assert list(home.iterdir()) == [home / "notes"], "they need no store"


def test_the_scores_shown_are_those_of_a_recall(home: Path) -> None:
    question = next(words[-1] for words in command_lines() if words[1] == "recall")
    (shown,) = blocks("text")
    with create_system(Settings()) as system:
        system.store_experience(NOTE)
        system.load("notes/")
        result = system.search(question)[0]
    parts = " + ".join(f"{name} {value:.2f}" for name, value in result.parts.items() if value)
    assert f"1. {result.score:.2f} " in shown
    assert f"core: {parts} " in shown
    assert NOTE in shown


@pytest.mark.parametrize("words", [each for each in command_lines() if each[0] == PROGRAM], ids=str)
def test_a_command_line_is_understood(words: list[str]) -> None:
    _parser().parse_args(words[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("scripts/*.py"))
    for span in code_spans(document):
        words = span[span[0] == PROGRAM :]
        command = next(
            (" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in OPTIONS), None
        )
        assert command is not None or span[0] != PROGRAM, span
        for option in (word for word in words if word.startswith("--")):
            if command is not None:
                assert option in OPTIONS[command], span
            elif span[0].startswith("scripts/"):
                assert f'"{option}"' in (ROOT / span[0]).read_text(encoding="utf-8"), span
            else:
                anywhere = any(option in options for options in OPTIONS.values())
                assert anywhere or f'"{option}"' in scripts, span


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_scripts_tasks_and_links_exist(document: Path) -> None:
    tasks = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    lines = command_lines() if document == README else []
    for words in [*lines, *code_spans(document)]:
        if words[0] == "make":
            assert words[1] in tasks
        if words[0].startswith(("scripts/", "requirements/", "cognitive_memory/", "docs/")):
            assert (ROOT / words[0]).exists(), words[0]
    for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert "://" in link or (document.parent / link).exists(), link
