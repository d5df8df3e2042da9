"""What ``doctor`` looks at: settings, model and store, each in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .core.config import Settings
from .core.errors import CognitiveMemoryError, ModelNotFoundError, StorageError
from .core.model_files import read_model_config
from .factory import (
    ONNX_PROVIDERS,
    create_embedding_provider,
    create_vector_storage,
    model_folder,
)
from .storage.database import Database
from .storage.sqlite_persistence import SQLitePersistence


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    sound: bool
    detail: str


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check everything, one after the other; a fault in one does not hide the others."""
    checks: dict[str, Callable[[Settings], str]] = {
        "model": _model,
        "store": _store,
        "embedding": _embedding,
    }
    for name, check in checks.items():
        try:
            yield Finding(name, True, check(settings))
        except CognitiveMemoryError as error:
            yield Finding(name, False, str(error))


def _model(settings: Settings) -> str:
    if settings.embedding.provider not in ONNX_PROVIDERS:
        return f"{_configured_fingerprint(settings)} of provider {settings.embedding.provider}"
    from .models.verify import verify_model

    folder = model_folder(settings)
    config = read_model_config(folder)
    agreement = verify_model(folder, config)
    if agreement is None:
        return f"{config.name}: {len(config.files)} files as recorded; no golden vectors known"
    return (
        f"{config.name}: {len(config.files)} files as recorded; {agreement.texts} golden vectors "
        f"within {agreement.max_error:.1e}"
    )


def _store(settings: Settings) -> str:
    path = settings.store_path
    if not _exists(path):
        return f"{path} does not exist yet; the first store creates it"
    database = Database(path, settings.storage.busy_timeout_seconds)
    memories = SQLitePersistence(database)
    try:
        create_vector_storage(settings, database)
        faults = memories.check_integrity()
        statistics = memories.get_statistics()
    finally:
        memories.close()
    if faults:
        raise CognitiveMemoryError(f"{path}: {'; '.join(faults)}")
    access = "read-only" if statistics["read_only"] else "writable"
    return f"{path}: {statistics['memories']} memories, sound, {access}"


def _embedding(settings: Settings) -> str:
    if not _exists(settings.store_path):
        return "no store to compare with"
    memories = SQLitePersistence(
        Database(settings.store_path, settings.storage.busy_timeout_seconds)
    )
    try:
        stored = memories.get_statistics()["fingerprint"]
    finally:
        memories.close()
    if stored is None:
        return "the store holds no vectors yet"
    try:
        configured = _configured_fingerprint(settings)
    except ModelNotFoundError:
        return f"the store holds {stored}; no model to compare with"
    if stored != configured:
        raise CognitiveMemoryError(
            f"the store holds vectors of {stored}, the configured model gives {configured}; set "
            f"COGNITIVE_MEMORY_EMBEDDING__MODEL={stored.partition('/')[0]}"
        )
    return f"store and model agree on {stored}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StorageError(
            f"{path} cannot be reached: {error.strerror}; check the permissions of its folder"
        ) from None


def _configured_fingerprint(settings: Settings) -> str:
    """Without a pull: a check brings nothing here."""
    if settings.embedding.provider in ONNX_PROVIDERS:
        return read_model_config(model_folder(settings)).fingerprint
    with create_embedding_provider(settings) as provider:
        return provider.fingerprint
