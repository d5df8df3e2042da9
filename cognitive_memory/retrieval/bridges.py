"""Bridges: memories that a query does not name, found by way of what it activated.

What the query does not explain of the activated memories a, with activations w and the query q:

    r = unit(sum of w (a - (a . q) q))

A memory c near r says more of what was activated, without being an answer itself:

    score = max(0, c . r) + (strongest edge to an activated memory) x w - 0.5 max(0, c . q)

Half of c . q is taken off because with all of it they found less, and with none they repeated the
ranking. Observed then on conversations (LoCoMo), and printed by no script: of three bridges beside
ten results, 2.3% were evidence that the results lacked; of memories taken at random 0.35%, of the
next three in the ranking 6%.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.interfaces import BridgeDiscovery, ConnectionGraph, VectorStorage
from ..core.memory import Bridge, MemoryFilter
from ..core.similarity import Vector, mean_rows, normalize

LEAST_RESIDUAL = 1e-3
"""Shorter ones are rounding: the query says all that was activated."""

SCORE_DIGITS = 6
"""Scores equal up to here are ties: further digits vary with the machine."""

_Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Reached:
    """The strongest way from what was activated to a memory, over one edge."""

    amount: float
    by: str
    connection_type: str


@dataclass(frozen=True, slots=True)
class _Residual:
    """What a query does not explain of the activated memories."""

    names: Sequence[str]
    rows: _Rows
    """(n, dim), of each memory, times its activation."""
    direction: _Rows
    """(dim,) of unit length; zeros if there is nothing left."""

    def nearest(self, row: _Rows) -> str:
        """The activated memory whose residual is nearest to ``row`` (dim,); ties by id."""
        products = np.round((self.rows * row).sum(axis=1), SCORE_DIGITS)
        return min(zip(-products, self.names, strict=True))[1]


class ResidualBridges(BridgeDiscovery):
    """``BridgeDiscovery`` by vectors and by edges, with bounded work.

    ``candidates`` memories reached by edges are looked at and, where they give too few bridges, as
    many near to the residual; below ``min_score`` nothing is a bridge. The store searches; nothing
    here looks at all memories.
    """

    def __init__(
        self,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        *,
        candidates: int = 50,
        direct_weight: float = 0.5,
        min_score: float = 0.25,
    ) -> None:
        self._vectors = vectors
        self._connections = connections
        self._candidates = candidates
        self._direct_weight = direct_weight
        self._min_score = min_score

    def find_bridges(
        self,
        query: Vector,
        activated: Mapping[str, float],
        exclude: Collection[str],
        k: int,
        filters: MemoryFilter | None = None,
    ) -> list[Bridge]:
        """At most ``k``, best first; parts are ``residual``, ``connection`` and ``direct``.

        Activations count relative to their largest; what is not above 0 and finite, not at all.
        """
        weights = _relative(activated)
        if k <= 0 or not weights or not np.isfinite(query).all() or not query.any():
            return []
        unit = normalize(np.asarray(query, dtype=np.float32))
        residual = self._residual(unit, weights)
        hidden = activated.keys() | set(exclude)
        reached = self._reached(weights, hidden)

        def good(names: Collection[str]) -> list[Bridge]:
            found = [
                self._bridge(memory_id, rows, unit, residual, reached.get(memory_id))
                for memory_id, rows in self._allowed(unit, names, filters).items()
            ]
            return [bridge for bridge in found if _rounded(bridge) >= self._min_score]

        bridges = good(reached)
        if len(bridges) < k:
            # Edges say more than likeness does, and a search through all vectors costs more.
            bridges += good(self._near(residual.direction, hidden, filters) - reached.keys())
        return sorted(bridges, key=lambda each: (-_rounded(each), each.memory_id))[:k]

    def _residual(self, query: Vector, weights: Mapping[str, float]) -> _Residual:
        held = self._vectors.get_vectors(list(weights))
        q = query.astype(np.float64)
        rows = mean_rows(list(held.values())).astype(np.float64).reshape(len(held), len(q))
        rows -= (rows @ q)[:, None] * q
        rows *= np.array([weights[memory_id] for memory_id in held]).reshape(-1, 1)
        total = rows.sum(axis=0)
        length = float(np.linalg.norm(total))
        direction = total / length if length >= LEAST_RESIDUAL else np.zeros_like(total)
        return _Residual(list(held), rows, direction)

    def _near(
        self, direction: _Rows, hidden: Collection[str], filters: MemoryFilter | None
    ) -> set[str]:
        if not direction.any():
            return set()
        # What is hidden lies nearest, so that many more are asked for.
        count = self._candidates + len(hidden)
        hits = self._vectors.search_similar(direction.astype(np.float32), count, filters)
        new = [hit.memory_id for hit in hits if hit.memory_id not in hidden]
        return set(new[: self._candidates])

    def _reached(
        self, weights: Mapping[str, float], hidden: Collection[str]
    ) -> dict[str, _Reached]:
        reached: dict[str, _Reached] = {}
        for edge in self._connections.get_connections(list(weights)):
            for near, far in ((edge.source_id, edge.target_id), (edge.target_id, edge.source_id)):
                if near not in weights or far in hidden:
                    continue
                amount = weights[near] * edge.strength
                if far not in reached or amount > reached[far].amount:
                    reached[far] = _Reached(amount, near, str(edge.connection_type))
        best = sorted(reached, key=lambda memory_id: (-reached[memory_id].amount, memory_id))
        return {memory_id: reached[memory_id] for memory_id in best[: self._candidates]}

    def _allowed(
        self, query: Vector, names: Collection[str], filters: MemoryFilter | None
    ) -> dict[str, Vector]:
        """The vectors of those that meet the filters, which only the store can tell."""
        asked = filters.memory_ids if filters else None
        wanted = tuple(sorted(each for each in names if asked is None or each in asked))
        if not wanted:
            return {}
        rest = replace(filters or MemoryFilter(), memory_ids=wanted)
        hits = self._vectors.search_similar(query, len(wanted), rest)
        return self._vectors.get_vectors([hit.memory_id for hit in hits])

    def _bridge(
        self,
        memory_id: str,
        vectors: Vector,
        query: Vector,
        residual: _Residual,
        reached: _Reached | None,
    ) -> Bridge:
        rows = vectors.astype(np.float64)
        nearness = (rows * residual.direction).sum(axis=1)
        direct = float((rows * query).sum(axis=1).max())
        parts = {
            "residual": max(0.0, float(nearness.max())),
            "connection": reached.amount if reached else 0.0,
            "direct": 0.0 - self._direct_weight * max(0.0, direct),  # never -0.0
        }
        if reached and reached.amount >= parts["residual"]:
            explanation = f"{reached.connection_type} neighbor of {reached.by}"
        else:
            near = residual.nearest(rows[nearness.argmax()])
            explanation = f"close to {near}, not to the question"
        return Bridge(memory_id, sum(parts.values()), parts, explanation)


def _rounded(bridge: Bridge) -> float:
    return round(bridge.score, SCORE_DIGITS)


def _relative(activated: Mapping[str, float]) -> dict[str, float]:
    usable = {
        memory_id: amount
        for memory_id, amount in activated.items()
        if amount > 0 and math.isfinite(amount)
    }
    largest = max(usable.values(), default=1.0)
    return {memory_id: amount / largest for memory_id, amount in usable.items()}
