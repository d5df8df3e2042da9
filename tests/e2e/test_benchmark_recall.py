"""The recall benchmark as a process, on a few made-up conversations and documents."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_process import HANG_SECONDS, Cli, Output

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_recall.py"
VARIANTS = "dense only,defaults"

TURNS = [
    ("pets", "P1", "Ada", "My cat sleeps on the warm keyboard all day."),
    ("pets", "P2", "Lin", "Mine would rather chase mice in the barn."),
    ("pets", "P3", "Ada", "The vet says that she weighs five kilograms."),
    ("trips", "T1", "Bob", "We climbed Mont Blanc in July."),
    ("trips", "T2", "Eva", "I went to the sea and learned to surf."),
]
QUESTIONS = [
    ("pets", "Where does Ada's cat sleep?", 1, ["P1"]),
    ("pets", "What do the cats do all day?", 2, ["P1", "P2"]),
    ("pets", "Which mountain was it?", 5, ["P9"]),  # not a turn of this conversation: left out
    ("trips", "Who climbed a mountain?", 1, ["T1"]),
    ("trips", "Which sport is new to Eva?", 5, ["T2"]),
]
DOCUMENTS = [
    (1, "Cats", "Cats sleep for most of the day, best of all on something warm."),
    (2, "Alps", "Mont Blanc is the highest mountain of the Alps."),
    (3, None, "Cook spaghetti for nine minutes in salted water."),
]
QUERIES = [
    (10, "How long must pasta boil?", [3]),
    (11, "highest mountain", ["2"]),
    (12, "who knows", [99]),  # not a document: left out
]


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    folder = tmp_path / "conversations"
    folder.mkdir()
    turn = ("conversation", "turn", "speaker", "text")
    write(
        folder / "turns.jsonl",
        [{"session": 1, **dict(zip(turn, line, strict=True))} for line in TURNS],
    )
    question = ("conversation", "question", "category", "evidence")
    write(
        folder / "questions.jsonl", [dict(zip(question, line, strict=True)) for line in QUESTIONS]
    )
    return folder


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    document, query = ("id", "title", "text"), ("id", "text", "relevant")
    write(
        folder / "documents.jsonl", [dict(zip(document, line, strict=True)) for line in DOCUMENTS]
    )
    write(folder / "queries.jsonl", [dict(zip(query, line, strict=True)) for line in QUERIES])
    return folder


@pytest.fixture
def cli(tmp_path: Path, model_dir: Path) -> Cli:
    return Cli(tmp_path, model_dir.parent)


def run(cli: Cli, *arguments: str | Path, code: int = 0) -> Output:
    result = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        env=cli.environment(),
        cwd=cli.folder,
        timeout=HANG_SECONDS,
        check=False,
    )
    output = Output(result.stdout.decode(), result.stderr.decode())
    assert result.returncode == code, output
    assert "Traceback" not in output.stderr
    return output


def report(cli: Cli, data: Path, *arguments: str) -> tuple[dict[str, Any], Output]:
    file = cli.folder / "report.json"
    output = run(cli, "--data", data, "--variants", VARIANTS, "--json", file, *arguments)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert list(found["variants"]) == VARIANTS.split(",")
    for variant in found["variants"].values():
        assert variant["interval"].keys() == variant["mean"].keys()
        for name, (low, high) in variant["interval"].items():
            assert 0 <= low <= variant["mean"][name] <= high <= 1
        assert 0 < variant["p50_ms"] <= variant["p95_ms"]
    for line in ("ranking", *VARIANTS.split(",")):
        assert line in output.stdout
    return found, output


def test_conversations(cli: Cli, conversations: Path) -> None:
    found, output = report(cli, conversations)
    assert found["questions"] == 3, "groups 1 to 4"
    for variant in found["variants"].values():
        # All turns of a conversation are among the first ten, so all that answers is found.
        assert variant["mean"]["all@10"] == variant["mean"]["any@5"] == 1
        assert {group: each["n"] for group, each in variant["groups"].items()} == {
            "1": 2,
            "2": 1,
            "5": 1,
        }
        assert variant["groups"]["1"]["any@1"] == 1
    assert "loaded pets: 3 turns, 2 questions" in output.stderr
    assert "loaded trips: 2 turns, 2 questions" in output.stderr
    assert not cli.data.exists(), "the store of the user is left alone"


def test_only_some_groups_and_conversations_count(cli: Cli, conversations: Path) -> None:
    found, output = report(cli, conversations, "--quick", "--groups", "2")
    assert found["questions"] == 1
    for variant in found["variants"].values():
        assert variant["mean"]["frac@1"] <= 0.5, "of two that answer, one is the first"
        assert variant["groups"]["2"]["frac@1"] == variant["mean"]["frac@1"]
    assert "trips" not in output.stderr


def test_documents(cli: Cli, documents: Path) -> None:
    found, output = report(cli, documents)
    assert found["questions"] == 2
    for variant in found["variants"].values():
        assert variant["mean"]["any@1"] == variant["mean"]["MRR"] == variant["mean"]["nDCG@10"] == 1
        assert variant["groups"]["all"]["n"] == 2
    assert "loaded 3 documents, 2 queries" in output.stderr


def test_what_cannot_be_run_is_refused(cli: Cli, conversations: Path) -> None:
    empty = cli.folder / "empty"
    empty.mkdir()
    output = run(cli, "--data", empty, code=1)
    assert output.stderr == f"{empty} holds neither turns.jsonl nor documents.jsonl\n"
    output = run(cli, "--data", conversations, "--variants", "dense only,best", code=2)
    assert "unknown variant best; known: dense only, lexical only, hybrid" in output.stderr
    output = run(cli, "--data", conversations, "--variants", "dense only", "--groups", "7", code=1)
    assert output.stderr.splitlines()[-1] == "no question of the groups 7; there are 1, 2, 5"
