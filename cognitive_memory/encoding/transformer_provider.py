"""What all transformer models share, whatever engine runs them: texts to tokens to batches.

Tokenizing, prompts, cutting or chunking, planning batches, sharing inferences between threads,
and the child of a fork; the engine only turns token ids into vectors.
"""

from __future__ import annotations

import logging
import os
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import (
    CognitiveMemoryError,
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
)
from ..core.interfaces import EmbeddingProvider, Span
from ..core.model_files import TOKENIZER_FILE, ModelConfig, ModelFolder
from ..core.resources import usable_cores
from ..core.similarity import Vector, normalize
from .batching import pad_batch, plan_batches
from .combining import Combiner
from .engine import Engine
from .texts import check_texts

if TYPE_CHECKING:
    from .tokenization import TextTokenizer, Tokens

_LOG = logging.getLogger(__name__)

TEXTS_IN_FLIGHT = 1024
"""Texts that are tokenized and sorted together; it bounds the memory of a large call."""

OVERFLOWS = ("truncate", "error", "chunk")

DOCUMENT, QUERY = "document", "query"


class TransformerProvider(EmbeddingProvider):
    """A converted model folder as an ``EmbeddingProvider``; implement ``_make_engine``.

    ``model`` is the folder, which is read at the first use, or a ``ModelFolder`` that knows how
    to bring it here. A large call runs ``workers`` inferences at once, each on one thread; a
    single text runs on ``threads`` threads; 0, and more than that, mean one for each core that
    this process may use (affinity mask and cgroup quota). ``overflow`` says what becomes of a
    text beyond the model's length: ``truncate`` cuts it, logs the first and counts all, ``error``
    raises ``InvalidInputError``, ``chunk`` gives the normalized mean of its chunks.

    ``precision`` is what the model must have, by default any; ``dimension`` the length to which
    vectors are cut (and normalized again), one of those that the model was trained for. A model's
    prompt for documents stands before each text, that for queries before ``encode_query``'s.

    After a ``fork`` the child loads the model again at its first use. Raises
    ``InvalidInputError`` for arguments out of range, and at first use ``ModelNotFoundError``,
    ``ModelIntegrityError`` or ``ConfigurationError``.
    """

    def __init__(
        self,
        model: str | Path | ModelFolder,
        *,
        token_budget: int,
        batch_size: int,
        workers: int,
        threads: int,
        overflow: str,
        precision: str | None,
        dimension: int | None,
    ) -> None:
        check_choice("overflow", overflow, OVERFLOWS)
        check_least("token_budget", token_budget, 1)
        check_least("batch_size", batch_size, 1)
        check_least("workers", workers, 0)
        check_least("threads", threads, 0)
        check_least("dimension", 1 if dimension is None else dimension, 1)
        cores = usable_cores()
        self._model = model if isinstance(model, ModelFolder) else ModelFolder(lambda: Path(model))
        self._token_budget = token_budget
        self._batch_size = batch_size
        self._workers = min(workers, cores) or cores
        self._threads = min(threads, cores) or cores
        self._overflow = overflow
        self._precision = precision
        self._dimension = dimension
        self._texts_cut = self._tokens_cut = 0
        self._closed = False
        self._reset()
        _ALIVE.add(self)

    @abstractmethod
    def _make_engine(self) -> Engine:
        """What runs the graph of ``_open_model``'s folder; called once in each process."""

    def _computed(self, precision: str) -> str:
        """The precision of the vectors of a model of ``precision``; the wanted one, or an error."""
        if self._precision not in (None, precision):
            raise ConfigurationError(
                f"COGNITIVE_MEMORY_EMBEDDING__PRECISION={self._precision!r}, but the model in "
                f"{self._model.path} is {precision}; name another model or precision"
            )
        return precision

    def _reset(self) -> None:
        """Forget what belongs to the threads of this process, and load again when needed."""
        self._lock = RLock()
        self._counting = Lock()
        self._running = 0
        # One more than run at once: it stands ready while another changes hands in Python.
        places = self._workers + 1
        self._combiner = Combiner(self._infer, places, self._token_budget, self._batch_size)
        self._engine = self._make_engine()
        self._tokenizer: TextTokenizer | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._config: ModelConfig | None = None

    @property
    def config(self) -> ModelConfig:
        """What the model's folder says of it, with the precision and dimension of the vectors."""
        with self._lock:
            if self._config is None:
                self._config = self._computed_config(self._model.config)
            return self._config

    def _computed_config(self, config: ModelConfig) -> ModelConfig:
        cut = config.cut_to(self._dimension)
        return replace(cut, precision=self._computed(config.precision))

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

        A text beyond the model's length goes by ``overflow``; ``chunk_batch`` gives spans that
        fit. A blank text has a vector, too (that of no words), as in sentence-transformers.

        Raises ``InvalidInputError`` for what is not a valid string, ``EmbeddingError`` when
        closed or when the runtime fails.
        """
        return self._encode_as(DOCUMENT, texts)

    def encode_query(self, text: str) -> Vector:
        """(dim,) float32 of a question, after the model's prompt for queries, if it has one."""
        vector: Vector = self._encode_as(QUERY, [text])[0]
        return vector

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text the spans that fit the model's length, cut between words.

        They fit with the prompt for documents before them. Raises as ``encode_batch`` does.
        """
        check_texts(texts)
        return self._load_tokenizer().chunk_spans(texts, self._prompt(DOCUMENT))

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model, and how much text was cut so far.

        ``device`` is ``auto`` until the first use has chosen one.
        """
        return {
            "name": self.config.name,
            "dimension": self.dimension,
            "max_length": self.config.max_length,
            "pooling": self.config.pooling,
            "precision": self.config.precision,
            "device": self._engine.device,
            "fingerprint": self.fingerprint,
            "path": str(self.model_path),
            "workers": self._workers,
            "threads": self._threads,
            "overflow": self._overflow,
            "texts_cut": self._texts_cut,
            "tokens_cut": self._tokens_cut,
        }

    def warm_up(self) -> None:
        """Load the model in the background; what goes wrong is raised by the next use."""
        engine = self._engine
        with suppress(CognitiveMemoryError):
            # Imported here: beside this thread's own imports it would take twice as long.
            engine.import_library()

        def load() -> None:
            with suppress(CognitiveMemoryError):
                engine.load()

        # Not a daemon: an interpreter that ends amid a load of native code aborts.
        Thread(target=load, name="embedding-warm-up").start()

    def close(self) -> None:
        """Release the model; any later use raises ``EmbeddingError``."""
        with self._lock:
            self._closed = True
            self._tokenizer = None
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        self._engine.close()

    def _open_model(self) -> ModelFolder:
        """The folder, located and described, for an engine that is about to read its graph."""
        with self._lock:
            self._check_open()
            self.config  # noqa: B018  raises where the folder is not what was asked for
            return self._model

    def _load_tokenizer(self) -> TextTokenizer:
        with self._lock:
            self._check_open()
            if self._tokenizer is None:
                from .tokenization import TextTokenizer

                path = self._model.checked(TOKENIZER_FILE)
                tokenizer = TextTokenizer(path, self.config.max_length)
                for prompt in self.config.prompts.values():
                    tokenizer.room(prompt)  # raises where there is none
                self._tokenizer = tokenizer
            return self._tokenizer

    def _check_open(self) -> None:
        if self._closed:
            raise EmbeddingError("this provider is closed; create another one")

    def _prompt(self, kind: str) -> str:
        return self.config.prompts.get(kind, "")

    def _encode_as(self, kind: str, texts: Sequence[str]) -> Vector:
        check_texts(texts)
        tokenizer = self._load_tokenizer()
        if self._overflow == "chunk":
            return self._encode_chunks(texts, self._prompt(kind), tokenizer)
        return self._encode(texts, self._prompt(kind), tokenizer)

    def _encode(self, texts: Sequence[str], prompt: str, tokenizer: TextTokenizer) -> Vector:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start, tokens in self._tokenized(texts, prompt, tokenizer):
            self._report_cuts(start, tokens, tokenizer.max_length)
            rows = tokens.rows
            if len(rows) == 1:
                vectors[start] = self._combiner.run(rows[0])
                continue
            lengths = [len(row) for row in rows]
            batches = plan_batches(lengths, self._token_budget, self._batch_size)

            # A few short texts are faster one batch after the other, each on all threads.
            side_by_side = sum(lengths) > self._token_budget

            def infer(
                batch: NDArray[np.intp],
                rows: list[list[int]] = rows,
                side_by_side: bool = side_by_side,
            ) -> Vector:
                return self._infer([rows[index] for index in batch], side_by_side)

            run = self._map if side_by_side else map
            for batch, part in zip(batches, run(infer, batches), strict=True):
                vectors[start + batch] = part
        return vectors

    def _infer(self, rows: Sequence[list[int]], side_by_side: bool) -> Vector:
        """One inference: alone on all threads, beside others on one."""
        ids, mask = pad_batch(rows)
        with self._counting:
            self._running += 1
            alone = self._running == 1 and not side_by_side
        try:
            vectors = self._engine.infer(ids, mask, alone)
        finally:
            with self._counting:
                self._running -= 1
        if self._dimension is None:
            return vectors
        return normalize(vectors[:, : self._dimension])

    def _tokenized(
        self, texts: Sequence[str], prompt: str, tokenizer: TextTokenizer
    ) -> Iterator[tuple[int, Tokens]]:
        """The tokens of each window of texts with its start; the next is tokenized meanwhile."""

        def tokenize(start: int) -> Tokens:
            window = texts[start : start + TEXTS_IN_FLIGHT]
            return tokenizer.tokenize([prompt + text for text in window] if prompt else window)

        following: Future[Tokens] | None = None
        for start in range(0, len(texts), TEXTS_IN_FLIGHT):
            end = start + TEXTS_IN_FLIGHT
            tokens = following.result() if following else tokenize(start)
            following = None
            if end < len(texts) and self._workers > 1:
                following = self._executor().submit(tokenize, end)
            yield start, tokens

    def _encode_chunks(self, texts: Sequence[str], prompt: str, tokenizer: TextTokenizer) -> Vector:
        spans = tokenizer.chunk_spans(texts, prompt)
        chunks = [
            text[start:end] for text, cuts in zip(texts, spans, strict=True) for start, end in cuts
        ]
        vectors = self._encode(chunks, prompt, tokenizer)
        if len(chunks) == len(texts):
            return vectors
        owners = np.repeat(np.arange(len(texts)), [len(cuts) for cuts in spans])
        sums = np.zeros((len(texts), self.dimension), dtype=np.float32)
        np.add.at(sums, owners, vectors)
        return normalize(sums)

    def _report_cuts(self, start: int, tokens: Tokens, limit: int) -> None:
        cut = [(index, count) for index, count in enumerate(tokens.cut) if count]
        if not cut:
            return
        if self._overflow == "error":
            index, count = cut[0]
            raise InvalidInputError(
                f"text {start + index} has {limit + count:,} tokens, the limit is {limit}; "
                "split it, or set COGNITIVE_MEMORY_EMBEDDING__OVERFLOW to truncate or chunk"
            )
        total = sum(count for _, count in cut)
        with self._counting:
            is_first = not self._texts_cut
            self._texts_cut += len(cut)
            self._tokens_cut += total
        if is_first:
            _LOG.warning(
                "%d of %d texts were cut to %d tokens, %d tokens are not in their vectors; "
                "further cuts are counted in get_model_info()",
                len(cut),
                len(tokens.rows),
                limit,
                total,
            )

    def _map(
        self, infer: Callable[[NDArray[np.intp]], Vector], batches: list[NDArray[np.intp]]
    ) -> Iterator[Vector]:
        if self._workers == 1 or len(batches) == 1:
            return map(infer, batches)
        return self._executor().map(infer, batches)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            self._check_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="embedding")
            return self._pool


_ALIVE: weakref.WeakSet[TransformerProvider] = weakref.WeakSet()


def _after_fork() -> None:
    """In the child: threads and locks did not come along, so nothing that needs them is kept.

    What is native is put aside, not destroyed: that would wait forever for threads of the parent.
    """
    for provider in list(_ALIVE):
        provider._engine.abandon()
        provider._model.forget_checks()
        provider._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` for an argument that is not one of the known words."""
    if value not in known:
        raise InvalidInputError(f"got {name} {value!r}; known: {', '.join(known)}")


def check_least(name: str, value: int, least: int) -> None:
    """Raise ``InvalidInputError`` for an argument that is too small."""
    if value < least:
        raise InvalidInputError(f"got {name} {value}; it must be at least {least}")
