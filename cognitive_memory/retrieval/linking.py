"""Edges that nobody drew: between memories that are alike, and between those that name the same.

Both are found for many memories at once, in bounded memory, and both give undirected edges: each
pair once, from the smaller id to the larger.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidInputError
from ..core.memory import CognitiveMemory, ConnectionType, MemoryConnection
from ..core.similarity import Vector
from .entities import find_entities

SIMILARITY_DIGITS = 5
"""Similarities equal up to here are ties: further digits vary with a row's place in a product."""

COMMON_FROM = 10
"""An entity that more memories than this and than ``max_share`` of all name links none of them."""

Pair = tuple[str, str]
"""Two ids, the smaller one first."""


def associative_connections(
    ids: Sequence[str],
    vectors: Vector,
    *,
    per_memory: int = 3,
    min_similarity: float = 0.6,
    max_edges: int = 24,
    block: int = 1024,
) -> list[MemoryConnection]:
    """An edge where one of two memories is among the ``per_memory`` nearest of the other.

    ``vectors``: (n, dim) float32, unit rows. ``min_similarity`` in (0, 1] is inclusive; the
    strength is the cosine. Equally near ones are taken in turn, from the next in order of ids on,
    so that many copies of one text never all meet in one memory; and at most ``max_edges``, the
    strongest, meet in any. Strongest edges first. Works in O(n) memory and n^2 / 2 products.
    Raises ``InvalidInputError`` for NaN or infinity, and where lengths do not fit.
    """
    if len(ids) != len(vectors):
        raise InvalidInputError(f"got {len(ids)} ids for {len(vectors)} vectors")
    if not np.isfinite(vectors).all():
        raise InvalidInputError("vectors hold NaN or infinity; embed the text again")
    if not 0 < min_similarity <= 1:
        raise InvalidInputError(f"got min_similarity {min_similarity}; it must be above 0, up to 1")
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    names = [ids[place] for place in order]
    nearest = _Nearest(len(ids), min(per_memory, max(len(ids) - 1, 0)), min_similarity)
    # One copy in order of ids, which the products below want to be contiguous anyway.
    _compare_all(np.ascontiguousarray(vectors[order]), nearest, block)
    pairs = {_pair(names[one], names[other]): score for one, other, score in nearest.found()}
    return _strongest(pairs, max_edges, ConnectionType.ASSOCIATIVE)


class _Nearest:
    """The best neighbors of each of n memories so far: (n, k) scores and places."""

    def __init__(self, count: int, k: int, least: float) -> None:
        self._least = least
        self._count = count
        self._scores = np.full((count, k), -np.inf, dtype=np.float32)
        self._places = np.full((count, k), -1, dtype=np.int64)

    def offer(self, start: int, similarities: NDArray[np.float32], other_start: int) -> None:
        """Take over what is better of (m, l) similarities.

        Their rows are the memories from ``start`` on, their columns those from ``other_start``.
        """
        k = self._scores.shape[1]
        if not k or not similarities.size:
            return
        rounding = 0.5 * 10**-SIMILARITY_DIGITS
        worst = self._scores[start : start + len(similarities), -1]
        floor = np.maximum(worst, self._least) - 2 * rounding
        rows = np.flatnonzero(similarities.max(axis=1) >= floor)
        if not rows.size:
            return
        scores, columns = _best_of_each(np.round(similarities[rows], SIMILARITY_DIGITS), k)
        scores[scores < np.float32(self._least)] = -np.inf
        rows += start
        scores = np.concatenate([self._scores[rows], scores], axis=1)
        places = np.concatenate([self._places[rows], other_start + columns], axis=1)
        turn = (places - rows[:, None]) % self._count
        best = np.lexsort((turn, -scores), axis=-1)[:, :k]
        self._scores[rows] = np.take_along_axis(scores, best, axis=1)
        self._places[rows] = np.take_along_axis(places, best, axis=1)

    def found(self) -> Iterator[tuple[int, int, float]]:
        """(memory, neighbor, similarity)."""
        rows, columns = np.nonzero(np.isfinite(self._scores))
        yield from zip(
            rows.tolist(),
            self._places[rows, columns].tolist(),
            self._scores[rows, columns].tolist(),
            strict=True,
        )


def _best_of_each(
    similarities: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` best of each row of (m, l) and their columns, leftmost first among equals.

    Overwrites its input.
    """
    k = min(k, similarities.shape[1])
    rows = np.arange(len(similarities))
    columns = np.empty((len(similarities), k), dtype=np.int64)
    scores = np.empty((len(similarities), k), dtype=np.float32)
    for place in range(k):
        columns[:, place] = similarities.argmax(axis=1)
        scores[:, place] = similarities[rows, columns[:, place]]
        similarities[rows, columns[:, place]] = -np.inf
    return scores, columns


def _compare_all(vectors: Vector, nearest: _Nearest, block: int) -> None:
    """Offer every pair of rows, ``block`` x ``block`` products at a time, each computed once."""
    starts = range(0, len(vectors), block)
    for start in starts:
        rows = vectors[start : start + block]
        own = rows @ rows.T
        # Those that follow before those that precede: of equally near ones the next in turn wins.
        nearest.offer(start, np.where(np.tri(len(rows), dtype=bool), -np.inf, own), start)
        nearest.offer(start, np.where(np.tri(len(rows), dtype=bool).T, -np.inf, own), start)
        for other in range(start + block, len(vectors), block):
            products = rows @ vectors[other : other + block].T
            nearest.offer(start, products, other)
            nearest.offer(other, products.T, start)


def entity_connections(
    memories: Sequence[CognitiveMemory],
    *,
    per_memory: int = 3,
    max_share: float = 0.01,
) -> list[MemoryConnection]:
    """An edge from each memory that names an entity to the next in time that does.

    An entity in more than ``max_share`` of the memories, and in more than ``COMMON_FROM``, links
    nothing. One that n memories name gives its n - 1 edges a strength of 1 / log2(n): 1 for two
    memories, 0.5 for four. Strengths add up, to 1 at most. At most ``per_memory`` edges, the
    strongest, meet in any memory. Strongest edges first.
    """
    limit = max(COMMON_FROM, int(max_share * len(memories)))
    named: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for memory in sorted(memories, key=lambda each: (each.created_date, each.id)):
        for entity in find_entities(memory.content):
            named[entity.key].append(memory.id)
    strengths: defaultdict[Pair, float] = defaultdict(float)
    for holders in named.values():
        if 2 <= len(holders) <= limit:
            for one, other in pairwise(holders):
                strengths[_pair(one, other)] += 1 / math.log2(len(holders))
    return _strongest(strengths, per_memory, ConnectionType.ENTITY)


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def _strongest(
    strengths: Mapping[Pair, float], most: int, kind: ConnectionType
) -> list[MemoryConnection]:
    """Edges, strongest first, ties by ids; none at an end where ``most`` stronger ones meet."""
    ranked = sorted(strengths, key=lambda pair: (-strengths[pair], pair))
    degrees: Counter[str] = Counter()
    edges: list[MemoryConnection] = []
    for source, target in ranked:
        if degrees[source] < most and degrees[target] < most:
            degrees[source] += 1
            degrees[target] += 1
            strength = min(1.0, round(strengths[source, target], SIMILARITY_DIGITS))
            edges.append(MemoryConnection(source, target, kind, strength))
    return edges
