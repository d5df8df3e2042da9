"""Is a model good enough? What it is measured by before it is written.

Agreement: the cosine of each vector with that of the fp32 model. Retrieval retention: nDCG@10
(Järvelin and Kekäläinen, 2002) of questions over the passages that answer them, as a share of
what the fp32 model reaches. The held texts take no part in calibration.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConversionError, InvalidInputError
from ..core.interfaces import EmbeddingProvider
from ..core.similarity import Vector

DEPTH = 10


@dataclass(frozen=True, slots=True)
class HeldTexts:
    """Questions and the passages that answer them, in the same order."""

    queries: Sequence[str]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class HeldVectors:
    """(n, dim) float32 unit rows of each."""

    queries: Vector
    texts: Vector


@dataclass(frozen=True, slots=True)
class Quality:
    """How near a model is to the fp32 one."""

    mean_cosine: float
    min_cosine: float
    retention: float
    """nDCG@10 as a share of that of the fp32 model; above 1 it found more."""

    def __str__(self) -> str:
        return (
            f"mean cosine {self.mean_cosine:.4f}, minimum {self.min_cosine:.4f}, "
            f"retrieval retention {self.retention:.1%}"
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """The least that a model must reach."""

    mean_cosine: float = 0.995
    retention: float = 0.99

    def passes(self, quality: Quality) -> bool:
        """Whether both are reached; NaN is not."""
        return quality.mean_cosine >= self.mean_cosine and quality.retention >= self.retention

    def check(self, quality: Quality, name: str) -> None:
        """Raise ``ConversionError`` for less."""
        if not self.passes(quality):
            raise ConversionError(
                f"{name} is below the gate and was not written: {quality}; needed are mean cosine "
                f"{self.mean_cosine:g} and retention {self.retention:.1%}; keep more of it in fp32 "
                "(model quantize --search finds what) or calibrate with texts like your own"
            )


def load_held_texts(path: Path | None = None) -> HeldTexts:
    """Lines of ``{"query": ..., "text": ...}``; those of this package by default.

    Raises ``InvalidInputError`` for a file that holds none, or anything else.
    """
    pairs = _read_lines(path, "held.jsonl")
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, dict) or not all(
            isinstance(pair.get(key), str) for key in ("query", "text")
        ):
            raise InvalidInputError(
                f"{path} line {number}: an object with 'query' and 'text' is expected"
            )
    return HeldTexts([pair["query"] for pair in pairs], [pair["text"] for pair in pairs])


def load_calibration_texts(path: Path | None = None) -> list[str]:
    """One text a line, in a ``.jsonl`` file as a JSON string; those of this package by default.

    Raises ``InvalidInputError`` for a file that holds none, or anything else.
    """
    if path is not None and path.suffix != ".jsonl":
        return [line.strip() for line in _lines(path)]
    texts = _read_lines(path, "calibration.jsonl")
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"{path} line {number}: a JSON string is expected")
    return texts


def _read_lines(path: Path | None, default: str) -> list[Any]:
    values = []
    for number, line in enumerate(_lines(path, default), 1):
        try:
            values.append(json.loads(line))
            json.dumps(values[-1], ensure_ascii=False).encode()  # an escape may be half of a pair
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"{path} line {number} is no JSON of valid Unicode: {error}"
            ) from None
    return values


def _lines(path: Path | None, default: str = "") -> list[str]:
    try:
        source = path or files(__package__) / "texts" / default
        content = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from None
    lines = [line for line in content.split("\n") if line.strip()]
    if not lines:
        raise InvalidInputError(f"{path} holds no text; give some that are like your own")
    return lines


def embed_held(provider: EmbeddingProvider, held: HeldTexts) -> HeldVectors:
    """Passages as documents, questions as queries."""
    queries = np.stack([provider.encode_query(query) for query in held.queries])
    return HeldVectors(queries, provider.encode_batch(held.texts))


def compare(found: HeldVectors, reference: HeldVectors) -> Quality:
    """The quality of ``found`` beside the vectors of the fp32 model.

    Raises ``InvalidInputError`` for held texts of which the fp32 model finds none.
    """
    cosines = np.concatenate(
        [
            np.einsum("nd,nd->n", found.queries, reference.queries, dtype=np.float64),
            np.einsum("nd,nd->n", found.texts, reference.texts, dtype=np.float64),
        ]
    )
    reached = ndcg(reference)
    if reached <= 0:
        raise InvalidInputError(
            "the fp32 model finds none of the held passages, so nothing can be compared; "
            "give others, each passage once"
        )
    retention = ndcg(found) / reached
    return Quality(float(cosines.mean()), float(cosines.min()), retention)


def ndcg(vectors: HeldVectors) -> float:
    """Mean nDCG@10, with one relevant passage for each question; ties count against it.

    >>> one = np.eye(2, dtype=np.float32)
    >>> ndcg(HeldVectors(one, one)), round(ndcg(HeldVectors(one, one[::-1])), 3)
    (1.0, 0.631)
    """
    scores = vectors.queries @ vectors.texts.T
    own = np.diag(scores)[:, None]
    ranks = (~(scores < own)).sum(axis=1)  # so that NaN counts against it, too
    return float(np.where(ranks <= DEPTH, 1 / np.log2(1 + ranks), 0.0).mean())


def as_record(quality: Quality) -> dict[str, float]:
    """For a model's description, in digits that mean something."""
    return {name: round(value, 6) for name, value in asdict(quality).items()}
