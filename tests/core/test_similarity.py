"""Unit rows, cosine, the best k."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from cognitive_memory.core.errors import DimensionMismatchError
from cognitive_memory.core.similarity import (
    Vector,
    cosine,
    first_unsound,
    mean_rows,
    normalize,
    top_k,
)

FINITE = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
MATRIX = arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(1, 8)), elements=FINITE)
SCORES = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]))
"""Few values, so that ties are frequent."""


def row(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def test_rows_are_scaled_to_unit_length() -> None:
    vectors = normalize(np.array([[3, 4], [0, -2], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(vectors, np.array([[0.6, 0.8], [0, -1], [0, 0]]), atol=1e-7)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(normalize(row(3, 4)), [0.6, 0.8], atol=1e-7)


def test_no_rows_stay_no_rows() -> None:
    assert normalize(np.empty((0, 3), dtype=np.float32)).shape == (0, 3)
    assert cosine(row(1, 0, 0), np.empty((0, 3), dtype=np.float32)).shape == (0,)


def test_the_mean_of_chunks_is_one_row_each() -> None:
    one, many, none = row(3, 4)[None], np.stack([row(1, 0), row(0, 1)]), np.stack([row(1, 0)] * 2)
    none[1] *= -1
    rows = mean_rows([one, many, none, one])
    expected = np.array([[0.6, 0.8], [0.5**0.5, 0.5**0.5], [0, 0], [0.6, 0.8]])
    np.testing.assert_allclose(rows, expected, atol=1e-7)
    assert rows.dtype == np.float32
    assert mean_rows([]).shape == (0, 0)


@given(matrix=MATRIX)
def test_each_row_has_length_one_or_zero(matrix: Vector) -> None:
    lengths = np.linalg.norm(normalize(matrix), axis=1)
    large = np.linalg.norm(matrix, axis=1) > 1e-6
    np.testing.assert_allclose(lengths[large], 1, atol=1e-5)
    assert np.all(lengths <= 1 + 1e-5)


def test_the_cosine_needs_no_unit_rows() -> None:
    scores = cosine(
        row(2, 0), np.array([[5, 0], [1, 1], [0, 3], [-1, 0], [0, 0]], dtype=np.float32)
    )
    np.testing.assert_allclose(scores, [1, 0.5**0.5, 0, -1, 0], atol=1e-7)
    assert scores.dtype == np.float32


@given(matrix=MATRIX)
def test_cosines_stay_within_one(matrix: Vector) -> None:
    for vector in matrix:
        scores = cosine(vector, matrix)
        assert scores.shape == (len(matrix),)
        assert np.all(np.abs(scores) <= 1)


def test_other_lengths_are_refused() -> None:
    with pytest.raises(
        DimensionMismatchError, match=r"got 2 dimensions to compare with 3; .* the same model"
    ):
        cosine(row(1, 0), np.ones((1, 3), dtype=np.float32))


def scores_of(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (-1, []),
        (0, []),
        (1, [1]),
        (2, [1, 2, 3]),
        (3, [1, 2, 3]),
        (4, [1, 2, 3, 0]),
        (9, [1, 2, 3, 0]),
    ],
)
def test_ties_with_the_last_come_along(k: int, expected: list[int]) -> None:
    assert top_k(scores_of(0.1, 0.9, 0.5, 0.5), k).tolist() == expected


def test_slack_takes_more() -> None:
    scores = scores_of(0.9, 0.5, 0.49, 0.48)
    assert top_k(scores, 2).tolist() == [0, 1]
    assert top_k(scores, 2, slack=0.015).tolist() == [0, 1, 2]


@given(values=SCORES, k=st.integers(-1, 10))
def test_the_best_are_a_prefix_of_the_ranking(values: list[float], k: int) -> None:
    chosen = top_k(scores_of(*values), k).tolist()
    ranked = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert chosen == ranked[: len(chosen)]
    assert len(chosen) >= min(max(k, 0), len(values))
    if k > 0:
        assert all(values[place] < values[chosen[-1]] for place in ranked[len(chosen) :])
    else:
        assert chosen == []


@pytest.mark.parametrize(
    ("row", "length"),
    [([0, 0], 0), ([0.5, 0], 0.5), ([3, 4], 5), ([np.inf, 0], np.inf), ([1e30, 0], np.inf)],
)
def test_the_first_row_that_is_not_of_unit_length_is_named(row: list[float], length: float) -> None:
    rows = np.array([[0, 1], row, [np.nan, 0]], dtype=np.float32)
    assert first_unsound(rows) == (1, length)


def test_a_row_that_is_no_number_has_no_length() -> None:
    found = first_unsound(np.array([[np.nan, 1]], dtype=np.float32))
    assert found is not None
    assert np.isnan(found[1])


@pytest.mark.parametrize("length", [1.0, 0.995, 1.005])
def test_rows_that_are_off_by_rounding_are_sound(length: float) -> None:
    assert first_unsound(np.array([[0, length]] * 3, dtype=np.float32)) is None
    assert first_unsound(np.empty((0, 2), dtype=np.float32)) is None
