"""From memories and their vectors to the update operations that replace what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core.memory import CognitiveMemory
from ..core.similarity import Vector
from .qdrant_connection import QdrantOptions
from .qdrant_filters import of_memories, payload_of, point_id
from .qdrant_points import VECTOR

_MOST_NUMBERS = 1_000_000
"""In one request: as JSON some 20 MB, where a server takes 32 unless it is told otherwise."""


VersionOf = Callable[[CognitiveMemory, Vector], str]
"""From a memory and its (chunks, dim) vectors to what says that they are these."""


def plan_writes(
    options: QdrantOptions,
    memories: Sequence[CognitiveMemory],
    vectors: Sequence[Vector],
    version_of: VersionOf | None,
) -> Iterator[list[Any]]:
    """Operations, one list for each request, that replace the points of each memory.

    The points of a memory are written first; those that it had beyond them are deleted after. So a
    reader finds it at any time, and cut off anywhere, all of it can be repeated.
    """
    planned = _Request(options)
    for memory, rows in zip(memories, vectors, strict=True):
        version = None if version_of is None else version_of(memory, rows)
        for chunk, row in enumerate(rows):
            if planned.is_full(row):
                yield planned.take()
            planned.points.append(_point(options.project, memory, chunk, rows, version))
        planned.counts.setdefault(len(rows), []).append(memory.id)
    if planned.points or planned.counts:
        yield planned.take()


class _Request:
    """What one request will hold: points, and memories by how many points they have now."""

    def __init__(self, options: QdrantOptions) -> None:
        self._options = options
        self.points: list[Any] = []
        self.counts: dict[int, list[str]] = {}

    def is_full(self, row: Vector) -> bool:
        most = min(self._options.batch_size, max(1, _MOST_NUMBERS // len(row)))
        return len(self.points) >= most

    def take(self) -> list[Any]:
        """The operations so far; it is empty then."""
        from qdrant_client import models

        operations: list[Any] = []
        if self.points:
            operations.append(models.UpsertOperation(upsert=models.PointsList(points=self.points)))
        for count, memory_ids in self.counts.items():
            surplus = of_memories(self._options.project, memory_ids, first_chunk=count)
            operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=surplus)))
        self.points, self.counts = [], {}
        return operations


def _point(
    project: str, memory: CognitiveMemory, chunk: int, rows: Vector, version: str | None
) -> Any:
    from qdrant_client import models

    return models.PointStruct(
        id=point_id(project, memory.id, chunk),
        vector={VECTOR: rows[chunk].tolist()},
        payload=payload_of(project, memory, chunk, len(rows), version),
    )
