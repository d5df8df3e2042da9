"""The metrics of the recall benchmark: values that a person can check, and honest intervals."""

from __future__ import annotations

import doctest
import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def metrics() -> Iterator[Any]:
    """The module ``recall_metrics``, which stands beside the benchmark and not in the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("recall_metrics")


def letters(count: int) -> list[str]:
    return [f"{number:02}" for number in range(1, count + 1)]


def test_a_ranking_by_hand(metrics: Any) -> None:
    """Two of three are found, at ranks 2 and 4."""
    found = metrics.measure(["a", "b", "c", "d", "e"], {"b", "d", "x"})
    assert sorted(found) == sorted(metrics.NAMES)
    assert {name: found[f"{name}@1"] for name in ("any", "all", "frac")} == {
        "any": 0,
        "all": 0,
        "frac": 0,
    }
    for depth in (5, 10, 20):
        assert found[f"any@{depth}"] == 1
        assert found[f"all@{depth}"] == 0
        assert found[f"frac@{depth}"] == 2 / 3
    assert found["MRR"] == 0.5
    gained, ideal = 1 / math.log2(3) + 1 / math.log2(5), 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["nDCG@10"] == pytest.approx(gained / ideal)
    assert found["nDCG@10"] == pytest.approx(0.498, abs=1e-3)


@pytest.mark.parametrize("rank", [1, 2, 5, 6, 10, 11, 20, 21])
def test_one_answer_at_a_rank(metrics: Any, rank: int) -> None:
    found = metrics.measure(letters(30), {f"{rank:02}"})
    for depth in (1, 5, 10, 20):
        assert {found[f"{kind}@{depth}"] for kind in ("any", "all", "frac")} == {rank <= depth}
    assert found["MRR"] == 1 / rank
    assert found["nDCG@10"] == (1 / math.log2(rank + 1) if rank <= 10 else 0)


def test_the_best_ranking_has_the_best_values(metrics: Any) -> None:
    found = metrics.measure(letters(20), letters(4))
    assert found.pop("all@1") == 0
    assert found.pop("frac@1") == 0.25
    assert set(found.values()) == {1.0}


def test_no_more_than_ten_can_be_among_the_first_ten(metrics: Any) -> None:
    found = metrics.measure(letters(20), letters(20))
    assert (found["frac@10"], found["all@10"], found["all@20"]) == (0.5, 0, 1)
    assert found["nDCG@10"] == 1


@pytest.mark.parametrize("ranking", [[], ["a", "b"]])
def test_nothing_found_is_nothing(metrics: Any, ranking: list[str]) -> None:
    assert set(metrics.measure(ranking, {"x"}).values()) == {0.0}


@given(
    ranking=st.lists(st.integers(0, 30).map(str), unique=True, max_size=25),
    relevant=st.sets(st.integers(0, 30).map(str), min_size=1, max_size=12),
)
def test_always(metrics: Any, ranking: list[str], relevant: set[str]) -> None:
    found = metrics.measure(ranking, relevant)
    assert all(0 <= value <= 1 + 1e-9 for value in found.values())
    for depth in metrics.DEPTHS:
        assert found[f"all@{depth}"] <= found[f"frac@{depth}"] <= found[f"any@{depth}"]
        assert found[f"frac@{depth}"] == len(relevant.intersection(ranking[:depth])) / len(relevant)
    assert found["any@1"] <= found["MRR"]
    first = metrics.measure(ranking[:20], relevant)
    assert {**first, "MRR": found["MRR"]} == found, "what comes later counts for the MRR alone"


def test_the_mean_is_over_questions(metrics: Any) -> None:
    rows = [metrics.measure(["a"], {"a"}), metrics.measure(["b", "a"], {"a", "c"})]
    found = metrics.mean(rows)
    assert list(found) == list(metrics.NAMES)
    assert (found["any@1"], found["frac@5"], found["all@5"], found["MRR"]) == (0.5, 0.75, 0.5, 0.75)


def questions(metrics: Any, right: int, wrong: int) -> list[dict[str, float]]:
    return [metrics.measure(["a"], {"a"})] * right + [metrics.measure(["b"], {"a"})] * wrong


def test_intervals_are_the_same_each_time_and_hold_the_mean(metrics: Any) -> None:
    rows = questions(metrics, 60, 40)
    found = metrics.intervals(rows)
    assert found == metrics.intervals(rows)
    assert found != metrics.intervals(rows, seed=1)
    assert list(found) == list(metrics.NAMES)
    for name, (low, high) in found.items():
        assert low < metrics.mean(rows)[name] < high
    # Of 100 draws with chance 0.6: 0.6 plus and minus 1.96 x sqrt(0.6 x 0.4 / 100) = 0.096.
    assert found["any@1"] == pytest.approx((0.504, 0.696), abs=0.02)


def test_more_questions_narrow_the_interval(metrics: Any) -> None:
    few, many = (metrics.intervals(questions(metrics, n, n))["MRR"] for n in (10, 160))
    assert many[1] - many[0] == pytest.approx((few[1] - few[0]) / 4, rel=0.2)


def test_without_doubt_the_interval_is_a_point(metrics: Any) -> None:
    assert set(metrics.intervals(questions(metrics, 3, 0)).values()) == {(1.0, 1.0)}
    assert set(metrics.intervals(questions(metrics, 0, 1)).values()) == {(0.0, 0.0)}


def test_its_examples_are_true(metrics: Any) -> None:
    assert doctest.testmod(metrics) == doctest.TestResults(failed=0, attempted=2)
