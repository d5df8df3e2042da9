"""From texts to vectors that are as ``EmbeddingProvider`` promises, whoever wrote the provider."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .errors import EmbeddingError
from .interfaces import EmbeddingProvider
from .similarity import Vector, first_unsound


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
    found = first_unsound(rows)
    if found is not None:
        place, length = found
        raise EmbeddingError(
            f"{provider.fingerprint} gave a vector of length {length:.3g} for text "
            f"{place + 1} of {count}, expected 1; correct the provider, or set "
            "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
        )
    return rows.astype(np.float32, copy=False)


def model_of(fingerprint: str, other: str) -> str:
    """What to set, so that the model of ``fingerprint`` is back where ``other`` is configured."""
    (name, *parts), (other_name, *other_parts) = fingerprint.split("/"), other.split("/")
    if name != other_name:
        return f"COGNITIVE_MEMORY_EMBEDDING__MODEL={name}"
    if len(parts) == len(other_parts) == 3 and parts[0] != other_parts[0]:
        if "static" in (parts[0], other_parts[0]):
            provider = "static" if parts[0] == "static" else "onnx"
            return f"COGNITIVE_MEMORY_EMBEDDING__PROVIDER={provider}"
        return f"COGNITIVE_MEMORY_EMBEDDING__PRECISION={parts[0]}"
    if len(parts) == len(other_parts) == 3 and parts[2] == other_parts[2]:
        return f"COGNITIVE_MEMORY_EMBEDDING__DIMENSION={parts[1]}"
    # Other files, or more of a text.
    return f"COGNITIVE_MEMORY_EMBEDDING__MODEL to the folder of the {name} that gave them"
