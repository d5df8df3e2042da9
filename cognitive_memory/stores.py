"""Settings to stores: where the record lies, and which index answers for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from .core.config import Settings
from .core.errors import ConfigurationError, StorageError
from .qdrant_stores import is_record_in_qdrant, open_qdrant_stores, refuse_without_file
from .selection import select

if TYPE_CHECKING:
    from .core.interfaces import MemoryRecord, VectorStorage
    from .storage.database import Database
    from .storage.replicated_vectors import ReplicatedVectorStorage

VECTORS_GROUP = "cognitive_memory.vector_storages"


def open_stores(settings: Settings) -> tuple[MemoryRecord, VectorStorage]:
    """The record and the vectors; the vectors are closed first."""
    if is_record_in_qdrant(settings):
        return open_qdrant_stores(settings)
    from .storage.sqlite_persistence import SQLitePersistence

    with ExitStack() as opened:
        memories = opened.enter_context(SQLitePersistence(open_database(settings)))
        vectors = create_vector_storage(settings, memories.database)
        opened.pop_all()
    return memories, vectors


def open_database(settings: Settings) -> Database:
    """The file of the store, created if there is none.

    Raises ``ConfigurationError`` where the record is kept elsewhere.
    """
    refuse_without_file(settings)
    from .storage.database import Database

    return Database(
        settings.store_path,
        settings.storage.busy_timeout_seconds,
        synchronous=settings.storage.synchronous,
    )


def store_exists(settings: Settings) -> bool:
    """Whether there is a file of the store; raises ``StorageError`` where nobody may look.

    Raises ``ConfigurationError`` where the record is kept elsewhere.
    """
    refuse_without_file(settings)
    try:
        return settings.store_path.exists()
    except OSError as error:
        raise StorageError(
            f"{settings.store_path} cannot be reached: {error.strerror}; check the permissions "
            "of its folder"
        ) from None


def create_vector_storage(settings: Settings, database: Database) -> VectorStorage:
    """The storage that ``storage.vectors`` names; an entry point is called with settings."""

    def embedded(_: Settings) -> VectorStorage:
        from .storage.sqlite_vectors import SQLiteVectorStorage

        return SQLiteVectorStorage(database)

    def qdrant(_: Settings) -> VectorStorage:
        return replicate_to_qdrant(settings, database)

    return select(
        settings,
        settings.storage.vectors,
        {"sqlite": embedded, "qdrant": qdrant},
        VECTORS_GROUP,
        "COGNITIVE_MEMORY_STORAGE__VECTORS",
    )


def replicate_to_qdrant(settings: Settings, database: Database) -> ReplicatedVectorStorage:
    """The vectors of ``database``, searched in the Qdrant of the settings.

    Raises ``ConfigurationError`` where they name neither a server nor a folder.
    """
    from .qdrant_options import qdrant_options
    from .storage.outbox import Outbox
    from .storage.qdrant_connection import QdrantConnection
    from .storage.qdrant_replica import QdrantReplica
    from .storage.replicated_vectors import ReplicatedVectorStorage
    from .storage.replication import Replication
    from .storage.sqlite_persistence import SQLitePersistence
    from .storage.sqlite_vectors import SQLiteVectorStorage

    options = qdrant_options(settings)
    if not options.url and not options.path:
        raise ConfigurationError(
            "COGNITIVE_MEMORY_STORAGE__VECTORS='qdrant' needs a server: set "
            "COGNITIVE_MEMORY_QDRANT__URL, or COGNITIVE_MEMORY_QDRANT__PATH to a folder"
        )
    outbox = Outbox(database)
    # Stores that share a project would delete each other's vectors as surplus.
    options = replace(options, project=f"{options.project}-{outbox.store_id()}")
    replica = QdrantReplica(QdrantConnection(options))
    own = open_database(settings)  # of the thread that replicates
    replication = Replication(
        own,
        SQLitePersistence(own),
        SQLiteVectorStorage(own),
        replica,
        f"{options.shown} {options.collection}@{options.project}",
    )
    return ReplicatedVectorStorage(
        SQLiteVectorStorage(database),
        SQLitePersistence(database),
        outbox,
        replica,
        replication,
        flush_seconds=settings.qdrant.flush_seconds,
    )
