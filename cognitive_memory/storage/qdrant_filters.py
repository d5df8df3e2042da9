"""What a point of Qdrant is called, what it carries, and how it is picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from ..core.memory import CognitiveMemory, MemoryFilter
from .filters import to_microseconds

_NAMESPACE = UUID("6d0a1c52-6f0e-4c8e-9b9e-3f2f6a0f7d11")
_INT64 = range(-(2**63), 2**63)


def point_id(project: str, memory_id: str, chunk: int) -> str:
    """A UUID that is the same on every machine: writing again replaces, and never duplicates."""
    return str(uuid5(_NAMESPACE, f"{project}\0{chunk}\0{memory_id}"))


def payload_of(
    project: str, memory: CognitiveMemory, chunk: int, chunks: int, version: str | None
) -> dict[str, Any]:
    """What filters and a reconciler look at; the text stays in the record."""
    payload = {
        "project": project,
        "memory_id": memory.id,
        "chunk": chunk,
        "chunks": chunks,
        "hierarchy_level": memory.hierarchy_level,
        "memory_type": str(memory.memory_type),
        "tags": list(memory.tags),
        "source_path": memory.source_path,
        "created_us": to_microseconds(memory.created_date),
        "version": version,
    }
    return {name: value for name, value in payload.items() if value is not None}


def payload_indexes() -> Mapping[str, Any]:
    """The schema of each field that is filtered by."""
    from qdrant_client import models

    keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    integer = models.IntegerIndexParams(
        type=models.IntegerIndexType.INTEGER, lookup=True, range=True
    )
    return {
        # Points of one tenant are kept side by side.
        "project": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
        "memory_id": keyword,
        "chunk": integer,
        "hierarchy_level": integer,
        "memory_type": keyword,
        "tags": keyword,
        "source_path": keyword,
        "created_us": integer,
    }


def of_project(project: str, *conditions: Any) -> Any:
    """A filter that never leaves the project."""
    from qdrant_client import models

    return models.Filter(must=[_equals("project", project), *conditions])


def of_memories(project: str, memory_ids: Sequence[str], first_chunk: int = 0) -> Any:
    """The chunks of these memories from ``first_chunk`` on."""
    from qdrant_client import models

    conditions = [_any("memory_id", memory_ids)]
    if first_chunk:
        conditions.append(
            models.FieldCondition(key="chunk", range=models.Range(gte=float(first_chunk)))
        )
    return of_project(project, *conditions)


def first_chunks(project: str, memory_ids: Sequence[str]) -> Any:
    """One point for each of these memories that has any."""
    return of_project(project, _any("memory_id", memory_ids), _equals("chunk", 0))


def matching(project: str, filters: MemoryFilter | None) -> Any | None:
    """The points of the memories that meet all conditions; ``None`` when none can."""
    filters = filters or MemoryFilter()
    # Numbers that no point can hold would be refused, by the client or by the server.
    levels = filters.hierarchy_levels
    lists = {
        "memory_id": filters.memory_ids,
        "tags": filters.tags,
        "memory_type": filters.memory_types,
        "hierarchy_level": levels and tuple(int(level) for level in levels if level in _INT64),
    }
    given = {key: values for key, values in lists.items() if values is not None}
    if not all(given.values()):
        return None
    conditions = [_any(key, values) for key, values in given.items()]
    if filters.source_path is not None:
        conditions.append(_equals("source_path", filters.source_path))
    conditions += _period(filters)
    return of_project(project, *conditions)


def _period(filters: MemoryFilter) -> list[Any]:
    """Bounds travel as float64, which holds microseconds exactly until the year 2255."""
    from qdrant_client import models

    bounds = {
        name: float(to_microseconds(moment))
        for name, moment in (("gte", filters.created_from), ("lt", filters.created_until))
        if moment is not None
    }
    if not bounds:
        return []
    return [models.FieldCondition(key="created_us", range=models.Range(**bounds))]


def _equals(key: str, value: str | int) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: Sequence[str] | Sequence[int]) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
