"""Rules of one's own: what they change, and what is said of a fault in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cognitive_memory.core.errors import ConfigurationError
from cognitive_memory.encoding.dimension_lexicon import word_forms
from cognitive_memory.encoding.dimensions import AXES, CognitiveDimensionExtractor

OWN_RULES = files("cognitive_memory.encoding").joinpath("dimension_rules.json")
RULES: dict[str, Any] = json.loads(OWN_RULES.read_text(encoding="utf-8"))
EXTRACTOR = CognitiveDimensionExtractor()


@pytest.mark.parametrize(
    ("element", "forms"),
    [
        ("stuck", "stuck"),
        ("fail~", "fail fails failed failing"),
        ("hate~", "hate hates hated hating"),
        ("worry~", "worry worrys worryed worrying worries worried"),
        ("play~", "play plays played playing"),
        ("fix~", "fix fixs fixed fixing fixes"),
        ("plan~", "plan plans planed planing planned planning"),
    ],
)
def test_regular_endings(element: str, forms: str) -> None:
    assert word_forms(element) == set(forms.split())


def write(folder: Path, rules: object) -> Path:
    path = folder / "rules.json"
    path.write_text(json.dumps(rules), encoding="utf-8")
    return path


def changed(change: Callable[[Any], object]) -> Any:
    """The package's own rules with one change."""
    rules = json.loads(json.dumps(RULES))
    change(rules)
    return rules


def test_rules_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, changed(lambda r: r["axes"]["urgency"]["strong"].append("zack zack")))
    own = CognitiveDimensionExtractor(rules=path)
    assert own.extract("Zack, zack!")[AXES.index("urgency")] == 0
    assert own.extract("Zack zack!")[AXES.index("urgency")] == np.float32(0.6)
    assert EXTRACTOR.extract("Zack zack!")[AXES.index("urgency")] == 0
    assert own.fingerprint != EXTRACTOR.fingerprint


def test_the_fingerprint_is_that_of_what_decides_the_scores(tmp_path: Path) -> None:
    def fingerprint(change: Callable[[Any], object]) -> str:
        return CognitiveDimensionExtractor(write(tmp_path, changed(change))).fingerprint

    assert EXTRACTOR.fingerprint.startswith(f"dimensions-1/{RULES['version']}/")
    assert fingerprint(lambda r: None) == EXTRACTOR.fingerprint
    assert fingerprint(lambda r: r.update(description="other")) == EXTRACTOR.fingerprint
    assert fingerprint(lambda r: r.update(repeat=0.25)) != EXTRACTOR.fingerprint
    assert fingerprint(lambda r: r.update(version="2")).startswith("dimensions-1/2/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("axes"), "the file has no 'axes'"),
        (lambda r: r.update(extra=1), "the file has an unknown key 'extra'; known: format, "),
        (lambda r: r.update(format=2), "format is 2, this version reads 1"),
        (lambda r: r.update(version=""), "version is ''; expected a name"),
        (lambda r: r.update(repeat=1.5), "repeat is 1.5; expected a number from 0 to 1"),
        (lambda r: r.update(repeat=True), "repeat is True; expected a number"),
        (lambda r: r["levels"].update(weak=-1), "levels.weak is -1; expected a number from 0"),
        (lambda r: r["levels"].update(new=0.1), "axes.frustration has no 'new'"),
        (lambda r: r["kinds"].update(odd="("), r"kinds.odd is '\(': missing \), unterm"),
        (lambda r: r["kinds"].update(odd=3), "kinds.odd is 3; expected a regular expression"),
        (lambda r: r["negation"].pop("window"), "negation has no 'window'"),
        (lambda r: r["negation"].update(words=["not so"]), r"negation.words\[0\] is 'not so'; e"),
        (lambda r: r["factors"].update(much=[]), "factors has the key 'much'; expected a number"),
        (lambda r: r["factors"].update(nan=[]), "factors.nan is nan; expected a number from 0"),
        (lambda r: r["axes"].pop("work"), "axes has no 'work'"),
        (lambda r: r["axes"].update(joy={}), "axes has an unknown key 'joy'; known: frustration"),
        (lambda r: r["axes"].update(work=[]), r"axes.work is \[\]; expected an object"),
        (lambda r: r["axes"]["work"].update(stong=[]), "axes.work has an unknown key 'stong'"),
        (lambda r: r["axes"]["work"].update(weak="a"), "axes.work.weak is 'a'; expected a list"),
        (lambda r: r["axes"]["work"].update(weak=[3]), r"axes.work.weak\[0\] is 3; expected 1 to"),
        (lambda r: r["axes"]["work"].update(weak=["a", " "]), r"axes.work.weak\[1\] is ' '; exp"),
        (lambda r: r["axes"]["work"].update(negatable="no"), "work.negatable is 'no'; expected"),
        (lambda r: r["axes"]["work"].update(weak=["Upper"]), "'Upper' is no element; expected wo"),
        (lambda r: r["axes"]["work"].update(weak=["a-b"]), "'a-b' is no element; expected word"),
        (lambda r: r["axes"]["work"].update(weak=["by <day>"]), "'<day>' is no element; expect"),
        (lambda r: r["axes"]["work"].update(weak=["a|"]), r"weak\[0\] is 'a\|', of which '' is no"),
        (
            lambda r: r["axes"]["work"].update(weak=["boss"]),
            r"axes.work.weak\[0\] repeats 'boss' of axes.work.strong\[\d+\]",
        ),
    ],
)
def test_a_fault_in_the_rules_is_named_by_its_place(
    tmp_path: Path, change: Callable[[Any], object], message: str
) -> None:
    path = write(tmp_path, changed(change))
    with pytest.raises(
        ConfigurationError, match=rf"rules.json is not a file of rules: .*{message}"
    ):
        CognitiveDimensionExtractor(rules=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON: Expecting value: line 1 column 1"),
        (b'{"format": 1,', r"is not JSON: Expecting property name .* line 1 column 14"),
        (b"\xff{}", r"is not JSON: 'utf-8' codec can't decode byte 0xff in position 0"),
        (b"9" * 5000, r"is not JSON: Exceeds the limit"),
        (b"[" * 100_000, r"is not JSON: .*(recursion|overflow)"),
        (b"[]", r"is not a file of rules: the file is \[\]; expected an object"),
        (
            b'{"a": 1, "b": 2, "a": 3}',
            r"is not a file of rules: the key 'a' stands twice in one object",
        ),
    ],
)
def test_a_file_that_holds_no_rules(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rules.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"rules.json {message}.*; begin with a copy of"):
        CognitiveDimensionExtractor(rules=path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ConfigurationError, match=rf"^{path} cannot be read: .*; begin with"):
            CognitiveDimensionExtractor(rules=path)
