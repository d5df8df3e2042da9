"""The settings of Qdrant as the plain values that its adapter takes."""

from __future__ import annotations

from .core.config import Settings
from .storage.qdrant_connection import QdrantOptions


def qdrant_options(settings: Settings) -> QdrantOptions:
    """Raises ``ConfigurationError`` for settings that contradict each other."""
    given = settings.qdrant
    return QdrantOptions(
        url=given.url,
        path=None if given.path is None else str(given.path),
        api_key=given.api_key,
        prefer_grpc=given.prefer_grpc,
        grpc_port=given.grpc_port,
        timeout_seconds=given.timeout_seconds,
        collection=given.collection,
        project=given.project,
        shard_number=given.shard_number,
        replication_factor=given.replication_factor,
        write_consistency_factor=given.write_consistency_factor,
        on_disk=given.on_disk,
        quantization=given.quantization,
        hnsw_m=given.hnsw_m,
        hnsw_ef_construct=given.hnsw_ef_construct,
        search_ef=given.search_ef,
        search_exact=given.search_exact,
        batch_size=given.batch_size,
    )
