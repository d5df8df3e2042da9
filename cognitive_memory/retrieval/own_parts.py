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

    ``activation`` scales what neighbors pass on. Half-lives are in days.
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
    """(n,) in [0, 1]: an equal share for each speaker or author whom the query names.

    A question that names one person is mostly about what that person said: 1 for their memories.
    A name counts when all of it, or its first word, stands in the query.
    """
    words = {word.casefold() for word in _WORD.findall(query)}
    speakers = [_speaker(memory) for memory in memories]
    named = {name for name in set(speakers) if name and _is_named(name, words)}
    share = 1 / len(named) if named else 0.0
    return np.array([share if name in named else 0.0 for name in speakers])


def _speaker(memory: CognitiveMemory) -> str:
    names = (memory.metadata.get(key) for key in SPEAKER_KEYS)
    return next((name.casefold() for name in names if isinstance(name, str)), "")


def _is_named(name: str, words: set[str]) -> bool:
    parts = _WORD.findall(name)
    return bool(parts) and (parts[0] in words or words.issuperset(parts))


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
