"""Embeddings from ONNX Runtime: the same vectors as sentence-transformers, without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import RLock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CognitiveMemoryError, EmbeddingError, InvalidInputError
from ..core.interfaces import EmbeddingProvider, Span
from ..core.model_files import TOKENIZER_FILE, ModelConfig, ModelFolder
from ..core.similarity import Vector
from .batching import pad_batch, plan_batches
from .runtime import import_runtime, open_session, runtime_errors

if TYPE_CHECKING:
    import onnxruntime

    from .tokenization import TextTokenizer

TEXTS_IN_FLIGHT = 1024
"""Texts that are tokenized and sorted together; it bounds the memory of a large call."""


class ONNXEmbeddingProvider(EmbeddingProvider):
    """A converted model folder as an ``EmbeddingProvider``; safe to use from many threads.

    ``model`` is the folder, which is read at the first use, or a ``ModelFolder`` that knows how
    to bring it here. ``workers`` inferences run at once, each on one thread; 0 means one for each
    core that this process may use.

    Raises at first use: ``ModelNotFoundError``, ``ModelIntegrityError``.
    """

    def __init__(
        self,
        model: str | Path | ModelFolder,
        *,
        token_budget: int = 512,
        batch_size: int = 32,
        workers: int = 0,
    ) -> None:
        self._model = model if isinstance(model, ModelFolder) else ModelFolder(lambda: Path(model))
        self._token_budget = token_budget
        self._batch_size = batch_size
        self._workers = workers or _usable_cores()
        self._lock = RLock()
        self._loaded: tuple[TextTokenizer, onnxruntime.InferenceSession] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def config(self) -> ModelConfig:
        """What the model's folder says of it."""
        with self._lock:
            return self._model.config

    @property
    def model_path(self) -> Path:
        """The portable graph."""
        with self._lock:
            return self._model.path / self._model.graph

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a vector."""
        return self.config.dimension

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Name of the embedding; see ``ModelConfig.fingerprint``."""
        return self.config.fingerprint

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows, in the order of ``texts``.

        A text beyond the model's length is cut there; ``chunk_batch`` gives spans that fit. A
        blank text has a vector, too (that of no words), as in sentence-transformers.

        Raises ``InvalidInputError`` for what is not a valid string, ``EmbeddingError`` when
        closed or when the runtime fails.
        """
        check_texts(texts)
        tokenizer, session = self._load()
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_IN_FLIGHT):
            rows = tokenizer.token_ids(texts[start : start + TEXTS_IN_FLIGHT])
            batches = plan_batches([len(row) for row in rows], self._token_budget, self._batch_size)

            def infer(batch: NDArray[np.intp], rows: list[list[int]] = rows) -> Vector:
                return _run(session, [rows[index] for index in batch])

            for batch, part in zip(batches, self._map(infer, batches), strict=True):
                vectors[start + batch] = part
        return vectors

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text the spans that fit the model's length, cut between words.

        Raises as ``encode_batch`` does.
        """
        check_texts(texts)
        tokenizer, _ = self._load()
        return tokenizer.chunk_spans(texts)

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model."""
        return {
            "name": self.config.name,
            "dimension": self.dimension,
            "max_length": self.config.max_length,
            "pooling": self.config.pooling,
            "precision": self.config.precision,
            "fingerprint": self.fingerprint,
            "path": str(self.model_path),
            "workers": self._workers,
        }

    def warm_up(self) -> None:
        """Load the model in the background; what goes wrong is raised by the next use."""

        def load() -> None:
            with suppress(CognitiveMemoryError):
                self._load()

        # Not a daemon: an interpreter that ends amid a load of native code aborts.
        Thread(target=load, name="embedding-warm-up").start()

    def close(self) -> None:
        """Release the model; any later use raises ``EmbeddingError``."""
        with self._lock:
            self._closed = True
            self._loaded = None
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _load(self) -> tuple[TextTokenizer, onnxruntime.InferenceSession]:
        with self._lock:
            self._check_open()
            if self._loaded is None:
                self._loaded = self._open_model()
            return self._loaded

    def _check_open(self) -> None:
        if self._closed:
            raise EmbeddingError("this provider is closed; create another one")

    def _open_model(self) -> tuple[TextTokenizer, onnxruntime.InferenceSession]:
        model = self._model
        model.begin_check(model.runtime_graph)  # in parallel with the imports
        runtime = import_runtime()
        from .tokenization import TextTokenizer

        tokenizer = TextTokenizer(model.checked(TOKENIZER_FILE), model.config.max_length)
        graph = model.checked(model.runtime_graph)
        if _version(runtime.__version__) < _version(model.config.onnxruntime):
            graph = model.checked(model.graph)
        return tokenizer, open_session(graph)

    def _map(
        self, infer: Callable[[NDArray[np.intp]], Vector], batches: list[NDArray[np.intp]]
    ) -> Any:
        if len(batches) == 1 or self._workers == 1:
            return map(infer, batches)
        with self._lock:
            self._check_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="embedding")
            return self._pool.map(infer, batches)


def check_texts(texts: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` for anything that is not a string of valid Unicode.

    One string is a sequence of strings, too, but never meant as one: ``TypeError``.
    """
    if isinstance(texts, str):
        raise TypeError("a sequence of texts is needed, not one text; for one there is encode")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"text {index} is a {type(text).__name__}; expected a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"text {index} is not valid Unicode: a lone surrogate "
                f"{text[error.start]!r} at character {error.start}; decode it as UTF-8 first"
            ) from None


def _run(session: onnxruntime.InferenceSession, rows: list[list[int]]) -> Vector:
    ids, mask = pad_batch(rows)
    try:
        outputs = session.run(["embeddings"], {"input_ids": ids, "attention_mask": mask})
    except runtime_errors() as error:
        raise EmbeddingError(f"inference on {ids.shape} tokens failed: {error}") from error
    return np.asarray(outputs[0], dtype=np.float32)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
