"""What a provider gives is checked before anything is stored, cached or searched with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from systems import open_system

from cognitive_memory.core.embedding import checked_rows, embed_texts, model_of
from cognitive_memory.core.errors import EmbeddingError
from cognitive_memory.core.interfaces import EmbeddingProvider, Span
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.cache import CachedEmbeddingProvider
from cognitive_memory.testing import WordLengthProvider

TEXTS = ["we dropped redis", "an elephant"]

Change = Callable[[Vector], Any]


class Altered(WordLengthProvider):
    """Gives what ``change`` makes of the rows."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        rows: Vector = self.change(super().encode_batch(texts))
        return rows


class Cutting(WordLengthProvider):
    """Cuts every batch into these spans."""

    def __init__(self, *spans: list[Span]) -> None:
        super().__init__()
        self.spans = list(spans)

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        return self.spans


def with_last(value: float) -> Change:
    """The last row full of ``value``."""

    def change(rows: Vector) -> Vector:
        rows[-1] = value
        return rows

    return change


FAULTS: dict[str, tuple[Change, str]] = {
    "a row too few": (lambda rows: rows[1:], r"\(1, 16\) for 2 texts.* \(2, 16\); correct the"),
    "a row too many": (lambda rows: np.concatenate([rows, rows[:1]]), r"\(3, 16\) for 2 texts"),
    "another dimension": (lambda rows: rows[:, :15], r"\(2, 15\) for 2 texts"),
    "one rank too many": (lambda rows: rows[:, None], r"\(2, 1, 16\) for 2 texts"),
    "no array": (lambda rows: rows.tolist(), "list for 2 texts"),
    "nothing": (lambda rows: None, "NoneType for 2 texts"),
    "NaN": (with_last(np.nan), "length nan for text 2 of 2, expected 1; correct the provider"),
    "infinity": (with_last(np.inf), "length inf for text 2 of 2"),
    "too large to square": (with_last(3e38), "length inf for text 2 of 2"),
    "zeros": (with_last(0.0), "length 0 for text 2 of 2"),
    "no unit row": (lambda rows: 2 * rows, "length 2 for text 1 of 2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_provider_that_breaks_its_contract_is_named(fault: str) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(EmbeddingError, match=f"^word-lengths/16 gave .*{message}"):
        embed_texts(Altered(change), TEXTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_of_it_is_stored_or_cached(fault: str, tmp_path: Path) -> None:
    provider = Altered(FAULTS[fault][0])
    cached = CachedEmbeddingProvider(provider, memory_bytes=1_000_000)
    with open_system(tmp_path / "store.db", cached) as system:
        for _ in range(2):
            with pytest.raises(EmbeddingError, match=r"for 2 texts|of 2"):
                system.store_experiences(TEXTS)
        assert system.memories.find_memories() == []
        provider.change = lambda rows: rows
        assert len(system.store_experiences(TEXTS)) == 2


@pytest.mark.parametrize("fault", ["another dimension", "NaN", "zeros", "no unit row"])
def test_nothing_is_searched_with_it(fault: str, tmp_path: Path) -> None:
    provider = Altered(lambda rows: rows)
    with open_system(tmp_path / "store.db", provider) as system:
        system.store_experiences(TEXTS)
        provider.change = FAULTS[fault][0]
        with pytest.raises(EmbeddingError, match="word-lengths/16 gave"):
            system.search("redis")
        with pytest.raises(EmbeddingError, match="word-lengths/16 gave"):
            system.retrieve_memories("redis")


@pytest.mark.parametrize(
    ("spans", "count"), [([[(0, 3)]], 1), ([[(0, 3)], []], 1), ([[(0, 1)]] * 3, 3)]
)
def test_each_text_has_at_least_one_chunk(spans: list[list[Span]], count: int) -> None:
    """One without would be a memory that no search finds."""
    with pytest.raises(EmbeddingError, match=f"cut 2 texts into chunks of {count}; chunk_batch"):
        embed_texts(Cutting(*spans), TEXTS)


def test_each_text_gets_the_rows_of_its_chunks() -> None:
    provider = WordLengthProvider(words_per_chunk=2)
    arrays = embed_texts(provider, ["we dropped redis", "an elephant", ""])
    assert [array.shape for array in arrays] == [(2, 16), (1, 16), (1, 16)]
    chunks = provider.encode_batch(["we dropped", " redis", "an elephant", ""])
    np.testing.assert_array_equal(np.concatenate(arrays), chunks)
    assert all(array.base is None for array in arrays), "none holds the rows of the others"


def test_no_texts_have_no_rows() -> None:
    assert embed_texts(WordLengthProvider(), []) == []


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_rows_of_any_precision_are_taken_as_float32(kind: type[np.floating[Any]]) -> None:
    provider: EmbeddingProvider = WordLengthProvider()
    rows = provider.encode_batch(TEXTS)
    taken = checked_rows(provider, rows.astype(kind), 2)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, rows, atol=1e-3)


@pytest.mark.parametrize(
    ("stored", "setting"),
    [
        ("first/fp32/384/aa", "MODEL=first"),
        ("second/int8/384/aa", "PRECISION=int8"),
        ("second/fp32/256/aa", "DIMENSION=256"),
        ("second/fp32/384/bb", "MODEL to the folder of the second that gave them"),
        ("second/4", "MODEL to the folder of the second that gave them"),
    ],
)
def test_what_brings_back_the_model_of_a_store(stored: str, setting: str) -> None:
    assert model_of(stored, "second/fp32/384/aa") == f"COGNITIVE_MEMORY_EMBEDDING__{setting}"
