"""Unit rows in fewer bytes, and exact search over what is left of them.

Scalar and binary quantization with rescoring, as ``quantize_embeddings`` of sentence-transformers
has them (Shakir, Aarsen and Lee 2024); the float query against binary codes is from Yamada et al.
2021. Of a vector of 384 numbers

========  =====  ==============================================
kind      bytes  a row's codes
========  =====  ==============================================
float32   1,536  the numbers
float16     768  the numbers, rounded
int8        384  the numbers, times 127 over the largest of them
binary       48  one bit a number: whether it is above 0
========  =====  ==============================================

int8 has a scale for each row, which unit length makes redundant: it is not stored, codes do not
depend on other rows, and rows can be appended. On LoCoMo's turns (MiniLM) it keeps 99.6% of the
ten best, like the best scales for each dimension that only the same rows could give (99.6%);
minimum and maximum of each dimension over 248 other texts, which clip, keep 98.0%.

Bits of only 384 dimensions keep 60% of the ten best; with the 4 times as many nearest read as
float16 rows 92%, with 10 times 99%. ``scripts/benchmark_compression.py`` has the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import DimensionMismatchError, InvalidInputError
from .similarity import Vector, first_unsound, normalize, top_k

VectorKind = Literal["float32", "float16", "int8", "binary"]
"""How rows are held; ``KINDS`` has them in order of size."""

KINDS: tuple[VectorKind, ...] = get_args(VectorKind)

INT8_LIMIT = 127

ROUNDING = 1e-5
"""Larger than what a matrix product of unit rows varies by with a row's place."""

BLOCK_NUMBERS = 196_608
"""Numbers multiplied at a time: 768 KiB of float32, which a core's cache holds.

Of larger products OpenBLAS makes threads, which cost more than they bring here.
"""

