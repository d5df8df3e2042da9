"""From the changes of a transaction to update operations, in an order that can be cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..core.memory import CognitiveMemory, MemoryConnection
from ..core.similarity import Vector
from .qdrant_changes import Changes
from .qdrant_connection import QdrantOptions
from .qdrant_filters import first_chunks, of_memories, of_project, point_id
from .qdrant_points import VECTOR, slices
from .qdrant_record_payload import (
    chunk_payload,
    edge_fields,
    own_fields,
    record_payload,
    shared_fields,
    text_version,
)

_MOST_BYTES = 8_000_000
"""Of JSON in one request, about; a server takes 32 MB unless it is told otherwise."""
_BYTES_PER_NUMBER = 22

Stems = Callable[[Sequence[CognitiveMemory]], Sequence[Sequence[str]]]
"""From memories to the stems by which each is found."""


def plan_changes(options: QdrantOptions, changes: Changes, stems: Stems) -> Iterator[list[Any]]:
    """Operations, one list for each request, all of which can be repeated.

    A memory and all its vectors are in one operation; what they had beyond them is deleted after.
    New memories come first, then what changes in others, and what is deleted last. So a load that
    was cut off between two requests is completed by loading again.
    """
    project = options.project
    request = _Request(options)
    saved = [memory for memory in changes.memories.values() if memory]
    words = dict(zip([memory.id for memory in saved], stems(saved), strict=True))
    for memory in saved:
        if memory.id in changes.vectors:
            points = _points(
                project,
                memory,
                changes.vectors[memory.id],
                changes.edges[memory.id],
                words[memory.id],
            )
            yield from request.make_room(len(points), _size(memory, points))
            request.add_points(points, _surplus(project, memory, len(points), changes))
    for memory in saved:
        if memory.id not in changes.vectors:
            yield from request.make_room(1, 4 * len(memory.content))
            request.operations += _fields(project, memory, words[memory.id])
    for memory_id in sorted(changes.rewired - changes.vectors.keys()):
        yield from request.make_room(1)
        fields = edge_fields(changes.edges[memory_id])
        request.operations.append(set_fields(fields, first_chunks(project, [memory_id])))
    for ids in slices(sorted(changes.deleted()), options.batch_size):
        yield from request.make_room(len(ids))
        request.operations.append(delete(of_memories(project, ids)))
    yield from request.rest()


def plan_access(
    options: QdrantOptions, groups: Mapping[tuple[int, int], Sequence[str]]
) -> Iterator[list[Any]]:
    """Let the memories of each group have this count of accesses and time of the last one."""
    request = _Request(options)
    for (count, last_us), memory_ids in groups.items():
        fields = {"access_count": count, "last_accessed_us": last_us}
        for ids in slices(memory_ids, options.batch_size):
            yield from request.make_room(len(ids))
            request.operations.append(set_fields(fields, first_chunks(options.project, ids)))
    yield from request.rest()


class _Request:
    """What one request will hold, at most so much of it."""

    def __init__(self, options: QdrantOptions) -> None:
        self._options = options
        self._touched = 0
        self._bytes = 0
        self.points: list[Any] = []
        self.operations: list[Any] = []

    def make_room(self, touched: int, size: int = 0) -> Iterator[list[Any]]:
        """Yield what is there if so many points or bytes more would be too much."""
        is_full = self._touched + touched > self._options.batch_size
        if is_full or self._bytes + size > _MOST_BYTES:
            yield from self.rest()
        self._touched += touched
        self._bytes += size

    def rest(self) -> Iterator[list[Any]]:
        """Yield what is there, if there is anything."""
        if self.points or self.operations:
            yield self._take()

    def add_points(self, points: Sequence[Any], surplus: Any | None) -> None:
        self.points += points
        if surplus is not None:
            self.operations.append(surplus)

    def _take(self) -> list[Any]:
        from qdrant_client import models

        operations = self.operations
        if self.points:
            # One operation: it is written as a whole.
            points = models.PointsList(points=self.points)
            operations = [models.UpsertOperation(upsert=points), *operations]
        self.points, self.operations = [], []
        self._touched = self._bytes = 0
        return operations


def _points(
    project: str,
    memory: CognitiveMemory,
    rows: Vector | None,
    edges: Sequence[MemoryConnection],
    stems: Sequence[str],
) -> list[Any]:
    """The first point has the record; a memory without vectors is a point without one."""
    from qdrant_client import models

    chunks = 0 if rows is None else len(rows)
    points = []
    for chunk in range(max(chunks, 1)):
        payload = (
            chunk_payload(project, memory, chunk, chunks)
            if chunk
            else record_payload(project, memory, chunks, edges, stems)
        )
        vector = {} if rows is None else {VECTOR: rows[chunk].tolist()}
        points.append(
            models.PointStruct(
                id=point_id(project, memory.id, chunk), vector=vector, payload=payload
            )
        )
    return points


def _size(memory: CognitiveMemory, points: Sequence[Any]) -> int:
    """About how many bytes of JSON: of the text, its stems and the vectors."""
    numbers = sum(len(row) for point in points for row in point.vector.values())
    return 4 * len(memory.content) + _BYTES_PER_NUMBER * numbers


def _surplus(project: str, memory: CognitiveMemory, count: int, changes: Changes) -> Any | None:
    """Deletes the points beyond ``count`` of the texts that were there, and of no other.

    Those of a third text are of another process, which has written it meanwhile.
    """
    held = changes.held.get(memory.id)
    if held is None or held.chunks <= count:
        return None
    versions = sorted({held.version, text_version(memory.content)})
    return delete(
        of_project(
            project, of_memories(project, [memory.id], first_chunk=count), any_version(versions)
        )
    )


def _fields(project: str, memory: CognitiveMemory, stems: Sequence[str]) -> list[Any]:
    """Changes all but the text, and only where the text is still the one that this belongs to."""
    version = any_version([text_version(memory.content)])
    shared = shared_fields(memory)
    return [
        set_fields(
            {**shared, **own_fields(memory, stems)},
            of_project(project, first_chunks(project, [memory.id]), version),
        ),
        set_fields(
            shared, of_project(project, of_memories(project, [memory.id], first_chunk=1), version)
        ),
    ]


def set_fields(payload: dict[str, Any], condition: Any) -> Any:
    """An operation on the points that match, which may be none."""
    from qdrant_client import models

    return models.SetPayloadOperation(
        set_payload=models.SetPayload(payload=payload, filter=condition)
    )


def delete(condition: Any) -> Any:
    """An operation that deletes the points that match."""
    from qdrant_client import models

    return models.DeleteOperation(delete=models.FilterSelector(filter=condition))


def any_version(versions: Sequence[str]) -> Any:
    """A condition: points of one of these texts."""
    from qdrant_client import models

    return models.FieldCondition(key="version", match=models.MatchAny(any=list(versions)))
