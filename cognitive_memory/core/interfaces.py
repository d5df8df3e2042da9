"""The seams: what third parties implement, and what front ends hold.

Each concept has as few abstract methods as it can; the rest is derived from them.
The suites in ``cognitive_memory.testing`` state these contracts as tests.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from .errors import SourceError
from .memory import (
    LOADED_TYPES,
    Activation,
    Bridge,
    CognitiveMemory,
    ConnectionType,
    ConsolidationPlan,
    ExportReport,
    ImportReport,
    LoadReport,
    MemoryConnection,
    MemoryFilter,
    SearchResult,
    TextHit,
    VectorHit,
)
from .similarity import Vector, cosine

if TYPE_CHECKING:
    from .compressed_vectors import CompressedVectors, VectorKind

Span = tuple[int, int]
"""Start and end of a chunk, in characters of its text."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

Report = Callable[[str], None]
"""Called with one line about what happens."""


class Closing:
    """``close()`` and the ``with`` statement."""

    def close(self) -> None:
        """Release what is held; closing twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddingProvider(Closing, ABC):
    """Text to unit vectors. Implement ``encode_batch`` and set the two attributes."""

    dimension: int
    fingerprint: str
    """Names everything that decides the vectors: model, precision, weights, tokenizer, pooling."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows, in the order of ``texts``; no texts give (0, dim)."""

    def encode(self, text: str) -> Vector:
        """(dim,) float32, unit length."""
        vector: Vector = self.encode_batch([text])[0]
        return vector

    def encode_query(self, text: str) -> Vector:
        """(dim,) float32: the text as a question, for models that prompt queries otherwise."""
        return self.encode(text)

    def encode_stream(self, texts: Iterable[str], window: int = 1024) -> Iterator[Vector]:
        """The (dim,) vector of each text, in order, in the memory of ``window`` texts."""
        remaining = iter(texts)
        while batch := list(islice(remaining, window)):
            yield from self.encode_batch(batch)

    def encode_compressed(self, texts: Sequence[str], kind: VectorKind) -> CompressedVectors:
        """The vectors of ``texts`` as float32, float16, int8 or binary codes to keep and search.

        Raises ``InvalidInputError`` for another kind.
        """
        from .compressed_vectors import compress

        return compress(self.encode_batch(texts), kind)

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text the spans that fit the model, in order, together covering it.

        The default has no limit: one span for each text.
        """
        return [[(0, len(text))] for text in texts]

    def compute_similarity(self, first: Vector, second: Vector) -> float:
        """Cosine of two (dim,) vectors, in [-1, 1]."""
        return float(cosine(first, second[None, :])[0])

    def compute_batch_similarity(self, query: Vector, vectors: Vector) -> Vector:
        """Cosine of ``query`` (dim,) with each row of (n, dim): (n,) float32 in [-1, 1]."""
        return cosine(query, vectors)

    def warm_up(self) -> None:
        """Get ready in the background, if there is anything to get ready."""

    def get_embedding_dimension(self) -> int:
        """Length of a vector."""
        return self.dimension

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model to a person."""
        return {"dimension": self.dimension, "fingerprint": self.fingerprint}


class DimensionExtractor(ABC):
    """Text to scores on named axes. Implement ``extract_batch`` and set the two attributes."""

    axes: tuple[str, ...]
    fingerprint: str
    """Names everything that decides the scores."""

    @abstractmethod
    def extract_batch(self, texts: Sequence[str]) -> Vector:
        """(n, axes) float32 in [0, 1], in the order of ``texts``; no texts give (0, axes)."""

    def extract(self, text: str) -> Vector:
        """(axes,) float32 in [0, 1]."""
        scores: Vector = self.extract_batch([text])[0]
        return scores


