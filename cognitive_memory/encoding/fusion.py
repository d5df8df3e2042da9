"""Semantic vectors and scores on named axes in one unit vector, whose cosine is a weighted sum.

A fused row is ``[sqrt(ws) * semantic, sqrt(wd) * dimensions, sqrt(wd) * none]``, where ``ws`` and
``wd`` are the weights as shares of their sum. ``dimensions`` are the scores, through a learned
matrix if there is one, at unit length. Scores that are all 0 have no direction: such a row has 1
in the last column ``none`` instead, which is 0 for all others. So every row has unit length, and
of any two rows ``cosine == ws * cosine(semantic) + wd * cosine(dimensions)``, where the cosine of
dimensions is 1 for two rows without any, and 0 for one with and one without.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError, InvalidInputError
from ..core.similarity import Vector
from .dimensions import AXES
from .fusion_file import read_arrays, write_arrays

ALGORITHM = 1
"""Goes up when the same parts begin to give other rows."""

LEAST_SHARE = 1e-12
"""A positive weight below this share could not be recovered from float32."""

UNIT_TOLERANCE = 1e-3
"""By how much the length of a row may differ from 1 before it is refused."""

_Rows = NDArray[np.float64]


class CognitiveFusionLayer:
    """Fuses rows by fixed weights; deterministic, immutable, safe to use from many threads.

    Only the ratio of the weights counts. ``matrix``, (axes, m) float32, is learned elsewhere and
    applied to the scores before they are scaled to unit length; without one, m is the number of
    axes. Raises ``InvalidInputError`` that names the value.
    """

    def __init__(
        self,
        semantic_weight: float = 1.0,
        dimension_weight: float = 0.0,
        *,
        matrix: Vector | None = None,
        axes: Sequence[str] = AXES,
    ) -> None:
        self.semantic_weight = _check_weight("semantic_weight", semantic_weight)
        self.dimension_weight = _check_weight("dimension_weight", dimension_weight)
        self.axes = tuple(axes)
        self.semantic_share, self.dimension_share = self._shares()
        if matrix is None:
            matrix = np.eye(len(self.axes), dtype=np.float32)
        self._matrix = _check_matrix(matrix, self.axes)
        self._columns: int = self._matrix.shape[1] + 1  # the last is ``none``

    def _shares(self) -> tuple[float, float]:
        weights = (self.semantic_weight, self.dimension_weight)
        if not any(weights):
            raise InvalidInputError(
                "semantic_weight and dimension_weight are both 0; one must be above 0"
            )
        # By the larger one first: the sum of two large weights can be infinite.
        first, second = (weight / max(weights) for weight in weights)
        shares = first / (first + second), second / (first + second)
        for weight, share in zip(weights, shares, strict=True):
            if weight and share < LEAST_SHARE:
                raise InvalidInputError(
                    f"got the weights {weights[0]} and {weights[1]}, of which {weight} is a share "
                    f"of {share:.3g}; give 0, or one of at least {LEAST_SHARE}"
                )
        return shares

    @property
    def matrix(self) -> Vector:
        """(axes, m) float32, read-only; the identity where none was given."""
        return self._matrix

    @property
    def fingerprint(self) -> str:
        """Names everything that decides the fused rows: shares, axes and matrix."""
        content = "\0".join(self.axes).encode() + self._matrix.astype("<f4").tobytes()
        shares = f"{self.semantic_share:.17g}:{self.dimension_share:.17g}"
        return f"fusion-{ALGORITHM}/{shares}/{hashlib.sha256(content).hexdigest()[:16]}"

    def fused_dimension(self, dimension: int) -> int:
        """Length of a fused row for semantic rows of length ``dimension``: d + m + 1."""
        return dimension + self._columns

    def fuse(self, semantic: Vector, dimensions: Vector) -> Vector:
        """(n, d + m + 1) float32, unit rows, of (n, d) unit rows and (n, axes) scores.

        Raises ``InvalidInputError`` for other shapes, NaN or infinity, and semantic rows that are
        not of unit length.
        """
        rows = _check_rows("semantic", semantic)
        scores = _check_rows("dimensions", dimensions, len(self.axes))
        if len(rows) != len(scores):
            raise InvalidInputError(
                f"got {len(rows)} semantic rows and {len(scores)} of dimensions; each text has both"
            )
        return self._join(rows / _check_unit("semantic", rows), self._place(scores))

    def similarity_parts(self, query: Vector, rows: Vector) -> tuple[Vector, Vector]:
        """The semantic and the dimension part of the cosine of ``query`` with each fused row.

        ``query`` (w,), ``rows`` (n, w); each part is (n,) float32, weighted, so that their sum is
        the cosine.
        """
        ours = self._check_fused("rows", rows)
        mine = self._check_fused("query", np.asarray(query)[None])[0]
        if ours.shape[1] != len(mine):
            raise InvalidInputError(
                f"got a query of {len(mine)} columns and rows of {ours.shape[1]}; "
                "both must come from one layer and one model"
            )
        cut = len(mine) - self._columns
        semantic, dimensions = ours[:, :cut] @ mine[:cut], ours[:, cut:] @ mine[cut:]
        return semantic.astype(np.float32), dimensions.astype(np.float32)

    def split(self, fused: Vector) -> tuple[Vector, Vector]:
        """The (n, d) semantic rows and the (n, m) dimension rows that were fused.

        Both are of unit length; dimensions of a row without any are all 0. Of the scores only
        the direction comes back, as it is after the matrix. Raises ``InvalidInputError`` when a
        weight is 0, for then its part is not in the fused rows.
        """
        self._check_holds(True, True)
        semantic, dimensions = self._separate(fused)
        return semantic.astype(np.float32), dimensions[:, :-1].astype(np.float32)

    def rederive(self, fused: Vector, layer: CognitiveFusionLayer) -> Vector:
        """What ``layer`` would have fused, from rows of this layer, without embedding again.

        (n, w) float32 to (n, w') float32. Every part that ``layer`` gives a weight must have one
        here, the axes must be the same, and a matrix the same or applied for the first time;
        otherwise ``InvalidInputError``.
        """
        if layer.axes != self.axes:
            raise InvalidInputError(
                f"got rows for the axes {', '.join(self.axes)} and a layer for those of "
                f"{', '.join(layer.axes)}; extract dimensions and fuse again"
            )
        self._check_holds(layer.semantic_share > 0, layer.dimension_share > 0)
        semantic, dimensions = self._separate(fused)
        if not layer.dimension_share:
            dimensions = np.zeros((len(semantic), layer._columns))
        elif not np.array_equal(layer.matrix, self._matrix):
            if not np.array_equal(self._matrix, np.eye(len(self.axes))):
                raise InvalidInputError(
                    "the rows went through another matrix, which cannot be undone; "
                    "extract dimensions and fuse again"
                )
            dimensions = layer._place(dimensions[:, :-1])
        return layer._join(semantic, dimensions)

    def save(self, path: str | Path) -> None:
        """Write the layer as ``.npz``: all of it or, after a fault, what was there before.

        Raises ``ConfigurationError`` when the file cannot be written.
        """
        weights = np.array([self.semantic_weight, self.dimension_weight])
        write_arrays(Path(path), axes=np.array(self.axes), weights=weights, matrix=self._matrix)

    @classmethod
    def load(cls, path: str | Path, *, axes: Sequence[str] = AXES) -> CognitiveFusionLayer:
        """The layer that ``save`` wrote.

        Raises ``ConfigurationError`` that names the file and what is wrong with it: missing,
        damaged, of another format, or learned for other axes than ``axes``.
        """
        arrays = read_arrays(Path(path))
        names = tuple(map(str, arrays["axes"]))
        if names != tuple(axes):
            raise ConfigurationError(
                f"{path} is for the axes {', '.join(names)}; expected {', '.join(axes)}"
            )
        semantic, dimension = map(float, arrays["weights"])
        try:
            return cls(semantic, dimension, matrix=arrays["matrix"], axes=names)
        except InvalidInputError as error:
            raise ConfigurationError(f"{path} holds no fusion layer: {error}") from None

    def _place(self, scores: _Rows) -> _Rows:
        """(n, axes) scores as (n, m + 1) unit rows, ``none`` last."""
        mapped = scores @ self._matrix.astype(np.float64)
        lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
        is_none = lengths == 0
        return np.hstack([mapped / np.where(is_none, 1.0, lengths), is_none])

    def _join(self, semantic: _Rows, dimensions: _Rows) -> Vector:
        fused = np.hstack(
            [
                math.sqrt(self.semantic_share) * semantic,
                math.sqrt(self.dimension_share) * dimensions,
            ]
        )
        return fused.astype(np.float32)

    def _check_holds(self, semantic: bool, dimensions: bool) -> None:
        """Raise unless the parts asked for can be had back from fused rows."""
        if semantic and not self.semantic_share:
            raise InvalidInputError(
                "semantic_weight is 0, so fused rows hold no semantic part; embed and fuse again"
            )
        if dimensions and not self.dimension_share:
            raise InvalidInputError(
                "dimension_weight is 0, so fused rows hold no dimensions; "
                "extract dimensions and fuse again"
            )

    def _separate(self, fused: Vector) -> tuple[_Rows, _Rows]:
        """(n, d) and (n, m + 1) rows of unit length, or 0 where the weight is."""
        rows = self._check_fused("fused", fused)
        semantic, dimensions = rows[:, : -self._columns], rows[:, -self._columns :]
        return (
            semantic / (math.sqrt(self.semantic_share) or 1.0),
            dimensions / (math.sqrt(self.dimension_share) or 1.0),
        )

    def _check_fused(self, name: str, rows: Vector) -> _Rows:
        checked = _check_rows(name, rows)
        least = self.fused_dimension(1)
        if checked.shape[1] < least:
            raise InvalidInputError(
                f"got {name} of {checked.shape[1]} columns; fused rows have at least {least}"
            )
        _check_unit(name, checked)
        return checked


def _check_weight(name: str, value: float) -> float:
    is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise InvalidInputError(f"got {name} {value!r}; it must be a finite number of at least 0")
    return float(value)


def _check_matrix(matrix: Vector, axes: tuple[str, ...]) -> Vector:
    values = _check_rows("a matrix", matrix).astype(np.float32)
    if len(values) != len(axes) or not values.size:
        raise InvalidInputError(
            f"got a matrix of shape {values.shape}; expected a row for each of {len(axes)} axes "
            "and at least one column"
        )
    values.flags.writeable = False
    return values


def _check_rows(name: str, rows: Vector, columns: int | None = None) -> _Rows:
    """(n, columns) float64 of the same values."""
    given = np.asarray(rows)
    if given.ndim != 2 or given.dtype.kind != "f" or given.shape[1] != (columns or given.shape[1]):
        raise InvalidInputError(
            f"got {name} of shape {given.shape} and type {given.dtype}; "
            f"expected (n, {columns or 'd'}) float32"
        )
    with np.errstate(over="ignore"):  # infinity is refused below
        values = given.astype(np.float32).astype(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise InvalidInputError(f"row {int(finite.argmin())} of {name} holds NaN or infinity")
    return values


def _check_unit(name: str, rows: _Rows) -> _Rows:
    """The lengths of the rows, (n, 1), all close to 1."""
    lengths: _Rows = np.linalg.norm(rows, axis=1, keepdims=True)
    is_off = np.abs(lengths[:, 0] - 1) > UNIT_TOLERANCE
    if is_off.any():
        row = int(is_off.argmax())
        raise InvalidInputError(
            f"row {row} of {name} has length {lengths[row, 0]:.4g}; expected 1, "
            "as an embedding provider gives"
        )
    return lengths
