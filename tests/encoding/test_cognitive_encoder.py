"""A provider, an extractor and a fusion layer behave as one provider."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.cognitive_encoder import CognitiveEncoder
from cognitive_memory.encoding.dimensions import CognitiveDimensionExtractor
from cognitive_memory.encoding.fusion import CognitiveFusionLayer
from cognitive_memory.testing import EmbeddingProviderContract, WordLengthProvider

TEXTS = ["we are so happy today", "why does it always break", "", "the cat sat on the mat"]
EXTRACTOR = CognitiveDimensionExtractor()


class Prompting(WordLengthProvider):
    """Embeds a question otherwise than a document, and remembers what is done to it."""

    def __init__(self) -> None:
        super().__init__(words_per_chunk=2)
        self.calls: list[str] = []

    def encode_query(self, text: str) -> Vector:
        return self.encode(f"query {text}")

    def warm_up(self) -> None:
        self.calls.append("warm_up")

    def close(self) -> None:
        self.calls.append("close")


def encoder(semantic: float = 1, dimension: float = 1) -> CognitiveEncoder:
    return CognitiveEncoder(Prompting(), EXTRACTOR, CognitiveFusionLayer(semantic, dimension))


class TestCognitiveEncoder(EmbeddingProviderContract):
    @pytest.fixture(params=[(1, 0), (0.7, 0.3)], ids=["semantic", "both"])
    def provider(self, request: pytest.FixtureRequest) -> CognitiveEncoder:
        fusion = CognitiveFusionLayer(*request.param)
        return CognitiveEncoder(WordLengthProvider(words_per_chunk=3), EXTRACTOR, fusion)


def test_vectors_are_the_fused_parts() -> None:
    both = encoder(3, 1)
    semantic = WordLengthProvider().encode_batch(TEXTS)
    expected = both.fusion.fuse(semantic, EXTRACTOR.extract_batch(TEXTS))
    assert np.array_equal(both.encode_batch(TEXTS), expected)
    assert both.dimension == expected.shape[1] == 16 + 16 + 1


def test_similarity_is_the_weighted_sum() -> None:
    both, semantic, dimensions = encoder(3, 1), encoder(1, 0), encoder(0, 1)
    sums = [
        0.75 * semantic.compute_batch_similarity(rows, semantic.encode_batch(TEXTS))
        + 0.25 * dimensions.compute_batch_similarity(others, dimensions.encode_batch(TEXTS))
        for rows, others in zip(
            semantic.encode_batch(TEXTS), dimensions.encode_batch(TEXTS), strict=True
        )
    ]
    vectors = both.encode_batch(TEXTS)
    for row, expected in zip(vectors, sums, strict=True):
        np.testing.assert_allclose(both.compute_batch_similarity(row, vectors), expected, atol=1e-6)


def test_a_question_is_the_providers_question() -> None:
    both = encoder()
    semantic = Prompting().encode_query("why now?")[None]
    expected = both.fusion.fuse(semantic, EXTRACTOR.extract_batch(["why now?"]))[0]
    assert np.array_equal(both.encode_query("why now?"), expected)
    assert not np.array_equal(both.encode_query("why now?"), both.encode("why now?"))


def test_the_rest_is_the_providers() -> None:
    both, provider = encoder(), Prompting()
    assert both.chunk_batch(TEXTS) == provider.chunk_batch(TEXTS)
    assert isinstance(both.provider, Prompting)
    with both:
        both.warm_up()
    assert both.provider.calls == ["warm_up", "close"]


def test_the_fingerprint_names_all_three_parts() -> None:
    both = encoder(3, 1)
    inner = ("word-lengths/16", EXTRACTOR.fingerprint, both.fusion.fingerprint)
    assert both.fingerprint == "+".join(inner)
    assert "/0.75:0.25/" in both.fingerprint
    assert encoder(1, 1).fingerprint != both.fingerprint == encoder(6, 2).fingerprint


def test_it_describes_how_it_fuses() -> None:
    info = json.loads(json.dumps(encoder(3, 1).get_model_info()))
    assert (info["fusion"]["semantic_share"], info["fusion"]["dimension_share"]) == (0.75, 0.25)
    assert info["fusion"]["axes"] == list(EXTRACTOR.axes)
    assert info["fingerprint"] == encoder(3, 1).fingerprint


def test_a_layer_for_other_axes_is_refused() -> None:
    fusion = CognitiveFusionLayer(1, 1, axes=("a", "b"))
    with pytest.raises(InvalidInputError, match=r"has the axes frust.*, the fusion layer a, b; ma"):
        CognitiveEncoder(WordLengthProvider(), EXTRACTOR, fusion)


@pytest.mark.parametrize("texts", [["fine", "\ud800"], ["fine", "a\udfff"]])
def test_bad_input_is_named_by_its_place(texts: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"^text 1 is not valid Unicode"):
        encoder().encode_batch(texts)
