"""The gate: what it measures, what it lets pass, and which files it takes its texts from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cognitive_memory.core.errors import ConversionError, InvalidInputError
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.models.quality import (
    Gate,
    HeldVectors,
    Quality,
    as_record,
    compare,
    load_calibration_texts,
    load_held_texts,
    ndcg,
)


def random_rows(count: int, seed: int, dimension: int = 8) -> Vector:
    random = np.random.default_rng(seed)
    return normalize(random.standard_normal((count, dimension)).astype(np.float32))


SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(1, 40)


# --- nDCG ---


@given(COUNTS, SEEDS, SEEDS)
def test_ndcg_is_a_share(count: int, first: int, second: int) -> None:
    vectors = HeldVectors(random_rows(count, first), random_rows(count, second))
    assert 0 <= ndcg(vectors) <= 1


@given(COUNTS, SEEDS)
def test_ndcg_of_questions_that_are_their_answers_is_one(count: int, seed: int) -> None:
    rows = random_rows(count, seed)
    assume(count == 1 or np.partition(rows @ rows.T, -2, axis=1)[:, -2].max() < 1 - 1e-5)
    assert ndcg(HeldVectors(rows, rows)) == 1


@given(COUNTS, SEEDS, SEEDS)
def test_ndcg_is_that_of_a_sorted_list(count: int, first: int, second: int) -> None:
    queries, texts = random_rows(count, first), random_rows(count, second)
    gains = []
    for number, query in enumerate(queries):
        order = np.argsort(-(texts @ query), kind="stable").tolist()
        place = order.index(number)
        gains.append(1 / math.log2(place + 2) if place < 10 else 0.0)
    assert ndcg(HeldVectors(queries, texts)) == pytest.approx(sum(gains) / count)


@pytest.mark.parametrize(("place", "gain"), [(1, 1), (2, 0.63093), (10, 0.28906), (11, 0)])
def test_ndcg_counts_the_first_ten_places(place: int, gain: float) -> None:
    falling = np.linspace(1, 0.5, 12, dtype=np.float32)
    # Question n scores highest with text n - place + 1, next with the one after it, and so on.
    rolled = [np.roll(falling, number - place + 1) for number in range(12)]
    texts: Vector = np.eye(12, dtype=np.float32)
    assert ndcg(HeldVectors(np.asarray(rolled, dtype=np.float32), texts)) == pytest.approx(
        gain, abs=1e-5
    )


def test_a_model_that_gives_all_texts_one_vector_finds_nothing() -> None:
    rows = np.full((20, 4), 0.5, dtype=np.float32)
    assert ndcg(HeldVectors(rows, rows)) == 0


def test_vectors_that_are_no_numbers_find_nothing() -> None:
    rows = random_rows(20, 0)
    nothing = np.full_like(rows, np.nan)
    assert ndcg(HeldVectors(nothing, nothing)) == 0
    quality = compare(HeldVectors(rows, nothing), HeldVectors(rows, rows))
    assert quality.retention == 0
    assert not Gate(0, 0).passes(quality)


# --- the gate ---


@given(COUNTS, SEEDS)
def test_a_model_beside_itself_is_perfect(count: int, seed: int) -> None:
    rows = HeldVectors(random_rows(count, seed), random_rows(count, seed))
    quality = compare(rows, rows)
    assert quality.mean_cosine == pytest.approx(1)
    assert quality.min_cosine == pytest.approx(1)
    assert quality.retention == 1


def test_the_worst_of_questions_and_texts_counts() -> None:
    rows = np.eye(4, dtype=np.float32)
    turned = rows.copy()
    turned[2] = normalize(np.array([[0, 0, 3, 4]], dtype=np.float32))[0]
    for found in (HeldVectors(turned, rows), HeldVectors(rows, turned)):
        quality = compare(found, HeldVectors(rows, rows))
        assert quality.min_cosine == pytest.approx(0.6)
        assert quality.mean_cosine == pytest.approx(1 - 0.4 / 8)


def test_a_model_that_finds_more_keeps_more_than_all() -> None:
    texts = np.eye(3, dtype=np.float32)
    reference = HeldVectors(texts[[1, 0, 2]], texts)
    assert compare(HeldVectors(texts, texts), reference).retention > 1


@pytest.mark.parametrize(
    ("mean", "retention", "passes"),
    [
        (0.995, 0.99, True),
        (0.9949, 1, False),
        (1, 0.9899, False),
        (1, 1.2, True),
        (math.nan, 1, False),
        (1, math.nan, False),
    ],
)
def test_the_default_gate(mean: float, retention: float, passes: bool) -> None:
    quality = Quality(mean, -1, retention)
    assert Gate().passes(quality) == passes
    if passes:
        Gate().check(quality, "tiny in int8")
    else:
        with pytest.raises(
            ConversionError,
            match=r"^tiny in int8 is below the gate and was not written: mean cosine .*; needed "
            r"are mean cosine 0\.995 and retention 99\.0%; keep more of it in fp32 \(model "
            r"quantize --search finds what\) or calibrate",
        ):
            Gate().check(quality, "tiny in int8")


def test_a_record_is_json_of_six_digits() -> None:
    record = as_record(Quality(0.99712345678, 0.985, 1.0000001))
    assert json.loads(json.dumps(record)) == {
        "mean_cosine": 0.997123,
        "min_cosine": 0.985,
        "retention": 1.0,
    }


# --- texts ---


def test_the_texts_of_this_package_do_not_meet() -> None:
    calibration, held = load_calibration_texts(), load_held_texts()
    assert len(calibration) >= 200
    assert len(held.queries) == len(held.texts) >= 200
    for texts in (calibration, held.queries, held.texts):
        assert len(set(texts)) == len(texts)
        assert all(text.strip() for text in texts)
    assert not set(calibration) & {*held.queries, *held.texts}


def test_a_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("one \r\n\n \t\ntwo\u2028still two\nthree\x0cstill".encode())
    assert load_calibration_texts(path) == ["one", "two\u2028still two", "three\x0cstill"]
    path = tmp_path / "texts.jsonl"
    path.write_text('"one\\ntwo"\n\n"three"\n', encoding="utf-8")
    assert load_calibration_texts(path) == ["one\ntwo", "three"]


def test_questions_and_texts_stay_in_order(tmp_path: Path) -> None:
    path = tmp_path / "held"
    path.write_text(
        '{"query": "q", "text": "t", "more": 1}\n\n{"text": "u", "query": "r"}', encoding="utf-8"
    )
    held = load_held_texts(path)
    assert (held.queries, held.texts) == (["q", "r"], ["t", "u"])


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: .*No such file"),
        (b"", "holds no text; give some that are like your own"),
        (b" \n\t\r\n", "holds no text"),
        (b"caf\xe9", "cannot be read: .*can't decode byte 0xe9 in position 3"),
    ],
)
def test_a_file_without_texts_is_named(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for load in (load_calibration_texts, load_held_texts):
        with pytest.raises(InvalidInputError, match=reason) as caught:
            load(path)
        assert str(path) in str(caught.value)


HALF_A_PAIR = '"\\ud800"'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2 is no JSON of valid Unicode: "),
        ("[" * 200_000, "line 2 is no JSON of valid Unicode: .*recursion"),
        (HALF_A_PAIR, "line 2 is no JSON of valid Unicode: .*surrogates not allowed"),
        ("7", "line 2: a JSON string is expected"),
        ("null", "line 2: a JSON string is expected"),
        ('" "', "line 2: a JSON string is expected"),
        ('{"query": "q", "text": "t"}', "line 2: a JSON string is expected"),
    ],
    ids=lambda value: value[:12],
)
def test_a_line_that_is_no_text_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(f'"fine"\n{line}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=reason):
        load_calibration_texts(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "t"}', "line 2: an object with 'query' and 'text' is expected"),
        ('{"query": "q"}', "line 2: an object with 'query' and 'text'"),
        ('{"query": null, "text": "t"}', "line 2: an object with"),
        ('["q", "t"]', "line 2: an object with"),
        ('"q"', "line 2: an object with"),
        (f'{{"query": {HALF_A_PAIR}, "text": "t"}}', "line 2 is no JSON of valid Unicode"),
    ],
    ids=lambda value: value[:24],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "held.jsonl"
    path.write_text(f'{{"query": "q", "text": "t"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=reason):
        load_held_texts(path)


def test_held_texts_of_which_nothing_is_found_are_refused() -> None:
    texts = np.eye(12, dtype=np.float32)
    lost = HeldVectors(-texts, texts)
    with pytest.raises(InvalidInputError, match="finds none of the held passages"):
        compare(HeldVectors(texts, texts), lost)