class VectorStorage(Closing, ABC):
    """Unit vectors by memory and chunk, and exact or approximate search over them."""

    @abstractmethod
    def bind_embedding(self, fingerprint: str, dimension: int) -> None:
        """Remember whose vectors will be stored; call it before storing.

        Raises ``FingerprintMismatchError`` when the store holds those of another embedding; one
        that holds none takes any.
        """

    @abstractmethod
    def check_embedding(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if vectors of another embedding are held.

        Nothing is remembered; call it before searching.
        """

    @abstractmethod
    def store_vectors(self, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]) -> None:
        """Replace the vectors of each memory by its (chunks, dim) float32 array of unit rows.

        Raises ``DimensionMismatchError``, and ``InvalidInputError`` for NaN, infinity, rows that
        are not of unit length, a memory given twice, or lists of unequal length.
        """

    @abstractmethod
    def search_similar_batch(
        self,
        queries: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[list[VectorHit]]:
        """For each row of ``queries`` the ``k`` best memories by their best chunk.

        ``queries``: (n, dim) float32, unit rows; others are refused as ``store_vectors`` does. Best
        first, ties by id; ``min_score`` is inclusive, and ``k`` beyond the count returns all.
        """

    def search_similar(
        self,
        query: Vector,
        k: int,
        filters: MemoryFilter | None = None,
        min_score: float | None = None,
    ) -> list[VectorHit]:
        """The same for one ``query``, (dim,) float32."""
        return self.search_similar_batch(np.asarray(query)[None], k, filters, min_score)[0]

    @abstractmethod
    def get_vectors(self, memory_ids: Sequence[str]) -> dict[str, Vector]:
        """For each memory that has vectors its (chunks, dim) float32 array, in order of chunks.

        In the order asked for; those that have none are absent.
        """

    @abstractmethod
    def delete_vectors(self, memory_ids: Sequence[str]) -> int:
        """Number of memories whose vectors were there and are gone."""

    def notices(self) -> list[str]:
        """What a person should know of the answers, each in a line; none while all is well."""
        return []

    def get_statistics(self) -> dict[str, Any]:
        """JSON values about derived indexes, if there are any."""
        return {}

    @abstractmethod
    def count(self) -> int:
        """Number of vectors (chunks, not memories)."""


class ReplicaIndex(VectorStorage):
    """A ``VectorStorage`` that is derived from a record elsewhere and can be compared with it.

    ``bind_embedding`` makes room for an embedding, whatever else is held, and ``check_embedding``
    says which one searches are of; neither refuses one.
    """

    @abstractmethod
    def version_of(self, memory: CognitiveMemory, vectors: Vector) -> str:
        """Changes with whatever this index keeps of a memory and its (chunks, dim) vectors."""

    @abstractmethod
    def get_versions(self, memory_ids: Sequence[str]) -> dict[str, str]:
        """The version that is held of each memory, wholly; those that are not are absent."""

    @abstractmethod
    def iterate_ids(self, batch_size: int = 1000) -> Iterator[list[str]]:
        """The ids of all memories that are held, even in part, each once, in batches."""

    @abstractmethod
    def activate(self) -> None:
        """Called when the index holds all of its record: searches may turn to it from now on."""

    @abstractmethod
    def is_active(self) -> bool:
        """Whether what ``activate`` was called for is still there: a server may lose its data."""


class EmbeddingReplacement(ABC):
    """Vectors of another embedding, made beside those that serve and then put in their place.

    Embeddings are named by their fingerprint. What was made is durable, so that a replacement
    can be interrupted anywhere and taken up again.
    """

    @abstractmethod
    def begin(self, fingerprint: str, dimension: int) -> None:
        """Make the embedding known; nothing changes for searches.

        All methods that take a fingerprint raise ``StorageError`` for one that is not known.
        """

    @abstractmethod
    def serving(self) -> str | None:
        """The embedding that searches use."""

    @abstractmethod
    def previous(self) -> str | None:
        """The embedding that searches used before, while vectors of it are kept."""

    @abstractmethod
    def count(self, fingerprint: str) -> tuple[int, int]:
        """How many memories have vectors of this embedding, and how many there are."""

    @abstractmethod
    def find_missing(
        self, fingerprint: str, limit: int, after: str | None = None
    ) -> list[CognitiveMemory]:
        """Memories that have none, at most ``limit``, in the order in which they were stored.

        Those stored after the memory ``after``; where that is gone, from the first one.
        """

    @abstractmethod
    def add_vectors(
        self, fingerprint: str, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]
    ) -> None:
        """Keep the (chunks, dim) vectors of memories that have none and this text.

        Others have been deleted or changed meanwhile, or another process was faster. Raises as
        ``VectorStorage.store_vectors`` does.
        """

    @abstractmethod
    def serve(self, fingerprint: str) -> bool:
        """Let searches use it from now on; false, and nothing is done, while memories lack one."""

    @abstractmethod
    def discard(self) -> int:
        """Delete the vectors of all embeddings but the one that serves; their number."""


class MemoryStorage(Closing, ABC):
    """The record: memories as they were given."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside it become durable together, or none of them; it can be nested."""

    @abstractmethod
    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Insert, or replace those with the same id; connections of a replaced one stay.

        Raises ``InvalidInputError`` for an id that is given twice; nothing is saved then.
        """

    @abstractmethod
    def get_memories(self, memory_ids: Sequence[str]) -> list[CognitiveMemory]:
        """Those that exist, in the order asked for."""

    @abstractmethod
    def find_memories(
        self, filters: MemoryFilter | None = None, limit: int | None = None
    ) -> list[CognitiveMemory]:
        """Those that match, newest first, ties by id."""

    def iterate_memories(self, batch_size: int = 1024) -> Iterator[list[CognitiveMemory]]:
        """All memories in order of id, at most ``batch_size`` in each list, none of them empty.

        What is written meanwhile may or may not be among them; see ``snapshot``. The default
        reads all at once.
        """
        remaining = iter(sorted(self.find_memories(), key=lambda memory: memory.id))
        while batch := list(islice(remaining, batch_size)):
            yield batch

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads inside it see one state of the record and of what lies in the same store.

        Nothing may be written inside it by the same handle. The default promises nothing: each
        read sees what is there by then.
        """
        return nullcontext()

    @abstractmethod
    def delete_memories(self, memory_ids: Sequence[str]) -> int:
        """Number of memories that were there and are gone, with all that hangs on them."""

    @abstractmethod
    def record_access(self, memory_ids: Sequence[str], moment: datetime) -> None:
        """Count one access to each, unless the store cannot be written just now."""

    @abstractmethod
    def get_statistics(self) -> dict[str, Any]:
        """JSON values: counts by level and type, size in bytes, schema version, fingerprint."""


class ConnectionGraph(ABC):
    """Directed edges between memories."""

    @abstractmethod
    def add_connections(self, connections: Sequence[MemoryConnection]) -> None:
        """Insert, or replace the edge of the same ends and type.

        Loading a source again drops the edges of ``LOADED_TYPES`` that begin at its memories, and
        consolidation drops all of ``FOUND_TYPES``, whoever drew them: an edge that is to stay is
        ``EXPLICIT``. Raises ``InvalidInputError`` when an end does not exist or the strength is not
        in (0, 1].
        """

    @abstractmethod
    def replace_connections(
        self,
        memory_ids: Sequence[str],
        connections: Sequence[MemoryConnection],
        kinds: Collection[ConnectionType] = LOADED_TYPES,
    ) -> None:
        """Drop the edges of these kinds that begin at these memories, and add others."""

    @abstractmethod
    def get_connections(self, memory_ids: Sequence[str]) -> list[MemoryConnection]:
        """All edges that begin or end at one of these memories, strongest first."""


class LexicalIndex(ABC):
    """Search by words."""

    @abstractmethod
    def search_text(
        self,
        query: str,
        k: int,
        filters: MemoryFilter | None = None,
        also: Collection[str] = (),
    ) -> list[TextHit]:
        """The ``k`` best memories that share a word with ``query``, best first, ties by id.

        Those of the ids ``also`` that share a word come along, whatever their rank. Any text is
        a valid query; one without words finds nothing.
        """


class MemoryRecord(MemoryStorage, ConnectionGraph, LexicalIndex):
    """All of a store but its vectors."""


class MemoryLoader(ABC):
    """Turns files or histories into memories, with ids derived from source and position."""

    kind: str
    """The word that selects this loader."""

    append_only: bool = False
    """Whether memories that a source no longer gives are kept (a history shown in part)."""

    @abstractmethod
    def find_sources(self, path: str) -> list[str]:
        """Sources of this loader's kind at or below ``path``, sorted; none is an empty list.

        They are spelled as the ``source_path`` of their memories, however ``path`` is spelled.
        """

    @abstractmethod
    def load_from_source(self, source: str, **options: Any) -> list[CognitiveMemory]:
        """The memories of one source, in order.

        Raises ``SourceError`` when it cannot be read. A part that cannot be taken may be skipped:
        the option ``on_fault``, a function, is called with a line that names its place, the fault
        and the fix. The system passes it always; unknown options are ignored.
        """

    @abstractmethod
    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        """The edges among the memories of one source."""

    def validate_source(self, path: str) -> bool:
        """Whether there is a source of this kind at or below ``path``; never raises."""
        try:
            return bool(self.find_sources(path))
        except SourceError:
            return False

    def get_supported_extensions(self) -> list[str]:
        """File name endings with their dots; empty where files are not the unit."""
        return []


class ImportSource(Closing, ABC):
    """Memories and connections from elsewhere; all of it can be read more than once."""

    fingerprint: str | None = None
    """Of the embedding whose vectors come along; ``None`` where none do."""

    is_exact: bool = False
    """Whether what is stored is replaced as a whole; otherwise what use has added to it stays."""

    @abstractmethod
    def check(self, max_text_bytes: int) -> int:
        """Read everything once, before anything is taken; the number of memories.

        Raises ``SourceError`` for a source that is not of this kind or cannot be read, and
        ``InvalidInputError``, with the line, for a fault in one that must be sound as a whole.
        """

    @abstractmethod
    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each memory once, and its (chunks, dim) float32 unit rows if they come along."""

    @abstractmethod
    def connections(self) -> Iterator[MemoryConnection]:
        """Each edge between these memories once; asked for after ``memories`` was read."""

    def losses(self) -> Mapping[str, int]:
        """What could not be carried over: reasons with counts, in the order in which they arose.

        Complete once ``memories`` and ``connections`` were read.
        """
        return {}


class ActivationEngine(ABC):
    """Spreads activation over the connections between memories."""

    @abstractmethod
    def activate(self, seeds: Mapping[str, float]) -> dict[str, Activation]:
        """What each memory receives when these are active so much; also what seeds receive."""


class BridgeDiscovery(ABC):
    """Finds what a query does not name, by way of what it activated."""

    @abstractmethod
    def find_bridges(
        self,
        query: Vector,
        activated: Mapping[str, float],
        exclude: Collection[str],
        k: int,
        filters: MemoryFilter | None = None,
    ) -> list[Bridge]:
        """At most ``k`` memories unlike the query and near to what it activated, best first.

        ``query``: (dim,) float32. None of ``activated`` or ``exclude`` is among them; ties are
        broken by id. Where nothing was activated or nothing is near, the list is empty.
        """


class ConsolidationPlanner(ABC):
    """Finds memories that belong together, and what can stand for them."""

    @abstractmethod
    def plan(
        self, memories: Sequence[CognitiveMemory], vectors: Mapping[str, Vector]
    ) -> ConsolidationPlan:
        """What to write, given all memories and the (chunks, dim) vectors of those that have any.

        The same memories give the same plan. Consolidated memories among them say which groups
        there are already; their members are left alone.
        """


class RetrievalEngine(ABC):
    """Ranks memories for a query."""

    @abstractmethod
    def search(self, query: str, k: int, filters: MemoryFilter | None = None) -> list[SearchResult]:
        """The ``k`` best, best first, ties by id, each with the parts of its score."""

    @abstractmethod
    def recall(
        self, query: str, k: int, filters: MemoryFilter | None = None
    ) -> dict[str, list[SearchResult]]:
        """The same ranking in groups, ``core`` and ``peripheral``, and ``bridge`` beside them.

        A bridge is connected to what is core and would not have been shown by the ranking.
        """


class CognitiveSystem(Closing, ABC):
    """What front ends hold: store, recall, load, delete."""

    embedding_provider: EmbeddingProvider
    loaders: Sequence[MemoryLoader]

    @abstractmethod
    def store_experience(self, text: str, context: Mapping[str, Any] | None = None) -> str:
        """Store one text durably and return its id.

        Raises ``InvalidInputError`` for text or context that cannot be accepted.
        """

    @abstractmethod
    def store_experiences(
        self,
        texts: Sequence[str],
        contexts: Sequence[Mapping[str, Any] | None] | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Store many texts in batches, each batch durable once it is done; ids in order.

        Every text and context is checked before the first is stored.
        """

    @abstractmethod
    def retrieve_memory(self, memory_id: str) -> CognitiveMemory | None:
        """One memory, or ``None``."""

    @abstractmethod
    def retrieve_memories(
        self,
        query: str,
        types: Sequence[str] | None = None,
        max_results: int = 20,
        filters: MemoryFilter | None = None,
    ) -> dict[str, list[SearchResult]]:
        """Recall in groups: ``core``, ``peripheral`` and ``bridge``; ``types`` asks for some.

        ``core`` and ``peripheral`` together hold at most ``max_results``.
        """

    @abstractmethod
    def search(
        self, query: str, k: int = 10, filters: MemoryFilter | None = None
    ) -> list[SearchResult]:
        """The same ranking, flat."""

    @abstractmethod
    def get_memories_by_tags(self, tags: Sequence[str]) -> list[CognitiveMemory]:
        """Memories that have any of the tags, newest first."""

    @abstractmethod
    def delete_memory_by_id(self, memory_id: str) -> dict[str, Any]:
        """Keys ``memory_id``, ``deleted_count``, ``processing_time`` (seconds)."""

    @abstractmethod
    def delete_memories_by_tags(self, tags: Sequence[str]) -> dict[str, Any]:
        """Keys ``tags``, ``deleted_count``, ``processing_time`` (seconds)."""

    @abstractmethod
    def delete_memories_by_source_path(self, source_path: str) -> dict[str, Any]:
        """Keys ``source_path``, ``deleted_count``, ``processing_time`` (seconds)."""

    @abstractmethod
    def load(
        self,
        path: str | os.PathLike[str],
        progress: Progress | None = None,
        kinds: Sequence[str] | None = None,
    ) -> LoadReport:
        """Load everything at or below ``path`` that a loader (of these ``kinds``) knows.

        Loading again updates and never duplicates; each source changes as a whole or not at all.
        Raises ``SourceError`` when there is nothing to load.
        """

    @abstractmethod
    def load_memories_from_source(
        self, loader: MemoryLoader, source: str, **options: Any
    ) -> LoadReport:
        """The same for the sources at ``source`` of a loader that the caller brings."""

    @abstractmethod
    def consolidate_memories(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Let groups of related episodes be stood for by one memory each, and find edges anew.

        Extractive and reversible: the members stay as they are. Those that belong to a group
        since earlier are skipped, so that a second run changes nothing. What stands for a member
        goes when that is deleted or its text changes. Edges by likeness and by names are found
        between all memories, and replace those found earlier.

        Keys, all numbers of memories but for ``connections``: ``total_episodic`` looked at,
        ``consolidated`` members of new groups, ``failed`` members of groups that others changed
        meanwhile, ``skipped``, ``duplicates`` that nearly repeat another, and ``dry_run``; a dry
        run writes nothing and lists the ``groups``.
        """

    @abstractmethod
    def undo_consolidation(self, memory_id: str | None = None) -> int:
        """Delete the consolidated memories, or one of them; their number. The members stay.

        Raises ``InvalidInputError`` when ``memory_id`` is not the id of one.
        """

    @abstractmethod
    def export_memories(
        self, output: BinaryIO, *, vectors: bool = False, progress: Progress | None = None
    ) -> ExportReport:
        """Write all memories and connections as JSON Lines: one state, in order of id.

        With ``vectors``, those that serve come along. The same contents give the same bytes.
        """

    @abstractmethod
    def import_memories(
        self,
        source: ImportSource,
        *,
        on_conflict: str = "replace",
        progress: Progress | None = None,
    ) -> ImportReport:
        """Take all of a source in batches, each durable once it is done.

        All of it is checked before the first write. A stored memory of the same id that differs
        is replaced, kept (``"skip"``) or refused (``"error"``); so doing it again completes what
        was interrupted. Raises ``SourceError`` and ``InvalidInputError``.
        """

    @abstractmethod
    def get_memory_stats(self) -> dict[str, Any]:
        """JSON values under ``memory_counts`` and ``storage_stats``."""

    def notices(self) -> list[str]:
        """What a person should know of the last answers, as that an index is out of reach."""
        return []
