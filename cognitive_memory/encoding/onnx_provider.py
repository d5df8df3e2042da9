"""Embeddings from ONNX Runtime: the same vectors as sentence-transformers, without torch."""

from __future__ import annotations

import logging
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CognitiveMemoryError, EmbeddingError, InvalidInputError
from ..core.interfaces import EmbeddingProvider, Span
from ..core.model_files import TOKENIZER_FILE, ModelConfig, ModelFolder
from ..core.resources import usable_cores
from ..core.similarity import Vector, normalize
from .batching import pad_batch, plan_batches
from .combining import Combiner
from .runtime import OPTIMIZATION_LEVELS, Sessions, import_runtime, runtime_errors

if TYPE_CHECKING:
    from .tokenization import TextTokenizer, Tokens

_LOG = logging.getLogger(__name__)

TEXTS_IN_FLIGHT = 1024
"""Texts that are tokenized and sorted together; it bounds the memory of a large call."""

OVERFLOWS = ("truncate", "error", "chunk")


class ONNXEmbeddingProvider(EmbeddingProvider):
    """A converted model folder as an ``EmbeddingProvider``; safe to use from many threads.

    ``model`` is the folder, which is read at the first use, or a ``ModelFolder`` that knows how
    to bring it here. A large call runs ``workers`` inferences at once, each on one thread; a
    single text runs on ``threads`` threads; 0, and more than that, mean one for each core that
    this process may use (affinity mask and cgroup quota).
    ``optimization``: ``all`` runs the prepared graph of fused operators; ``extended``, ``basic``
    and ``none`` run the portable graph, rewritten that far on loading. ``overflow`` says what
    becomes of a text beyond the model's length: ``truncate`` cuts it, logs the first and
    counts all,
    ``error`` raises ``InvalidInputError``, ``chunk`` gives the normalized mean of its chunks.

    After a ``fork`` the child loads the model again at its first use. Raises
    ``InvalidInputError`` for arguments out of range, and at first use ``ModelNotFoundError`` or
    ``ModelIntegrityError``.
    """

    def __init__(
        self,
        model: str | Path | ModelFolder,
        *,
        token_budget: int = 512,
        batch_size: int = 32,
        workers: int = 0,
        threads: int = 0,
        optimization: str = "all",
        overflow: str = "truncate",
    ) -> None:
        _check_choice("optimization", optimization, OPTIMIZATION_LEVELS)
        _check_choice("overflow", overflow, OVERFLOWS)
        cores = usable_cores()
        _check_least("token_budget", token_budget, 1)
        _check_least("batch_size", batch_size, 1)
        _check_least("workers", workers, 0)
        _check_least("threads", threads, 0)
        self._model = model if isinstance(model, ModelFolder) else ModelFolder(lambda: Path(model))
        self._token_budget = token_budget
        self._batch_size = batch_size
        self._workers = min(workers, cores) or cores
        self._threads = min(threads, cores) or cores
        self._optimization = optimization
        self._overflow = overflow
        self._texts_cut = self._tokens_cut = 0
        self._closed = False
        self._reset()
        _ALIVE.add(self)

    def _reset(self) -> None:
        """Forget what belongs to the threads of this process, and load again when needed."""
        self._lock = RLock()
        self._counting = Lock()
        self._running = 0
        # One more than run at once: it stands ready while another changes hands in Python.
        places = self._workers + 1
        self._combiner = Combiner(self._infer, places, self._token_budget, self._batch_size)
        self._sessions = Sessions(self._locate_graph, self._threads, self._optimization)
        self._tokenizer: TextTokenizer | None = None
        self._pool: ThreadPoolExecutor | None = None

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

        A text beyond the model's length goes by ``overflow``; ``chunk_batch`` gives spans that
        fit. A blank text has a vector, too (that of no words), as in sentence-transformers.

        Raises ``InvalidInputError`` for what is not a valid string, ``EmbeddingError`` when
        closed or when the runtime fails.
        """
        check_texts(texts)
        if self._overflow == "chunk":
            return self._encode_chunks(texts)
        return self._encode(texts)

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text the spans that fit the model's length, cut between words.

        Raises as ``encode_batch`` does.
        """
        check_texts(texts)
        return self._load_tokenizer().chunk_spans(texts)

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model, and how much text was cut so far."""
        return {
            "name": self.config.name,
            "dimension": self.dimension,
            "max_length": self.config.max_length,
            "pooling": self.config.pooling,
            "precision": self.config.precision,
            "fingerprint": self.fingerprint,
            "path": str(self.model_path),
            "workers": self._workers,
            "threads": self._threads,
            "optimization": self._optimization,
            "overflow": self._overflow,
            "texts_cut": self._texts_cut,
            "tokens_cut": self._tokens_cut,
        }

    def warm_up(self) -> None:
        """Load the model in the background; what goes wrong is raised by the next use."""
        # Imported here: beside this thread's own imports it would take twice as long.
        import_runtime()
        sessions = self._sessions

        def load() -> None:
            with suppress(CognitiveMemoryError):
                sessions.single  # noqa: B018  opened by being asked for

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
        self._sessions.close()

    def _load_tokenizer(self) -> TextTokenizer:
        with self._lock:
            self._check_open()
            if self._tokenizer is None:
                from .tokenization import TextTokenizer

                path = self._model.checked(TOKENIZER_FILE)
                self._tokenizer = TextTokenizer(path, self.config.max_length)
            return self._tokenizer

    def _locate_graph(self) -> Path:
        """The graph to run, every byte checked."""
        with self._lock:
            self._check_open()
            model, name = self._model, self._model.graph
            written_by, runs_on = model.config.onnxruntime, import_runtime().__version__
            # A runtime older than the one that wrote the prepared graph may not read it.
            if self._optimization == "all" and _version(runs_on) >= _version(written_by):
                name = model.runtime_graph
        return model.checked(name)

    def _check_open(self) -> None:
        if self._closed:
            raise EmbeddingError("this provider is closed; create another one")

    def _encode(self, texts: Sequence[str]) -> Vector:
        tokenizer = self._load_tokenizer()
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start, tokens in self._tokenized(texts, tokenizer):
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
            session = self._sessions.single if alone else self._sessions.bulk
            outputs = session.run(["embeddings"], {"input_ids": ids, "attention_mask": mask})
        except runtime_errors() as error:
            raise EmbeddingError(f"inference on {ids.shape} tokens failed: {error}") from error
        finally:
            with self._counting:
                self._running -= 1
        return np.asarray(outputs[0], dtype=np.float32)

    def _tokenized(
        self, texts: Sequence[str], tokenizer: TextTokenizer
    ) -> Iterator[tuple[int, Tokens]]:
        """The tokens of each window of texts with its start; the next is tokenized meanwhile."""
        following: Future[Tokens] | None = None
        for start in range(0, len(texts), TEXTS_IN_FLIGHT):
            end = start + TEXTS_IN_FLIGHT
            tokens = following.result() if following else tokenizer.tokenize(texts[start:end])
            following = None
            if end < len(texts) and self._workers > 1:
                upcoming = texts[end : end + TEXTS_IN_FLIGHT]
                following = self._executor().submit(tokenizer.tokenize, upcoming)
            yield start, tokens

    def _encode_chunks(self, texts: Sequence[str]) -> Vector:
        spans = self._load_tokenizer().chunk_spans(texts)
        chunks = [
            text[start:end] for text, cuts in zip(texts, spans, strict=True) for start, end in cuts
        ]
        vectors = self._encode(chunks)
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


_ALIVE: weakref.WeakSet[ONNXEmbeddingProvider] = weakref.WeakSet()


def _after_fork() -> None:
    """In the child: threads and locks did not come along, so nothing that needs them is kept.

    Sessions are put aside, not destroyed: that would wait forever for threads of the parent.
    """
    for provider in list(_ALIVE):
        provider._sessions.abandon()
        provider._model.forget_checks()
        provider._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInputError(f"got {name} {value!r}; known: {', '.join(known)}")


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InvalidInputError(f"got {name} {value}; it must be at least {least}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
