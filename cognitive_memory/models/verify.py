"""Proof that a converted model gives the vectors of the reference implementation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from ..core.errors import ConversionError
from ..core.interfaces import EmbeddingProvider
from ..core.model_files import STATIC, ModelConfig, check_model_file
from ..core.similarity import Vector
from ..encoding import transformer_provider
from ..encoding.onnx_provider import ONNXEmbeddingProvider
from ..encoding.static_provider import StaticEmbeddingProvider

TOLERANCE = 1e-6
"""Largest difference allowed in any of the values of a golden vector."""

QUANTIZED_TOLERANCE = 4.0
"""Largest cosine distance allowed to a quantized model, beside the largest on its held texts."""


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Texts and the vectors that sentence-transformers gives for them, (n, dim) float32."""

    texts: list[str]
    vectors: Vector
    provenance: dict[str, object]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a provider is from the golden vectors."""

    texts: int
    max_error: float
    min_cosine: float


def load_golden(name: str) -> GoldenSet | None:
    """The golden vectors of a model, if there are any (``scripts/generate_golden.py``)."""
    folder = files(__package__) / "golden"
    if not (folder / f"{name}.json").is_file():
        return None
    document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    with as_file(folder / f"{name}.npy") as path:
        vectors = np.load(path, allow_pickle=False)
    texts = [entry["text"] for entry in document.pop("texts")]
    return GoldenSet(texts, vectors, document)


def measure_agreement(provider: EmbeddingProvider, golden: GoldenSet) -> Agreement:
    """Compare every value of every golden vector.

    Raises ``ConversionError`` for vectors of another length.
    """
    with cuts_expected():
        vectors = provider.encode_batch(golden.texts)
    if vectors.shape != golden.vectors.shape:
        raise ConversionError(
            f"the model gives {vectors.shape[1]} dimensions, "
            f"its golden vectors have {golden.vectors.shape[1]}"
        )
    return Agreement(
        len(golden.texts),
        float(np.abs(vectors - golden.vectors).max()),
        float((vectors * golden.vectors).sum(axis=1).min()),
    )


@contextmanager
def cuts_expected() -> Iterator[None]:
    """No warning of cut texts: some golden texts are too long on purpose."""
    log = logging.getLogger(transformer_provider.__name__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def check_golden(folder: Path, config: ModelConfig) -> Agreement | None:
    """Raise ``ConversionError`` if one of the two graphs is not exact; the worse one's agreement.

    ``None`` without golden vectors.
    """
    measured = _measure_graphs(folder, config)
    if not measured:
        return None
    # NaN compares false with everything, so the test is for what is wanted.
    wrong = [each for each in measured if not each.max_error <= TOLERANCE]
    agreement = wrong[0] if wrong else max(measured, key=lambda each: each.max_error)
    if wrong:
        raise ConversionError(
            f"{config.name} differs from its golden vectors by {agreement.max_error:.2g}, "
            f"the limit is {TOLERANCE:g}; the conversion was discarded"
        )
    return agreement


def _measure_graphs(folder: Path, config: ModelConfig) -> list[Agreement]:
    """Of the prepared graph and the portable one; empty without golden vectors."""
    golden = load_golden(config.name)
    if golden is None:
        return []
    measured = []
    for optimization in ("all", "basic"):
        with ONNXEmbeddingProvider(folder, optimization=optimization) as provider:
            measured.append(measure_agreement(provider, golden))
    return measured


def _check_quantized(folder: Path, config: ModelConfig) -> Agreement | None:
    """Raise ``ConversionError`` for a model that is much worse than when it was accepted."""
    measured = _measure_graphs(folder, config)
    if not measured:
        return None
    agreement = min(measured, key=lambda each: each.min_cosine)
    recorded = config.quality.get("min_cosine", 0.0)
    least = 1 - max(QUANTIZED_TOLERANCE * (1 - recorded), 1e-5)
    if not agreement.min_cosine >= least:
        raise ConversionError(
            f"{folder} is at a cosine of {agreement.min_cosine:.4f} from a golden vector, "
            f"{recorded:.4f} was the least when it was made; this machine computes it wrongly"
        )
    return agreement


def verify_model(folder: Path, config: ModelConfig) -> Agreement | None:
    """Check every byte of the model, then its vectors.

    Raises ``ModelIntegrityError`` or ``ConversionError``.
    """
    for name in config.files:
        check_model_file(folder, config, name)
    if config.precision == STATIC:  # far from its teacher by design: that it can be used is all
        StaticEmbeddingProvider(folder).encode_batch([""])
        return None
    if config.precision != "fp32":
        return _check_quantized(folder, config)
    return check_golden(folder, config)
