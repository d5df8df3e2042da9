"""What a memory itself adds to its score: who said it, its likeness, freshness and importance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ..core.interfaces import DimensionExtractor
from ..core.memory import CognitiveMemory, MemoryType
from ..core.similarity import cosine
from .decay import retention

SPEAKER_KEYS = ("speaker", "author")
"""Where loaders say in a memory's metadata who it is from."""

SECONDS_A_DAY = 86_400.0
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Weights:
    """The most that each part adds to a score; 0 leaves a part out.

    ``activation`` is a factor of what neighbors pass on, which many of them can make large.
    Half-lives are in days.
    """

    semantic: float = 1.0
    lexical: float = 0.5
    activation: float = 1.0
    speaker: float = 0.3
    importance: float = 0.05
    recency: float = 0.0
    access: float = 0.0
    dimensions: float = 0.0
    episodic_half_life_days: float = 30.0
    semantic_half_life_days: float = 365.0


def own_parts(
    query: str,
    memories: Sequence[CognitiveMemory],
    weights: Weights,
    now: datetime,
    extractor: DimensionExtractor | None,
) -> dict[str, dict[str, float]]:
    """For each part that weighs something, its value by memory id."""
    values: dict[str, NDArray[np.floating]] = {}
    if weights.speaker > 0:
        values["speaker"] = weights.speaker * named_speakers(query, memories)
    if weights.importance > 0:
        scores = np.array([memory.importance_score for memory in memories])
        values["importance"] = weights.importance * scores
    if weights.recency > 0:
        values["recency"] = weights.recency * freshness(memories, weights, now)
    if weights.access > 0:
        counts = np.array([memory.access_count for memory in memories], dtype=np.float64)
        # Each further access says less: 0, 0.41, 0.58, 0.71 at 0, 1, 3, 10 accesses.
        values["access"] = weights.access * (1 - 1 / (1 + np.log1p(counts)))
    if weights.dimensions > 0 and extractor is not None and memories:
        rows = extractor.extract_batch([query, *(memory.content for memory in memories)])
        values["dimensions"] = weights.dimensions * cosine(rows[0], rows[1:])
    ids = [memory.id for memory in memories]
    return {name: dict(zip(ids, column.tolist(), strict=True)) for name, column in values.items()}


def named_speakers(query: str, memories: Sequence[CognitiveMemory]) -> NDArray[np.float64]:
    """(n,) 1 for the memories of each speaker or author whom the query names, else 0.

    A question that names a person is mostly about what that person said. A name counts when all of
    it, or its first word, stands in the query; a word that need not be a name ("will", "the") only
    where it is written as one.
    """
    speakers = [_speaker(memory) for memory in memories]
    named = {name for name in set(speakers) if name and _is_named(name, query)}
    return np.array([float(name in named) for name in speakers])


def _speaker(memory: CognitiveMemory) -> str:
    names = (memory.metadata.get(key) for key in SPEAKER_KEYS)
    return next((name for name in names if isinstance(name, str)), "")


def _is_named(name: str, query: str) -> bool:
    parts = [part.casefold() for part in _WORD.findall(name)]
    words = _WORD.findall(query)
    folded = {word.casefold() for word in words}
    if not name.isascii() and name.casefold() in query.casefold():
        return True  # also where no space stands between words
    if len(parts) > 1 and folded.issuperset(parts):
        return True
    if not parts or parts[0] not in folded:
        return False
    from .proper_names import STOP_WORDS

    if parts[0] not in STOP_WORDS and len(parts[0]) > 1:
        return True
    # As the first word of a question, it is capitalized for that alone.
    return len(parts) == 1 and any(word == name for word in words[1:])


def freshness(
    memories: Sequence[CognitiveMemory], weights: Weights, now: datetime
) -> NDArray[np.float64]:
    """(n,) in [0, 1]: 1 for what was stored or shown just now, half after its kind's half-life."""
    ages = [(now - memory.last_accessed).total_seconds() for memory in memories]
    days = [
        weights.episodic_half_life_days
        if memory.memory_type == MemoryType.EPISODIC
        else weights.semantic_half_life_days
        for memory in memories
    ]
    return retention(np.array(ages), SECONDS_A_DAY * np.array(days))
