"""A memory as the payload of its first point, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.memory import CognitiveMemory, ConnectionType, MemoryConnection, MemoryType
from .filters import from_microseconds, to_microseconds
from .qdrant_filters import payload_of

MEMORY_FIELDS = (
    *("memory_id", "content", "hierarchy_level", "memory_type", "importance_score", "tags"),
    *("source_path", "source_type", "created_us", "last_accessed_us", "access_count", "metadata"),
)
"""What ``to_memory`` reads."""

EDGE_FIELDS = ("memory_id", "edges")
"""What ``to_edges`` reads."""


def record_indexes() -> Mapping[str, Any]:
    """The schema of each field that is filtered or counted by, beside those of vectors."""
    from qdrant_client import models

    keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    integer = models.IntegerIndexParams(
        type=models.IntegerIndexType.INTEGER, lookup=True, range=True
    )
    return {
        "stems": keyword,
        "targets": keyword,
        "source_type": keyword,
        "version": keyword,
        "chunks": integer,
        "degree": integer,
    }


def text_version(content: str) -> str:
    """Changes with the text: vectors of another version are of another text."""
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def record_payload(
    project: str,
    memory: CognitiveMemory,
    chunks: int,
    edges: Sequence[MemoryConnection],
    stems: Sequence[str],
) -> dict[str, Any]:
    """All of a memory and of the edges that begin at it; ``chunks``: how many vectors it has."""
    return {
        **chunk_payload(project, memory, 0, chunks),
        **own_fields(memory, stems),
        **edge_fields(edges),
    }


def chunk_payload(project: str, memory: CognitiveMemory, chunk: int, chunks: int) -> dict[str, Any]:
    """What every point of a memory carries."""
    return payload_of(project, memory, chunk, chunks, text_version(memory.content))


def shared_fields(memory: CognitiveMemory) -> dict[str, Any]:
    """What filters look at, on every point; a source that is gone is written as null."""
    return {
        "hierarchy_level": memory.hierarchy_level,
        "memory_type": str(memory.memory_type),
        "tags": list(memory.tags),
        "source_path": memory.source_path,
        "created_us": to_microseconds(memory.created_date),
    }


def own_fields(memory: CognitiveMemory, stems: Sequence[str]) -> dict[str, Any]:
    """What only the first point carries; ``length`` is that of the text, in characters."""
    return {
        "content": memory.content,
        "importance_score": memory.importance_score,
        "source_type": memory.source_type,
        "last_accessed_us": to_microseconds(memory.last_accessed),
        "access_count": memory.access_count,
        "metadata": json.dumps(dict(memory.metadata), ensure_ascii=False),
        "length": len(memory.content),
        "stems": list(stems),
    }


def edge_fields(edges: Sequence[MemoryConnection]) -> dict[str, Any]:
    """Edges as [target, type, strength], and by what they are found from their other end."""
    ordered = sorted(edges, key=lambda edge: (edge.target_id, edge.connection_type))
    return {
        "edges": [[e.target_id, str(e.connection_type), e.strength] for e in ordered],
        "targets": sorted({edge.target_id for edge in ordered}),
        "degree": len(ordered),
    }


def to_memory(payload: Mapping[str, Any]) -> CognitiveMemory:
    """From ``MEMORY_FIELDS``."""
    return CognitiveMemory(
        id=payload["memory_id"],
        content=payload["content"],
        hierarchy_level=payload["hierarchy_level"],
        memory_type=MemoryType(payload["memory_type"]),
        importance_score=float(payload["importance_score"]),
        tags=tuple(payload["tags"]),
        source_path=payload.get("source_path"),
        source_type=payload["source_type"],
        created_date=from_microseconds(payload["created_us"]),
        last_accessed=from_microseconds(payload["last_accessed_us"]),
        access_count=payload["access_count"],
        metadata=json.loads(payload["metadata"]),
    )


def to_edges(payload: Mapping[str, Any]) -> tuple[MemoryConnection, ...]:
    """From ``EDGE_FIELDS``: the edges that begin at the memory."""
    return tuple(
        MemoryConnection(payload["memory_id"], target, ConnectionType(kind), float(strength))
        for target, kind, strength in payload["edges"]
    )
