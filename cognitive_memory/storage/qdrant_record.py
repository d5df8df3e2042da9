"""The whole record in Qdrant, so that many processes share it and need no common file."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..core.errors import InvalidInputError, StoreUnavailableError
from ..core.interfaces import MemoryRecord
from ..core.memory import (
    LOADED_TYPES,
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryFilter,
    TextHit,
    check_distinct,
)
from .filters import to_microseconds
from .qdrant_changes import Changes, Held
from .qdrant_collections import SCHEMA
from .qdrant_filters import of_project
from .qdrant_points import slices
from .qdrant_project import QdrantProject, RecordPoints
from .qdrant_record_payload import (
    MEMORY_FIELDS,
    text_version,
    to_edges,
    to_memory,
)
from .qdrant_record_reads import RecordReads
from .qdrant_record_writes import plan_access
from .qdrant_word_search import WordSearch


class QdrantRecord(MemoryRecord):
    """Memories, their edges and their words in the points that also carry their vectors.

    A memory and all its vectors are one write, whole or not at all; of two processes that write
    the same one the last wins, whole. A transaction keeps its writes in memory until it ends and
    holds up other threads, but no other process: what those write meanwhile lies between. It is
    sent in requests of at most ``batch_size`` points; a crash between two of them leaves some of
    its memories written, each whole, and repeating it completes it. An edge that another process
    adds to a memory just as it is written may be lost, and so may a count of accesses.

    Raises ``StoreUnavailableError`` when the server does not answer, never less than it holds. A
    request that was not answered in time may yet be carried out; all of them can be repeated.
    """

    def __init__(self, project: QdrantProject) -> None:
        self._project = project
        self._reads = RecordReads(project)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside it are sent when it ends, or none of them; it can be nested."""
        with self._project.transactions.open():
            yield

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Insert, or replace those with the same id; connections of a replaced one stay.

        A memory whose text is another loses its vectors, which are of the text that was. Raises
        ``InvalidInputError`` for a memory given twice.
        """
        check_distinct(memories)
        if not memories:
            return
        ids = [memory.id for memory in memories]
        points = self._project.required_points()
        with self._project.transactions.open() as changes:
            stored = {
                payload["memory_id"]: payload
                for payload in points.first_of(
                    [each for each in ids if changes.memories.get(each) is None],
                    ("version", "chunks", "edges"),
                )
            }
            for memory in memories:
                payload = stored.get(memory.id)
                if payload is not None:
                    changes.held[memory.id] = Held(payload["version"], payload["chunks"])
                    changes.edges.setdefault(memory.id, to_edges(payload))
                if not _is_same_text(memory, changes):
                    changes.vectors[memory.id] = None
                    changes.edges.setdefault(memory.id, ())
                changes.memories[memory.id] = memory

    def get_memories(self, memory_ids: Sequence[str]) -> list[CognitiveMemory]:
        """Those that exist, in the order asked for."""
        changed = self._project.transactions.changes().memories
        points = self._project.points()
        found = {each: changed[each] for each in memory_ids if each in changed}
        if points is not None:
            missing = [each for each in memory_ids if each not in changed]
            for payload in points.first_of(missing, MEMORY_FIELDS):
                found[payload["memory_id"]] = to_memory(payload)
        return [memory for each in memory_ids if (memory := found.get(each)) is not None]

    def find_memories(
        self, filters: MemoryFilter | None = None, limit: int | None = None
    ) -> list[CognitiveMemory]:
        """Those that match, newest first, ties by id.

        Sorted here: it takes the memory of all that match, with ``limit`` only of their ids.
        """
        changes = self._project.transactions.changes()
        found = changes.matching(filters)
        if limit is None:
            stored = map(to_memory, self._reads.stored(filters, MEMORY_FIELDS))
            found += [each for each in stored if each.id not in changes.memories]
            return sorted(found, key=lambda each: _newest_first(each.created_date, each.id))
        keys = [_newest_first(each.created_date, each.id) for each in found]
        keys += [
            (-payload["created_us"], payload["memory_id"])
            for payload in self._reads.stored(filters, ("memory_id", "created_us"))
            if payload["memory_id"] not in changes.memories
        ]
        return self.get_memories([memory_id for _, memory_id in heapq.nsmallest(limit, keys)])

    def iterate_memories(self, batch_size: int = 1024) -> Iterator[list[CognitiveMemory]]:
        """All memories in order of id, in the memory of all ids and one batch."""
        changed = self._project.transactions.changes().memories
        stored = {payload["memory_id"] for payload in self._reads.stored(None, ("memory_id",))}
        alive = {memory_id for memory_id, memory in changed.items() if memory}
        for ids in slices(sorted((stored - changed.keys()) | alive), batch_size):
            if batch := self.get_memories(ids):  # unless all were deleted meanwhile
                yield batch

    def delete_memories(self, memory_ids: Sequence[str]) -> int:
        """Number of memories that were there and are gone, with all that hangs on them."""
        if self._project.points() is None:
            return 0
        with self._project.transactions.open() as changes:
            gone = self._reads.existing(memory_ids)
            for edge in self._reads.edges_to(gone, changes):
                if edge.source_id not in gone:
                    kept = tuple(
                        e for e in changes.edges[edge.source_id] if e.target_id not in gone
                    )
                    changes.rewire(edge.source_id, kept)
            for memory_id in gone:
                changes.delete(memory_id)
        return len(gone)

    def record_access(self, memory_ids: Sequence[str], moment: datetime) -> None:
        """Count one access to each, unless the store cannot be written just now.

        Two processes that count at once may count as one.
        """
        transactions = self._project.transactions
        if transactions.is_open:
            accessed = [
                replace(
                    memory,
                    access_count=memory.access_count + 1,
                    last_accessed=max(memory.last_accessed, moment),
                )
                for memory in self.get_memories(list(dict.fromkeys(memory_ids)))
            ]
            self.save_memories(accessed)
            return
        with suppress(StoreUnavailableError):
            points = self._project.points()
            if points is not None:
                self._count_access(points, memory_ids, to_microseconds(moment))

    def add_connections(self, connections: Sequence[MemoryConnection]) -> None:
        """Insert, or replace the edge of the same ends and type.

        Raises ``InvalidInputError`` when an end does not exist or the strength is not in (0, 1].
        """
        self.replace_connections([], connections, ())

    def replace_connections(
        self,
        memory_ids: Sequence[str],
        connections: Sequence[MemoryConnection],
        kinds: Collection[ConnectionType] = LOADED_TYPES,
    ) -> None:
        """Drop the edges of these kinds that begin at these memories, and add others."""
        for edge in connections:
            if not 0 < edge.strength <= 1:
                raise InvalidInputError(
                    f"got connection strength {edge.strength}; it must be above 0, at most 1"
                )
        ends = {end for edge in connections for end in (edge.source_id, edge.target_id)}
        with self._project.transactions.open() as changes:
            existing = self._reads.existing([*memory_ids, *ends])
            if missing := ends - existing:
                raise InvalidInputError(
                    f"cannot connect memory {min(missing)!r}: it does not exist; store it first"
                )
            cleared = existing.intersection(memory_ids)
            sources = cleared | {edge.source_id for edge in connections}
            self._reads.look_up_edges(sources, changes)
            edges = {
                source: {
                    _key(edge): edge
                    for edge in changes.edges[source]
                    if source not in cleared or edge.connection_type not in kinds
                }
                for source in sources
            }
            for edge in connections:
                edges[edge.source_id][_key(edge)] = edge
            for source, own in edges.items():
                changes.rewire(source, tuple(own.values()))

    def get_connections(self, memory_ids: Sequence[str]) -> list[MemoryConnection]:
        """All edges that begin or end at one of these memories, strongest first.

        One whose end another process deleted as it was drawn is not among them.
        """
        changes = self._project.transactions.changes()
        wanted = set(memory_ids)
        found = {
            edge for edge in self._reads.edges_to(wanted, changes) if edge.source_id not in wanted
        }
        own = self._reads.look_up_edges(wanted, changes)
        found.update(edge for edges in own.values() for edge in edges)
        alive = self._reads.existing({edge.target_id for edge in found})
        edges = [edge for edge in found if edge.target_id in alive]
        edges.sort(key=lambda e: (-e.strength, e.source_id, e.target_id, e.connection_type))
        return edges

    def search_text(
        self,
        query: str,
        k: int,
        filters: MemoryFilter | None = None,
        also: Collection[str] = (),
    ) -> list[TextHit]:
        """The ``k`` best memories by their words, best first, ties by id, and those of ``also``.

        Ranked as in the SQLite record, with the same stems. A word of several parts
        (``snake_case``) is found where all of them stand, also apart.
        """
        points = self._project.points()
        if points is None:
            return []
        changes = self._project.transactions.changes()
        return WordSearch(self._project, points, changes, query).run(k, filters, also)

    def get_statistics(self) -> dict[str, Any]:
        """JSON values: counts by level and type, schema version, fingerprint; no size."""
        options = self._project.options
        points = self._project.points()
        counts: dict[str, dict[str, int]] = {}
        vectors = 0
        if points is not None:
            first = points.first_points()
            fields = ("hierarchy_level", "memory_type", "source_type", "source_path", "degree")
            counts = {field: points.facet(field, first) for field in fields}
            vectors = points.count_vectors()
        degrees = counts.get("degree", {})
        return {
            "path": f"Qdrant at {options.shown}, project {options.project}",
            "bytes": None,
            "schema_version": SCHEMA,
            "fingerprint": points.embedding.fingerprint if points else None,
            "read_only": False,
            "memories_by_level": counts.get("hierarchy_level", {}),
            "memories_by_type": counts.get("memory_type", {}),
            "memories_by_source_type": counts.get("source_type", {}),
            "memories": sum(degrees.values()),
            "vectors": vectors,
            "connections": sum(int(degree) * count for degree, count in degrees.items()),
            "sources": len(counts.get("source_path", {})),
        }

    def check_integrity(self, *, repair: bool = False) -> list[str]:
        """Faults found in the points, none if they are sound; reads the ids of all of them.

        ``repair`` deletes points that belong to no memory.
        """
        points = self._project.points()
        if points is None:
            return []
        strays, bare = points.strays(of_project(self._project.options.project))
        faults = []
        if strays and repair:
            points.remove(strays)
        elif strays:
            faults.append(
                f"vectors of {len(strays)} texts belong to no memory; "
                "run 'cognitive-memory doctor --repair'"
            )
        if bare:
            faults.append(f"{len(bare)} memories lack vectors; load or store them again")
        return faults

    def close(self) -> None:
        """Close the connection, also that of the vectors."""
        self._project.close()

    def _count_access(self, points: RecordPoints, memory_ids: Sequence[str], moment: int) -> None:
        groups: dict[tuple[int, int], list[str]] = {}
        for payload in points.first_of(memory_ids, ("access_count", "last_accessed_us")):
            state = payload["access_count"] + 1, max(payload["last_accessed_us"], moment)
            groups.setdefault(state, []).append(payload["memory_id"])
        for operations in plan_access(self._project.options, groups):
            points.apply(operations)


def _is_same_text(memory: CognitiveMemory, changes: Changes) -> bool:
    """Whether the vectors that are there are of this text."""
    if memory.id in changes.memories:
        saved = changes.memories[memory.id]
        return saved is not None and saved.content == memory.content
    held = changes.held.get(memory.id)
    return held is not None and held.version == text_version(memory.content)


def _newest_first(created: datetime, memory_id: str) -> tuple[int, str]:
    return -to_microseconds(created), memory_id


def _key(edge: MemoryConnection) -> tuple[str, ConnectionType]:
    return edge.target_id, edge.connection_type
