"""Vectors of another embedding beside those that serve, in the same SQLite file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..core.errors import StorageError
from ..core.interfaces import EmbeddingReplacement
from ..core.memory import CognitiveMemory
from ..core.similarity import Vector
from .database import Database
from .embeddings import SERVING, Embedding, Embeddings
from .memory_rows import select_memories
from .sqlite_vectors import insert_vectors
from .vector_checks import check_vectors

_WITHOUT = "NOT EXISTS (SELECT 1 FROM vectors WHERE memory_pk = pk AND embedding = ?)"
_PREVIOUS = "previous_embedding"


class SQLiteEmbeddingReplacement(EmbeddingReplacement):
    """``EmbeddingReplacement`` over the memories of a ``Database``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._embeddings = Embeddings(database)

    def begin(self, fingerprint: str, dimension: int) -> None:
        """Make the embedding known; nothing changes for searches."""
        with self._database.transaction():
            self._embeddings.add(fingerprint, dimension)

    def serving(self) -> str | None:
        """The embedding that searches use."""
        serving = self._embeddings.serving()
        return serving.fingerprint if serving else None

    def previous(self) -> str | None:
        """The embedding that searches used before, while vectors of it are kept."""
        with self._database.snapshot():
            row = self._database.execute(
                "SELECT fingerprint FROM embeddings JOIN properties "
                "ON name = ? AND embedding = CAST(value AS INTEGER) WHERE EXISTS "
                "(SELECT 1 FROM vectors WHERE vectors.embedding = embeddings.embedding)",
                [_PREVIOUS],
            ).fetchone()
        return None if row is None else str(row[0])

    def count(self, fingerprint: str) -> tuple[int, int]:
        """How many memories have vectors of this embedding, and how many there are."""
        with self._database.snapshot():
            missing, total = self._database.execute(
                f"SELECT count(*) FILTER (WHERE {_WITHOUT}), count(*) FROM memories",
                [self._known(fingerprint).number],
            ).fetchone()
        return total - missing, total

    def find_missing(
        self, fingerprint: str, limit: int, after: str | None = None
    ) -> list[CognitiveMemory]:
        """Memories that have none, at most ``limit``, in the order in which they were stored."""
        with self._database.snapshot():
            return select_memories(
                self._database,
                f"pk > coalesce((SELECT pk FROM memories WHERE id = ?), 0) AND {_WITHOUT} "
                "ORDER BY pk LIMIT ?",
                [after, self._known(fingerprint).number, limit],
            )

    def add_vectors(
        self, fingerprint: str, memories: Sequence[CognitiveMemory], vectors: Sequence[Vector]
    ) -> None:
        """Keep the (chunks, dim) vectors of memories that have none and this text."""
        with self._database.transaction():
            target = self._known(fingerprint)
            check_vectors(memories, vectors, target.dimension)
            texts = dict(
                self._database.execute(
                    "SELECT id, content FROM memories "
                    f"WHERE id IN (SELECT value FROM json_each(?)) AND {_WITHOUT}",
                    [json.dumps([memory.id for memory in memories]), target.number],
                )
            )
            kept = [
                (memory, array)
                for memory, array in zip(memories, vectors, strict=True)
                if texts.get(memory.id) == memory.content
            ]
            insert_vectors(
                self._database,
                target.number,
                [memory for memory, _ in kept],
                [array for _, array in kept],
            )

    def serve(self, fingerprint: str) -> bool:
        """Let searches use it from now on; false, and nothing is done, while memories lack one."""
        with self._database.transaction():
            target = self._known(fingerprint)
            if self._database.execute(
                f"SELECT 1 FROM memories WHERE {_WITHOUT} LIMIT 1", [target.number]
            ).fetchone():
                return False
            serving = self._embeddings.serving()
            if serving is not None and serving != target:
                self._database.execute(
                    "INSERT OR REPLACE INTO properties (name, value) VALUES (?, ?)",
                    [_PREVIOUS, str(serving.number)],
                )
            self._embeddings.serve(target)
        return True

    def discard(self) -> int:
        """Delete the vectors of all embeddings but the one that serves; their number."""
        with self._database.transaction():
            deleted = self._database.execute(
                f"DELETE FROM vectors WHERE embedding IS NOT ({SERVING})"
            ).rowcount
            self._database.execute(f"DELETE FROM embeddings WHERE embedding IS NOT ({SERVING})")
            # Its number is free now, and the next embedding may get it.
            self._database.execute("DELETE FROM properties WHERE name = ?", [_PREVIOUS])
        return deleted

    def _known(self, fingerprint: str) -> Embedding:
        """Raises ``StorageError``; its number is valid within the caller's transaction only."""
        known = self._embeddings.find(fingerprint)
        if known is None:
            raise StorageError(
                f"{fingerprint} is not an embedding of this store, or was discarded meanwhile; "
                "run 'cognitive-memory reembed' again"
            )
        return known
