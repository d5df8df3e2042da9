"""Consolidation without a language model: a group of related episodes, quoted in one memory.

Which memories: episodic ones of level 2 that were stored one by one or are lines of a
conversation. Files and histories say already what belongs together. Which groups: around the
memory most alike to its neighbors come those neighbors, and only they, so that no chain of small
steps joins what is not related; then around the next that is left. What stands for them: the text
of the memory nearest to all others, and the first sentence of each other, in order of time.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..core.consolidation import SOURCE_TYPE, consolidated_id, members_of
from ..core.interfaces import ConsolidationPlanner
from ..core.memory import (
    CONTEXT,
    EPISODE,
    CognitiveMemory,
    ConnectionType,
    ConsolidationPlan,
    MemoryConnection,
    MemoryGroup,
    MemoryType,
)
from ..core.similarity import Vector, mean_rows

MIN_MEMBERS, MAX_MEMBERS = 3, 20
CONVERSATION = "conversation"

MAX_TEXT, MAX_QUOTE = 1000, 200
"""Characters of the representative's text, and of a sentence beside it."""
MIN_QUOTE = 40
"""A shorter first sentence ("Hi!") says little: the next one comes along."""

_SENTENCE_END = re.compile(r"[.!?\u2026][\"'\u201d\u2019)]*(?=\s|\Z)|[\u3002\uff01\uff1f]")


class ExtractiveConsolidation(ConsolidationPlanner):
    """``ConsolidationPlanner`` over edges between memories that are alike.

    Memories at least ``min_similarity`` alike are connected, at least ``group_similarity`` alike
    grouped, and at least ``duplicate_similarity`` alike counted as duplicates. For the other
    arguments see ``associative_connections`` and ``entity_connections``.
    """

    def __init__(
        self,
        *,
        min_similarity: float = 0.6,
        group_similarity: float = 0.75,
        duplicate_similarity: float = 0.98,
        per_memory: int = 3,
        max_share: float = 0.01,
    ) -> None:
        self._min_similarity = min_similarity
        self._group_similarity = group_similarity
        self._duplicate_similarity = duplicate_similarity
        self._per_memory = per_memory
        self._max_share = max_share

    def plan(
        self, memories: Sequence[CognitiveMemory], vectors: Mapping[str, Vector]
    ) -> ConsolidationPlan:
        """What to write; consolidated memories themselves are neither connected nor grouped."""
        # Not before: each start of the system would pay for the patterns that find names.
        from .linking import associative_connections, entity_connections

        grouped = {member for memory in memories for member in members_of(memory)}
        single = [memory for memory in memories if not members_of(memory)]
        held = [memory.id for memory in single if memory.id in vectors]
        rows = mean_rows([vectors[memory_id] for memory_id in held])
        alike = associative_connections(
            held, rows, per_memory=self._per_memory, min_similarity=self._min_similarity
        )
        named = entity_connections(single, per_memory=self._per_memory, max_share=self._max_share)
        episodes = {memory.id: memory for memory in single if _is_episode(memory)}
        near = [edge for edge in alike if edge.strength >= self._group_similarity]
        places = {memory_id: place for place, memory_id in enumerate(held)}
        groups = [
            _group(
                [episodes[memory_id] for memory_id in cluster],
                rows[[places[memory_id] for memory_id in cluster]],
            )
            for cluster in _clusters(near, episodes.keys() - grouped)
        ]
        twins = [edge for edge in alike if edge.strength >= self._duplicate_similarity]
        return ConsolidationPlan(
            groups=tuple(groups),
            connections=(*alike, *named),
            total_episodic=len(episodes),
            skipped=len(episodes.keys() & grouped),
            duplicates=len({end for edge in twins for end in (edge.source_id, edge.target_id)}),
        )


def _is_episode(memory: CognitiveMemory) -> bool:
    return (
        memory.memory_type == MemoryType.EPISODIC
        and memory.hierarchy_level == EPISODE
        and (memory.source_path is None or memory.source_type == CONVERSATION)
    )


