"""The only copies of this arithmetic: unit rows, cosine, the best k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import DimensionMismatchError

Vector = NDArray[np.float32]
"""(dim,) or (n, dim) float32."""


UNIT_TOLERANCE = 0.01
"""By how much the length of a unit row may differ from 1.

Half precision rounds by less; a fault is far off.
"""


def normalize(vectors: Vector) -> Vector:
    """Rows scaled to unit length; a zero row stays zero.

    ``vectors``: (dim,) or (n, dim); returns the same shape, float32.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def first_unsound(rows: Vector) -> tuple[int, float] | None:
    """The place and length of the first of (n, dim) rows that is not finite and of unit length.

    ``None`` where all are. The length is NaN or infinity where a number in the row is.

    >>> first_unsound(np.array([[1, 0], [0, 2]], dtype=np.float32))
    (1, 2.0)
    """
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1)
    sound = np.abs(lengths - 1) <= UNIT_TOLERANCE  # also False for NaN
    if sound.all():
        return None
    place = int(sound.argmin())
    return place, float(lengths[place])


def cosine(query: Vector, vectors: Vector) -> Vector:
    """Cosine of ``query`` (dim,) with each row of ``vectors`` (n, dim): (n,) float32 in [-1, 1].

    Raises ``DimensionMismatchError`` when the lengths differ.
    """
    if query.shape[-1] != vectors.shape[-1]:
        raise DimensionMismatchError(
            f"got {query.shape[-1]} dimensions to compare with {vectors.shape[-1]}; "
            "both vectors must come from the same model"
        )
    products = normalize(vectors) @ normalize(query)
    return np.asarray(np.clip(products, -1.0, 1.0), dtype=np.float32)


def mean_rows(arrays: Sequence[Vector]) -> Vector:
    """(n, dim) unit rows: the direction of the mean of each (chunks, dim) array, of one row each.

    Rows that cancel out give a row of zeros.
    """
    if not arrays:
        return np.empty((0, 0), dtype=np.float32)
    starts = np.cumsum([0, *(len(array) for array in arrays[:-1])])
    return normalize(np.add.reduceat(np.concatenate(arrays), starts, axis=0))


def top_k(scores: NDArray[np.floating], k: int, slack: float = 0.0) -> NDArray[np.intp]:
    """Indices of the ``k`` best scores, best first, with all within ``slack`` of the last.

    So at least ``min(k, n)`` come back, and more where there are ties: the caller breaks them.

    >>> top_k(np.array([0.1, 0.9, 0.5, 0.5], dtype=np.float32), 2)
    array([1, 2, 3])
    """
    if k <= 0 or scores.size == 0:
        return np.empty(0, dtype=np.intp)
    if k >= scores.size:
        chosen = np.arange(scores.size)
    else:
        kth = np.partition(scores, scores.size - k)[scores.size - k]
        chosen = np.flatnonzero(scores >= kth - slack)
    return chosen[np.argsort(-scores[chosen], kind="stable")]
