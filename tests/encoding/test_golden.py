"""The vectors are those of sentence-transformers, however the texts are put together."""

from __future__ import annotations

import json
import random
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models.registry import get_recipe
from cognitive_memory.models.verify import TOLERANCE, GoldenSet

CATEGORIES = (
    "blank word query sentence paragraph limit over-limit multilingual emoji control code "
    "markdown number punctuation repeated whitespace case special"
)


def max_error(found: Vector, expected: Vector) -> float:
    """NaN, too, is larger than every limit."""
    assert found.shape == expected.shape
    worst = np.abs(found - expected).max(initial=0.0)
    return float("inf") if np.isnan(worst) else float(worst)


def test_golden_set_has_every_kind_of_text(golden: GoldenSet) -> None:
    assert TOLERANCE == 1e-6
    assert len(golden.texts) == len(set(golden.texts)) >= 60
    path = files("cognitive_memory.models") / "golden" / "all-MiniLM-L6-v2.json"
    entries = json.loads(path.read_text(encoding="utf-8"))["texts"]
    assert {entry["category"] for entry in entries} >= set(CATEGORIES.split())
    assert golden.vectors.shape == (len(golden.texts), 384)
    assert golden.vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(golden.vectors, axis=1) - 1).max() < 1e-6


def test_golden_set_says_where_it_comes_from(golden: GoldenSet) -> None:
    recipe = get_recipe("all-MiniLM-L6-v2")
    assert golden.provenance["weights_sha256"] == recipe.files["model.safetensors"].sha256
    assert golden.provenance["command"] == "python scripts/generate_golden.py --model DIR"
    versions = golden.provenance["generated_with"]
    assert isinstance(versions, dict)
    assert {"torch", "sentence-transformers", "transformers", "tokenizers"} <= versions.keys()


def test_vectors_of_one_text_at_a_time(provider: ONNXEmbeddingProvider, golden: GoldenSet) -> None:
    vectors = np.stack([provider.encode(text) for text in golden.texts])
    assert max_error(vectors, golden.vectors) <= TOLERANCE


def test_vectors_of_all_texts_at_once(provider: ONNXEmbeddingProvider, golden: GoldenSet) -> None:
    assert max_error(provider.encode_batch(golden.texts), golden.vectors) <= TOLERANCE


def test_vectors_of_shuffled_texts(provider: ONNXEmbeddingProvider, golden: GoldenSet) -> None:
    order = random.Random(7).sample(range(len(golden.texts)), len(golden.texts))
    vectors = provider.encode_batch([golden.texts[index] for index in order])
    assert max_error(vectors, golden.vectors[order]) <= TOLERANCE


@pytest.mark.parametrize(
    ("token_budget", "batch_size", "workers"),
    [(1, 1, 1), (64, 4, 2), (512, 32, 0), (4096, 2, 3), (2048, 1000, 1)],
)
def test_vectors_do_not_depend_on_the_settings(
    model_dir: Path, golden: GoldenSet, token_budget: int, batch_size: int, workers: int
) -> None:
    with ONNXEmbeddingProvider(
        model_dir, token_budget=token_budget, batch_size=batch_size, workers=workers
    ) as provider:
        vectors = provider.encode_batch(golden.texts)
    assert max_error(vectors, golden.vectors) <= TOLERANCE


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_vectors_do_not_depend_on_the_other_texts(
    provider: ONNXEmbeddingProvider, golden: GoldenSet, data: st.DataObject
) -> None:
    known = data.draw(st.lists(st.integers(0, len(golden.texts) - 1), max_size=15))
    others = data.draw(st.lists(st.text(max_size=80), max_size=6))
    texts = [golden.texts[index] for index in known] + others
    expected = [*golden.vectors[known], *(provider.encode(text) for text in others)]
    order = data.draw(st.permutations(range(len(texts))))
    vectors = provider.encode_batch([texts[index] for index in order])
    wanted = np.array([expected[index] for index in order], dtype=np.float32).reshape(-1, 384)
    assert max_error(vectors, wanted) <= TOLERANCE


@pytest.mark.parametrize("text", ["", "a", "Where are the keys?", "\U0001f511"])
def test_vectors_do_not_depend_on_the_padding(model_dir: Path, text: str) -> None:
    long = "river stone garden window music letter winter market silver forest " * 30
    # One inference for both: the short text is padded to 256 tokens.
    with ONNXEmbeddingProvider(model_dir, token_budget=1024, workers=1) as provider:
        alone, long_alone = provider.encode(text), provider.encode(long)
        together = provider.encode_batch([text, long, text])
    assert max_error(together, np.stack([alone, long_alone, alone])) <= TOLERANCE


def test_what_is_beyond_the_limit_does_not_count(provider: ONNXEmbeddingProvider) -> None:
    # 254 tokens and the two special ones fit.
    text = " ".join(["river"] * 254)
    vectors = provider.encode_batch([text, f"{text} and much more", " ".join(["river"] * 253)])
    assert max_error(vectors[0], vectors[1]) <= TOLERANCE
    assert max_error(vectors[0], vectors[2]) > TOLERANCE