def _clusters(edges: Sequence[MemoryConnection], free: set[str]) -> Iterator[list[str]]:
    """Ids that belong together, sorted: a memory and its free neighbors, the most central first.

    Central is what has most strength in its edges; ties by id, everywhere.
    """
    free = set(free)
    neighbors: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for edge in edges:
        if edge.source_id in free and edge.target_id in free:
            neighbors[edge.source_id].append((-edge.strength, edge.target_id))
            neighbors[edge.target_id].append((-edge.strength, edge.source_id))
    central = sorted(neighbors, key=lambda each: (sum(s for s, _ in neighbors[each]), each))
    for center in central:
        near = [each for _, each in sorted(neighbors[center]) if each in free]
        if center in free and 1 + len(near) >= MIN_MEMBERS:
            cluster = sorted([center, *near[: MAX_MEMBERS - 1]])
            free.difference_update(cluster)
            yield cluster


def _group(members: Sequence[CognitiveMemory], rows: Vector) -> MemoryGroup:
    """What stands for ``members``, sorted by id, given their (n, dim) unit rows."""
    likeness = np.round(rows @ rows.T, 5)
    # The first of equals, which has the smallest id.
    medoid = int(np.round(likeness.sum(axis=1), 4).argmax())
    members_by_time = sorted(members, key=lambda each: (each.created_date, each.id))
    latest = members_by_time[-1].created_date
    ids = [member.id for member in members]
    memory = CognitiveMemory(
        id=consolidated_id(ids),
        content=_content(members[medoid], members_by_time),
        hierarchy_level=CONTEXT,
        memory_type=MemoryType.SEMANTIC,
        importance_score=max(member.importance_score for member in members),
        tags=_shared_tags(members),
        source_type=SOURCE_TYPE,
        created_date=latest,
        last_accessed=latest,
        metadata={"consolidated": True, "representative": ids[medoid], "members": ids},
    )
    edges = [
        MemoryConnection(
            memory.id,
            member.id,
            ConnectionType.HIERARCHICAL,
            min(1.0, max(0.01, float(similarity))),
        )
        for member, similarity in zip(members, likeness[medoid], strict=True)
    ]
    return MemoryGroup(memory, tuple(members), tuple(edges))


def _content(representative: CognitiveMemory, members: Sequence[CognitiveMemory]) -> str:
    text = _shortened(representative.content.strip(), MAX_TEXT)
    others = [
        first_sentence(member.content) for member in members if member.id != representative.id
    ]
    quotes = [each for each in dict.fromkeys(others) if each and each not in text]
    return "\n".join([text, *(["", *(f"- {quote}" for quote in quotes)] if quotes else [])])


def first_sentence(text: str) -> str:
    """The sentence with which ``text`` begins, and further ones until it says something.

    One line of ``MIN_QUOTE`` to ``MAX_QUOTE`` characters, as far as the text goes.
    """
    line = " ".join(text[: 4 * MAX_QUOTE].split())
    for end in _SENTENCE_END.finditer(line):
        if end.end() >= MIN_QUOTE:
            return _shortened(line[: end.end()], MAX_QUOTE)
    return _shortened(line, MAX_QUOTE)


def _shortened(text: str, most: int) -> str:
    """At most ``most`` characters, cut between words where there are some, with an ellipsis."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    words, space, _ = cut.rpartition(" ")
    return (words if space and len(words) > most // 2 else cut).rstrip() + "\u2026"


def _shared_tags(members: Sequence[CognitiveMemory]) -> tuple[str, ...]:
    """Those of at least half of the members, the most frequent first."""
    counts = Counter(tag for member in members for tag in member.tags)
    shared = [tag for tag, count in counts.items() if 2 * count >= len(members)]
    return tuple(sorted(shared, key=lambda tag: (-counts[tag], tag)))
