"""A system over a store file, put together by hand, for tests that look inside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.interfaces import EmbeddingProvider, MemoryLoader
from cognitive_memory.retrieval.activation import SpreadingActivation
from cognitive_memory.retrieval.bridges import ResidualBridges
from cognitive_memory.retrieval.hybrid import HybridRetrieval
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider

START = datetime(2026, 1, 1, tzinfo=UTC)
"""What the clock shows first; each look at it is a second later."""


def open_system(
    path: Path,
    provider: EmbeddingProvider | None = None,
    *loaders: MemoryLoader,
    prefix: str = "m",
    **options: Any,
) -> CognitiveMemorySystem:
    """Readable vectors unless a provider is given; ids are ``m0``, ``m1``, … with this prefix."""
    provider = provider or WordLengthProvider()
    database = Database(path)
    record, vectors = SQLitePersistence(database), SQLiteVectorStorage(database)
    retrieval = HybridRetrieval(
        provider,
        record,
        vectors,
        record,
        SpreadingActivation(record),
        ResidualBridges(vectors, record),
    )
    numbers, ticks = count(), count()
    given: dict[str, Any] = {
        "clock": lambda: START + timedelta(seconds=next(ticks)),
        "new_id": lambda: f"{prefix}{next(numbers)}",
        **options,
    }
    return CognitiveMemorySystem(provider, record, vectors, record, retrieval, loaders, **given)
