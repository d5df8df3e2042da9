"""The fake and the real provider against the contract."""

from __future__ import annotations

import numpy as np
import pytest

from cognitive_memory.testing import EmbeddingProviderContract, WordLengthProvider


class TestONNXProvider(EmbeddingProviderContract):
    """With the fixture ``provider`` of this repository: the real model."""


class TestWordLengthProvider(EmbeddingProviderContract):
    @pytest.fixture(params=[None, 3], ids=["whole texts", "chunks of three words"])
    def provider(self, request: pytest.FixtureRequest) -> WordLengthProvider:
        return WordLengthProvider(words_per_chunk=request.param)


def test_axes_count_words_by_length() -> None:
    vector = WordLengthProvider(dimension=10).encode("we dropped it")
    expected = np.zeros(10)
    expected[2], expected[7] = 2 / np.sqrt(5), 1 / np.sqrt(5)
    np.testing.assert_allclose(vector, expected, atol=1e-7)


def test_the_last_axis_takes_all_longer_words() -> None:
    vectors = WordLengthProvider(dimension=4).encode_batch(["abc", "abcdefgh"])
    assert vectors.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]


def test_a_text_without_words_lies_on_the_first_axis() -> None:
    assert WordLengthProvider(dimension=4).encode(" \n").tolist() == [1, 0, 0, 0]


def test_chunks_are_cut_behind_words() -> None:
    provider = WordLengthProvider(words_per_chunk=2)
    text = " one two  three four five "
    (spans,) = provider.chunk_batch([text])
    assert [text[start:end] for start, end in spans] == [" one two", "  three four", " five "]


def test_the_fingerprint_names_what_decides_the_vectors() -> None:
    assert WordLengthProvider().fingerprint == "word-lengths/16"
    assert WordLengthProvider(8, name="other").fingerprint == "other/8"
