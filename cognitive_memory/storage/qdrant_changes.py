"""What a transaction has changed and not sent yet: Qdrant has none, so writes wait here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..core.memory import CognitiveMemory, MemoryConnection, MemoryFilter, as_utc
from ..core.similarity import Vector


@dataclass(frozen=True, slots=True)
class Held:
    """What the server holds of a memory: the version of its text, and how many vectors."""

    version: str
    chunks: int


@dataclass(slots=True)
class Changes:
    """By memory id; reads of the thread that made them see them before they are sent."""

    memories: dict[str, CognitiveMemory | None] = field(default_factory=dict)
    """As saved, ``None`` where deleted."""
    vectors: dict[str, Vector | None] = field(default_factory=dict)
    """Of memories whose points are written anew: (chunks, dim) float32, or none at all."""
    edges: dict[str, tuple[MemoryConnection, ...]] = field(default_factory=dict)
    """Those that begin at a memory, changed or only looked up."""
    rewired: set[str] = field(default_factory=set)
    """Of ``edges``, those that are changed."""
    held: dict[str, Held] = field(default_factory=dict)
    """Of memories that were looked up and that the server holds."""

    def matching(self, filters: MemoryFilter | None) -> list[CognitiveMemory]:
        """The saved memories that meet all conditions."""
        return [each for each in self.memories.values() if each and matches(each, filters)]

    def deleted(self) -> set[str]:
        """The memories that are gone."""
        return {memory_id for memory_id, memory in self.memories.items() if memory is None}

    def delete(self, memory_id: str) -> None:
        """What was changed of it before counts no more."""
        self.memories[memory_id] = None
        self.vectors.pop(memory_id, None)
        self.edges[memory_id] = ()
        self.rewired.discard(memory_id)

    def rewire(self, memory_id: str, edges: tuple[MemoryConnection, ...]) -> None:
        """Let these be the edges that begin at a memory."""
        if set(edges) != set(self.edges[memory_id]):
            self.edges[memory_id] = edges
            self.rewired.add(memory_id)


class Transactions:
    """Collects the changes of a thread and sends them when its outermost transaction ends.

    One thread of the process is in a transaction at a time; others that want to write wait.
    """

    def __init__(self, send: Callable[[Changes], None]) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._thread = threading.local()

    @contextmanager
    def open(self) -> Iterator[Changes]:
        """What is raised within discards the changes; an inner transaction joins the outer one."""
        outer: Changes | None = getattr(self._thread, "changes", None)
        if outer is not None:
            yield outer
            return
        with self._lock:
            changes = self._thread.changes = Changes()
            try:
                yield changes
                self._send(changes)
            finally:
                self._thread.changes = None

    @property
    def is_open(self) -> bool:
        """Whether this thread is in a transaction."""
        return getattr(self._thread, "changes", None) is not None

    def changes(self) -> Changes:
        """Those of this thread so far; without a transaction there are none."""
        return getattr(self._thread, "changes", None) or Changes()


def matches(memory: CognitiveMemory, filters: MemoryFilter | None) -> bool:
    """Whether a memory meets all conditions, as the server would say."""
    if filters is None:
        return True
    created = as_utc(memory.created_date)
    return (
        (filters.memory_ids is None or memory.id in filters.memory_ids)
        and (filters.tags is None or not set(filters.tags).isdisjoint(memory.tags))
        and (filters.source_path is None or memory.source_path == filters.source_path)
        and (filters.hierarchy_levels is None or memory.hierarchy_level in filters.hierarchy_levels)
        and (filters.memory_types is None or memory.memory_type in filters.memory_types)
        and (filters.created_from is None or created >= as_utc(filters.created_from))
        and (filters.created_until is None or created < as_utc(filters.created_until))
    )
