"""The benchmark of stores as a process, on a few hundred vectors; peers may not be installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import unmeasured

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_stores.py"
HANG_SECONDS = 300
"""A guard against a process that never ends; nothing is measured."""

OURS, WITH_MEMORIES, INDEX = "this store", "this store with memories", "its index alone"
BARE = "bare NumPy product"
EXACT = (OURS, INDEX, BARE, "qdrant-client local", "qdrant-client local dot", "qdrant-edge flat")
PEERS = (*EXACT[3:], "qdrant-edge HNSW", "usearch HNSW", "hnswlib HNSW")


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    result = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        env=unmeasured() | {"PYTHONIOENCODING": "utf-8"},
        timeout=HANG_SECONDS,
        check=False,
    )
    output, errors = result.stdout.decode(), result.stderr.decode()
    assert result.returncode == code, errors
    assert "Traceback" not in errors
    return output, errors


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report and what was printed of a run at two sizes, with the peers that are there."""
    folder = tmp_path_factory.mktemp("benchmark")
    file = folder / "report.json"
    small = ["--sizes", "300,150", "--queries", "20", "--batch", "8", "--rounds", "2"]
    output, _ = run(*small, "--insert-batch", "64", "--scratch", folder, "--json", file)
    assert [path.name for path in folder.iterdir()] == [file.name], "nothing is left behind"
    return json.loads(file.read_text(encoding="utf-8")), output


def test_every_store_is_measured_at_every_size_or_named_as_skipped(
    measured: tuple[dict[str, Any], str],
) -> None:
    report, output = measured
    assert list(report["sizes"]) == ["150", "300"]
    assert report["left_out"] == {}
    for name in (OURS, WITH_MEMORIES, INDEX, BARE, *PEERS):
        is_there = {name in stores for stores in report["sizes"].values()}
        assert is_there == {name not in report["skipped"]}
        if name in report["skipped"]:
            assert name in PEERS
            assert f"skipped {name}: not installed (" in output
    for name in report["versions"]:
        assert output.count(f"\n{name}  ") == 2, "a line in the table of each size"


def test_figures_of_every_store_are_whole(measured: tuple[dict[str, Any], str]) -> None:
    report, _ = measured
    for size, stores in report["sizes"].items():
        for name, found in stores.items():
            inserted = found["insert"]
            seconds = inserted["insert_seconds"] + inserted["finish_seconds"]
            assert inserted["vectors_per_second"] == pytest.approx(int(size) / seconds)
            assert found["disk_bytes"] >= int(size) * 384 * 4
            if name == WITH_MEMORIES:
                assert "latency_ms" not in found, "it is searched as the store alone is"
                continue
            assert found["latency_ms"].keys() == {"1", "8"}
            for latency in found["latency_ms"].values():
                assert 0 < latency["p50"] <= latency["p95"]
            assert 0 < found["open_seconds"] < found["open_with_imports_seconds"]
            assert {len(values) for values in found["rounds"].values()} == {2}
            opened, searched = found["memory"]["opened"], found["memory"]["searched"]
            assert opened["peak_bytes"] > 0
            assert searched["peak_bytes"] > 0


def test_exact_stores_find_the_nearest_of_all(measured: tuple[dict[str, Any], str]) -> None:
    report, _ = measured
    for stores in report["sizes"].values():
        for name in set(EXACT) & set(stores):
            assert stores[name]["recall@10"] == {"alone": 1.0, "batch": 1.0}, name


def test_aims_are_judged_where_they_were_measured(measured: tuple[dict[str, Any], str]) -> None:
    report, output = measured
    titles = {each["title"]: each["met"] for each in report["headlines"]}
    assert titles == {"recall@10, 150": True, "recall@10, 300": True}
    for line in (
        "not measured: p50 of one query, ms, 1,000,000",
        "not measured: p50 of qdrant-client local / this store, 20,000",
        "not measured: opening to the first result, s, 100,000",
        "not measured: ready vectors inserted a second, 100,000",
    ):
        assert line in output


def test_a_store_that_takes_too_long_to_fill_is_left_out_and_said_so(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    small = ["--sizes", "50", "--stores", INDEX, "--queries", "8", "--batch", "2"]
    output, _ = run(*small, "--limit-seconds", "0", "--json", file)
    assert f"left out {INDEX} at 50: not done after 0 s" in output
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["sizes"] == {"50": {}}
    assert report["headlines"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stores", "faiss"], "unknown store faiss; known: this store, "),
        (["--sizes", "many"], "got --sizes many; expected numbers such as 10000,100000"),
        (["--sizes", "100,5"], "got a size of 5; it must be at least 10"),
        (["--batch", "300"], "got --batch 300; it must be at least 2 and at most the number of"),
        (["--rounds", "0"], "got --rounds 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: list[str], message: str) -> None:
    _, errors = run(*arguments, code=2)
    assert message in errors
