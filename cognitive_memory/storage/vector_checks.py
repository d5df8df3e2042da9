"""What every store refuses: vectors that no search could find, or that are not of its embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.errors import DimensionMismatchError, InvalidInputError
from ..core.memory import CognitiveMemory, check_distinct
from ..core.similarity import Vector, first_unsound

CHECKED_AT_ONCE = 1024
"""Arrays in one check: one by one, checks took a third of storing them."""


def check_vectors(
    memories: Sequence[CognitiveMemory], vectors: Sequence[Vector], dimension: int
) -> None:
    """Raise unless there is one (chunks, dim) array of unit rows for each of distinct memories.

    Raises ``DimensionMismatchError``, and ``InvalidInputError`` for a memory that is given twice,
    lists of unequal length, and rows that are not finite and of unit length.
    """
    check_distinct(memories)
    if len(memories) != len(vectors):
        raise InvalidInputError(
            f"got {len(vectors)} arrays of vectors for {len(memories)} memories; "
            "give one for each, of no rows where it has none"
        )
    for array in vectors:
        _check_shape(array, dimension)
    for start in range(0, len(vectors), CHECKED_AT_ONCE):
        _check_rows(np.concatenate(vectors[start : start + CHECKED_AT_ONCE]))


def checked_queries(queries: Vector, dimension: int) -> Vector:
    """``queries`` as (n, dim) float32, if they may be searched for; raises as ``check_vectors``."""
    rows = np.asarray(queries, dtype=np.float32)
    _check_shape(rows, dimension)
    _check_rows(rows)
    return rows


def _check_shape(array: Vector, dimension: int) -> None:
    if array.ndim != 2 or array.shape[1] != dimension:
        raise DimensionMismatchError(
            f"got vectors of shape {array.shape}, this store holds {dimension} dimensions; "
            "set COGNITIVE_MEMORY_EMBEDDING__MODEL to the model that it was written with"
        )


def _check_rows(rows: Vector) -> None:
    found = first_unsound(rows)
    if found is None:
        return
    place, length = found
    if not np.isfinite(rows[place]).all():
        raise InvalidInputError("vectors hold NaN or infinity; embed the text again")
    raise InvalidInputError(
        f"got a vector of length {length:g}; it must be of unit length, "
        "as core.similarity.normalize makes all but those of zeros"
    )
