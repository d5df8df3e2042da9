"""What every ``EmbeddingProvider`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from ..core.errors import DimensionMismatchError
from ..core.interfaces import EmbeddingProvider
from ..core.similarity import Vector

TEXTS = (
    "we dropped Redis",
    "the cache hit rate was three percent",
    "Größe, naïveté, 日本語, Ελληνικά, العربية and a 🦊",
    "",
    " \t\n",
    "?!",
    "word " * 700,
    "x" * 5_000,
    "we dropped Redis",
)
"""Short, long, blank, without spaces, in many scripts, and one of them twice."""

ROUNDING = 1e-5
"""By how much a cosine may depend on what else was in the batch."""


def _assert_same(first: Vector, second: Vector) -> None:
    np.testing.assert_allclose(first, second, atol=ROUNDING)


class EmbeddingProviderContract:
    """Define the fixture ``provider``, which gives an ``EmbeddingProvider``."""

    def test_names_its_dimension_and_fingerprint(self, provider: EmbeddingProvider) -> None:
        assert provider.dimension > 0
        assert provider.get_embedding_dimension() == provider.dimension
        assert provider.fingerprint.strip()

    def test_describes_itself_in_json(self, provider: EmbeddingProvider) -> None:
        info = json.loads(json.dumps(provider.get_model_info()))
        assert info["dimension"] == provider.dimension
        assert info["fingerprint"] == provider.fingerprint

    def test_rows_are_finite_float32_of_unit_length(self, provider: EmbeddingProvider) -> None:
        vectors = provider.encode_batch(TEXTS)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), provider.dimension)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=ROUNDING)

    def test_no_texts_give_no_rows(self, provider: EmbeddingProvider) -> None:
        vectors = provider.encode_batch([])
        assert vectors.dtype == np.float32
        assert vectors.shape == (0, provider.dimension)

    @pytest.mark.parametrize("text", ["a question", ""])
    def test_one_text_gives_one_vector(self, provider: EmbeddingProvider, text: str) -> None:
        for vector in (provider.encode(text), provider.encode_query(text)):
            assert vector.dtype == np.float32
            assert vector.shape == (provider.dimension,)
            assert np.linalg.norm(vector) == pytest.approx(1, abs=ROUNDING)

    def test_a_batch_equals_its_texts_one_by_one(self, provider: EmbeddingProvider) -> None:
        _assert_same(
            provider.encode_batch(TEXTS), np.stack([provider.encode(text) for text in TEXTS])
        )

    def test_rows_keep_the_order_of_the_texts(self, provider: EmbeddingProvider) -> None:
        _assert_same(provider.encode_batch(TEXTS), provider.encode_batch(TEXTS[::-1])[::-1])

    def test_the_same_call_gives_the_same_vectors(self, provider: EmbeddingProvider) -> None:
        np.testing.assert_array_equal(provider.encode_batch(TEXTS), provider.encode_batch(TEXTS))

    def test_different_texts_differ(self, provider: EmbeddingProvider) -> None:
        first, second = provider.encode_batch(TEXTS[:2])
        assert provider.compute_similarity(first, second) < 0.99

    def test_chunks_cover_each_text_in_order(self, provider: EmbeddingProvider) -> None:
        spans = provider.chunk_batch(TEXTS)
        assert len(spans) == len(TEXTS)
        for text, cuts in zip(TEXTS, spans, strict=True):
            assert cuts == sorted(cuts)
            assert (cuts[0][0], cuts[-1][1]) == (0, len(text))
            for (_, end), (start, _) in pairwise(cuts):
                assert start <= end

    def test_chunks_fit_the_model(self, provider: EmbeddingProvider) -> None:
        cuts = [
            text[start:end]
            for text, spans in zip(TEXTS, provider.chunk_batch(TEXTS), strict=True)
            for start, end in spans
        ]
        assert [len(spans) for spans in provider.chunk_batch(cuts)] == [1] * len(cuts)

    def test_no_texts_have_no_chunks(self, provider: EmbeddingProvider) -> None:
        assert provider.chunk_batch([]) == []

    def test_similarity_is_the_cosine(self, provider: EmbeddingProvider) -> None:
        vectors = provider.encode_batch(TEXTS)
        scores = provider.compute_batch_similarity(vectors[0], vectors)
        assert scores.shape == (len(TEXTS),)
        assert np.all(np.abs(scores) <= 1)
        assert scores[0] == scores[-1] == pytest.approx(1, abs=ROUNDING)
        _assert_same(scores, vectors @ vectors[0])
        for vector, score in zip(vectors, scores, strict=True):
            single = provider.compute_similarity(vectors[0], vector)
            assert single == pytest.approx(float(score), abs=ROUNDING)
            assert provider.compute_similarity(vector, vectors[0]) == pytest.approx(single)

    def test_vectors_of_other_lengths_are_refused(self, provider: EmbeddingProvider) -> None:
        vector = provider.encode("a question")
        with pytest.raises(DimensionMismatchError, match="the same model"):
            provider.compute_similarity(vector, vector[1:])

    def test_many_threads_get_the_vectors_of_one(self, provider: EmbeddingProvider) -> None:
        expected = provider.encode_batch(TEXTS)
        with ThreadPoolExecutor(4) as pool:
            for vectors in pool.map(provider.encode_batch, [TEXTS] * 8):
                _assert_same(vectors, expected)
