"""Vectors in the record, searched in a derived index that is fed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.errors import StorageError
from ..core.interfaces import MemoryStorage, ReplicaIndex, VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector
from .outbox import Backlog, Outbox
from .reconciliation import Difference, compare
from .replication import Replication
from .vector_checks import checked_queries

MAX_WAITING = 1000
"""Changes that are searched beside the derived index; with more, the record answers alone."""

ROUNDING = 1e-6
"""By how much the scores of the derived index may differ from those of the record."""

SCORED_AT_ONCE = 1000
"""Memories whose vectors are read together."""


class ReplicatedVectorStorage(VectorStorage):
    """Writes to ``record``; lets ``replica`` find what is near, and ranks it as the record does.

    What was stored is found at once: changes that the replica does not know yet are looked up in
    the record. An outage of the replica delays nothing and loses nothing: the record answers, and
    ``notices`` says so. ``outbox`` is that of the record; ``replication`` closes ``replica``.
    """

    def __init__(
        self,
        record: VectorStorage,
        memories: MemoryStorage,
        outbox: Outbox,
        replica: ReplicaIndex,
        replication: Replication,
        *,
        flush_seconds: float = 2.0,
    ) -> None:
        self._record = record
        self._memories = memories
        self._outbox = outbox
        self._replica = replica
        self._replication = replication
        self._flush_seconds = flush_seconds

    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Remember whose vectors will be stored; raises ``FingerprintMismatchError``."""
        self._record.bind_embedding(fingerprint, dimension)

    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if vectors of another embedding are held."""
        self._record.check_embedding(fingerprint)

    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory in the record; the replica learns of it later."""
        self._record.store_vectors(memories, vectors)
        self._replication.wake()

    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were in the record and are gone."""
        deleted = self._record.delete_vectors(memory_ids)
        self._replication.wake()
        return deleted

    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """The same for each row of ``queries`` (n, dim) float32."""
        backlog = self._outbox.look(MAX_WAITING + 1)
        obstacle = self._obstacle(backlog)
        if backlog.entries or obstacle is not None:
            self._replication.wake()
        if obstacle is None and k > 0:
            found = self._search_replica(backlog, queries, k, filters, min_score)
            if found is not None:
                return found
        return self._record.search_similar_batch(queries, k, filters, min_score)

    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, from the record."""
        return self._record.get_vectors(memory_ids)

    def count(self) -> int:
        """Number of vectors in the record."""
        return self._record.count()

    def notices(self) -> list[str]:
        """Why the record answers in place of the replica, if it does."""
        backlog = self._outbox.look(MAX_WAITING + 1)
        obstacle = self._obstacle(backlog)
        if obstacle is None or backlog.serving is None:
            return []
        waiting = f"{self._pending(backlog)} changes wait"
        return [f"degraded: {obstacle}; the embedded index answers, {waiting}"]

    def get_statistics(self) -> dict[str, Any]:
        """Under ``replica``: where it is, how many changes wait for it, and why, if it failed."""
        pending = self._pending(self._outbox.look(0))
        fault = self._replication.fault
        if fault is None and pending:
            fault = self._outbox.fault()
        replica = {"target": self._replication.target, "pending": pending, "fault": fault}
        return {"replica": replica}

    def reconcile(self, *, repair: bool) -> Difference:
        """What differs between the record and the replica; with ``repair`` it is sent again.

        Raises ``StorageError`` when the replica cannot be asked, or another process feeds it now.
        """
        backlog = self._outbox.look(-1)
        if backlog.serving is None:
            return Difference()
        waiting: set[str] = set()
        if backlog.target == self._replication.target_of(backlog.serving):
            waiting.update(entry.memory_id for entry in backlog.entries)
        self._replica.check_embedding(backlog.serving.fingerprint)
        found = compare(self._memories, self._record, self._replica, waiting)
        if repair:
            self._replication.drain(found.ids)
        elif not found.ids and self._obstacle(backlog) is None:
            self._replica.count()  # It is all there; it must be found, too.
        return found

    def close(self) -> None:
        """Send what waits, for as long as that may take, and close both."""
        try:
            self._replication.close(self._flush_seconds)
        finally:
            self._record.close()

    def _pending(self, backlog: Backlog) -> int:
        if backlog.serving is None:
            return 0
        return self._outbox.count(self._replication.target_of(backlog.serving))

    def _obstacle(self, backlog: Backlog) -> str | None:
        """Why the replica cannot answer."""
        if backlog.is_uncommitted:
            return "a transaction is open"  # It knows nothing of it, and nobody may wait for it.
        if self._replication.fault is not None:
            return self._replication.fault
        if backlog.serving is None:
            return "nothing is stored"
        if backlog.target != self._replication.target_of(backlog.serving):
            return "the derived index is not made yet"
        if not backlog.is_complete:
            return "the derived index is being made"
        if len(backlog.entries) > MAX_WAITING:
            return "the derived index is far behind"
        return None

    def _search_replica(
        self,
        backlog: Backlog,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None,
        min_score: float | None,
    ) -> list[list[VectorHit]] | None:
        """``None`` where it did not answer, or another one took its place meanwhile."""
        assert backlog.serving is not None
        rows = checked_queries(queries, backlog.serving.dimension)
        waiting = {entry.memory_id for entry in backlog.entries}
        floor = None if min_score is None else min_score - ROUNDING
        try:
            self._replica.check_embedding(backlog.serving.fingerprint)
            found = self._replica.search_similar_batch(rows, k + len(waiting), filters, floor)
        except StorageError as error:
            self._replication.report_failure(error)
            return None
        with self._memories.snapshot():
            now = self._outbox.look(0)
            if (now.serving, now.target) != (backlog.serving, backlog.target):
                return None
            changed = self._matching(waiting, filters)
            ranked = []
            for query, hits in zip(rows, found, strict=True):
                named = changed | ({hit.memory_id for hit in hits} - waiting)
                ranked.append(self._rank(query, named, min_score)[:k])
            return ranked

    def _matching(self, waiting: set[str], filters: MemoryFilter | None) -> set[str]:
        """Those that meet the filters now."""
        if filters is None or not waiting:
            return waiting
        asked = waiting if filters.memory_ids is None else waiting.intersection(filters.memory_ids)
        narrowed = replace(filters, memory_ids=tuple(sorted(asked)))
        return {memory.id for memory in self._memories.find_memories(narrowed)}

    def _rank(
        self, query: Vector, memory_ids: set[str], min_score: float | None
    ) -> list[VectorHit]:
        """Best first, ties by id, with the scores of the record."""
        ids = sorted(memory_ids)
        ranked = []
        for start in range(0, len(ids), SCORED_AT_ONCE):
            held = self._record.get_vectors(ids[start : start + SCORED_AT_ONCE])
            for memory_id, rows in held.items():
                # As the exact index does: a score does not depend on where it was found.
                scores = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
                best = int(scores.argmax())
                score = min(1.0, max(-1.0, float(scores[best])))
                if min_score is None or score >= min_score:
                    ranked.append(VectorHit(memory_id, score, best))
        return sorted(ranked, key=lambda hit: (-hit.score, hit.memory_id))
