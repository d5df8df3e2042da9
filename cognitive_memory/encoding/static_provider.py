"""Static embeddings: the mean of one vector for each token, looked up in a table.

No transformer runs, so a text takes microseconds; ``cognitive_memory.models.static`` makes the
table from one (Tulkens and van Dongen 2024, Model2Vec).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import (
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
    ModelIntegrityError,
)
from ..core.interfaces import EmbeddingProvider, Span
from ..core.model_files import STATIC, TOKENIZER_FILE, ModelConfig, ModelFolder
from ..core.similarity import Vector
from .forking import ForkSafeLock
from .texts import check_texts

if TYPE_CHECKING:
    from .tokenization import TextTokenizer

TABLE_FILE = "embeddings.npy"
"""(tokens + 1, dim) float32: the weighted vector of each token by its id, zero for tokens that say
nothing, and last the unit vector of a text without any that does."""

SMALLEST_SUM = 1e-6
"""A sum of token vectors that is shorter has no direction."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: TextTokenizer
    table: Vector
    process: int


class StaticEmbeddingProvider(EmbeddingProvider):
    """A folder of static embeddings as an ``EmbeddingProvider``; safe to use from many threads.

    ``model`` is the folder, which is read at the first use, or a ``ModelFolder`` that knows how to
    make it. ``dimension`` cuts vectors to one of the model's shorter lengths. The table is mapped
    into memory, and shared by the processes that use it.

    A text of any length has a vector, and nothing of it is cut; ``chunk_batch`` still gives spans
    of the transformer's length, since a mean over thousands of words says little. A text without a
    token that the table knows has the vector that the transformer gives to an empty text.

    Raises ``InvalidInputError`` for a dimension below 1, and at first use ``ModelNotFoundError``,
    ``ModelIntegrityError`` or, for a model that is not static or has no such length,
    ``ConfigurationError``.
    """

    def __init__(self, model: str | Path | ModelFolder, *, dimension: int | None = None) -> None:
        if dimension is not None and dimension < 1:
            raise InvalidInputError(f"got dimension {dimension}; it must be at least 1")
        self._model = model if isinstance(model, ModelFolder) else ModelFolder(lambda: Path(model))
        self._dimension = dimension
        self._loaded: _Loaded | None = None
        self._closed = False
        self._lock = ForkSafeLock(before_fork=self._model.forget_checks)

    @cached_property
    def config(self) -> ModelConfig:
        """What the model's folder says of it, with the dimension of the vectors."""
        with self._lock:
            config = self._model.config
        if config.precision != STATIC:
            raise ConfigurationError(
                f"the model in {self._model.path} is {config.precision}, not static; run "
                "'cognitive-memory model distill', or set COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
            )
        return config.cut_to(self._dimension)

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a vector."""
        return self.config.dimension

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Name of the embedding; see ``ModelConfig.fingerprint``."""
        return self.config.fingerprint

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows, in the order of ``texts``, each whatever its length.

        A row does not depend, in any bit, on the other texts. Raises ``InvalidInputError`` for
        what is not a valid string, ``EmbeddingError`` when closed.
        """
        check_texts(texts)
        loaded = self._load()
        table = loaded.table[:, : self.dimension]
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        # A loop beats one reduceat over all texts, four times and more: each text's rows stay in
        # the cache of the processor between being gathered and being added.
        for index, ids in loaded.tokenizer.stream(texts):
            if ids:
                vectors[index] += table[ids].sum(axis=0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unknown = lengths[:, 0] < SMALLEST_SUM
        vectors[unknown] = table[-1]
        lengths[unknown] = np.linalg.norm(table[-1])
        vectors /= lengths
        return vectors

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text spans of the transformer's length, cut between words.

        Raises as ``encode_batch`` does.
        """
        check_texts(texts)
        return self._load().tokenizer.chunk_spans(texts)

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model."""
        return {
            "name": self.config.name,
            "dimension": self.dimension,
            "max_length": self.config.max_length,
            "pooling": self.config.pooling,
            "precision": self.config.precision,
            "fingerprint": self.fingerprint,
            "path": str(self._model.path / TABLE_FILE),
        }

    def warm_up(self) -> None:
        """Check the table's bytes in the background; what goes wrong is raised by the next use."""
        with self._lock:
            self._model.begin_check(TABLE_FILE)

    def close(self) -> None:
        """Release the table; any later use raises ``EmbeddingError``."""
        with self._lock:
            self._closed = True
            self._loaded = None

    def _load(self) -> _Loaded:
        config = self.config
        with self._lock:
            if self._closed:
                raise EmbeddingError("this provider is closed; create another one")
            # The child of a fork reads its own: the parent's tokenizer may have been amid a text.
            if self._loaded is None or self._loaded.process != os.getpid():
                self._model.begin_check(TABLE_FILE)
                from .tokenization import TextTokenizer

                tokenizer = TextTokenizer(self._model.checked(TOKENIZER_FILE), config.max_length)
                table = read_table(self._model.checked(TABLE_FILE), self._model.config.dimension)
                self._check_table(table, tokenizer.vocabulary_size)
                self._loaded = _Loaded(tokenizer, table, os.getpid())
            return self._loaded

    def _check_table(self, table: Vector, tokens: int) -> None:
        if tokens >= len(table):
            raise ModelIntegrityError(
                f"{self._model.path} has {tokens:,} tokens and vectors of {len(table) - 1:,}; "
                "run 'cognitive-memory model distill'"
            )
        if np.linalg.norm(table[-1, : self.dimension]) < SMALLEST_SUM:
            raise ModelIntegrityError(
                f"{self._model.path} has no vector for a text without tokens; "
                "run 'cognitive-memory model distill'"
            )


def read_table(path: Path, dimension: int) -> Vector:
    """The table in ``path``, mapped into memory.

    Raises ``ModelIntegrityError`` unless it is (tokens + 1, dimension) float32.
    """
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelIntegrityError(
            f"{path} is no table of vectors ({error}); run 'cognitive-memory model distill'"
        ) from None
    is_table = isinstance(table, np.ndarray) and table.dtype == np.float32 and table.ndim == 2
    if not is_table or table.shape[1] != dimension or len(table) < 2:
        raise ModelIntegrityError(
            f"{path} holds no float32 table of {dimension} columns; "
            "run 'cognitive-memory model distill'"
        )
    return np.asarray(table)
