"""Things to test with that a person can check by eye: vectors, memories, filters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from ..core.interfaces import EmbeddingProvider, Span
from ..core.memory import CognitiveMemory, MemoryFilter, MemoryType
from ..core.similarity import Vector, normalize

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When memories were made whose time does not matter."""


class WordLengthProvider(EmbeddingProvider):
    """Vectors that count words by their length: axis 2 for words of two letters, and so on.

    The last axis takes all longer words, axis 0 stands for a text without words. Rows are scaled
    to unit length: ``"we dropped it"`` has two words of 2 letters and one of 7, so axis 2 is
    2 / sqrt(5) and axis 7 is 1 / sqrt(5). With ``words_per_chunk``, longer texts are cut.
    """

    def __init__(
        self, dimension: int = 16, words_per_chunk: int | None = None, name: str = "word-lengths"
    ) -> None:
        self.dimension = dimension
        self.fingerprint = f"{name}/{dimension}"
        self._words_per_chunk = words_per_chunk

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows."""
        counts = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(counts, texts, strict=True):
            for word in text.split() or [""]:
                row[min(len(word), self.dimension - 1)] += 1
        return normalize(counts)

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """Spans of ``words_per_chunk`` words; white space goes with the word after it."""
        return [self._spans(text) for text in texts]

    def _spans(self, text: str) -> list[Span]:
        step = self._words_per_chunk
        ends = [word.end() for word in re.finditer(r"\S+", text)]
        cuts = ends[step - 1 : -1 : step] if step else []
        return list(zip([0, *cuts], [*cuts, len(text)], strict=True))


def make_memory(memory_id: str, content: str | None = None, **fields: Any) -> CognitiveMemory:
    """A memory whose other fields do not matter: ``make_memory("a")`` holds ``"text of a"``."""
    given: dict[str, Any] = {"created_date": NOON, "last_accessed": NOON, **fields}
    text = f"text of {memory_id}" if content is None else content
    return CognitiveMemory(id=memory_id, content=text, **given)


def unit(*values: float) -> Vector:
    """(dim,) float32 of unit length: ``unit(3, 4) -> [0.6, 0.8]``."""
    return normalize(np.array(values, dtype=np.float32))


def _hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


FILTERED_MEMORIES = (
    make_memory(
        "concept",
        "shared words",
        hierarchy_level=0,
        memory_type=MemoryType.SEMANTIC,
        tags=("red", "blue"),
        source_path="/notes/a.md",
        created_date=_hour(0),
    ),
    make_memory(
        "context",
        "shared words",
        hierarchy_level=1,
        memory_type=MemoryType.SEMANTIC,
        tags=("blue",),
        source_path="/notes/a.md",
        created_date=_hour(1),
    ),
    make_memory(
        "episode",
        "shared words",
        tags=("größe", "red"),
        source_path="/notes/b.md",
        created_date=_hour(2),
    ),
    make_memory("loose", "shared words", created_date=_hour(3)),
)
"""Four memories that differ in everything a filter can ask for, an hour between them."""

FILTER_CASES: Mapping[str, tuple[MemoryFilter, set[str]]] = {
    "no condition": (MemoryFilter(), {"concept", "context", "episode", "loose"}),
    "ids": (MemoryFilter(memory_ids=("loose", "concept", "unknown")), {"loose", "concept"}),
    "no id": (MemoryFilter(memory_ids=()), set()),
    "one tag": (MemoryFilter(tags=("red",)), {"concept", "episode"}),
    "any of the tags": (MemoryFilter(tags=("red", "blue")), {"concept", "context", "episode"}),
    "a tag in unicode": (MemoryFilter(tags=("größe",)), {"episode"}),
    "a tag that is part of another": (MemoryFilter(tags=("re",)), set()),
    "no tag": (MemoryFilter(tags=()), set()),
    "source": (MemoryFilter(source_path="/notes/a.md"), {"concept", "context"}),
    "a source that is part of another": (MemoryFilter(source_path="/notes"), set()),
    "one level": (MemoryFilter(hierarchy_levels=(2,)), {"episode", "loose"}),
    "two levels": (MemoryFilter(hierarchy_levels=(0, 1)), {"concept", "context"}),
    "one type": (MemoryFilter(memory_types=("semantic",)), {"concept", "context"}),
    "both types": (
        MemoryFilter(memory_types=("semantic", "episodic")),
        {"concept", "context", "episode", "loose"},
    ),
    "from, inclusive": (MemoryFilter(created_from=_hour(2)), {"episode", "loose"}),
    "until, exclusive": (MemoryFilter(created_until=_hour(2)), {"concept", "context"}),
    "half-open range": (
        MemoryFilter(created_from=_hour(1), created_until=_hour(3)),
        {"context", "episode"},
    ),
    "a microsecond later": (
        MemoryFilter(created_from=_hour(2) + timedelta(microseconds=1)),
        {"loose"},
    ),
    "empty range": (MemoryFilter(created_from=_hour(1), created_until=_hour(1)), set()),
    "tag and level": (MemoryFilter(tags=("red",), hierarchy_levels=(2,)), {"episode"}),
    "source and type": (
        MemoryFilter(source_path="/notes/b.md", memory_types=("episodic",)),
        {"episode"},
    ),
    "each met, but by different memories": (
        MemoryFilter(source_path="/notes/b.md", tags=("blue",)),
        set(),
    ),
    "everything": (
        MemoryFilter(
            memory_ids=("concept", "context"),
            tags=("blue",),
            source_path="/notes/a.md",
            hierarchy_levels=(0, 1),
            memory_types=("semantic",),
            created_from=_hour(1),
            created_until=_hour(2),
        ),
        {"context"},
    ),
}
"""By name: a filter, and the ids of ``FILTERED_MEMORIES`` that it lets through."""
