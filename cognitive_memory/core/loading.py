"""Bringing sources up to date: what has changed is embedded, and each source is written whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .consolidation import Consolidator
from .errors import SourceError
from .experience import check_text
from .interfaces import ConnectionGraph, MemoryLoader, MemoryStorage, Progress, VectorStorage
from .memory import LOADED_TYPES, CognitiveMemory, LoadReport, MemoryConnection, MemoryFilter
from .similarity import Vector

BATCH = 512
"""Memories embedded and written together: what a crash in a long store or load can cost."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a loader gave of one source."""

    path: str
    memories: Sequence[CognitiveMemory]
    connections: Sequence[MemoryConnection]
    faults: tuple[str, ...]
    append_only: bool


@dataclass(slots=True)
class _Change:
    """What must happen to bring one source up to date with what is stored of it."""

    source: Source
    report: LoadReport
    deleted: list[str]
    saved: list[CognitiveMemory]
    embedded: list[CognitiveMemory]
    """Those of ``saved`` whose text is new."""
    origins: list[str]
    """Memories whose outgoing edges are replaced by those of the source."""
    is_rewired: bool
    """Whether the edges are not those that are stored."""
    vectors: dict[str, Vector] = field(default_factory=dict)
    """(chunks, dim) of those of ``embedded`` that have been embedded, by id."""


class Loading:
    """One load of sources into stores; ``embed`` gives each memory's (chunks, dim) vectors.

    Embedding comes first, without a lock. What is stored may have changed when it is done: the
    comparison is made again under the lock that the source is written under.
    """

    def __init__(
        self,
        memories: MemoryStorage,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        consolidator: Consolidator,
        embed: Callable[[Sequence[CognitiveMemory]], list[Vector]],
        bind: Callable[[], None],
        max_text_bytes: int,
    ) -> None:
        self._memories = memories
        self._vectors = vectors
        self._connections = connections
        self._consolidator = consolidator
        self._embed = embed
        self._bind = bind
        self._max_text_bytes = max_text_bytes
        self._sources_by_id: dict[str, str] = {}
        """Of all memories read so far."""

    def read(
        self, loader: MemoryLoader, path: str, options: Mapping[str, Any] | None = None
    ) -> Source:
        """The memories of a source, and the faults that a caller's own ``on_fault`` is not told.

        Raises ``SourceError`` for an id that another memory of this load has, and
        ``InvalidInputError`` for a text that cannot be kept.
        """
        faults: list[str] = []
        loaded = loader.load_from_source(path, **{"on_fault": faults.append, **(options or {})})
        for memory in loaded:
            line = f":{memory.metadata['line']}" if "line" in memory.metadata else ""
            title = memory.metadata.get("title", memory.id)
            check_text(memory.content, self._max_text_bytes, f"{path}{line}: {title!r}")
        self._claim_ids(path, loaded)
        connections = loader.extract_connections(loaded)
        return Source(path, loaded, connections, tuple(faults), loader.append_only)

    def _claim_ids(self, path: str, memories: Sequence[CognitiveMemory]) -> None:
        """One of two memories with the same id would be lost, and its source never be whole."""
        own: dict[str, str] = {}
        for memory in memories:
            other = own.get(memory.id) or self._sources_by_id.get(memory.id)
            if other is not None:
                where = "twice" if other == path else f"to a memory, and so does {other}"
                raise SourceError(
                    f"{path} gives the id {memory.id!r} {where}; "
                    "its loader must derive ids from source and position"
                )
            own[memory.id] = path
        self._sources_by_id |= own

    def load(self, sources: Sequence[Source], progress: Progress | None) -> LoadReport:
        """Embed across sources in full batches; write each source when all of it is embedded."""
        changes = [self._compare(source) for source in sources]
        waiting = [(change, memory) for change in changes for memory in change.embedded]
        unwritten = list(changes)
        report = LoadReport()
        for start in range(0, max(len(waiting), 1), BATCH):
            batch = waiting[start : start + BATCH]
            arrays = self._embed([memory for _, memory in batch]) if batch else []
            for (change, memory), array in zip(batch, arrays, strict=True):
                change.vectors[memory.id] = array
            while unwritten and len(unwritten[0].vectors) == len(unwritten[0].embedded):
                report += self._write(unwritten.pop(0))
            if progress and waiting:
                progress(start + len(batch), len(waiting))
        return report

    def _compare(self, source: Source) -> _Change:
        """Unchanged memories are left alone."""
        stored = {
            memory.id: memory
            for memory in self._memories.find_memories(MemoryFilter(source_path=source.path))
        }
        current = [_carried_over(memory, stored.get(memory.id)) for memory in source.memories]
        saved = [memory for memory in current if memory != stored.get(memory.id)]
        added = sum(memory.id not in stored for memory in saved)
        known = {memory.id for memory in source.memories}
        gone = set() if source.append_only else stored.keys() - known
        report = LoadReport(
            sources=1,
            added=added,
            updated=len(saved) - added,
            unchanged=len(source.memories) - len(saved),
            deleted=len(gone),
            connections=len(source.connections),
            faults=source.faults,
        )
        embedded = [
            memory
            for memory in saved
            if memory.id not in stored or memory.content != stored[memory.id].content
        ]
        origins = [] if source.append_only else sorted(known)
        held = self._connections.get_connections(sorted(known))
        is_rewired = _is_rewired(held, origins, source.connections)
        return _Change(source, report, sorted(gone), saved, embedded, origins, is_rewired)

    def _write(self, planned: _Change) -> LoadReport:
        if not (planned.deleted or planned.saved or planned.is_rewired):
            return planned.report
        with self._memories.transaction():
            # What another process has stored or deleted of this source meanwhile is seen here.
            change = self._compare(planned.source)
            vectors = planned.vectors
            if missing := [each for each in change.embedded if each.id not in vectors]:
                arrays = self._embed(missing)
                vectors |= {each.id: array for each, array in zip(missing, arrays, strict=True)}
            if change.embedded:
                self._bind()
            altered = {*change.deleted, *(memory.id for memory in change.embedded)}
            self._consolidator.delete(self._consolidator.derived_from(altered))
            self._memories.delete_memories(change.deleted)
            self._memories.save_memories(change.saved)
            self._vectors.store_vectors(
                change.embedded, [vectors[memory.id] for memory in change.embedded]
            )
            self._connections.replace_connections(change.origins, change.source.connections)
        return change.report


def _carried_over(new: CognitiveMemory, old: CognitiveMemory | None) -> CognitiveMemory:
    """The memory as loaded now, with what use has added to it since."""
    if old is None:
        return new
    created = old.created_date if new.content == old.content else new.created_date
    return replace(
        new,
        access_count=old.access_count,
        created_date=created,
        last_accessed=old.last_accessed,
    )


def _is_rewired(
    held: Sequence[MemoryConnection],
    origins: Sequence[str],
    connections: Sequence[MemoryConnection],
) -> bool:
    """Whether replacing the edges of ``origins`` by ``connections`` would change what is held."""
    beginnings = set(origins)
    replaced = {
        edge
        for edge in held
        if edge.source_id in beginnings and edge.connection_type in LOADED_TYPES
    }
    return not (replaced <= set(connections) <= set(held))
