"""What ``doctor`` looks at: settings, model and store, each in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .core.config import Settings
from .core.embedding import model_of
from .core.errors import CognitiveMemoryError, ModelNotFoundError
from .core.model_files import STATIC, read_model_config
from .factory import create_embedding_provider
from .model_folders import model_folder, static_folder
from .providers import GRAPH_PROVIDERS
from .qdrant_diagnosis import check_qdrant_embedding, check_qdrant_store
from .qdrant_stores import is_record_in_qdrant
from .storage.outbox import Outbox
from .storage.sqlite_persistence import SQLitePersistence
from .stores import create_vector_storage, open_database, replicate_to_qdrant, store_exists


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    sound: bool
    detail: str


def diagnose(settings: Settings, *, repair: bool = False) -> Iterator[Finding]:
    """Check everything, one after the other; a fault in one does not hide the others.

    ``repair`` brings a derived index to the state of its record.
    """
    replica = _replica if settings.storage.vectors == "qdrant" else _unused_replica
    checks: dict[str, Callable[[Settings], str | None]] = {
        "model": _model,
        "store": _store,
        "embedding": _embedding,
        "replica": partial(replica, repair=repair),
    }
    if is_record_in_qdrant(settings):
        checks["store"] = partial(check_qdrant_store, repair=repair)
        checks["embedding"] = lambda given: check_qdrant_embedding(
            given, lambda: _configured_fingerprint(given)
        )
        del checks["replica"]
    for name, check in checks.items():
        try:
            detail = check(settings)
        except CognitiveMemoryError as error:
            yield Finding(name, False, str(error))
        else:
            if detail is not None:
                yield Finding(name, True, detail)


def _model(settings: Settings) -> str:
    folder = _folder(settings)
    if folder is None:
        return f"{_configured_fingerprint(settings)} of provider {settings.embedding.provider}"
    from .models.verify import verify_model

    config = read_model_config(folder)
    agreement = verify_model(folder, config)
    if agreement is None:
        return f"{config.name}: {len(config.files)} files as recorded; no golden vectors known"
    near = f"within {agreement.max_error:.1e}"
    if config.precision != "fp32":  # another value in every place, but the same direction
        near = f"in fp32 at a cosine of {agreement.min_cosine:.3f} or more"
    return (
        f"{config.name}: {len(config.files)} files as recorded; {agreement.texts} golden vectors "
        f"{near}"
    )


def _store(settings: Settings) -> str:
    path = settings.store_path
    if not store_exists(settings):
        return f"{path} does not exist yet; the first store creates it"
    with SQLitePersistence(open_database(settings)) as memories:
        create_vector_storage(settings, memories.database).close()
    with SQLitePersistence(open_database(settings)) as memories:
        faults = memories.check_integrity()
        statistics = memories.get_statistics()
    if faults:
        raise CognitiveMemoryError(f"{path}: {'; '.join(faults)}")
    access = "read-only" if statistics["read_only"] else "writable"
    return f"{path}: {statistics['memories']} memories, sound, {access}"


def _embedding(settings: Settings) -> str:
    if not store_exists(settings):
        return "no store to compare with"
    with SQLitePersistence(open_database(settings)) as memories:
        stored = memories.get_statistics()["fingerprint"]
    if stored is None:
        return "the store holds no vectors yet"
    try:
        configured = _configured_fingerprint(settings)
    except ModelNotFoundError:
        return f"the store holds {stored}; no model to compare with"
    if stored != configured:
        raise CognitiveMemoryError(
            f"the store holds vectors of {stored}, the configured model gives {configured}; run "
            f"'cognitive-memory reembed', or set {model_of(stored, configured)}"
        )
    return f"store and model agree on {stored}"


def _replica(settings: Settings, *, repair: bool) -> str:
    if not store_exists(settings):
        return "no store to compare with"
    with (
        closing(open_database(settings)) as database,
        replicate_to_qdrant(settings, database) as vectors,
    ):
        found = vectors.reconcile(repair=repair)
        replica = vectors.get_statistics()["replica"]
    counts = (
        f"{found.compared} memories compared, {len(found.missing)} missing, "
        f"{len(found.outdated)} outdated, {len(found.surplus)} surplus"
    )
    if repair:
        return f"{replica['target']}: {counts}; {len(found.ids)} repaired"
    if found.ids or replica["pending"]:
        raise CognitiveMemoryError(
            f"{replica['target']}: {counts}, {replica['pending']} pending; "
            "run 'cognitive-memory doctor --repair'"
        )
    return f"{replica['target']}: {counts}"


def _unused_replica(settings: Settings, *, repair: bool) -> str | None:
    """``None`` where no changes are collected for an index that is not searched."""
    if not store_exists(settings):
        return None
    with closing(open_database(settings)) as database:
        outbox = Outbox(database)
        target = outbox.target()
        if target is None:
            return None
        if repair:
            outbox.end()
            return f"changes are no longer collected for {target}"
    return (
        f"changes are collected for {target}, which is not searched; "
        "'cognitive-memory doctor --repair' ends that"
    )


def _folder(settings: Settings) -> Path | None:
    """Where the configured model must be; ``None`` for providers that have none of ours."""
    if settings.embedding.provider == STATIC:
        return static_folder(settings)
    return model_folder(settings) if settings.embedding.provider in GRAPH_PROVIDERS else None


def _configured_fingerprint(settings: Settings) -> str:
    """Without a pull: a check brings nothing here."""
    folder = _folder(settings)
    if folder is not None:
        read_model_config(folder)  # raises where there is none
    with create_embedding_provider(settings) as provider:
        return provider.fingerprint
