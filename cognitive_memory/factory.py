"""Settings to objects. The only place that knows which class stands behind which name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .core.config import Settings
from .core.errors import ModelIntegrityError
from .core.model_files import CONFIG_FILE, ModelFolder
from .selection import select

if TYPE_CHECKING:
    from .core.interfaces import (
        CognitiveSystem,
        EmbeddingProvider,
        MemoryLoader,
        MemoryRecord,
        RetrievalEngine,
        VectorStorage,
    )
    from .core.reembedding import Reembedding

PROVIDER_GROUP = "cognitive_memory.embedding_providers"

ONNX_PROVIDERS = ("onnx", "sentence-bert")

Report = Callable[[str], None]
"""Called with one line about what happens."""


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


def create_embedding_provider(
    settings: Settings, report: Report | None = None, *, warm_up: bool = False
) -> EmbeddingProvider:
    """The provider that ``embedding.provider`` names; an entry point is called with settings.

    Raises ``ConfigurationError`` that lists the known names.
    """

    def onnx(_: Settings) -> EmbeddingProvider:
        return _onnx_provider(settings, report, warm_up or settings.embedding.warm_up)

    provider = select(
        settings,
        settings.embedding.provider,
        dict.fromkeys(ONNX_PROVIDERS, onnx),
        PROVIDER_GROUP,
        "COGNITIVE_MEMORY_EMBEDDING__PROVIDER",
    )
    return _cached(provider, settings)


def _cached(provider: EmbeddingProvider, settings: Settings) -> EmbeddingProvider:
    memory_bytes = settings.embedding.cache_bytes
    disk_bytes = settings.embedding.disk_cache_bytes
    if not memory_bytes and not disk_bytes:
        return provider
    from .encoding.cache import CachedEmbeddingProvider

    disk = None
    if disk_bytes:
        from .encoding.disk_cache import DiskCache

        disk = DiskCache(settings.model_folder / "embedding_cache.db", disk_bytes)
    # A text that is too long has another vector for each way of dealing with it.
    variant = f"/{settings.embedding.overflow}"
    return CachedEmbeddingProvider(provider, memory_bytes=memory_bytes, disk=disk, variant=variant)


def create_loaders() -> list[MemoryLoader]:
    """A loader for each kind of source."""
    from .loaders import (
        ConversationLoader,
        GitHistoryLoader,
        MarkdownMemoryLoader,
        TextLoader,
    )

    return [MarkdownMemoryLoader(), TextLoader(), ConversationLoader(), GitHistoryLoader()]


def model_folder(settings: Settings, model: str | None = None) -> Path:
    """Where a model, by default the configured one, is or will be.

    A folder that was named is taken as it is, a name is looked up in the models folder.
    """
    given = Path(model or settings.embedding.model)
    if given.is_absolute() or holds_model(given):
        return given
    return settings.model_folder / given.name


def holds_model(folder: Path) -> bool:
    """Whether a model is there; raises ``ModelIntegrityError`` where nobody may look."""
    try:
        return (folder / CONFIG_FILE).is_file()
    except OSError as error:
        raise ModelIntegrityError(
            f"{folder} cannot be read: {error.strerror}; check its permissions, "
            "or set COGNITIVE_MEMORY_MODELS_DIR"
        ) from None


def prepare_model(settings: Settings, report: Report | None = None) -> Path:
    """The folder of the configured model, pulled first if it is not there."""
    folder = model_folder(settings)
    if holds_model(folder) or Path(settings.embedding.model).is_absolute():
        return folder
    from .models.fetch import pull_model

    return pull_model(folder.name, settings.model_folder, offline=settings.offline, report=report)


def _onnx_provider(settings: Settings, report: Report | None, warm_up: bool) -> EmbeddingProvider:
    model = ModelFolder(lambda: prepare_model(settings, report))
    warm_up = warm_up and holds_model(model_folder(settings))
    optimization = settings.embedding.optimization
    if warm_up:
        # Hashing runs beside the imports that follow, which take as long.
        model.begin_check(model.runtime_graph if optimization == "all" else model.graph)
    from .encoding.onnx_provider import ONNXEmbeddingProvider

    provider = ONNXEmbeddingProvider(
        model,
        token_budget=settings.embedding.token_budget,
        batch_size=settings.embedding.batch_size,
        workers=settings.embedding.workers,
        threads=settings.embedding.threads,
        optimization=optimization,
        overflow=settings.embedding.overflow,
    )
    if warm_up:
        provider.warm_up()
    return provider
