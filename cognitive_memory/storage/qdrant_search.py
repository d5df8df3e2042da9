"""From the nearest points to the best memories: each once, ties by id, as an exact search ranks.

Qdrant orders points by a float32 score and says nothing about ties. So more points are asked for
until none that was left out could matter, and scores that differ by rounding only are computed
again from the vectors, in double precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.memory import VectorHit
from ..core.similarity import Vector

ROUNDING = 5e-7
"""By how much the scores of equal vectors may differ: a few units in the last place."""

MOST_TIES = 10_000
"""Points asked for to break ties; of more equals than that, the server chooses who is seen."""


@dataclass(frozen=True, slots=True)
class PointHit:
    """A chunk that was found; ``score`` is its cosine in [-1, 1]."""

    point_id: str
    memory_id: str
    chunk: int
    score: float


def hit_of(point: Any) -> PointHit:
    """What a ``ScoredPoint`` says."""
    # Over HTTP a float32 arrives by its shortest decimals, which is another double.
    score = float(np.clip(np.float32(point.score), -1.0, 1.0))
    return PointHit(str(point.id), point.payload["memory_id"], int(point.payload["chunk"]), score)


def first_limit(k: int) -> int:
    """How many points to ask for at first: some memories are found by several chunks."""
    return k + max(k // 4, 16)


def is_complete(hits: Sequence[PointHit], limit: int, k: int) -> bool:
    """Whether points beyond these, the best ``limit``, cannot change the best ``k`` memories."""
    if len(hits) < limit:
        return True
    floor = hits[-1].score + ROUNDING
    if limit >= MOST_TIES:
        floor = -2.0
    return len({hit.memory_id for hit in hits if hit.score > floor}) >= k


def contenders(hits: Sequence[PointHit], k: int) -> list[PointHit]:
    """Those that may belong to the best ``k`` memories, best first."""
    ordered = sorted(hits, key=lambda hit: -hit.score)
    seen: set[str] = set()
    for hit in ordered:
        seen.add(hit.memory_id)
        if len(seen) == k:
            return [each for each in ordered if each.score >= hit.score - ROUNDING]
    return ordered


def near_ties(hits: Sequence[PointHit]) -> list[str]:
    """The points, of ``hits`` best first, whose order may be due to rounding."""
    runs: list[list[PointHit]] = [[hit] for hit in hits[:1]]
    for before, after in pairwise(hits):
        if before.score - after.score > ROUNDING:
            runs.append([])
        runs[-1].append(after)
    return [hit.point_id for run in runs if run[0].score != run[-1].score for hit in run]


def rescored(
    hits: Sequence[PointHit], query: Vector, vectors: Mapping[str, Vector]
) -> list[PointHit]:
    """The same with exact cosines where the (dim,) vector is given."""
    exact = {
        point_id: float(np.clip((row.astype(np.float64) * query.astype(np.float64)).sum(), -1, 1))
        for point_id, row in vectors.items()
    }
    return [replace(hit, score=exact.get(hit.point_id, hit.score)) for hit in hits]


def best_memories(hits: Sequence[PointHit], k: int, min_score: float | None) -> list[VectorHit]:
    """The ``k`` best memories by their best chunk, the first of equals, ties by id."""
    best: dict[str, VectorHit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.chunk)):
        best.setdefault(hit.memory_id, VectorHit(hit.memory_id, hit.score, hit.chunk))
    found = [hit for hit in best.values() if min_score is None or hit.score >= min_score]
    return sorted(found, key=lambda hit: (-hit.score, hit.memory_id))[:k]
