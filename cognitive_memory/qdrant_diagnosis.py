"""What ``doctor`` looks at where the record lies in Qdrant."""

from __future__ import annotations

from collections.abc import Callable

from .core.config import Settings
from .core.errors import CognitiveMemoryError, ModelNotFoundError
from .qdrant_stores import open_qdrant_stores


def check_qdrant_store(settings: Settings, *, repair: bool) -> str:
    """Compare the points of each memory; ``repair`` deletes those that belong to none."""
    record, _ = open_qdrant_stores(settings)
    with record:
        faults = record.check_integrity(repair=repair)
        statistics = record.get_statistics()
    path = statistics["path"]
    if faults:
        raise CognitiveMemoryError(f"{path}: {'; '.join(faults)}")
    if statistics["fingerprint"] is None:
        return f"{path}: nothing is stored yet; the first store makes its collection"
    return f"{path}: {statistics['memories']} memories, sound"


def check_qdrant_embedding(settings: Settings, configured_fingerprint: Callable[[], str]) -> str:
    """Compare the embedding of the memories with the configured one."""
    record, vectors = open_qdrant_stores(settings)
    with record:
        stored = record.get_statistics()["fingerprint"]
        if stored is None:
            return "the store holds no vectors yet"
        try:
            configured = configured_fingerprint()
        except ModelNotFoundError:
            return f"the store holds {stored}; no model to compare with"
        vectors.check_embedding(configured)
    return f"store and model agree on {configured}"
