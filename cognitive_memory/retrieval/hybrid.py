"""Ranks by meaning, words and connections: one score, the sum of parts that can be shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..core.embedding import checked_rows
from ..core.interfaces import (
    ActivationEngine,
    BridgeDiscovery,
    DimensionExtractor,
    EmbeddingProvider,
    LexicalIndex,
    MemoryStorage,
    RetrievalEngine,
    VectorStorage,
)
from ..core.memory import Activation, MemoryFilter, SearchResult, VectorHit
from ..core.similarity import Vector
from .own_parts import Weights, own_parts

SCORE_DIGITS = 6
"""Scores equal up to here are ties, which the id breaks: further digits vary with the machine."""

FLOOR = 0.5
"""A candidate activates its neighbors by what it has above this share of the best score."""


@dataclass(slots=True)
class _Candidates:
    """What is known so far of the memories that may be shown."""

    hits: dict[str, VectorHit]
    parts: dict[str, dict[str, float]]
    """By memory id, then by name of the part."""

    def best(self, count: int) -> list[str]:
        return sorted(self.parts, key=lambda each: (-self.score(each), each))[:count]

    def score(self, memory_id: str) -> float:
        return round(sum(self.parts[memory_id].values()), SCORE_DIGITS)


class HybridRetrieval(RetrievalEngine):
    """score = cosine + words + what neighbors pass on + what the memory itself brings along.

    ``candidates`` memories are taken from each of the searches by meaning and by words; the best
    ``considered`` of them activate their neighbors, which join them, and are ranked by all parts.
    ``core`` is what reaches ``core_ratio`` of the best score.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        memories: MemoryStorage,
        vectors: VectorStorage,
        lexical: LexicalIndex,
        activation: ActivationEngine,
        bridges: BridgeDiscovery,
        *,
        weights: Weights | None = None,
        dimensions: DimensionExtractor | None = None,
        candidates: int = 200,
        considered: int = 64,
        core_ratio: float = 0.75,
        max_bridges: int = 3,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._provider = provider
        self._memories = memories
        self._vectors = vectors
        self._lexical = lexical
        self._activation = activation
        self._bridges = bridges
        self._weights = weights or Weights()
        self._dimensions = dimensions
        self._candidates = candidates
        self._considered = considered
        self._core_ratio = core_ratio
        self._max_bridges = max_bridges
        self._clock = clock

    def search(self, query: str, k: int, filters: MemoryFilter | None = None) -> list[SearchResult]:
        """The ``k`` best, each with all parts of its score."""
        vector = self._encode(query)
        found = self._search(query, vector, k, filters)
        self._check_embedding()
        return found

    def recall(
        self, query: str, k: int, filters: MemoryFilter | None = None
    ) -> dict[str, list[SearchResult]]:
        """The same ranking in groups; ``core`` and ``peripheral`` together hold at most ``k``."""
        vector = self._encode(query)
        ranked = self._search(query, vector, k, filters)
        # Rounded as for the order, so that what is core comes first in it.
        scores = [round(result.score, SCORE_DIGITS) for result in ranked]
        count = sum(score >= scores[0] * self._core_ratio for score in scores)
        # The best is core even where its score is negative.
        core = ranked[: max(count, 1)]
        bridges = self._find_bridges(vector, core, ranked, filters)
        self._check_embedding()
        return {"core": core, "peripheral": ranked[len(core) :], "bridge": bridges}

    def _check_embedding(self) -> None:
        """Before a search, and after it: the store may have been embedded anew meanwhile."""
        self._vectors.check_embedding(self._provider.fingerprint)

    def _encode(self, query: str) -> Vector:
        self._check_embedding()
        rows = checked_rows(self._provider, self._provider.encode_query(query)[None], 1)
        vector: Vector = rows[0]
        return vector

    def _search(
        self, query: str, vector: Vector, k: int, filters: MemoryFilter | None
    ) -> list[SearchResult]:
        found = self._find_candidates(query, vector, max(k, self._candidates), filters)
        chosen = found.best(max(k, self._considered))
        received = self._activate(found, chosen, vector, filters)
        records = {each.id: each for each in self._memories.get_memories(list(found.parts))}
        for name, values in own_parts(
            query, list(records.values()), self._weights, self._clock(), self._dimensions
        ).items():
            for memory_id, value in values.items():
                found.parts[memory_id][name] = value
        return [
            SearchResult(
                records[memory_id],
                sum(found.parts[memory_id].values()),
                found.parts[memory_id],
                found.hits[memory_id].chunk,
                _explain(received.get(memory_id)),
            )
            for memory_id in found.best(len(found.parts))
            if memory_id in records  # deleted meanwhile
        ][:k]

    def _find_candidates(
        self, query: str, vector: Vector, count: int, filters: MemoryFilter | None
    ) -> _Candidates:
        hits = {hit.memory_id: hit for hit in self._vectors.search_similar(vector, count, filters)}
        words: dict[str, float] = {}
        if self._weights.lexical > 0:
            shared = self._lexical.search_text(query, count, filters, also=list(hits))
            words = {hit.memory_id: self._weights.lexical * hit.score for hit in shared}
        self._look_up(hits, words.keys() - hits.keys(), vector, None)
        return _Candidates(hits, {each: self._parts(hits[each], words) for each in hits})

    def _parts(self, hit: VectorHit, words: Mapping[str, float]) -> dict[str, float]:
        return {
            "semantic": self._weights.semantic * hit.score,
            "lexical": words.get(hit.memory_id, 0.0),
        }

    def _activate(
        self,
        found: _Candidates,
        chosen: Sequence[str],
        vector: Vector,
        filters: MemoryFilter | None,
    ) -> Mapping[str, Activation]:
        """Let the chosen activate their neighbors; drop all others but those from ``found``."""
        received: Mapping[str, Activation] = {}
        if self._weights.activation > 0:
            # What is only half as good as the best passes nothing on. Otherwise any neighbor of
            # anything would be lifted above a memory that stands alone.
            floor = FLOOR * max((found.score(each) for each in chosen), default=0.0)
            received = self._activation.activate(
                {each: found.score(each) - floor for each in chosen}
            )
        strongest = sorted(received, key=lambda each: (-received[each].amount, each))
        joining = strongest[: self._considered]
        self._look_up(found.hits, set(joining) - found.hits.keys(), vector, filters)
        kept = [each for each in dict.fromkeys([*chosen, *joining]) if each in found.hits]
        found.parts = {
            each: found.parts.get(each) or self._parts(found.hits[each], {}) for each in kept
        }
        if self._weights.activation > 0:
            for each, parts in found.parts.items():
                amount = received[each].amount if each in received else 0.0
                parts["activation"] = self._weights.activation * amount
        return received

    def _look_up(
        self,
        hits: dict[str, VectorHit],
        missing: Collection[str],
        vector: Vector,
        filters: MemoryFilter | None,
    ) -> None:
        """Add the hits of the missing memories that meet the filters."""
        asked = filters.memory_ids if filters else None
        wanted = tuple(sorted(each for each in missing if asked is None or each in asked))
        if wanted:
            rest = replace(filters or MemoryFilter(), memory_ids=wanted)
            for hit in self._vectors.search_similar(vector, len(wanted), rest):
                hits[hit.memory_id] = hit

    def _find_bridges(
        self,
        vector: Vector,
        core: Sequence[SearchResult],
        ranked: Sequence[SearchResult],
        filters: MemoryFilter | None,
    ) -> list[SearchResult]:
        if not core or not self._max_bridges:
            return []
        activated = {result.memory.id: result.score for result in core}
        shown = {result.memory.id for result in ranked}
        bridges = {
            each.memory_id: each
            for each in self._bridges.find_bridges(
                vector, activated, shown, self._max_bridges, filters
            )
        }
        return [
            SearchResult(
                memory,
                bridges[memory.id].score,
                bridges[memory.id].parts,
                explanation=bridges[memory.id].explanation,
            )
            for memory in self._memories.get_memories(list(bridges))
        ]


def _explain(activation: Activation | None) -> str:
    if activation is None:
        return ""
    return f"activated by {activation.by}, a {activation.connection_type} neighbor"
