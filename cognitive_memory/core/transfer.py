"""All memories out of a store and into another one, over the interfaces alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO, TypeVar

from . import export_format
from .consolidation import Consolidator, members_of
from .errors import InvalidInputError, StorageError
from .interfaces import ConnectionGraph, ImportSource, MemoryStorage, Progress, VectorStorage
from .loading import BATCH
from .memory import CognitiveMemory, ExportReport, ImportReport, MemoryConnection
from .similarity import Vector

REPLACE, SKIP, ERROR = "replace", "skip", "error"
POLICIES = (REPLACE, SKIP, ERROR)
"""What becomes of a stored memory or edge that the source has otherwise."""

READY_BATCH = 4 * BATCH
"""Memories written together where nothing has to be embedded."""

T = TypeVar("T")
Given = tuple[CognitiveMemory, Vector | None]


def export_memories(
    memories: MemoryStorage,
    vectors: VectorStorage | None,
    connections: ConnectionGraph,
    output: BinaryIO,
    progress: Progress | None = None,
) -> ExportReport:
    """Write everything to ``output`` as ``export_format`` says, in the memory of one batch."""
    with memories.snapshot():
        statistics = memories.get_statistics()
        total = statistics["memories"]
        dimension = None if vectors is None else _dimension(memories, vectors)
        fingerprint = statistics["fingerprint"]
        if dimension and not fingerprint:
            raise StorageError(
                "the store does not say which embedding its vectors are of; export without them"
            )
        output.write(export_format.encode_header(fingerprint, dimension))
        written = chunks = 0
        for batch in memories.iterate_memories():
            arrays = vectors.get_vectors(_ids(batch)) if vectors and dimension else {}
            for memory in batch:
                output.write(export_format.encode_memory(memory, arrays.get(memory.id)))
            written += len(batch)
            chunks += sum(map(len, arrays.values()))
            if progress:
                progress(written, total)
        edges = 0
        for edge in _all_connections(memories, connections):
            output.write(export_format.encode_connection(edge))
            edges += 1
        output.write(export_format.encode_end(written, edges))
    return ExportReport(written, edges, chunks)


def _dimension(memories: MemoryStorage, vectors: VectorStorage) -> int | None:
    for batch in memories.iterate_memories():
        for array in vectors.get_vectors(_ids(batch)).values():
            return int(array.shape[1])
    return None


def _all_connections(
    memories: MemoryStorage, connections: ConnectionGraph
) -> Iterator[MemoryConnection]:
    """Each edge once, by its ends and type: that of a batch which begins in it."""
    for batch in memories.iterate_memories():
        beginnings = set(_ids(batch))
        edges = connections.get_connections(_ids(batch))
        yield from sorted((e for e in edges if e.source_id in beginnings), key=_key)


@dataclass(slots=True)
class _Change:
    """What must be done about some memories of a source, given what is stored."""

    saved: list[CognitiveMemory]
    embedded: list[CognitiveMemory]
    """Those of ``saved`` whose text is new, so that they need vectors."""
    altered: list[str]
    """Stored ones whose text changes."""
    counts: Counter[str]


class Import:
    """Takes all of one source into stores; ``embed`` gives each memory's (chunks, dim) vectors.

    Texts are embedded without a lock; what is stored is compared again under the lock that a
    batch is written under. ``fingerprint`` is that of ``embed``: vectors of another are not taken.
    """

    def __init__(
        self,
        source: ImportSource,
        memories: MemoryStorage,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        consolidator: Consolidator,
        embed: Callable[[Sequence[CognitiveMemory]], list[Vector]],
        bind: Callable[[], None],
        *,
        fingerprint: str,
        on_conflict: str,
    ) -> None:
        if on_conflict not in POLICIES:
            raise InvalidInputError(
                f"got on_conflict {on_conflict!r}; it must be one of {', '.join(POLICIES)}"
            )
        self._source = source
        self._memories = memories
        self._vectors = vectors
        self._connections = connections
        self._consolidator = consolidator
        self._embed = embed
        self._bind = bind
        self._takes_vectors = source.fingerprint == fingerprint
        self._on_conflict = on_conflict
        self._consolidated: set[str] = set()
        """Ids of the consolidated memories that the source has given so far."""

    def run(self, total: int, progress: Progress | None) -> ImportReport:
        """Take a source of ``total`` memories that has been checked."""
        if self._on_conflict == ERROR:
            self._refuse_conflicts()
        counts: Counter[str] = Counter()
        done = 0
        for batch in _batches(self._source.memories(), self._batch_size()):
            counts += self._take(batch)
            done += len(batch)
            if progress:
                progress(done, total)
        for edges in _batches(self._source.connections(), READY_BATCH):
            counts += self._connect(edges)
        return ImportReport(
            **counts,
            source_fingerprint=self._source.fingerprint,
            losses=dict(self._source.losses()),
        )

    def _batch_size(self) -> int:
        return READY_BATCH if self._takes_vectors else BATCH

    def _refuse_conflicts(self) -> None:
        for batch in _batches(self._source.memories(), READY_BATCH):
            self._compare([memory for memory, _ in batch])

    def _take(self, batch: Sequence[Given]) -> Counter[str]:
        given = [memory for memory, _ in batch]
        self._consolidated |= {memory.id for memory in given if members_of(memory)}
        ready = {memory.id: array for memory, array in batch if array is not None}
        if not self._takes_vectors:
            ready = {}
        made: dict[str, Vector] = {}
        self._add_vectors(self._compare(given), ready, made)
        with self._memories.transaction():
            change = self._compare(given)  # again: others may have written meanwhile
            self._add_vectors(change, ready, made)
            if change.saved:
                self._write(change, {**made, **ready})
        change.counts["embedded"] = sum(memory.id in made for memory in change.embedded)
        return change.counts

    def _compare(self, given: Sequence[CognitiveMemory]) -> _Change:
        stored = {memory.id: memory for memory in self._memories.get_memories(_ids(given))}
        change = _Change([], [], [], Counter())
        for memory in given:
            old = stored.get(memory.id)
            new = memory if old is None or self._source.is_exact else _with_use(memory, old)
            change.counts[self._outcome(new, old)] += 1
            if new == old or (old and self._on_conflict == SKIP):
                continue
            change.saved.append(new)
            if old is None or new.content != old.content:
                change.embedded.append(new)
                change.altered += [] if old is None else [new.id]
        return change

    def _outcome(self, new: CognitiveMemory, old: CognitiveMemory | None) -> str:
        if old is None:
            return "added"
        if new == old:
            return "unchanged"
        if self._on_conflict == ERROR:
            raise InvalidInputError(
                f"memory {new.id!r} is stored already and differs; nothing of it was taken; "
                "choose to replace or to skip such memories (--on-conflict)"
            )
        return "skipped" if self._on_conflict == SKIP else "updated"

    def _add_vectors(
        self, change: _Change, ready: dict[str, Vector], made: dict[str, Vector]
    ) -> None:
        there = ready.keys() | made.keys()
        missing = [memory for memory in change.embedded if memory.id not in there]
        if missing:
            made |= zip(_ids(missing), self._embed(missing), strict=True)

    def _write(self, change: _Change, vectors: dict[str, Vector]) -> None:
        if change.embedded:
            self._bind()
        # What stands for memories that change is stale, unless the source brings it as well.
        derived = set(self._consolidator.derived_from(change.altered)) - self._consolidated
        self._consolidator.delete(sorted(derived))
        self._memories.save_memories(change.saved)
        self._vectors.store_vectors(
            change.embedded, [vectors[memory.id] for memory in change.embedded]
        )

    def _connect(self, edges: Sequence[MemoryConnection]) -> Counter[str]:
        counts: Counter[str] = Counter()
        written = []
        with self._memories.transaction():
            beginnings = sorted({edge.source_id for edge in edges})
            held = {_key(e): e.strength for e in self._connections.get_connections(beginnings)}
            for edge in edges:
                strength = held.get(_key(edge))
                if strength == edge.strength:
                    counts["connections_unchanged"] += 1
                elif strength is not None and self._on_conflict == SKIP:
                    counts["connections_skipped"] += 1
                else:
                    known = "updated" if strength is not None else "added"
                    counts[f"connections_{known}"] += 1
                    written.append(edge)
            self._connections.add_connections(written)
        return counts


def _with_use(new: CognitiveMemory, old: CognitiveMemory) -> CognitiveMemory:
    """The memory as given, with what use has added to the stored one."""
    return replace(
        new,
        access_count=max(new.access_count, old.access_count),
        last_accessed=max(new.last_accessed, old.last_accessed),
    )


def _ids(memories: Sequence[CognitiveMemory]) -> list[str]:
    return [memory.id for memory in memories]


def _key(edge: MemoryConnection) -> tuple[str, str, str]:
    return edge.source_id, edge.target_id, edge.connection_type


def _batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(values)
    while batch := list(islice(remaining, size)):
        yield batch
