"""Forgetting by half-lives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.retrieval.decay import retention

DAY = 86_400.0
AGES = arrays.arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=False))


def test_each_half_life_halves() -> None:
    ages = np.array([0.0, 15.0, 30.0, 60.0, 300.0]) * DAY
    kept = retention(ages, np.array(30 * DAY))
    assert kept == pytest.approx([1, math.sqrt(0.5), 0.5, 0.25, 2**-10])
    assert kept.dtype == np.float64


def test_each_memory_has_a_half_life_of_its_own() -> None:
    kept = retention(np.full(2, 365 * DAY), np.array([30.0, 365.0]) * DAY)
    assert kept == pytest.approx([2 ** (-365 / 30), 0.5])


def test_what_lies_in_the_future_is_fresh() -> None:
    assert retention(np.array([-1.0, -math.inf]), np.array(DAY)).tolist() == [1.0, 1.0]


def test_what_is_infinitely_old_is_forgotten() -> None:
    assert retention(np.array([math.inf, 1e308]), np.array(1e-9)).tolist() == [0.0, 0.0]


def test_nothing_gives_nothing() -> None:
    assert retention(np.empty(0), np.empty(0)).shape == (0,)


@given(ages=AGES, half_life=st.floats(1e-6, 1e12))
def test_it_lies_between_0_and_1_and_never_grows(ages: np.ndarray, half_life: float) -> None:
    ages = np.sort(ages)
    kept = retention(ages, np.array(half_life))
    assert kept.shape == ages.shape
    assert ((kept >= 0) & (kept <= 1)).all()
    assert (kept[1:] <= kept[:-1]).all()


@pytest.mark.parametrize("half_life", [0.0, -1.0, math.nan, math.inf])
def test_a_half_life_that_is_none_is_refused(half_life: float) -> None:
    with pytest.raises(InvalidInputError, match=f"a half-life of {half_life:g} seconds; it must"):
        retention(np.array([1.0, 2.0]), np.array([DAY, half_life]))


def test_an_age_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="an age of NaN seconds"):
        retention(np.array([1.0, math.nan]), np.array(DAY))
