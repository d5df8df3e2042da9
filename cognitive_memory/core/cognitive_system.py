"""Store, recall, load, delete: brings the parts together and computes nothing itself."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from .errors import InvalidInputError, SourceError
from .experience import MAX_WORD_BYTES, check_text, to_memory
from .interfaces import (
    CognitiveSystem,
    ConnectionGraph,
    EmbeddingProvider,
    MemoryLoader,
    MemoryStorage,
    Progress,
    RetrievalEngine,
    VectorStorage,
)
from .memory import (
    MAX_RESULTS,
    CognitiveMemory,
    ConnectionType,
    LoadReport,
    MemoryConnection,
    MemoryFilter,
    SearchResult,
)
from .similarity import Vector

BATCH = 512
"""Memories embedded and written together: what a crash in a long store or load can cost."""

GROUPS = ("core", "peripheral", "bridge")


@dataclass(slots=True)
class _Change:
    """What must happen to bring one source up to date."""

    report: LoadReport
    deleted: list[str]
    saved: list[CognitiveMemory]
    embedded: list[CognitiveMemory]
    """Those of ``saved`` whose text is new."""
    origins: list[str]
    """Memories whose outgoing edges are replaced by ``connections``."""
    connections: list[MemoryConnection]
    is_rewired: bool
    """Whether the edges are not those that are stored."""
    vectors: list[Vector] = field(default_factory=list)


class CognitiveMemorySystem(CognitiveSystem):
    """``CognitiveSystem`` over any provider, stores, retrieval engine and loaders.

    ``clock`` gives aware times and ``new_id`` unique ids. One object serves many threads.
    """

    def __init__(
        self,
        embedding_provider: EmbeddingProvider,
        memories: MemoryStorage,
        vectors: VectorStorage,
        connections: ConnectionGraph,
        retrieval: RetrievalEngine,
        loaders: Sequence[MemoryLoader] = (),
        *,
        max_text_bytes: int = 1_048_576,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.embedding_provider = embedding_provider
        self.memories = memories
        self.vectors = vectors
        self.connections = connections
        self.retrieval = retrieval
        self.loaders = tuple(loaders)
        self._max_text_bytes = max_text_bytes
        self._clock = clock
        self._new_id = new_id

    def store_experience(self, text: str, context: Mapping[str, Any] | None = None) -> str:
        """Store one text durably and return its id."""
        return self.store_experiences([text], [context])[0]

    def store_experiences(
        self,
        texts: Sequence[str],
        contexts: Sequence[Mapping[str, Any] | None] | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Store many texts in batches, each batch durable once it is done; ids in order."""
        if isinstance(texts, str):
            raise InvalidInputError("store_experiences takes a list of texts; got one str")
        if contexts is not None and len(contexts) != len(texts):
            raise InvalidInputError(f"got {len(contexts)} contexts for {len(texts)} texts")
        now = self._clock()
        memories = [
            to_memory(
                text, context, memory_id=self._new_id(), now=now, max_bytes=self._max_text_bytes
            )
            for text, context in zip(texts, contexts or [None] * len(texts), strict=True)
        ]
        for start in range(0, len(memories), BATCH):
            batch = memories[start : start + BATCH]
            vectors = self._embed(batch)
            with self.memories.transaction():
                self._bind()  # again: another process may have bound its own model meanwhile
                self.memories.save_memories(batch)
                self.vectors.store_vectors(batch, vectors)
            if progress:
                progress(start + len(batch), len(memories))
        return [memory.id for memory in memories]

    def retrieve_memory(self, memory_id: str) -> CognitiveMemory | None:
        """One memory, or ``None``."""
        found = self.memories.get_memories([memory_id])
        return found[0] if found else None

    def retrieve_memories(
        self,
        query: str,
        types: Sequence[str] | None = None,
        max_results: int = 20,
        filters: MemoryFilter | None = None,
    ) -> dict[str, list[SearchResult]]:
        """Recall in groups, and count the access to what ``core`` and ``peripheral`` show."""
        wanted = tuple(types or GROUPS)
        if unknown := sorted(set(wanted) - set(GROUPS)):
            raise InvalidInputError(f"unknown types {unknown}; known: {', '.join(GROUPS)}")
        self._check_query(query, max_results)
        groups = self.retrieval.recall(query, max_results, filters)
        found = {name: results if name in wanted else [] for name, results in groups.items()}
        shown = [result.memory.id for name in GROUPS[:2] for result in found[name]]
        self.memories.record_access(shown, self._clock())
        return found

    def search(
        self, query: str, k: int = 10, filters: MemoryFilter | None = None
    ) -> list[SearchResult]:
        """The same ranking, flat; nothing is written."""
        self._check_query(query, k)
        return self.retrieval.search(query, k, filters)

    def get_memories_by_tags(self, tags: Sequence[str]) -> list[CognitiveMemory]:
        """Memories that have any of the tags, newest first."""
        return self.memories.find_memories(MemoryFilter(tags=_words(tags)))

    def delete_memory_by_id(self, memory_id: str) -> dict[str, Any]:
        """Keys ``memory_id``, ``deleted_count``, ``processing_time`` (seconds)."""
        check_text(memory_id, self._max_text_bytes, "memory_id")
        return {"memory_id": memory_id, **self._delete(lambda: [memory_id])}

    def delete_memories_by_tags(self, tags: Sequence[str]) -> dict[str, Any]:
        """Keys ``tags``, ``deleted_count``, ``processing_time`` (seconds)."""
        wanted = MemoryFilter(tags=_words(tags))
        return {"tags": list(tags), **self._delete(lambda: self._ids(wanted))}

    def delete_memories_by_source_path(self, source_path: str) -> dict[str, Any]:
        """Keys ``source_path``, ``deleted_count``, ``processing_time`` (seconds)."""
        check_text(source_path, self._max_text_bytes, "source_path")
        wanted = MemoryFilter(source_path=source_path)
        return {"source_path": source_path, **self._delete(lambda: self._ids(wanted))}

    def load(
        self,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        kinds: Sequence[str] | None = None,
    ) -> LoadReport:
        """Load everything at or below ``path``; sources change one by one, as a whole."""
        sources = [
            (loader, source)
            for loader in self.loaders
            if kinds is None or loader.kind in kinds
            for source in loader.find_sources(os.fspath(path))
        ]
        if not sources:
            endings = sorted(
                e for loader in self.loaders for e in loader.get_supported_extensions()
            )
            raise SourceError(
                f"nothing to load at {path}; known are {' '.join(endings)} and git repositories"
            )
        return self._apply([self._plan(loader, source) for loader, source in sources], progress)

    def load_memories_from_source(
        self, loader: MemoryLoader, source: str, **options: Any
    ) -> LoadReport:
        """The same for one source of a loader that the caller brings."""
        plans = [self._plan(loader, found, **options) for found in loader.find_sources(source)]
        if not plans:
            raise SourceError(f"{source} is not a {loader.kind} source")
        return self._apply(plans, None)

    def get_memory_stats(self) -> dict[str, Any]:
        """JSON values; nothing is embedded or fetched for them."""
        storage = self.memories.get_statistics()
        levels = storage["memories_by_level"]
        return {
            "memory_counts": {
                "total": storage["memories"],
                "level_0_concepts": levels.get("0", 0),
                "level_1_contexts": levels.get("1", 0),
                "level_2_episodes": levels.get("2", 0),
            },
            "storage_stats": storage,
        }

    def close(self) -> None:
        """Close the provider and the stores."""
        with ExitStack() as parts:  # each is closed, whatever another one raises
            for part in (self.memories, self.vectors, self.embedding_provider):
                parts.callback(part.close)

    def _check_query(self, query: str, k: int) -> None:
        check_text(query, self._max_text_bytes, "query")
        if not 1 <= k <= MAX_RESULTS:
            raise InvalidInputError(f"got {k} results to return; ask for 1 to {MAX_RESULTS:,}")

    def _bind(self) -> None:
        provider = self.embedding_provider
        self.vectors.bind_embedding(provider.fingerprint, provider.dimension)

    def _embed(self, memories: Sequence[CognitiveMemory]) -> list[Vector]:
        """For each memory its (chunks, dim) vectors."""
        provider = self.embedding_provider
        self._bind()
        contents = [memory.content for memory in memories]
        spans = provider.chunk_batch(contents)
        rows = iter(
            provider.encode_batch(
                [
                    content[start:end]
                    for content, cuts in zip(contents, spans, strict=True)
                    for start, end in cuts
                ]
            )
        )
        return [_stack(islice(rows, len(cuts))) for cuts in spans]

    def _plan(self, loader: MemoryLoader, source: str, **options: Any) -> _Change:
        """Compare a source with what is stored of it; unchanged memories are left alone."""
        loaded = loader.load_from_source(source, **options)
        for memory in loaded:
            title = memory.metadata.get("title", memory.id)
            check_text(memory.content, self._max_text_bytes, f"{source}: {title!r}")
        stored = {
            memory.id: memory
            for memory in self.memories.find_memories(MemoryFilter(source_path=source))
        }
        current = [_carried_over(memory, stored.get(memory.id)) for memory in loaded]
        saved = [memory for memory in current if memory != stored.get(memory.id)]
        added = sum(memory.id not in stored for memory in saved)
        known = {memory.id for memory in loaded}
        gone = set() if loader.append_only else stored.keys() - known
        connections = loader.extract_connections(loaded)
        report = LoadReport(
            sources=1,
            added=added,
            updated=len(saved) - added,
            unchanged=len(loaded) - len(saved),
            deleted=len(gone),
            connections=len(connections),
        )
        embedded = [
            memory
            for memory in saved
            if memory.id not in stored or memory.content != stored[memory.id].content
        ]
        origins = [] if loader.append_only else sorted(known)
        held = self.connections.get_connections(sorted(known))
        return _Change(
            report,
            sorted(gone),
            saved,
            embedded,
            origins,
            connections,
            is_rewired=_is_rewired(held, origins, connections),
        )

    def _apply(self, changes: Sequence[_Change], progress: Progress | None) -> LoadReport:
        """Embed across sources in full batches; write each source when all of it is embedded."""
        waiting = [(change, memory) for change in changes for memory in change.embedded]
        unwritten = list(changes)
        for start in range(0, max(len(waiting), 1), BATCH):
            batch = waiting[start : start + BATCH]
            vectors = self._embed([memory for _, memory in batch]) if batch else []
            for (change, _), array in zip(batch, vectors, strict=True):
                change.vectors.append(array)
            while unwritten and len(unwritten[0].vectors) == len(unwritten[0].embedded):
                self._write(unwritten.pop(0))
            if progress and waiting:
                progress(start + len(batch), len(waiting))
        return sum((change.report for change in changes), LoadReport())

    def _write(self, change: _Change) -> None:
        if not (change.deleted or change.saved or change.is_rewired):
            return
        with self.memories.transaction():
            if change.embedded:
                self._bind()
            self.memories.delete_memories(change.deleted)
            self.memories.save_memories(change.saved)
            self.vectors.store_vectors(change.embedded, change.vectors)
            self.connections.replace_connections(change.origins, change.connections)

    def _ids(self, filters: MemoryFilter) -> list[str]:
        return [memory.id for memory in self.memories.find_memories(filters)]

    def _delete(self, find: Callable[[], list[str]]) -> dict[str, Any]:
        begin = time.perf_counter()
        with self.memories.transaction():
            ids = find()
            self.vectors.delete_vectors(ids)
            deleted = self.memories.delete_memories(ids)
        return {"deleted_count": deleted, "processing_time": time.perf_counter() - begin}


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
        if edge.source_id in beginnings and edge.connection_type != ConnectionType.EXPLICIT
    }
    return not (replaced <= set(connections) <= set(held))


def _stack(rows: Iterable[Vector]) -> Vector:
    import numpy as np

    return np.stack(list(rows))


def _words(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not tags:
        raise InvalidInputError(f"got tags {tags!r}; expected a list of at least one word")
    return tuple(check_text(tag, MAX_WORD_BYTES, "tag") for tag in tags)
