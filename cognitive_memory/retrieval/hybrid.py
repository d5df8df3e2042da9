"""Ranks by meaning and by words: cosine plus a share of the BM25 score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.interfaces import (
    ConnectionGraph,
    EmbeddingProvider,
    LexicalIndex,
    MemoryStorage,
    RetrievalEngine,
    VectorStorage,
)
from ..core.memory import MemoryConnection, MemoryFilter, SearchResult, VectorHit


class HybridRetrieval(RetrievalEngine):
    """score = cosine + ``lexical_weight`` x BM25 / (best BM25 of the query).

    ``candidates`` memories are taken from each of the two searches. ``core`` is what reaches
    ``core_ratio`` of the best score; a bridge is connected to a core memory.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        memories: MemoryStorage,
        vectors: VectorStorage,
        lexical: LexicalIndex,
        connections: ConnectionGraph,
        *,
        lexical_weight: float = 0.5,
        candidates: int = 200,
        core_ratio: float = 0.75,
        max_bridges: int = 3,
    ) -> None:
        self._provider = provider
        self._memories = memories
        self._vectors = vectors
        self._lexical = lexical
        self._connections = connections
        self._lexical_weight = lexical_weight
        self._candidates = candidates
        self._core_ratio = core_ratio
        self._max_bridges = max_bridges

    def search(self, query: str, k: int, filters: MemoryFilter | None = None) -> list[SearchResult]:
        """The ``k`` best; parts are ``semantic`` and ``lexical``."""
        hits, parts = self._candidates_of(query, max(k, self._candidates), filters)
        ranked = sorted(parts, key=lambda memory_id: (-sum(parts[memory_id].values()), memory_id))
        return [
            SearchResult(
                memory, sum(parts[memory.id].values()), parts[memory.id], hits[memory.id].chunk
            )
            for memory in self._memories.get_memories(ranked[:k])
        ]

    def recall(
        self, query: str, k: int, filters: MemoryFilter | None = None
    ) -> dict[str, list[SearchResult]]:
        """The same ranking in groups; ``core`` and ``peripheral`` together hold at most ``k``."""
        ranked = self.search(query, k, filters)
        limit = ranked[0].score * self._core_ratio if ranked else 0.0
        # The best is core even where its score is negative.
        core = [result for result in ranked if result.score >= limit] or ranked[:1]
        return {
            "core": core,
            "peripheral": ranked[len(core) :],
            "bridge": self._bridges(core, ranked, filters),
        }

    def _candidates_of(
        self, query: str, count: int, filters: MemoryFilter | None
    ) -> tuple[dict[str, VectorHit], dict[str, dict[str, float]]]:
        self._vectors.check_embedding(self._provider.fingerprint)
        vector = self._provider.encode_query(query)
        hits = {hit.memory_id: hit for hit in self._vectors.search_similar(vector, count, filters)}
        words = self._lexical.search_text(query, count, filters)
        unscored = tuple(hit.memory_id for hit in words if hit.memory_id not in hits)
        if unscored:
            rest = MemoryFilter(memory_ids=unscored)
            for hit in self._vectors.search_similar(vector, len(unscored), rest):
                hits[hit.memory_id] = hit
        best = max((hit.score for hit in words), default=0.0) or 1.0
        lexical = {hit.memory_id: self._lexical_weight * hit.score / best for hit in words}
        return hits, {
            memory_id: {"semantic": hit.score, "lexical": lexical.get(memory_id, 0.0)}
            for memory_id, hit in hits.items()
        }

    def _bridges(
        self, core: list[SearchResult], ranked: list[SearchResult], filters: MemoryFilter | None
    ) -> list[SearchResult]:
        activation = {result.memory.id: result.score for result in core}
        shown = {result.memory.id for result in ranked}
        reached: dict[str, tuple[float, str, MemoryConnection]] = {}
        for edge in self._connections.get_connections(list(activation)):
            for near, far in ((edge.source_id, edge.target_id), (edge.target_id, edge.source_id)):
                if near not in activation or far in shown:
                    continue
                found = (activation[near] * edge.strength, near, edge)
                reached[far] = max(reached.get(far, found), found, key=lambda item: item[0])
        allowed = self._that_meet(filters, list(reached))
        best = sorted(allowed, key=lambda memory_id: (-reached[memory_id][0], memory_id))
        return [
            SearchResult(
                memory,
                reached[memory.id][0],
                {"connection": reached[memory.id][0]},
                explanation=f"{reached[memory.id][2].connection_type} neighbor of "
                f"{reached[memory.id][1]}",
            )
            for memory in self._memories.get_memories(best[: self._max_bridges])
        ]

    def _that_meet(self, filters: MemoryFilter | None, memory_ids: Sequence[str]) -> Sequence[str]:
        if filters is None or not memory_ids:
            return memory_ids
        asked = filters.memory_ids
        wanted = tuple(each for each in memory_ids if asked is None or each in asked)
        found = self._memories.find_memories(replace(filters, memory_ids=wanted))
        return [memory.id for memory in found]
