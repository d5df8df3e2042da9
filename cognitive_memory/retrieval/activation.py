"""Spreading activation: what was found wakes its neighbors, and they wake theirs.

After Collins and Loftus (1975): in each hop a memory passes on what it received, times the
strength of the edge, the factor of its type and direction, and a decay.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..core.interfaces import ActivationEngine, ConnectionGraph
from ..core.memory import Activation, ConnectionType

FACTORS: Mapping[ConnectionType, tuple[float, float]] = {
    ConnectionType.SEQUENTIAL: (1.0, 0.4),
    ConnectionType.HIERARCHICAL: (0.3, 0.3),
    ConnectionType.EXPLICIT: (0.6, 0.6),
}
"""Along and against an edge. An answer follows its question: forward counts more.

Types that are not named pass nothing on.
"""


class SpreadingActivation(ActivationEngine):
    """``ActivationEngine`` over a ``ConnectionGraph``, with bounded work.

    ``hops`` rounds; in the first the ``max_sources`` most active memories pass their activation
    on, in each further one half as many.
    What comes back in a cycle is bounded by the hops. Raises nothing of its own.
    """

    def __init__(
        self,
        connections: ConnectionGraph,
        *,
        factors: Mapping[ConnectionType, tuple[float, float]] = FACTORS,
        hops: int = 2,
        decay: float = 1.0,
        max_sources: int = 32,
    ) -> None:
        self._connections = connections
        self._factors = dict(factors)
        self._hops = hops
        self._decay = decay
        self._max_sources = max_sources

    def activate(self, seeds: Mapping[str, float]) -> dict[str, Activation]:
        """What each memory received, its strongest neighbor with it; seeds below 0 pass nothing."""
        received: dict[str, Activation] = {}
        active = {memory_id: amount for memory_id, amount in seeds.items() if amount > 0}
        for number in range(self._hops):
            count = self._max_sources >> number
            sources = sorted(active, key=lambda each: (-active[each], each))[:count]
            if not sources:
                break
            hop = self._spread({each: active[each] for each in sources})
            for memory_id, found in hop.items():
                known = received.get(memory_id)
                received[memory_id] = found if known is None else _sum(known, found)
            active = {memory_id: found.amount for memory_id, found in hop.items()}
        return received

    def _spread(self, sources: Mapping[str, float]) -> dict[str, Activation]:
        """One hop, as a product of a sparse matrix (its entries: edges) and a vector."""
        flows = self._flows(sources)
        if not flows:
            return {}
        places: dict[str, int] = {}
        for _, far, _, _ in flows:
            places.setdefault(far, len(places))
        column = np.array([places[far] for _, far, _, _ in flows])
        weights = np.array([sources[near] * share for near, _, share, _ in flows])
        amounts = np.bincount(column, weights=weights)
        # The strongest flow into each memory comes last among its own, and stays.
        strongest: dict[int, int] = {}
        for index in np.argsort(weights, kind="stable").tolist():
            strongest[int(column[index])] = index
        return {
            far: Activation(
                float(amounts[place]),
                flows[strongest[place]][0],
                flows[strongest[place]][3],
                float(weights[strongest[place]]),
            )
            for far, place in places.items()
        }

    def _flows(self, sources: Mapping[str, float]) -> list[tuple[str, str, float, str]]:
        """(near, far, share, type) of each edge, for each of its ends that is active."""
        flows = []
        for edge in self._connections.get_connections(list(sources)):
            kind = edge.connection_type
            along, against = (each * self._decay for each in self._factors.get(kind, (0.0, 0.0)))
            one, other = edge.source_id, edge.target_id
            if along and one in sources and one != other:
                flows.append((one, other, edge.strength * along, str(kind)))
            if against and other in sources and one != other:
                flows.append((other, one, edge.strength * against, str(kind)))
        return flows


def _sum(one: Activation, other: Activation) -> Activation:
    strongest = max(one, other, key=lambda each: each.share)
    return Activation(
        one.amount + other.amount, strongest.by, strongest.connection_type, strongest.share
    )
