"""Consolidated memories: how they are known, written and taken back. They are derived, always.

One stands for a group of members and quotes them. So it goes when a member changes or is deleted,
and the next consolidation makes it anew from what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any

from .errors import ConfigurationError, InvalidInputError
from .interfaces import ConnectionGraph, ConsolidationPlanner, MemoryStorage, VectorStorage
from .memory import (
    CONTEXT,
    FOUND_TYPES,
    CognitiveMemory,
    ConnectionType,
    ConsolidationPlan,
    MemoryFilter,
    MemoryGroup,
    MemoryType,
)
from .similarity import Vector

SOURCE_TYPE = "consolidation"

Embed = Callable[[Sequence[CognitiveMemory]], list[Vector]]
"""From memories to the (chunks, dim) vectors of each."""


def consolidated_id(members: Collection[str]) -> str:
    """The id of the memory that stands for these: the same for the same members."""
    return "consolidated-" + sha256("\0".join(sorted(members)).encode()).hexdigest()[:32]


def members_of(memory: CognitiveMemory) -> tuple[str, ...]:
    """The ids of those for which a consolidated memory stands; none for any other memory."""
    members = memory.metadata.get("members")
    if memory.source_type != SOURCE_TYPE or not isinstance(members, list):
        return ()
    named = [member for member in members if isinstance(member, str)]
    return tuple(named) if memory.id == consolidated_id(named) else ()


class Consolidator:
    """Writes what a ``ConsolidationPlanner`` plans, and takes it back."""

    def __init__(
        self,
        memories: MemoryStorage,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        planner: ConsolidationPlanner | None,
    ) -> None:
        self._memories = memories
        self._vectors = vectors
        self._connections = connections
        self._planner = planner

    def plan(self) -> ConsolidationPlan:
        """What there is to write; nothing is written. Raises ``ConfigurationError``."""
        if self._planner is None:
            raise ConfigurationError(
                "this system was made without a ConsolidationPlanner; give it one as "
                "consolidation=, or use create_system"
            )
        everything = self._memories.find_memories()
        return self._planner.plan(
            everything, self._vectors.get_vectors([memory.id for memory in everything])
        )

    def write(self, plan: ConsolidationPlan, vectors: Sequence[Vector]) -> int:
        """Write a plan, given the vectors of its groups, within a transaction of the caller.

        Edges of ``FOUND_TYPES`` are replaced by those of the plan. Returns the number of members
        of groups left out, because others changed or grouped them since they were looked at.
        """
        everything = self._memories.find_memories()
        contents = {memory.id: memory.content for memory in everything}
        grouped = {member for memory in everything for member in members_of(memory)}
        groups = [
            (group, array)
            for group, array in zip(plan.groups, vectors, strict=True)
            if all(contents.get(member.id) == member.content for member in group.members)
            and grouped.isdisjoint(member.id for member in group.members)
        ]
        memories = [group.memory for group, _ in groups]
        if memories:  # a store that never held any is not bound to an embedding
            self._memories.save_memories(memories)
            self._vectors.store_vectors(memories, [array for _, array in groups])
        edges = [e for e in plan.connections if {e.source_id, e.target_id} <= contents.keys()]
        self._connections.replace_connections(list(contents), edges, FOUND_TYPES)
        self._connections.add_connections([e for group, _ in groups for e in group.connections])
        return sum(len(group.members) for group in plan.groups) - sum(
            len(group.members) for group, _ in groups
        )

    def derived_from(self, memory_ids: Collection[str]) -> list[str]:
        """Ids of the consolidated memories that stand for any of these, sorted."""
        wanted = set(memory_ids)
        parents = {
            edge.source_id
            for edge in self._connections.get_connections(list(wanted))
            if edge.connection_type == ConnectionType.HIERARCHICAL and edge.target_id in wanted
        }
        return [
            memory.id
            for memory in self._memories.get_memories(sorted(parents))
            if members_of(memory)
        ]

    def undo(self, memory_id: str | None) -> int:
        """Delete one consolidated memory or all, within a transaction; their number.

        Raises ``InvalidInputError`` when there is none with this id.
        """
        asked = None if memory_id is None else (memory_id,)
        filters = MemoryFilter(
            memory_ids=asked, hierarchy_levels=(CONTEXT,), memory_types=(MemoryType.SEMANTIC,)
        )
        found = [
            memory.id for memory in self._memories.find_memories(filters) if members_of(memory)
        ]
        if memory_id is not None and not found:
            raise InvalidInputError(
                f"no consolidated memory has the id {memory_id!r}; "
                "'cognitive-memory delete' deletes others"
            )
        self.delete(found)
        return len(found)

    def delete(self, memory_ids: Sequence[str]) -> int:
        """Delete memories with their vectors, within a transaction; how many were there."""
        self._vectors.delete_vectors(memory_ids)
        return self._memories.delete_memories(memory_ids)


def report(plan: ConsolidationPlan, failed: int, *, dry_run: bool) -> dict[str, Any]:
    """JSON values; ``groups`` are listed for a dry run."""
    members = sum(len(group.members) for group in plan.groups)
    counts: dict[str, Any] = {
        "total_episodic": plan.total_episodic,
        "consolidated": members - failed,
        "failed": failed,
        "skipped": plan.skipped,
        "connections": len(plan.connections),
        "duplicates": plan.duplicates,
        "dry_run": dry_run,
    }
    return {**counts, "groups": list(_described(plan.groups))} if dry_run else counts


def _described(groups: Sequence[MemoryGroup]) -> Iterator[dict[str, Any]]:
    for group in groups:
        memory = group.memory
        yield {
            "id": memory.id,
            "content": memory.content,
            "tags": list(memory.tags),
            **memory.metadata,
        }
