"""Settings to objects. The only place that knows which class stands behind which name."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from .core.config import Settings
from .providers import create_embedding_provider

if TYPE_CHECKING:
    from .core.interfaces import (
        CognitiveSystem,
        EmbeddingProvider,
        MemoryLoader,
        MemoryRecord,
        Report,
        RetrievalEngine,
        VectorStorage,
    )
    from .core.reembedding import Reembedding

__all__ = [
    "create_embedding_provider",
    "create_loaders",
    "create_reembedding",
    "create_system",
]


def create_system(
    settings: Settings | None = None, report: Report | None = None, *, warm_up: bool = False
) -> CognitiveSystem:
    """A ready system; the model is read, and pulled if need be, when text is first embedded.

    ``report`` is told of a pull, line by line; with it, downloads show their progress.
    ``warm_up`` begins to read the model at once, in the background, for a caller in a hurry.
    Raises ``ConfigurationError`` and ``StorageError``.
    """
    settings = settings or Settings()
    # What fails closes the provider, and so waits for a warm-up: no process may end amid one.
    with ExitStack() as opened:
        provider = opened.enter_context(
            create_embedding_provider(settings, report, warm_up=warm_up)
        )
        system = _assemble(settings, provider, opened)
        opened.pop_all()
    return system


def _assemble(
    settings: Settings, provider: EmbeddingProvider, opened: ExitStack
) -> CognitiveSystem:
    from .core.cognitive_system import CognitiveMemorySystem
    from .retrieval.consolidation import ExtractiveConsolidation
    from .stores import open_stores

    memories, vectors = open_stores(settings)
    opened.callback(memories.close)
    opened.callback(vectors.close)
    retrieval = _create_retrieval(settings, provider, memories, vectors)
    return CognitiveMemorySystem(
        provider,
        memories,
        vectors,
        memories,
        retrieval,
        create_loaders(),
        consolidation=ExtractiveConsolidation(
            duplicate_similarity=settings.storage.duplicate_similarity
        ),
        duplicates=settings.storage.duplicates,
        duplicate_similarity=settings.storage.duplicate_similarity,
        max_text_bytes=settings.max_text_bytes,
    )


def create_reembedding(
    settings: Settings | None = None, report: Report | None = None
) -> Reembedding:
    """What replaces the embedding of the store by the configured one."""
    from .core.reembedding import Reembedding
    from .storage.sqlite_persistence import SQLitePersistence
    from .storage.sqlite_replacement import SQLiteEmbeddingReplacement
    from .stores import open_database

    settings = settings or Settings()
    with ExitStack() as opened:
        provider = opened.enter_context(create_embedding_provider(settings, report))
        database = open_database(settings)
        memories = opened.enter_context(SQLitePersistence(database))
        reembedding = Reembedding(provider, memories, SQLiteEmbeddingReplacement(database))
        opened.pop_all()
    return reembedding


def _create_retrieval(
    settings: Settings,
    provider: EmbeddingProvider,
    memories: MemoryRecord,
    vectors: VectorStorage,
) -> RetrievalEngine:
    from .core.memory import ConnectionType
    from .retrieval.activation import FACTORS, SpreadingActivation
    from .retrieval.bridges import ResidualBridges
    from .retrieval.hybrid import HybridRetrieval
    from .retrieval.own_parts import Weights

    given = settings.retrieval
    factors = {
        **FACTORS,
        ConnectionType.ASSOCIATIVE: (given.associative_weight, given.associative_weight),
        ConnectionType.ENTITY: (given.entity_weight, given.entity_weight),
    }
    dimensions = None
    if given.dimensions_weight > 0:
        from .encoding.dimensions import CognitiveDimensionExtractor

        dimensions = CognitiveDimensionExtractor()
    return HybridRetrieval(
        provider,
        memories,
        vectors,
        lexical=memories,
        activation=SpreadingActivation(
            memories, factors=factors, hops=given.activation_hops, decay=given.activation_decay
        ),
        bridges=ResidualBridges(vectors, memories),
        weights=Weights(
            semantic=given.semantic_weight,
            lexical=given.lexical_weight,
            activation=given.activation_weight,
            speaker=given.speaker_weight,
            importance=given.importance_weight,
            recency=given.recency_weight,
            access=given.access_weight,
            dimensions=given.dimensions_weight,
            episodic_half_life_days=given.episodic_half_life_days,
            semantic_half_life_days=given.semantic_half_life_days,
        ),
        dimensions=dimensions,
        candidates=given.candidates,
        core_ratio=given.core_ratio,
        max_bridges=given.max_bridges,
    )


def create_loaders() -> list[MemoryLoader]:
    """A loader for each kind of source."""
    from .loaders import (
        ConversationLoader,
        GitHistoryLoader,
        MarkdownMemoryLoader,
        TextLoader,
    )

    return [MarkdownMemoryLoader(), TextLoader(), ConversationLoader(), GitHistoryLoader()]
