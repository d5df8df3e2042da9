"""Store, recall, load, delete: brings the parts together and computes nothing itself."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from reprlib import repr as shown
from typing import Any, BinaryIO

from .consolidation import Consolidator, report
from .duplicates import KEEP, DuplicatePolicy
from .embedding import embed_texts
from .errors import InvalidInputError, SourceError
from .experience import MAX_WORD_BYTES, check_text, to_memory
from .interfaces import (
    CognitiveSystem,
    ConnectionGraph,
    ConsolidationPlanner,
    EmbeddingProvider,
    ImportSource,
    MemoryLoader,
    MemoryStorage,
    Progress,
    RetrievalEngine,
    VectorStorage,
)
from .loading import BATCH, Loading, Source
from .memory import (
    MAX_RESULTS,
    CognitiveMemory,
    ExportReport,
    ImportReport,
    LoadReport,
    MemoryFilter,
    SearchResult,
)
from .similarity import Vector

GROUPS = ("core", "peripheral", "bridge")


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
        consolidation: ConsolidationPlanner | None = None,
        duplicates: str = KEEP,
        duplicate_similarity: float = 0.98,
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
        self._consolidator = Consolidator(memories, vectors, connections, consolidation)
        self._duplicates = DuplicatePolicy(
            memories, vectors, connections, duplicates, duplicate_similarity
        )
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
        ids: list[str] = []
        for start in range(0, len(memories), BATCH):
            batch = memories[start : start + BATCH]
            vectors = self._embed(batch)
            step = self._duplicates.at_once or BATCH
            for first in range(0, len(batch), step):
                part = slice(first, first + step)
                with self.memories.transaction():
                    self._bind()  # again: another process may have bound its own model meanwhile
                    ids += self._duplicates.store(batch[part], vectors[part], now)
            if progress:
                progress(start + len(batch), len(memories))
        return ids

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
        self._check_query(query, max_results, filters)
        groups = self.retrieval.recall(query, max_results, filters)
        found = {name: results if name in wanted else [] for name, results in groups.items()}
        shown = [result.memory.id for name in GROUPS[:2] for result in found[name]]
        self.memories.record_access(shown, self._clock())
        return found

    def search(
        self, query: str, k: int = 10, filters: MemoryFilter | None = None
    ) -> list[SearchResult]:
        """The same ranking, flat; nothing is written."""
        self._check_query(query, k, filters)
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
        """Load everything at or below ``path``; sources change one by one, as a whole.

        Of many sources, those that cannot be taken are left as they are stored, and named in the
        report's ``faults``.
        """
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
        loading = self._loading()
        read: list[Source] = []
        faults: list[str] = []
        for loader, source in sources:
            try:
                read.append(loading.read(loader, source))
            except (SourceError, InvalidInputError) as error:
                if len(faults) + 1 == len(sources):  # none of them can be taken
                    raise
                faults.append(str(error))
        return loading.load(read, progress) + LoadReport(faults=tuple(faults))

    def load_memories_from_source(
        self, loader: MemoryLoader, source: str, **options: Any
    ) -> LoadReport:
        """The same for one source of a loader that the caller brings."""
        loading = self._loading()
        sources = [loading.read(loader, found, options) for found in loader.find_sources(source)]
        if not sources:
            raise SourceError(f"{source} is not a {loader.kind} source")
        return loading.load(sources, None)

    def consolidate_memories(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Let groups of related episodes be stood for by one memory each, and find edges anew."""
        self.vectors.check_embedding(self.embedding_provider.fingerprint)
        plan = self._consolidator.plan()
        failed = 0
        if not dry_run:
            made = [group.memory for group in plan.groups]
            vectors = self._embed(made) if made else []
            with self.memories.transaction():
                if made:
                    self._bind()
                failed = self._consolidator.write(plan, vectors)
        return report(plan, failed, dry_run=dry_run)

    def undo_consolidation(self, memory_id: str | None = None) -> int:
        """Delete the consolidated memories, or one of them; what they stand for stays as it is."""
        with self.memories.transaction():
            return self._consolidator.undo(memory_id)

    def export_memories(
        self, output: BinaryIO, *, vectors: bool = False, progress: Progress | None = None
    ) -> ExportReport:
        """Write all memories and connections as JSON Lines: one state, in order of id."""
        from .transfer import export_memories

        chosen = self.vectors if vectors else None
        return export_memories(self.memories, chosen, self.connections, output, progress)

    def import_memories(
        self,
        source: ImportSource,
        *,
        on_conflict: str = "replace",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Check all of a source, then take it in batches, each durable once it is done."""
        from .transfer import Import

        total = source.check(self._max_text_bytes)
        fingerprint = self.embedding_provider.fingerprint
        self.vectors.check_embedding(fingerprint)
        return Import(
            source,
            self.memories,
            self.vectors,
            self.connections,
            self._consolidator,
            self._embed,
            self._bind,
            fingerprint=fingerprint,
            on_conflict=on_conflict,
        ).run(total, progress)

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
            "storage_stats": {**storage, **self.vectors.get_statistics()},
        }

    def notices(self) -> list[str]:
        """What the vector storage has to say of its answers."""
        return self.vectors.notices()

    def close(self) -> None:
        """Close the provider and the stores."""
        with ExitStack() as parts:  # each is closed, whatever another one raises
            for part in (self.memories, self.vectors, self.embedding_provider):
                parts.callback(part.close)

    def _check_query(self, query: str, k: int, filters: MemoryFilter | None) -> None:
        check_text(query, self._max_text_bytes, "query")
        if not isinstance(filters, MemoryFilter | None):
            raise InvalidInputError(
                f"got filters {shown(filters)}; give a MemoryFilter, which knows "
                f"{', '.join(each.name for each in fields(MemoryFilter))}"
            )
        if not isinstance(k, int) or not 1 <= k <= MAX_RESULTS:
            raise InvalidInputError(f"got {k!r} results to return; ask for 1 to {MAX_RESULTS:,}")

    def _loading(self) -> Loading:
        return Loading(
            self.memories,
            self.vectors,
            self.connections,
            self._consolidator,
            self._embed,
            self._bind,
            self._max_text_bytes,
        )

    def _bind(self) -> None:
        provider = self.embedding_provider
        self.vectors.bind_embedding(provider.fingerprint, provider.dimension)

    def _embed(self, memories: Sequence[CognitiveMemory]) -> list[Vector]:
        """For each memory its (chunks, dim) vectors."""
        self._bind()
        return embed_texts(self.embedding_provider, [memory.content for memory in memories])

    def _ids(self, filters: MemoryFilter) -> list[str]:
        return [memory.id for memory in self.memories.find_memories(filters)]

    def _delete(self, find: Callable[[], list[str]]) -> dict[str, Any]:
        begin = time.perf_counter()
        with self.memories.transaction():
            ids = find()
            derived = self._consolidator.derived_from(ids)
            deleted = self._consolidator.delete(ids)
            self._consolidator.delete(derived)
        return {"deleted_count": deleted, "processing_time": time.perf_counter() - begin}


def _words(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not tags:
        raise InvalidInputError(f"got tags {tags!r}; expected a list of at least one word")
    return tuple(check_text(tag, MAX_WORD_BYTES, "tag") for tag in tags)
