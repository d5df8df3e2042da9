"""The matrix behind exact search: it grows without copying on every insert."""

from __future__ import annotations

from threading import Thread

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DimensionMismatchError
from ..core.resources import usable_cores
from ..core.similarity import Vector, top_k

BLOCK = 1024
"""Rows of one matrix product."""

ROWS_PER_THREAD = 32_768
"""Fewer are not worth a thread."""

RESCORE_SLACK = 1e-5
"""Larger than the rounding by which a matrix product depends on a row's place."""


class ExactIndex:
    """Unit rows with the ids they belong to, and exact search by cosine.

    Rows are appended in order of ``vector_id`` and deleted by a tombstone; capacity doubles.
    Not thread-safe: its owner locks.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._cores = usable_cores()
        self._size = 0
        self._has_deleted = False
        self._is_ordered = True
        """Whether rows are in order of their owners, as they are until a memory is changed."""
        self._rows: Vector = np.empty((0, dimension), dtype=np.float32)
        self._vector_ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._owners: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._chunks: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._alive: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    @property
    def last_vector_id(self) -> int:
        """The highest id ever appended, 0 when there is none."""
        return int(self._vector_ids[self._size - 1]) if self._size else 0

    def append(
        self,
        vector_ids: NDArray[np.int64],
        owners: NDArray[np.int64],
        chunks: NDArray[np.int32],
        rows: Vector,
    ) -> None:
        """Add rows (n, dim) whose ids are all above ``last_vector_id``, ascending."""
        end = self._size + len(vector_ids)
        last = self._owners[self._size - 1 : self._size]
        self._is_ordered &= bool(np.all(np.diff(np.concatenate([last, owners])) >= 0))
        self._reserve(end)
        new = slice(self._size, end)
        self._rows[new] = rows
        self._vector_ids[new] = vector_ids
        self._owners[new] = owners
        self._chunks[new] = chunks
        self._alive[new] = True
        self._size = end

    def delete(self, vector_ids: NDArray[np.int64]) -> None:
        """Hide the rows of these ids; unknown ones are ignored."""
        known = self._vector_ids[: self._size]
        places = np.searchsorted(known, vector_ids)
        inside = places < self._size
        places, wanted = places[inside], vector_ids[inside]
        self._alive[places[known[places] == wanted]] = False
        self._has_deleted = True

    def search(
        self, query: Vector, k: int, owners: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float, int]]:
        """(owner, cosine, chunk) of the ``k`` best owners, each by its best row, best first.

        Of equally good rows the lowest chunk is named. All that tie with the last come along.
        ``owners`` limits the search to them.

        ``query``: (dim,) float32 of unit length.
        """
        if query.shape != (self.dimension,):
            raise DimensionMismatchError(
                f"got a query of shape {query.shape}, this index holds {self.dimension} dimensions"
            )
        places, scores = self._scores(query, owners)
        wanted = k
        hits: list[tuple[int, float, int]] = []
        while k > 0 and scores.size:
            best = top_k(scores, wanted, slack=RESCORE_SLACK)
            hits = self._best_of_each(query, places[best])
            # Above this no row was left out, so owners above it are in their final order.
            floor = scores[best[min(wanted, len(best)) - 1]] - RESCORE_SLACK / 2
            if len(best) == scores.size or sum(hit[1] >= floor for hit in hits) >= k:
                break
            wanted *= 2
        return [hit for hit in hits if hit[1] >= hits[min(k, len(hits)) - 1][1]]

    def _scores(
        self, query: Vector, owners: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.intp], Vector]:
        """Places of the rows that may be found, and their cosines."""
        usable = self._alive[: self._size]
        if owners is not None and self._is_ordered and 16 * len(owners) < self._size:
            places = self._places_of(np.unique(owners))
            places = places[usable[places]]
            return places, self._rows[places] @ query
        if owners is not None:
            usable = usable & np.isin(self._owners[: self._size], owners)
        elif not self._has_deleted:
            return np.arange(self._size), self._products(query)
        places = np.flatnonzero(usable)
        # Gathering rows costs a copy; for most of them the whole product is cheaper.
        if 4 * len(places) < self._size:
            return places, self._rows[places] @ query
        return places, self._products(query)[places]

    def _products(self, query: Vector) -> Vector:
        """(size,) cosines, in threads of our own.

        Those of a BLAS spin for milliseconds after a large product, and so take the cores from
        the embedding of the next query. Blocks are too small for them.
        """
        products = np.empty(self._size, dtype=np.float32)

        def multiply(start: int, end: int) -> None:
            for first in range(start, end, BLOCK):
                rows = self._rows[first : min(first + BLOCK, end)]
                np.dot(rows, query, out=products[first : first + len(rows)])

        parts = min(self._cores, 1 + self._size // ROWS_PER_THREAD)
        ends = [self._size * part // parts for part in range(parts + 1)]
        threads = [Thread(target=multiply, args=ends[part : part + 2]) for part in range(1, parts)]
        for thread in threads:
            thread.start()
        multiply(0, ends[1])
        for thread in threads:
            thread.join()
        return products

    def _places_of(self, owners: NDArray[np.int64]) -> NDArray[np.intp]:
        """Of the rows of a few owners, where rows are in order of their owners."""
        known = self._owners[: self._size]
        starts = np.searchsorted(known, owners, "left")
        counts = np.searchsorted(known, owners, "right") - starts
        # starts[0], starts[0] + 1, ..., starts[1], ...: each start as often as its owner has rows.
        firsts = np.repeat(starts - np.cumsum(counts) + counts, counts)
        return firsts + np.arange(len(firsts))

    def _best_of_each(
        self, query: Vector, places: NDArray[np.intp]
    ) -> list[tuple[int, float, int]]:
        # Scored again one row at a time in double precision: equal vectors then score equal,
        # wherever in the matrix they lie, and ties can be broken by id.
        exact = (self._rows[places].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        # float32 rows are of unit length up to rounding only.
        exact = np.clip(exact, -1.0, 1.0)
        hits: dict[int, tuple[int, float, int]] = {}
        for index in np.lexsort((self._chunks[places], -exact)):
            place = places[index]
            owner = int(self._owners[place])
            if owner not in hits:
                hits[owner] = (owner, float(exact[index]), int(self._chunks[place]))
        return list(hits.values())

    def _reserve(self, size: int) -> None:
        if size <= len(self._vector_ids):
            return
        capacity = max(size, 2 * len(self._vector_ids), 1024)
        for name in ("_rows", "_vector_ids", "_owners", "_chunks", "_alive"):
            old = getattr(self, name)
            grown = np.empty((capacity, *old.shape[1:]), dtype=old.dtype)
            grown[: self._size] = old[: self._size]
            setattr(self, name, grown)
