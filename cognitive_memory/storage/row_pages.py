"""Rows in pages: growing copies none of them, and pages of a file can be mapped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..core.similarity import Vector

PAGE_ROWS = 16_384
"""Rows that are allocated at once."""


class RowPages:
    """Rows (n, dim) in pages of ``PAGE_ROWS``; who owns them knows how many there are."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._pages: list[Vector] = []

    @classmethod
    def over(cls, rows: Vector) -> RowPages:
        """Views of ``rows`` (n, dim), which are never written to."""
        pages = cls(rows.shape[1])
        starts = range(0, len(rows), PAGE_ROWS)
        pages._pages = [rows[start : start + PAGE_ROWS] for start in starts]
        return pages

    def share(self, size: int) -> RowPages:
        """The first ``size`` rows, in the same memory."""
        pages = RowPages(self._dimension)
        pages._pages = [rows for _, rows in self.blocks(0, size, PAGE_ROWS)]
        return pages

    def write(self, place: int, rows: Vector) -> None:
        """Put ``rows`` (n, dim) behind the first ``place`` rows."""
        while len(rows):
            number, used = divmod(place, PAGE_ROWS)
            count = min(len(rows), PAGE_ROWS - used)
            self._writable(number, used)[used : used + count] = rows[:count]
            place, rows = place + count, rows[count:]

    def _writable(self, number: int, used: int) -> Vector:
        if number == len(self._pages):
            self._pages.append(self._new_page())
        elif len(self._pages[number]) < PAGE_ROWS:
            # A part page is a view of a file or of another index: it is left as it is.
            page = self._new_page()
            page[:used] = self._pages[number][:used]
            self._pages[number] = page
        return self._pages[number]

    def _new_page(self) -> Vector:
        # The system gives memory where rows are written, so an empty page takes next to none.
        return np.empty((PAGE_ROWS, self._dimension), dtype=np.float32)

    def blocks(self, start: int, end: int, most: int) -> Iterator[tuple[int, Vector]]:
        """(number of the first, rows) of ``start`` to ``end``: views of up to ``most`` rows."""
        while start < end:
            number, first = divmod(start, PAGE_ROWS)
            last = min(first + most, first + end - start, PAGE_ROWS)
            yield start, self._pages[number][first:last]
            start += last - first

    def take(self, places: NDArray[np.intp]) -> Vector:
        """(n, dim): a copy of the rows at ``places``."""
        rows = np.empty((len(places), self._dimension), dtype=np.float32)
        numbers, inside = np.divmod(places, PAGE_ROWS)
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            rows[chosen] = self._pages[number][inside[chosen]]
        return rows
