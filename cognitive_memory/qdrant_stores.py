"""Settings to stores that lie in Qdrant as a whole: record, words, edges and vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .core.config import Settings
from .core.errors import ConfigurationError

if TYPE_CHECKING:
    from .storage.qdrant_record import QdrantRecord
    from .storage.qdrant_record_vectors import QdrantRecordVectors

RECORD = "COGNITIVE_MEMORY_STORAGE__RECORD=qdrant"


def is_record_in_qdrant(settings: Settings) -> bool:
    """Whether there is no file of the store at all."""
    return settings.storage.record == "qdrant"


def open_qdrant_stores(settings: Settings) -> tuple[QdrantRecord, QdrantRecordVectors]:
    """The record and the vectors over one connection, which either closes.

    Nothing is asked of the server yet. Raises ``ConfigurationError`` for settings that name no
    place, or another one for the vectors.
    """
    from .qdrant_options import qdrant_options
    from .storage.qdrant_connection import QdrantConnection
    from .storage.qdrant_project import QdrantProject
    from .storage.qdrant_record import QdrantRecord
    from .storage.qdrant_record_vectors import QdrantRecordVectors

    # Beside the collections that are derived from a file: those are made to be like it.
    given = qdrant_options(settings)
    options = replace(given, collection=f"{given.collection}-record")
    if options.url is None and options.path is None:
        raise ConfigurationError(
            f"{RECORD} keeps memories in Qdrant, and no Qdrant is named: they would be gone with "
            "the process; set COGNITIVE_MEMORY_QDRANT__URL"
        )
    if settings.storage.vectors not in ("sqlite", "qdrant"):
        raise ConfigurationError(
            f"{RECORD} keeps vectors beside their memories; unset "
            f"COGNITIVE_MEMORY_STORAGE__VECTORS={settings.storage.vectors}"
        )
    project = QdrantProject(QdrantConnection(options))
    return QdrantRecord(project), QdrantRecordVectors(project)


def refuse_without_file(settings: Settings) -> None:
    """Raise ``ConfigurationError`` where the store is not a file that could be worked on."""
    if is_record_in_qdrant(settings):
        raise ConfigurationError(
            f"{RECORD}: the store is no file, so that backup, restore, vacuum and reembed have "
            "nothing to work on; use the snapshots of Qdrant, or 'cognitive-memory export' and "
            "'cognitive-memory import' into another COGNITIVE_MEMORY_QDRANT__PROJECT"
        )