_DTYPES: dict[VectorKind, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "binary": np.uint8,
}
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class CompressedVectors:
    """Rows of ``dimension`` numbers as codes; ``compress`` makes them.

    ``codes`` is all there is to keep: (n, dim) float32, float16 or int8, or (n, ceil(dim / 8))
    uint8 with the first number in the highest bit; it may be a mapped file. Raises
    ``DimensionMismatchError`` for codes of another width, and ``InvalidInputError`` for another
    type or an unknown kind.
    """

    codes: NDArray[Any]
    dimension: int
    kind: VectorKind

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        wanted = np.dtype(_DTYPES[self.kind])
        if self.codes.ndim != 2 or self.codes.dtype != wanted:
            raise InvalidInputError(
                f"got {self.codes.ndim}-dimensional {self.codes.dtype} as {self.kind} codes, "
                f"which are (n, width) {wanted}; make them with compress()"
            )
        width = -(-self.dimension // 8) if self.kind == "binary" else self.dimension
        if self.codes.shape[1] != width:
            raise DimensionMismatchError(
                f"got {self.codes.shape[1]} {self.kind} codes for each row; "
                f"{self.dimension} dimensions have {width}"
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        """Size of the codes."""
        return self.codes.nbytes

    def restore(self) -> Vector:
        """(n, dim) float32, unit rows: what the codes still say. A bit gives 1 or -1, scaled."""
        return self._restored(slice(None))

    def search(
        self, query: Vector, k: int, rescore: int = 4, originals: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.intp], Vector]:
        """(rows, cosines) of the ``k`` best rows, best first, ties by row; all if ``k`` is more.

        ``query``: (dim,) float32 of unit length; it is never rounded. Numbers are compared by
        cosine. Bits are compared by Hamming distance first, and the ``rescore * k`` nearest then
        by cosine of the query with the restored rows; 1 leaves the k nearest in another order.

        ``originals`` (n, dim), float32 or float16 and perhaps a mapped file, are the rows before
        compression: the ``rescore * k`` best are read from there and compared once more.

        Raises ``DimensionMismatchError`` for a query or originals of another shape, and
        ``InvalidInputError`` for a query that is no unit vector, k < 0 or rescore < 1.
        """
        query = self._check_search(query, k, rescore, originals)
        if k == 0 or not len(self):
            return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.float32)
        if self.kind == "binary":
            nearest = top_k(-self._distances(query).astype(np.float32), rescore * k)
            chosen = nearest[: rescore * k]
        else:
            wanted = k if originals is None else rescore * k
            chosen = top_k(self._cosines(query), wanted, slack=ROUNDING)
        exact = self._restored(chosen) if originals is None else _unit(originals[chosen])
        # A matrix product would round equal rows unequally, and ties would not be ties.
        cosines = (exact * query).sum(axis=1)
        order = np.lexsort((chosen, -cosines))[:k]
        return chosen[order], cosines[order]

    def _check_search(
        self, query: Vector, k: int, rescore: int, originals: NDArray[Any] | None
    ) -> Vector:
        if query.shape != (self.dimension,):
            raise DimensionMismatchError(
                f"got a query of shape {query.shape}, these vectors have {self.dimension} "
                "dimensions; encode it with the same model"
            )
        query = _checked(query[None])[0]
        if k < 0 or rescore < 1:
            raise InvalidInputError(
                f"got k={k} and rescore={rescore}; k is at least 0 and rescore at least 1"
            )
        if originals is not None and originals.shape != (len(self), self.dimension):
            raise DimensionMismatchError(
                f"got originals of shape {originals.shape} for {len(self)} rows of "
                f"{self.dimension} dimensions; give the rows that were compressed, in their order"
            )
        return query

    def _blocks(self) -> Iterator[slice]:
        step = max(1, BLOCK_NUMBERS // max(1, self.dimension))
        for first in range(0, len(self), step):
            yield slice(first, first + step)

    def _restored(self, chosen: slice | NDArray[np.intp]) -> Vector:
        """(m, dim) float32 unit rows of the chosen ones."""
        codes = self.codes[chosen]
        if self.kind != "binary":
            return _unit(codes)
        signs = np.unpackbits(codes, axis=1, count=self.dimension)
        return _unit(signs.astype(np.float32) * 2 - 1)

    def _cosines(self, query: Vector) -> Vector:
        """(n,) float32: cosines of all rows, right within ``ROUNDING``."""
        found = np.empty(len(self), dtype=np.float32)
        for block in self._blocks():
            np.matmul(self.codes[block].astype(np.float32, copy=False), query, out=found[block])
        found /= self._lengths
        return found

    @cached_property
    def _lengths(self) -> Vector:
        """(n,) float32: lengths of the rows of codes, found by the first search."""
        found = np.empty(len(self), dtype=np.float32)
        for block in self._blocks():
            found[block] = np.linalg.norm(self.codes[block].astype(np.float32, copy=False), axis=1)
        return found

    def _distances(self, query: Vector) -> NDArray[np.uint32]:
        """(n,) uint32: in how many bits each row differs from the query."""
        return hamming(self.codes, _bits(query[None])[0])


def compress(vectors: Vector, kind: VectorKind) -> CompressedVectors:
    """Unit rows (n, dim) float32 as codes of a kind; a copy, which cannot be written to.

    Each row's codes depend on that row alone. The cosine of a row with what int8 leaves of it is
    at least ``sqrt(1 - dim * (max / 254) ** 2)``, and above 0.9999 for rows of a model.

    Raises ``InvalidInputError`` for an unknown kind, and for rows that are not finite and of unit
    length.

    >>> compress(np.array([[0.6, -0.8]], dtype=np.float32), "int8").codes
    array([[  95, -127]], dtype=int8)
    """
    _check_kind(kind)
    if vectors.ndim != 2:
        raise InvalidInputError(f"got vectors of shape {vectors.shape}; give rows, (n, dim)")
    rows = _checked(vectors)
    codes: NDArray[Any]
    if kind == "int8":
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        codes = np.rint(rows * (INT8_LIMIT / largest)).astype(np.int8)
    elif kind == "binary":
        codes = _bits(rows)
    else:
        codes = np.array(rows, dtype=_DTYPES[kind], order="C")
    codes.setflags(write=False)
    return CompressedVectors(codes, vectors.shape[1], kind)


def hamming(codes: NDArray[np.uint8], code: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """In how many bits each row of (n, width) uint8 differs from ``code`` (width,): (n,) uint32.

    >>> hamming(np.array([[0b1100], [0b0001]], dtype=np.uint8), np.array([0b0100], dtype=np.uint8))
    array([1, 2], dtype=uint32)
    """
    count = _bit_counter()
    word = _widest_word(codes)
    columns, wanted = codes.view(word), np.ascontiguousarray(code).view(word)
    found = np.zeros(len(codes), dtype=np.uint32)
    # Column by column: NumPy sums along a short axis several times slower.
    for column, bits in zip(columns.T, wanted, strict=True):
        found += count(column ^ bits)
    return found


def _widest_word(codes: NDArray[np.uint8]) -> type[np.unsignedinteger[Any]]:
    """The widest type as which a row of bytes can be counted."""
    if hasattr(np, "bitwise_count") and codes.flags.c_contiguous and codes.shape[1] % 8 == 0:
        return np.uint64
    return np.uint8


def _bit_counter() -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Number of ones of each unsigned integer; NumPy 1.26 has no function for it."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count
    return lambda numbers: _ONES[numbers]


def _bits(rows: Vector) -> NDArray[np.uint8]:
    return np.packbits(rows > 0, axis=1)


def _unit(rows: NDArray[Any]) -> Vector:
    return normalize(rows.astype(np.float32))


def _checked(rows: Vector) -> Vector:
    if fault := first_unsound(rows):
        place, length = fault
        raise InvalidInputError(
            f"row {place} has length {length:g}, not 1; give what encode_batch returned"
        )
    return np.asarray(rows, dtype=np.float32)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidInputError(f"unknown kind of vectors {kind!r}; known: {', '.join(KINDS)}")
