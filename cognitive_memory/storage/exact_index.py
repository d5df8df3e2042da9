"""Exact search by cosine over rows in memory or in a mapped file, one query or a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DimensionMismatchError
from ..core.resources import usable_cores
from ..core.similarity import Vector, top_k
from .row_pages import RowPages

BLOCK_NUMBERS = 393_216
"""Numbers of the rows of one product (1,024 rows of 384): 1.5 MiB, which a core's cache holds."""

ROWS_PER_THREAD = 32_768
"""Fewer are not worth a thread."""

SCORES_AT_ONCE = 2**24
"""Cosines that a batch holds at one time: 64 MiB, unless those of one query are more."""

QUERIES_AT_ONCE = 32
"""More in one product are not faster."""

MULTIPLICATIONS_AT_ONCE = 2**17
"""Of the products of a batch; OpenBLAS takes threads of its own from 2^18 on."""

RESCORE_SLACK = 1e-5
"""Larger than the rounding by which a matrix product depends on a row's place."""

Hit = tuple[int, float, int]
"""Owner, cosine, chunk."""


class ExactIndex:
    """Unit rows with the ids they belong to, and exact search by cosine.

    Rows are appended in order of ``vector_id`` and deleted by a tombstone. Not thread-safe: its
    owner locks, or gives a ``copy`` away.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._cores = usable_cores()
        self._size = 0
        self._has_deleted = False
        self._is_ordered = True
        """Whether rows are in order of their owners, as they are until a memory is changed."""
        self._pages = RowPages(dimension)
        self._vector_ids: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._owners: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._chunks: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._alive: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    @classmethod
    def over(
        cls,
        vector_ids: NDArray[np.int64],
        owners: NDArray[np.int64],
        chunks: NDArray[np.int32],
        rows: Vector,
    ) -> ExactIndex:
        """An index of rows (n, dim) where they lie: they may be read-only, and are not copied."""
        index = cls(rows.shape[1])
        index._pages = RowPages.over(rows)
        index._vector_ids, index._owners, index._chunks = vector_ids, owners, chunks
        index._alive = np.ones(len(rows), dtype=np.bool_)
        index._size = len(rows)
        index._is_ordered = bool(np.all(owners[:-1] <= owners[1:]))
        return index

    def copy(self) -> ExactIndex:
        """The index as it is now, which later changes of either leave as it is.

        Rows are shared, so it takes little time and memory: enough to write a file from one
        thread while others search and append.
        """
        copy = ExactIndex(self.dimension)
        copy._pages = self._pages.share(self._size)
        # What is cut off at the end is copied before it grows, and nothing before it changes ...
        copy._vector_ids = self._vector_ids[: self._size]
        copy._owners = self._owners[: self._size]
        copy._chunks = self._chunks[: self._size]
        # ... but for this.
        copy._alive = self._alive[: self._size].copy()
        copy._size, copy._has_deleted = self._size, self._has_deleted
        copy._is_ordered = self._is_ordered
        return copy

    @property
    def count(self) -> int:
        """Number of rows that are not deleted."""
        return int(np.count_nonzero(self._alive[: self._size]))

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
        if not len(vector_ids):
            return
        end = self._size + len(vector_ids)
        last = self._owners[self._size - 1 : self._size]
        self._is_ordered &= bool(np.all(np.diff(np.concatenate([last, owners])) >= 0))
        self._reserve(end)
        self._pages.write(self._size, rows)
        new = slice(self._size, end)
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
        places = places[known[places] == wanted]
        self._alive[places] = False
        self._has_deleted |= len(places) > 0

    def search(self, query: Vector, k: int, owners: NDArray[np.int64] | None = None) -> list[Hit]:
        """(owner, cosine, chunk) of the ``k`` best owners, each by its best row, best first.

        Ties are in order of owners, and all that tie with the last come along. Of equally good
        rows of one owner the lowest chunk is named.
        ``owners`` limits the search to them.

        ``query``: (dim,) float32 of unit length. Raises ``DimensionMismatchError`` for another
        shape.
        """
        if query.shape != (self.dimension,):
            raise DimensionMismatchError(
                f"got a query of shape {query.shape}, this index holds {self.dimension} dimensions"
            )
        return self.search_batch(query[None], k, owners)[0]

    def search_batch(
        self, queries: Vector, k: int, owners: NDArray[np.int64] | None = None
    ) -> list[list[Hit]]:
        """For each row of ``queries`` (q, dim) what ``search`` finds, in fewer passes over memory.

        Raises ``DimensionMismatchError`` for another shape.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise DimensionMismatchError(
                f"got queries of shape {queries.shape}, "
                f"this index holds {self.dimension} dimensions"
            )
        if k <= 0:
            return [[] for _ in queries]
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        places = self._usable(owners)
        # Gathering rows costs a copy; for most of them the whole product is cheaper.
        is_whole = places is None or 4 * len(places) >= self._size
        multiplied = None if is_whole else places
        chosen = places if is_whole else None
        size = self._size if multiplied is None else len(multiplied)
        step = min(QUERIES_AT_ONCE, max(1, SCORES_AT_ONCE // max(1, size)))
        found: list[list[Hit]] = []
        for first in range(0, len(queries), step):
            group = queries[first : first + step]
            products = self._products(group, multiplied)
            found += [
                self._best(query, k, places, scores if chosen is None else scores[chosen])
                for query, scores in zip(group, products, strict=True)
            ]
        return found

    def sample(self, count: int) -> list[tuple[int, Vector]]:
        """(vector_id, row) of so many living rows, or of all, evenly spread; always the last."""
        places = np.flatnonzero(self._alive[: self._size])
        chosen = places[np.linspace(len(places) - 1, 0, min(count, len(places)), dtype=np.intp)]
        chosen = np.sort(chosen)
        return list(zip(self._vector_ids[chosen].tolist(), self._pages.take(chosen), strict=True))

    def living_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """(vector_ids, owners, chunks) of the rows that are not deleted."""
        places = np.flatnonzero(self._alive[: self._size])
        return self._vector_ids[places], self._owners[places], self._chunks[places]

    def living_rows(self) -> Iterator[Vector]:
        """The rows of ``living_ids``, some (n, dim) at a time."""
        for _, rows in self._blocks(self._usable(None), 0, self.count):
            yield rows

    def _usable(self, owners: NDArray[np.int64] | None) -> NDArray[np.intp] | None:
        """Places of the rows that may be found, ``None`` for all."""
        alive = self._alive[: self._size]
        if owners is None:
            return np.flatnonzero(alive) if self._has_deleted else None
        if self._is_ordered and 16 * len(owners) < self._size:
            places = self._places_of(np.unique(owners))
            return places[alive[places]]
        return np.flatnonzero(alive & np.isin(self._owners[: self._size], owners))

    def _places_of(self, owners: NDArray[np.int64]) -> NDArray[np.intp]:
        """Of the rows of a few owners, where rows are in order of their owners."""
        known = self._owners[: self._size]
        starts = np.searchsorted(known, owners, "left")
        counts = np.searchsorted(known, owners, "right") - starts
        # starts[0], starts[0] + 1, ..., starts[1], ...: each start as often as its owner has rows.
        firsts = np.repeat(starts - np.cumsum(counts) + counts, counts)
        return firsts + np.arange(len(firsts))

    def _products(self, queries: Vector, places: NDArray[np.intp] | None) -> Vector:
        """(q, n) cosines with the rows at ``places``, or with all.

        In threads of our own. Those of a BLAS spin for milliseconds after a large product, and so
        take the cores from the embedding of the next query; and where others keep the cores busy
        they wait for each other, which takes ten times as long. Blocks are too small for them.
        """
        size = self._size if places is None else len(places)
        products = np.empty((len(queries), size), dtype=np.float32)
        columns = np.ascontiguousarray(queries.T)

        def multiply(start: int, end: int) -> None:
            for first, rows in self._blocks(places, start, end):
                part = products[:, first : first + len(rows)]
                if len(queries) == 1:
                    np.dot(rows, queries[0], out=part[0])
                else:
                    _multiply(rows, columns, part)

        _share_out(multiply, size, min(self._cores, 1 + size // ROWS_PER_THREAD))
        return products

    def _best(
        self, query: Vector, k: int, places: NDArray[np.intp] | None, scores: Vector
    ) -> list[Hit]:
        """The ``k`` best owners and those that tie, from the cosines of the rows at ``places``."""
        wanted = k
        hits: list[Hit] = []
        while scores.size:
            best = top_k(scores, wanted, slack=RESCORE_SLACK)
            hits = self._best_of_each(query, best if places is None else places[best])
            # Above this no row was left out, so owners above it are in their final order.
            floor = scores[best[min(wanted, len(best)) - 1]] - RESCORE_SLACK / 2
            if len(best) == scores.size or sum(hit[1] >= floor for hit in hits) >= k:
                break
            wanted *= 2
        return [hit for hit in hits if hit[1] >= hits[min(k, len(hits)) - 1][1]]

    def _best_of_each(self, query: Vector, places: NDArray[np.intp]) -> list[Hit]:
        # Scored again one row at a time in double precision: equal vectors then score equal,
        # wherever in the matrix they lie, and ties can be broken by id.
        exact = np.empty(len(places))
        for first, rows in self._blocks(places, 0, len(places)):
            products = rows.astype(np.float64) * query.astype(np.float64)
            exact[first : first + len(rows)] = products.sum(axis=1)
        # float32 rows are of unit length up to rounding only.
        exact = np.clip(exact, -1.0, 1.0)
        hits: dict[int, Hit] = {}
        for index in np.lexsort((self._chunks[places], self._owners[places], -exact)):
            place = places[index]
            owner = int(self._owners[place])
            if owner not in hits:
                hits[owner] = (owner, float(exact[index]), int(self._chunks[place]))
        return list(hits.values())

    def _blocks(
        self, places: NDArray[np.intp] | None, start: int, end: int
    ) -> Iterator[tuple[int, Vector]]:
        """(number, rows) of the rows ``start`` to ``end`` of those at ``places``, or of all."""
        step = max(1, BLOCK_NUMBERS // self.dimension)
        if places is None:
            yield from self._pages.blocks(start, end, step)
            return
        for first in range(start, end, step):
            yield first, self._pages.take(places[first : min(first + step, end)])

    def _reserve(self, size: int) -> None:
        if size <= len(self._vector_ids):
            return
        capacity = max(size, 2 * len(self._vector_ids), 1024)
        for name in ("_vector_ids", "_owners", "_chunks", "_alive"):
            old = getattr(self, name)
            grown = np.empty(capacity, dtype=old.dtype)
            grown[: self._size] = old[: self._size]
            setattr(self, name, grown)


def _multiply(rows: Vector, columns: Vector, products: Vector) -> None:
    """Set ``products`` (q, n) to those of ``rows`` (n, dim) and ``columns`` (dim, q)."""
    few = max(1, MULTIPLICATIONS_AT_ONCE // columns.size)
    end = len(rows) - len(rows) % few
    # A stack of small products is one call to NumPy, and many to the BLAS.
    stacked = rows[:end].reshape(-1, few, rows.shape[1]) @ columns
    products[:, :end] = stacked.reshape(end, columns.shape[1]).T
    products[:, end:] = (rows[end:] @ columns).T


def _share_out(work: Callable[[int, int], None], size: int, parts: int) -> None:
    """Call ``work(start, end)`` for ``parts`` of ``size``, each in its thread; raise its error."""
    ends = [size * part // parts for part in range(parts + 1)]
    if parts == 1:
        work(0, size)
        return
    with ThreadPoolExecutor(parts - 1) as pool:
        others = [pool.submit(work, *ends[part : part + 2]) for part in range(1, parts)]
        work(0, ends[1])
    for other in others:
        other.result()
