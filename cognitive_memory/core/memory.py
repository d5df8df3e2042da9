"""What is stored and what comes back: plain, frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .errors import InvalidInputError

CONCEPT, CONTEXT, EPISODE = 0, 1, 2
"""Hierarchy levels, most abstract first."""

MAX_RESULTS = 1_000_000
"""The most that one search may be asked for."""


class MemoryType(StrEnum):
    """Kind of a memory: something that happened, or something that holds."""

    EPISODIC = "episodic"
    SEMANTIC = "semantic"


class ConnectionType(StrEnum):
    """Why two memories are connected.

    An edge drawn by hand is best ``EXPLICIT``, which nothing removes but its memories: loaders own
    those of ``LOADED_TYPES`` and consolidation those of ``FOUND_TYPES``, and either drops what it
    did not draw itself.
    """

    SEQUENTIAL = "sequential"
    HIERARCHICAL = "hierarchical"
    EXPLICIT = "explicit"
    ASSOCIATIVE = "associative"
    ENTITY = "entity"
    DUPLICATE = "duplicate"


LOADED_TYPES = (ConnectionType.SEQUENTIAL, ConnectionType.HIERARCHICAL)
"""Those that loaders draw, and draw anew when a source has changed."""

FOUND_TYPES = (ConnectionType.ASSOCIATIVE, ConnectionType.ENTITY)
"""Those that consolidation finds. Each time it replaces them all, also those it did not draw."""


def as_utc(moment: datetime) -> datetime:
    """Aware UTC; a naive time is taken as local."""
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CognitiveMemory:
    """One memory. ``source_path`` names what a loader read it from; times are aware UTC."""

    id: str
    content: str
    hierarchy_level: int = EPISODE
    memory_type: MemoryType = MemoryType.EPISODIC
    importance_score: float = 0.0
    tags: tuple[str, ...] = ()
    source_path: str | None = None
    source_type: str = "manual_entry"
    created_date: datetime
    last_accessed: datetime
    access_count: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only."""


@dataclass(frozen=True, slots=True)
class MemoryConnection:
    """A directed edge; ``strength`` lies in (0, 1]."""

    source_id: str
    target_id: str
    connection_type: ConnectionType = ConnectionType.EXPLICIT
    strength: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFilter:
    """Conditions that a memory must meet, all of them; ``None`` asks nothing.

    ``tags`` matches a memory that has any of them; the time range is
    ``created_from <= created_date < created_until``. Lists are taken as tuples; raises
    ``InvalidInputError`` for what is of another type.
    """

    memory_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    source_path: str | None = None
    hierarchy_levels: tuple[int, ...] | None = None
    memory_types: tuple[str, ...] | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None

    def __post_init__(self) -> None:
        for name, kind in _LISTS.items():
            values = getattr(self, name)
            if values is None:
                continue
            is_list = isinstance(values, list | tuple | set | frozenset)
            if not is_list or not all(isinstance(value, kind) for value in values):
                raise InvalidInputError(
                    f"got {name} {values!r}; expected a list of {kind.__name__}"
                )
            object.__setattr__(self, name, tuple(values))
        for name, kind in _VALUES.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InvalidInputError(f"got {name} {value!r}; expected a {kind.__name__}")


_LISTS: Mapping[str, type] = {
    "memory_ids": str,
    "tags": str,
    "hierarchy_levels": int,
    "memory_types": str,
}
_VALUES: Mapping[str, type] = {
    "source_path": str,
    "created_from": datetime,
    "created_until": datetime,
}


def check_distinct(memories: Sequence[CognitiveMemory]) -> None:
    """Raise ``InvalidInputError`` for a memory that is given twice."""
    counts = Counter(memory.id for memory in memories)
    if len(counts) < len(memories):
        twice = counts.most_common(1)[0][0]
        raise InvalidInputError(f"got memory {twice!r} twice; give each memory once")


@dataclass(frozen=True, slots=True)
class VectorHit:
    """A memory found by its best chunk; ``score`` is the cosine in [-1, 1]."""

    memory_id: str
    score: float
    chunk: int


@dataclass(frozen=True, slots=True)
class TextHit:
    """A memory found by its words; ``score`` in (0, 1] is low where only common ones are shared."""

    memory_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Activation:
    """What a memory received from its neighbors; ``share`` of it from the strongest one, ``by``."""

    amount: float
    by: str
    connection_type: str
    share: float


@dataclass(frozen=True, slots=True)
class Bridge:
    """A memory beyond the ranking; ``parts`` add up to ``score``, ``explanation`` is one line."""

    memory_id: str
    score: float
    parts: Mapping[str, float]
    explanation: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A ranked memory. ``parts`` add up to ``score``; ``chunk`` is the best-matching chunk."""

    memory: CognitiveMemory
    score: float
    parts: Mapping[str, float]
    chunk: int = 0
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Memories that belong together, the one made to stand for them, and its edges to them."""

    memory: CognitiveMemory
    members: tuple[CognitiveMemory, ...]
    connections: tuple[MemoryConnection, ...]


@dataclass(frozen=True, slots=True)
class ConsolidationPlan:
    """What a consolidation would write, and how many memories it looked at."""

    groups: tuple[MemoryGroup, ...] = ()
    connections: tuple[MemoryConnection, ...] = ()
    """All edges of ``FOUND_TYPES``."""
    total_episodic: int = 0
    skipped: int = 0
    """Of those, how many belong to a group since earlier."""
    duplicates: int = 0
    """Memories that say nearly the same as another one."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did, in memories; ``deleted`` are those that their source no longer holds.

    ``faults`` name what was skipped in the sources, as ``"chat.jsonl:3: text is blank; …"``.
    """

    sources: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    connections: int = 0
    faults: tuple[str, ...] = ()

    def __add__(self, other: LoadReport) -> LoadReport:
        return LoadReport(
            self.sources + other.sources,
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.deleted + other.deleted,
            self.connections + other.connections,
            self.faults + other.faults,
        )


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote; ``vectors`` counts chunks."""

    memories: int = 0
    connections: int = 0
    vectors: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, in memories unless another word is said.

    ``skipped`` are those that differ from what is stored and were left as they are. Of the ones
    written, ``embedded`` were embedded anew; ``source_fingerprint`` names the embedding whose
    vectors the source holds. ``losses``: what could not be carried over, reasons with counts.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    embedded: int = 0
    connections_added: int = 0
    connections_updated: int = 0
    connections_unchanged: int = 0
    connections_skipped: int = 0
    source_fingerprint: str | None = None
    losses: Mapping[str, int] = field(default_factory=dict)
