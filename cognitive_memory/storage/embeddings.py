"""Which embeddings a store holds vectors of, and which of them serves."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.embedding import model_of
from ..core.errors import FingerprintMismatchError, StorageError
from .database import Database

SERVING = "SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'embedding'"
"""The number of the one that searches use."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """What decides vectors, by the number under which a store holds them."""

    number: int
    fingerprint: str
    dimension: int


class Embeddings:
    """The embeddings of a ``Database``; one of them serves, others are being made or were left."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def serving(self) -> Embedding | None:
        """The one that searches use, ``None`` before the first vector is announced."""
        with self._database.snapshot():
            row = self._database.execute(
                f"SELECT embedding, fingerprint, dimension FROM embeddings "
                f"WHERE embedding = ({SERVING})"
            ).fetchone()
        return None if row is None else Embedding(*row)

    def required(self) -> Embedding:
        """The one that serves; raises ``StorageError`` when there is none."""
        serving = self.serving()
        if serving is None:
            raise StorageError("no embedding is bound to this store; call bind_embedding first")
        return serving

    def find(self, fingerprint: str) -> Embedding | None:
        """One of those that the store knows."""
        with self._database.snapshot():
            row = self._database.execute(
                "SELECT embedding, fingerprint, dimension FROM embeddings WHERE fingerprint = ?",
                [fingerprint],
            ).fetchone()
        return None if row is None else Embedding(*row)

    def bind(self, fingerprint: str, dimension: int) -> None:
        """Let it serve; raises ``FingerprintMismatchError`` as ``check`` does."""
        serving = self.serving()
        if serving is not None and serving.fingerprint == fingerprint:
            return
        with self._database.transaction():
            self.check(fingerprint)
            self.serve(self.add(fingerprint, dimension))

    def check(self, fingerprint: str) -> None:
        """Raise ``FingerprintMismatchError`` if vectors of another embedding serve."""
        serving = self.serving()
        if serving is None or serving.fingerprint == fingerprint or not self._has_vectors(serving):
            return
        raise FingerprintMismatchError(
            f"{self._database.path} holds vectors of {serving.fingerprint}, the configured model "
            f"gives {fingerprint}; run 'cognitive-memory reembed' to embed all memories anew, or "
            f"set {model_of(serving.fingerprint, fingerprint)}, "
            "or COGNITIVE_MEMORY_DATA_DIR to another folder"
        )

    def add(self, fingerprint: str, dimension: int) -> Embedding:
        """The embedding of this fingerprint, made known if it is not, within a transaction.

        One that holds vectors keeps their dimension.
        """
        self._database.execute(
            "INSERT INTO embeddings (fingerprint, dimension) VALUES (?, ?) "
            "ON CONFLICT (fingerprint) DO UPDATE SET dimension = excluded.dimension WHERE NOT "
            "EXISTS (SELECT 1 FROM vectors WHERE vectors.embedding = embeddings.embedding)",
            [fingerprint, dimension],
        )
        added = self.find(fingerprint)
        assert added is not None
        return added

    def serve(self, embedding: Embedding) -> None:
        """Searches use its vectors from the end of the caller's transaction on."""
        self._database.execute(
            "INSERT OR REPLACE INTO properties (name, value) VALUES ('embedding', ?)",
            [str(embedding.number)],
        )

    def _has_vectors(self, embedding: Embedding) -> bool:
        with self._database.snapshot():
            row = self._database.execute(
                "SELECT 1 FROM vectors WHERE embedding = ? LIMIT 1", [embedding.number]
            ).fetchone()
        return row is not None
