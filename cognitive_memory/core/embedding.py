"""From texts to vectors that are as ``EmbeddingProvider`` promises, whoever wrote the provider."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .errors import EmbeddingError
from .interfaces import EmbeddingProvider
from .similarity import UNIT_TOLERANCE, Vector


def embed_texts(provider: EmbeddingProvider, texts: Sequence[str]) -> list[Vector]:
    """For each text its (chunks, dim) float32 unit rows.

    Raises ``EmbeddingError`` when the provider fails, or breaks its contract.
    """
    spans = provider.chunk_batch(texts)
    if len(spans) != len(texts) or not all(spans):
        raise EmbeddingError(
            f"{provider.fingerprint} cut {len(texts)} texts into chunks of {sum(map(bool, spans))};"
            " chunk_batch must give at least one span for each text"
        )
    chunks = [
        text[start:end] for text, cuts in zip(texts, spans, strict=True) for start, end in cuts
    ]
    rows = checked_rows(provider, provider.encode_batch(chunks), len(chunks))
    places = np.cumsum([0, *map(len, spans)]).tolist()
    # Copies: a view of one memory's rows would hold those of the whole batch.
    return [rows[start:end].copy() for start, end in pairwise(places)]


def checked_rows(provider: EmbeddingProvider, rows: Vector, count: int) -> Vector:
    """``rows`` as (count, dim) float32, if they are that, finite and of unit length.

    Raises ``EmbeddingError``: a row too few would give a memory the vector of another one, and a
    row of zeros, NaN or infinity would hide it from every search.
    """
    expected = (count, provider.dimension)
    shape = getattr(rows, "shape", type(rows).__name__)
    if shape != expected:
        raise EmbeddingError(
            f"{provider.fingerprint} gave {shape} for {count} texts, expected an array of shape "
            f"{expected}; correct the provider, or set COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
        )
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1)
    sound = np.abs(lengths - 1) <= UNIT_TOLERANCE  # also False for NaN
    if not sound.all():
        place = int(sound.argmin())
        raise EmbeddingError(
            f"{provider.fingerprint} gave a vector of length {lengths[place]:.3g} for text "
            f"{place + 1} of {count}, expected 1; correct the provider, or set "
            "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
        )
    return rows.astype(np.float32, copy=False)


def model_of(fingerprint: str, other: str) -> str:
    """The setting that brings back the model of ``fingerprint``, where ``other`` is configured."""
    name = fingerprint.partition("/")[0]
    if name == other.partition("/")[0]:  # other files, another length or precision
        name = f"the folder of the {name} that gave them"
    return f"COGNITIVE_MEMORY_EMBEDDING__MODEL={name}"
