"""Scores on the named axes: what counts, what does not, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.interfaces import DimensionExtractor
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding import dimension_lexicon
from cognitive_memory.encoding.dimensions import (
    AXES,
    GROUPS,
    CognitiveDimensionExtractor,
    combine_weights,
)

OWN_RULES = files("cognitive_memory.encoding").joinpath("dimension_rules.json")
RULES: dict[str, Any] = json.loads(OWN_RULES.read_text(encoding="utf-8"))
EXTRACTOR = CognitiveDimensionExtractor()

WORDS = sorted(
    {
        word.strip("*~<>")
        for axis in RULES["axes"].values()
        for level in RULES["levels"]
        for entry in axis[level]
        for word in entry.replace("|", " ").split()
    }
    | set(RULES["negation"]["words"])
    | {"very", "slightly", "and", "but", ".", ",", "the", "2026-01-15", "14:30", "getUserName"}
)
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text("İßé\u2019'-_\n 語aS", max_size=4))).map(
        "".join
    ),
)


def score(text: str) -> dict[str, float]:
    """The axes above 0."""
    return {
        axis: float(value)
        for axis, value in zip(AXES, EXTRACTOR.extract(text), strict=True)
        if value
    }


# Axes and rules


def test_axes_stand_in_their_order_in_four_groups() -> None:
    assert list(GROUPS) == ["emotional", "temporal", "contextual", "social"]
    assert AXES[:4] == ("frustration", "satisfaction", "curiosity", "stress")
    assert AXES[4:7] == ("urgency", "deadline_pressure", "time_context")
    assert AXES[7:10] == ("work", "technical", "creative")
    assert AXES[10:13] == ("analytical", "collaborative", "individual")
    assert AXES[13:] == ("collaboration", "support", "interaction")
    assert isinstance(EXTRACTOR, DimensionExtractor)
    assert EXTRACTOR.axes == AXES


@pytest.mark.parametrize("axis", AXES)
def test_each_axis_is_described_and_has_many_rules(axis: str) -> None:
    rules = RULES["axes"][axis]
    assert len(rules["description"]) > 20
    assert sum(len(rules[level]) for level, weight in RULES["levels"].items() if weight) >= 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I am so frustrated, this build keeps failing for no reason", {"frustration"}),
        ("Fed up with these awful error dialogs", {"frustration", "technical"}),
        ("It finally works and I could not be happier", {"satisfaction"}),
        ("We are proud of this release, well done everyone", {"satisfaction"}),
        ("I wonder why the cache misses so often", {"curiosity", "technical"}),
        ("She was curious and wanted to learn how whales sleep", {"curiosity"}),
        ("I'm overwhelmed and anxious, I can't sleep", {"stress"}),
        ("The exam panic left him exhausted", {"stress"}),
        ("Production is down, fix it immediately", {"urgency"}),
        ("We need an ambulance, this is an emergency", {"urgency"}),
        ("Must ship by Friday, no later than 5pm", {"deadline_pressure", "time_context"}),
        ("Only 3 days left before the code freeze", {"deadline_pressure", "time_context"}),
        ("Yesterday morning, two weeks ago, on 2026-01-15", {"time_context"}),
        ("Last week at 14:30, the Monday before Christmas", {"time_context"}),
        ("My boss hired two new employees", {"work"}),
        ("The customer sent the invoice back to our sales department", {"work"}),
        ("The Python API throws an exception in the database driver", {"technical"}),
        ("A race condition in getUserName", {"technical"}),
        ("A painting, a song and a story born from imagination", {"creative"}),
        ("Write a poem, think outside the box", {"creative"}),
        ("We analyzed the metrics and measured a significant difference", {"analytical"}),
        ("The statistics support the hypothesis: correlation, no proof", {"analytical"}),
        ("A hackathon with the whole team", {"collaborative", "collaboration"}),
        ("Let's decide as a team, consensus matters", {"collaborative", "collaboration"}),
        ("Alone with a diary, in solitude", {"individual"}),
        ("Self taught, at my own pace", {"individual"}),
        ("They joined forces and coordinated with us", {"collaboration"}),
        ("Thank you for the advice and the moral support", {"support"}),
        ("Please help me, hang in there", {"support"}),
        ("She told me about the phone call with her neighbor", {"interaction"}),
        ("Had lunch with Sarah, she said hello", {"interaction"}),
    ],
)
def test_a_text_speaks_for_its_axes(text: str, expected: set[str]) -> None:
    assert {axis for axis, value in score(text).items() if value >= 0.4} >= expected
    # What else it touches, it touches less.
    others = [value for axis, value in score(text).items() if axis not in expected]
    assert max(others, default=0) < min(score(text)[axis] for axis in expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n",
        "The cat sat on the mat",
        "12 34,567 ... --- ///",
        "日本語のテキストです。緊急",
        "Срочно! Команда работает",
        "الفريق يعمل معا",
        "Ελληνικά και ελληνικά",
        "😀🦊👍🏽",
        "x" * 100_000,
        "\0\x01\x7f",
    ],
)
def test_a_text_that_says_nothing_scores_nothing(text: str) -> None:
    assert score(text) == {}
    assert EXTRACTOR.explain(text) == []


# What counts


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("I am not happy", "satisfaction"),
        ("I am not very happy", "satisfaction"),
        ("we are no longer stuck", "frustration"),
        ("this isn't urgent", "urgency"),
        ("this isn\u2019t urgent", "urgency"),
        ("NEVER STRESSED", "stress"),
        ("without any help", "support"),
        ("there is no deadline", "deadline_pressure"),
        ("nobody was alone", "individual"),
    ],
)
def test_negation_takes_back(text: str, axis: str) -> None:
    assert axis not in score(text)
    negated = [each for each in EXTRACTOR.explain(text) if each.axis == axis]
    assert negated
    assert all(each.is_negated and each.weight == 0 for each in negated)


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("No, I am happy", "satisfaction"),
        ("it is not slow and we are happy", "satisfaction"),
        ("not the one that made all of them happy", "satisfaction"),
        ("not done\n- happy", "satisfaction"),
        ("not only happy", "satisfaction"),
        ("never been so happy", "satisfaction"),
        ("no Python here", "technical"),
        ("not yesterday", "time_context"),
        ("I couldn't be happier", "satisfaction"),
        ("I am not happy", "frustration"),
    ],
)
def test_negation_has_limits(text: str, axis: str) -> None:
    assert axis in score(text)


@pytest.mark.parametrize(
    ("weaker", "stronger", "axis"),
    [
        ("tired", "extremely tired", "stress"),
        ("slightly tired", "tired", "stress"),
        ("stuck", "stuck, annoyed", "frustration"),
        ("stuck", "stuck, stuck", "frustration"),
        ("stuck, stuck", "stuck, annoyed", "frustration"),
        ("good", "great", "satisfaction"),
        ("great", "wonderful", "satisfaction"),
    ],
)
def test_weights_have_an_order(weaker: str, stronger: str, axis: str) -> None:
    assert 0 < score(weaker)[axis] < score(stronger)[axis] < 1


def test_weights_are_those_of_the_rules() -> None:
    assert [each.weight for each in EXTRACTOR.explain("stuck, stuck. Very annoyed")] == [
        0.4,
        0.2,
        0.5,
    ]
    assert score("stuck, stuck. Very annoyed") == {
        "frustration": pytest.approx(1 - 0.6 * 0.8 * 0.5)
    }


@pytest.mark.parametrize(
    ("text", "axis", "rules"),
    [
        ("code review", "technical", ["code~"]),
        ("code review", "collaboration", ["code review~"]),
        ("a group of friends", "collaborative", ["group~"]),
        ("select a group by name", "collaborative", []),
        ("Group-by or group_by", "collaborative", []),
        ("it works on the context manager", "work", []),
        ("an exhaustive search", "stress", []),
        ("stress tests", "stress", []),
        ("due to an error", "deadline_pressure", []),
        ("the team's plan", "collaborative", ["the team"]),
        ("planned, planning, plans", "work", ["plan~", "planning", "plan~"]),
        ("DEADLINES", "deadline_pressure", ["deadline~"]),
        ("fed. up", "frustration", []),
        ("it supports Unicode", "support", []),
        ("she supports me", "support", ["support~ me|you|him|her|us|each|my"]),
    ],
)
def test_the_longest_and_most_exact_rule_wins(text: str, axis: str, rules: list[str]) -> None:
    assert [each.rule for each in EXTRACTOR.explain(text) if each.axis == axis] == rules


# Explanation


def test_an_explanation_shows_what_was_found_where() -> None:
    text = "İ: I'm NOT happy; the deadline is by Friday!"
    found = {(each.axis, each.start): each for each in EXTRACTOR.explain(text)}
    assert found["satisfaction", 11].text == "happy"
    assert found["satisfaction", 11].is_negated
    assert found["satisfaction", 11].weight == 0
    by_friday = found["deadline_pressure", 34]
    assert by_friday.text == "by Friday"
    assert by_friday.rule == "by <weekday>|<date>|<time>"
    assert (by_friday.weight, by_friday.is_negated) == (0.6, False)


@given(text=TEXTS)
def test_an_explanation_adds_up_to_the_score(text: str) -> None:
    weights: dict[str, list[float]] = {axis: [] for axis in AXES}
    for each in EXTRACTOR.explain(text):
        assert text[each.start : each.start + len(each.text)] == each.text
        assert 0 <= each.weight <= 1
        assert each.is_negated == (each.weight == 0)
        weights[each.axis].append(each.weight)
    combined = np.array([combine_weights(weights[axis]) for axis in AXES], dtype=np.float32)
    assert combined.tolist() == EXTRACTOR.extract(text).tolist()


# Batches


@given(texts=st.lists(TEXTS, max_size=6))
def test_a_batch_is_its_texts_one_by_one(texts: list[str]) -> None:
    scores = EXTRACTOR.extract_batch(texts)
    assert scores.shape == (len(texts), 16)
    assert scores.dtype == np.float32
    assert np.all((scores >= 0) & (scores <= 1))
    for row, text in zip(scores, texts, strict=True):
        assert row.tolist() == EXTRACTOR.extract(text).tolist()
    assert np.array_equal(CognitiveDimensionExtractor().extract_batch(texts), scores)


def test_no_texts_are_no_rows() -> None:
    assert EXTRACTOR.extract_batch([]).shape == (0, 16)
    assert EXTRACTOR.extract_batch([]).dtype == np.float32


def test_other_processes_give_the_same_bytes() -> None:
    texts = [" ".join(WORDS[start : start + 12]) for start in range(0, len(WORDS), 12)]
    code = (
        "import json, sys\n"
        "from cognitive_memory.encoding.dimensions import CognitiveDimensionExtractor as E\n"
        "texts, e = json.load(sys.stdin), E()\n"
        "print(e.fingerprint, e.extract_batch(texts).tobytes().hex(), e.explain(texts[0]))"
    )
    here = EXTRACTOR.extract_batch(texts).tobytes().hex()
    expected = f"{EXTRACTOR.fingerprint} {here} {EXTRACTOR.explain(texts[0])}\n"
    for seed in ("1", "2"):
        assert run(code, json.dumps(texts), PYTHONHASHSEED=seed) == expected


def test_importing_it_loads_no_runtime_and_no_rules() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import cognitive_memory.encoding.dimensions\n"
        "from cognitive_memory.encoding.dimension_rules import _own_rules\n"
        "heavy = {'onnxruntime', 'tokenizers', 'pydantic', 'huggingface_hub', 'sqlite3'}\n"
        "print(heavy & (set(sys.modules) - before), _own_rules.cache_info().currsize)"
    )
    assert run(code) == "set() 0\n"


def run(code: str, given_text: str = "", **environment: str) -> str:
    """What ``code`` prints in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=given_text,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment, "PYTHONIOENCODING": "utf-8"},
    )
    return result.stdout


