"""Forgetting: how much of a memory's freshness is left after some time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidInputError


def retention(
    age_seconds: NDArray[np.floating], half_life_seconds: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(n,) in [0, 1]: 1 at age 0 and for what lies in the future, 1/2 after each half-life.

    Both (n,), or one of them a single value. Raises ``InvalidInputError`` for NaN, and for a
    half-life that is not above 0 or not finite.

    >>> retention(np.array([0.0, 30.0, 60.0, -5.0]), np.array(30.0))
    array([1.  , 0.5 , 0.25, 1.  ])
    """
    ages = np.asarray(age_seconds, dtype=np.float64)
    half_lives = np.asarray(half_life_seconds, dtype=np.float64)
    refused = half_lives[~((half_lives > 0) & np.isfinite(half_lives))]
    if refused.size:
        raise InvalidInputError(
            f"got a half-life of {refused[0]:g} seconds; it must be above 0 and finite"
        )
    if np.isnan(ages).any():
        raise InvalidInputError("got an age of NaN seconds; give the seconds since the memory")
    with np.errstate(over="ignore"):  # beyond any number of half-lives, nothing is left
        return np.asarray(np.exp2(-(np.maximum(ages, 0.0) / half_lives)), dtype=np.float64)
