"""Compares a derived index with its record, both ways, so that what differs can be sent again."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.interfaces import MemoryStorage, ReplicaIndex, VectorStorage


@dataclass(slots=True)
class Difference:
    """Ids of memories by what is wrong with them in the index; those that wait are not counted."""

    missing: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    compared: int = 0
    """Memories of the record that have vectors."""

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return [*self.missing, *self.outdated, *self.surplus]


def compare(
    memories: MemoryStorage, record: VectorStorage, replica: ReplicaIndex, waiting: set[str]
) -> Difference:
    """What the index lacks, holds in an older state, and holds without the record.

    In the memory of a batch, but for ids. What is written meanwhile may be among the differences,
    which does no harm: it is sent once more.
    """
    found = Difference()
    for batch in memories.iterate_memories():
        ids = [memory.id for memory in batch]
        vectors = record.get_vectors(ids)
        versions = replica.get_versions(list(vectors))
        found.compared += len(vectors)
        for memory in batch:
            if memory.id in waiting or memory.id not in vectors:
                continue
            if memory.id not in versions:
                found.missing.append(memory.id)
            elif versions[memory.id] != replica.version_of(memory, vectors[memory.id]):
                found.outdated.append(memory.id)
    for ids in replica.iterate_ids():
        known = record.get_vectors(ids)
        found.surplus += [each for each in ids if each not in known and each not in waiting]
    return found