def test_many_threads_get_the_scores_of_one() -> None:
    texts = [" ".join(WORDS[start : start + 9]) for start in range(0, len(WORDS), 9)]
    expected = EXTRACTOR.extract_batch(texts)
    fresh = CognitiveDimensionExtractor()
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(fresh.extract_batch, [texts] * 8):
            assert np.array_equal(scores, expected)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimension_lexicon, "TOKENS_KEPT", 100)
    fresh = CognitiveDimensionExtractor()
    text = " ".join([*(f"word{number}" for number in range(1000)), "x" * 1000, "stuck"])
    assert fresh.extract(text).tolist() == EXTRACTOR.extract("stuck").tolist()
    assert len(fresh._lexicon) <= 100
    assert max(map(len, fresh._lexicon)) < 1000


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ([3], InvalidInputError, "^text 0 is a int; expected a str$"),
        (["fine", None], InvalidInputError, "^text 1 is a NoneType; expected a str$"),
        (["fine", "fine", b"bytes"], InvalidInputError, "^text 2 is a bytes; expected a str$"),
        (["fine", "\ud800"], InvalidInputError, "^text 1 is not valid Unicode: a lone surrogate"),
        ("one text", TypeError, "a sequence of texts is needed, not one text"),
    ],
)
def test_bad_input_is_named_by_its_place(texts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EXTRACTOR.extract_batch(texts)


def test_bad_input_of_one_text() -> None:
    bad: Any = 3
    for function in (EXTRACTOR.extract, EXTRACTOR.explain):
        with pytest.raises(InvalidInputError, match=r"^text 0 is a int; expected a str$"):
            function(bad)


# An extractor of another kind


def test_one_method_makes_an_extractor() -> None:
    class Length(DimensionExtractor):
        axes = ("long",)
        fingerprint = "length"

        def extract_batch(self, texts: Sequence[str]) -> Vector:
            return np.array([[min(len(text) / 10, 1)] for text in texts], dtype=np.float32)

    assert Length().extract("12345").tolist() == [0.5]
