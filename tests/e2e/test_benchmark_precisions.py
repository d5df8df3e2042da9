"""The benchmark of precisions as a process, on a made-up model; runtimes may not be installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import unmeasured

from cognitive_memory.core.model_files import ModelFolder
from cognitive_memory.encoding.static_provider import TABLE_FILE
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quality import Gate
from cognitive_memory.models.quantize import quantize_model
from cognitive_memory.models.static import distill_model

TESTS = Path(__file__).parents[1]
SCRIPTS = TESTS.parent / "scripts"
sys.path += [str(TESTS / "models"), str(SCRIPTS)]

from retrieval_task import conversation_task  # noqa: E402
from tiny_bert import tiny_config, tiny_weights, write_source  # noqa: E402

HANG_SECONDS = 300
"""A guard against a process that never ends; nothing is measured."""

ONNX, INT8, STATIC = "tiny onnx", "tiny-int8 onnx", "tiny-static static"
RUNTIMES = ("onnx-cuda", "onnx-tensorrt", "onnx-coreml", "onnx-openvino", "openvino")

TURNS = [("pets", str(number), "Ada", f"cat {number}") for number in range(12)] + [
    ("trips", "0", "Bob", "a mountain"),
    ("trips", "1", "Eva", "the sea"),
]
QUESTIONS = [
    ("pets", "which cat", 1, ["3", "11"]),
    ("trips", "who climbed", 2, ["0", "nowhere"]),  # the second is no turn: left out
    ("trips", "who swam", 5, ["1"]),  # of a category that does not count
]


def run(models: Path, *arguments: str | Path, code: int = 0, default: str = "") -> tuple[str, str]:
    result = subprocess.run(
        [sys.executable, SCRIPTS / "benchmark_precisions.py", "--quick", *arguments],
        capture_output=True,
        env=unmeasured()
        | {
            "COGNITIVE_MEMORY_MODELS_DIR": str(models),
            "COGNITIVE_MEMORY_EMBEDDING__MODEL": default,
            "PYTHONIOENCODING": "utf-8",
        },
        timeout=HANG_SECONDS,
        check=False,
    )
    output, errors = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == code, errors
    assert "Traceback" not in errors
    return output, errors


def write_tiny(models: Path) -> Path:
    config = tiny_config()
    recipe = write_source(models.parent / "source", config, tiny_weights(config))
    convert_model(models.parent / "source", models / "tiny", recipe)
    return models / "tiny"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder of one model in three precisions, and one that is damaged."""
    folder = tmp_path_factory.mktemp("precisions") / "models"
    tiny = write_tiny(folder)
    int8, nothing = PrecisionMap({"default": "int8"}), Gate(mean_cosine=0.0, retention=0.0)
    quantize_model(tiny, folder / "tiny-int8", int8, gate=nothing)
    distill_model(tiny, folder / "tiny-static", dimension=16)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "model_config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    turn = ("conversation", "turn", "speaker", "text")
    question = ("conversation", "question", "category", "evidence")
    for name, keys, lines in (("turns", turn, TURNS), ("questions", question, QUESTIONS)):
        content = [json.dumps(dict(zip(keys, line, strict=True))) for line in lines]
        (folder / f"{name}.jsonl").write_text("\n".join(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def measured(models: Path, data: Path) -> tuple[dict[str, Any], str]:
    """The report and what was printed, with what is installed."""
    file = models.parent / "report.json"
    output, _ = run(models, "--no-build", "--data", data, "--json", file)
    return json.loads(file.read_text(encoding="utf-8")), output


def test_every_row_is_measured_or_named_as_skipped(measured: tuple[dict[str, Any], str]) -> None:
    report, output = measured
    rows, skipped = report["variants"], report["skipped"]
    assert next(iter(rows)) == ONNX, "what the others are compared with"
    assert {ONNX, INT8, STATIC} <= rows.keys()
    for name in (f"tiny {runtime}" for runtime in RUNTIMES):
        assert (name in rows) != (name in skipped), name
    for name in rows:
        assert f"\n{name}  " in output
    for name, reason in skipped.items():
        assert f"{name}" in output
        assert f": {reason}\n" in output
        assert not reason.startswith(("cognitive_memory", "Traceback"))
    assert "model_config.json" in skipped["damaged"]
    assert not any("sentence-transformers" in name for name in rows), "of another model"


def test_figures_of_every_row_are_whole(measured: tuple[dict[str, Any], str], models: Path) -> None:
    report, _ = measured
    for found in report["variants"].values():
        for name in ("texts_per_second", "single_p50_ms", "start_seconds", "score"):
            assert found[name] > 0
        assert 0 < found["start_bytes"] <= found["peak_bytes"]
        assert found["alone_to_batch_error"] <= 1e-5
        assert found["rounds"]["times_torch"] is None
        assert len(found["rounds"]["times_fp32"]) == 1
    sizes = {name: row["file_bytes"] for name, row in report["variants"].items()}
    for name in (ONNX, INT8):
        folder = models / report["variants"][name]["model"]
        assert sizes[name] == (folder / ModelFolder(lambda: folder).runtime_graph).stat().st_size  # noqa: B023
    assert sizes[STATIC] == (models / "tiny-static" / TABLE_FILE).stat().st_size


def test_rows_are_compared_with_the_fp32_model(measured: tuple[dict[str, Any], str]) -> None:
    rows: Mapping[str, Any] = measured[0]["variants"]
    own = rows[ONNX]
    assert own["rounds"]["times_fp32"] == [1.0]
    assert own["retention"] == 1.0
    assert own["agreement"]["min_cosine"] == pytest.approx(1)
    assert 0.8 < rows[INT8]["agreement"]["mean_cosine"] < 0.99999
    assert "agreement" not in rows[STATIC], "another length"
    for found in rows.values():
        assert found["retention"] == found["score"] / own["score"]


def test_aims_are_judged_where_they_were_measured(measured: tuple[dict[str, Any], str]) -> None:
    report, output = measured
    titles = {each["title"]: each for each in report["headlines"]}
    assert titles["int8: file, MB"]["met"]
    assert titles["int8: retention"]["value"] == report["variants"][INT8]["retention"]
    assert "not measured: int8: throughput / sentence-transformers (6 hoped for)\n" in output
    assert not any("static" in title for title in titles)


def test_missing_precisions_of_the_default_model_are_built(tmp_path: Path) -> None:
    models, file = tmp_path / "models", tmp_path / "report.json"
    write_tiny(models)
    run(models, "--models", "tiny", "--json", file, default="tiny")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert {ONNX, "tiny-fp16 onnx", STATIC} <= report["variants"].keys()
    assert (INT8 in report["variants"]) != (
        "below the gate" in report["skipped"].get("tiny-int8", "")
    )
    assert report["retrieval"].startswith("nDCG@10 of 300 held questions")


def test_frac_is_the_share_of_what_answers_among_the_ten_nearest(data: Path) -> None:
    task = conversation_task(data)
    assert task.title.startswith("frac@10 of 2 questions over 2 conversations of ")
    assert task.queries == ["which cat", "who climbed"]
    assert task.documents[3] == "Ada: cat 3"
    assert task.documents[12] == "Bob: a mountain"
    # Turns 3 and 11 answer; by these vectors the ten nearest are the turns 0 to 9.
    documents = np.zeros((14, 2), dtype=np.float32)
    documents[:, 0] = np.linspace(1, 0, 14)
    queries = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert task.score(documents, queries) == (0.5 + 1) / 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--no-build", "--models", "tiny,large"], 1, "no model large in "),
        (["--python", "jax=python3"], 2, "--python jax: expected one of onnx, onnx-cuda, "),
        (["--rounds", "0"], 2, "got --rounds 0; it must be at least 1"),
        (["--threads", "0"], 2, "got --threads 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(
    models: Path, arguments: list[str], code: int, message: str
) -> None:
    _, errors = run(models, *arguments, code=code)
    assert message in errors
