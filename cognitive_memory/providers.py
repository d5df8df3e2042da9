"""Settings to an embedding provider: which class, with which model, behind which cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .core.config import Settings
from .core.errors import ConfigurationError
from .core.model_files import STATIC, ModelFolder
from .model_folders import (
    holds_model,
    model_folder,
    prepare_model,
    prepare_static,
    static_folder,
)
from .selection import select

if TYPE_CHECKING:
    from .core.interfaces import EmbeddingProvider, Report

PROVIDER_GROUP = "cognitive_memory.embedding_providers"

ONNX_PROVIDERS = ("onnx", "sentence-bert")

GRAPH_PROVIDERS = (*ONNX_PROVIDERS, "openvino")
"""Those that run the graph in a model's folder."""


def create_embedding_provider(
    settings: Settings, report: Report | None = None, *, warm_up: bool = False
) -> EmbeddingProvider:
    """The provider that ``embedding.provider`` names; an entry point is called with settings.

    Raises ``ConfigurationError`` that lists the known names.
    """

    def graph(_: Settings) -> EmbeddingProvider:
        return _graph_provider(settings, report, warm_up or settings.embedding.warm_up)

    def static(_: Settings) -> EmbeddingProvider:
        return _static_provider(settings, report, warm_up or settings.embedding.warm_up)

    provider = select(
        settings,
        settings.embedding.provider,
        {**dict.fromkeys(GRAPH_PROVIDERS, graph), STATIC: static},
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


def _static_provider(settings: Settings, report: Report | None, warm_up: bool) -> EmbeddingProvider:
    wanted = settings.embedding
    if wanted.precision not in (None, "fp32") or wanted.device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"the provider static has no precisions and needs no device; got precision "
            f"{wanted.precision}, device {wanted.device}; leave them unset, or set "
            "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
        )
    from .encoding.static_provider import StaticEmbeddingProvider

    model = ModelFolder(lambda: prepare_static(settings, report))
    provider = StaticEmbeddingProvider(model, dimension=wanted.dimension)
    if warm_up and holds_model(static_folder(settings)):
        provider.warm_up()
    return provider


def _graph_provider(settings: Settings, report: Report | None, warm_up: bool) -> EmbeddingProvider:
    wanted = settings.embedding
    model = ModelFolder(lambda: prepare_model(settings, report))
    warm_up = warm_up and holds_model(model_folder(settings))
    is_prepared = wanted.optimization == "all" and wanted.device in ("auto", "cpu")
    if warm_up:
        # Hashing runs beside the imports that follow, which take as long.
        is_prepared = is_prepared and wanted.provider in ONNX_PROVIDERS
        model.begin_check(model.runtime_graph if is_prepared else model.graph)
    options: dict[str, Any] = {
        "token_budget": wanted.token_budget,
        "batch_size": wanted.batch_size,
        "workers": wanted.workers,
        "threads": wanted.threads,
        "overflow": wanted.overflow,
        "dimension": wanted.dimension,
    }
    make = _onnx_provider if wanted.provider in ONNX_PROVIDERS else _openvino_provider
    provider = make(model, settings, options)
    if warm_up:
        provider.warm_up()
    return provider


def _onnx_provider(
    model: ModelFolder, settings: Settings, options: dict[str, Any]
) -> EmbeddingProvider:
    from .encoding.onnx_provider import ONNXEmbeddingProvider

    return ONNXEmbeddingProvider(
        model,
        optimization=settings.embedding.optimization,
        precision=settings.embedding.precision,
        device=settings.embedding.device,
        memory_mb=settings.embedding.device_memory_mb,
        **options,
    )


def _openvino_provider(
    model: ModelFolder, settings: Settings, options: dict[str, Any]
) -> EmbeddingProvider:
    from .encoding.devices import check_memory_limit
    from .encoding.openvino_provider import PRECISIONS, OpenVINOEmbeddingProvider

    precision, device = settings.embedding.precision or "fp32", settings.embedding.device
    if precision not in PRECISIONS or device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"the provider openvino computes {' and '.join(PRECISIONS)} on the processor; got "
            f"precision {precision}, device {device}; set COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
        )
    check_memory_limit("cpu", settings.embedding.device_memory_mb)
    return OpenVINOEmbeddingProvider(model, precision=precision, **options)
