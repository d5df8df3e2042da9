"""What becomes of a text that nearly repeats a stored one: kept, linked or merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from .consolidation import members_of
from .errors import ConfigurationError
from .interfaces import ConnectionGraph, MemoryStorage, VectorStorage
from .memory import CognitiveMemory, ConnectionType, MemoryConnection
from .similarity import Vector

KEEP, LINK, MERGE = "keep", "link", "merge"
MODES = (KEEP, LINK, MERGE)

LOOKED_UP_AT_ONCE = 64
"""Texts looked up in one transaction, which keeps other writers waiting."""

ROUNDING = 1e-6
"""By how much the cosine of a text with itself may differ from 1."""

_FIRST_LOOK = 8
"""Near-duplicates looked at first; four times as many while none of them will do."""


class DuplicatePolicy:
    """Stores memories, and deals with near-duplicates as ``mode`` says.

    A near-duplicate has as many chunks, each with a cosine of at least ``min_similarity`` to the
    same chunk of the other. ``link`` stores it with an edge to the nearest one. ``merge`` stores
    nothing: the other, which keeps its text, gains what the new one brings; only a memory of the
    same level and type, of no source and not consolidated, takes another in, for those of a source
    go with it.
    """

    def __init__(
        self,
        memories: MemoryStorage,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        mode: str = KEEP,
        min_similarity: float = 0.98,
    ) -> None:
        if mode not in MODES:
            raise ConfigurationError(f"duplicates={mode!r}: it must be one of {', '.join(MODES)}")
        if not 0 < min_similarity <= 1:
            raise ConfigurationError(
                f"duplicate_similarity={min_similarity}: it must be above 0, at most 1"
            )
        self.at_once = None if mode == KEEP else LOOKED_UP_AT_ONCE
        """How many texts one transaction should store, if that matters."""
        self._memories = memories
        self._vectors = vectors
        self._connections = connections
        self._mode = mode
        self._min_similarity = min_similarity - ROUNDING

    def store(
        self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector], now: datetime
    ) -> list[str]:
        """Write them within a transaction of the caller; for each the id under which it is kept.

        The transaction makes others wait, so that what is not found is not there.
        """
        if self._mode == KEEP:
            self._memories.save_memories(memories)
            self._vectors.store_vectors(memories, vectors)
            return [memory.id for memory in memories]
        batch = _Batch()
        for memory, rows in zip(memories, vectors, strict=True):
            found = self._nearest(memory, rows, batch)
            if found is None or self._mode == LINK:
                batch.add(memory, rows)
            else:
                batch.merge(found[0], memory, now)
            if found is not None and self._mode == LINK:
                batch.edges.append(_edge(memory.id, found[0].id, found[1]))
        self._memories.save_memories(list(batch.changed.values()))
        self._vectors.store_vectors(
            [batch.changed[memory_id] for memory_id in batch.rows], list(batch.rows.values())
        )
        self._connections.add_connections(batch.edges)
        return batch.ids

    def _nearest(
        self, memory: CognitiveMemory, rows: Vector, batch: _Batch
    ) -> tuple[CognitiveMemory, float] | None:
        """The nearest near-duplicate that will do, with its likeness; ties by id."""
        found = self._alike(memory, rows, batch.rows, batch.changed)
        count = _FIRST_LOOK
        while True:
            # Searched before anything of the batch is written, so that the matrix stays warm.
            hits = self._vectors.search_similar(rows[0], count, min_score=self._min_similarity)
            ids = [hit.memory_id for hit in hits]
            stored = {each.id: each for each in self._memories.get_memories(ids)}
            held = self._vectors.get_vectors(list(stored))
            near = self._alike(memory, rows, held, {**stored, **batch.changed})
            if near or len(hits) < count:
                break
            count *= 4
        found |= near
        return min(found.values(), key=lambda each: (-each[1], each[0].id), default=None)

    def _alike(
        self,
        memory: CognitiveMemory,
        rows: Vector,
        others: Mapping[str, Vector],
        memories: Mapping[str, CognitiveMemory],
    ) -> dict[str, tuple[CognitiveMemory, float]]:
        """The near-duplicates among ``others`` that may take the memory in, or be linked to it."""
        found = {
            memory_id: (memories[memory_id], _likeness(rows, array))
            for memory_id, array in others.items()
            if self._may_serve(memories[memory_id], memory)
        }
        return {name: each for name, each in found.items() if each[1] >= self._min_similarity}

    def _may_serve(self, old: CognitiveMemory, new: CognitiveMemory) -> bool:
        if members_of(old):
            return False
        return self._mode == LINK or (
            old.source_path is None
            and (old.hierarchy_level, old.memory_type) == (new.hierarchy_level, new.memory_type)
        )


class _Batch:
    """What is to be written at the end."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.changed: dict[str, CognitiveMemory] = {}
        self.rows: dict[str, Vector] = {}
        """Of those that are new."""
        self.edges: list[MemoryConnection] = []

    def add(self, memory: CognitiveMemory, rows: Vector) -> None:
        self.ids.append(memory.id)
        self.changed[memory.id] = memory
        self.rows[memory.id] = rows

    def merge(self, old: CognitiveMemory, new: CognitiveMemory, now: datetime) -> None:
        self.ids.append(old.id)
        added = [key for key in new.metadata if key not in old.metadata]
        self.changed[old.id] = replace(
            old,
            tags=tuple(dict.fromkeys([*old.tags, *new.tags])),
            importance_score=max(old.importance_score, new.importance_score),
            access_count=old.access_count + 1,
            last_accessed=max(old.last_accessed, now),
            metadata={**old.metadata, **{k: new.metadata[k] for k in added}},
        )


def _likeness(rows: Vector, others: Vector) -> float:
    """The least cosine of two texts' chunks, one by one; -1 where their numbers differ."""
    if rows.shape != others.shape:
        return -1.0
    products = rows.astype(np.float64) * others.astype(np.float64)
    return min(1.0, round(float(products.sum(axis=1).min()), 6))


def _edge(new: str, old: str, likeness: float) -> MemoryConnection:
    return MemoryConnection(new, old, ConnectionType.DUPLICATE, likeness)
