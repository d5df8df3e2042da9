"""Search by words over the stems in Qdrant, ranked as the SQLite record ranks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.memory import MemoryFilter, TextHit
from .qdrant_changes import Changes, matches
from .qdrant_filters import matching, point_id
from .qdrant_points import slices
from .qdrant_project import QdrantProject, RecordPoints
from .qdrant_words import Expression
from .word_ranking import MAX_POSTINGS, Pks, WordRanking, rank_by_words
from .words import phrase, query_words

MOST_HOLDERS = 20_000
"""Memories that are looked at for a query of common words only, for each of three words."""

_IDS_AT_ONCE = 1_000


class WordSearch:
    """One query. Points are numbered as they are found; numbers stand for keys of memories.

    Beside what the server holds it sees the changes of an open transaction.
    """

    def __init__(
        self, project: QdrantProject, points: RecordPoints, changes: Changes, query: str
    ) -> None:
        self._project = project.options.project
        self._stemmer = project.stemmer
        self._points = points
        self._words = query_words(query)
        self._changed = list(changes.memories)
        alive = [memory for memory in changes.memories.values() if memory]
        self._pending = {
            point_id(self._project, memory.id, 0): (memory, stems)
            for memory, stems in zip(alive, self._stemmer.stems_of(alive), strict=True)
        }
        self._numbers: dict[str, int] = {}
        self._rare: dict[str, list[str]] = {}
        """The first holders of each word of the query."""
        self._condition: Any | None = None

    def run(self, k: int, filters: MemoryFilter | None, also: Collection[str]) -> list[TextHit]:
        """The ``k`` best, best first, ties by id, and those of ``also``."""
        if not self._words or k <= 0:
            return []
        self._condition = matching(self._project, filters) if filters else None
        self._look_up(list(map(phrase, self._words)))
        ranking = rank_by_words(self._words, self._postings, self._count())
        allowed = None if filters is None else self._allowed(ranking, filters)
        asked = [point_id(self._project, memory_id, 0) for memory_id in also]
        known = [self._numbers[each] for each in asked if each in self._numbers]
        chosen = ranking.choose(k, allowed, np.array(known, dtype=np.int64))
        described = self._describe(chosen)
        scores = ranking.scores({number: length for number, (_, length) in described.items()})
        inside = set(scores) if allowed is None else set(allowed.tolist())
        hits = [
            TextHit(described[number][0], score)
            for number, score in scores.items()
            if number in inside
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.memory_id))
        kept = set(also)
        return hits[:k] + [hit for hit in hits[k:] if hit.memory_id in kept]

    def _look_up(self, expressions: Sequence[str]) -> None:
        """The first holders of all words in one request, numbered in order of their points."""
        parsed = self._stemmer.parse(expressions)
        found = self._holders(parsed, MAX_POSTINGS + 1)
        self._rare = dict(zip(expressions, found, strict=True))
        for point in sorted({point for points in found for point in points}):
            self._numbers[point] = len(self._numbers)

    def _postings(self, expression: str, limit: int) -> Pks:
        points = self._rare.get(expression)
        if points is None or limit > MAX_POSTINGS + 1:
            parsed = self._stemmer.parse([expression])
            (points,) = self._holders(parsed, min(limit, MOST_HOLDERS))
            if self._condition is not None and len(points) == MOST_HOLDERS:
                # So that a filter finds its own among more than can be looked at.
                (others,) = self._holders(parsed, MOST_HOLDERS, self._condition)
                points = sorted({*points, *others})
        numbers = [self._numbers.setdefault(point, len(self._numbers)) for point in points]
        return np.array(numbers, dtype=np.int64)

    def _holders(
        self, expressions: Sequence[Expression], limit: int, condition: Any | None = None
    ) -> list[list[str]]:
        """For each expression points of memories that meet it, in order of their ids."""
        possible = [each for each in expressions if each.is_possible]
        conditions = [self._first_points(each.condition(), condition) for each in possible]
        stored = iter(self._points.matching_points(conditions, limit))
        found = []
        for each in expressions:
            points = next(stored) if each.is_possible else []
            own = [point for point, (_, stems) in self._pending.items() if each.is_met(stems)]
            found.append(sorted([*points, *own])[:limit] if own else points)
        return found

    def _count(self) -> int:
        return self._points.count(self._first_points()) + len(self._pending)

    def _allowed(self, ranking: WordRanking, filters: MemoryFilter) -> Pks:
        """Those of the holders that meet the filter."""
        names = list(self._numbers)
        holders = [names[number] for number in np.flatnonzero(ranking.sums).tolist()]
        found = [
            point
            for point in holders
            if point in self._pending and matches(self._pending[point][0], filters)
        ]
        if self._condition is not None:
            from qdrant_client import models

            for some in slices(holders, _IDS_AT_ONCE):
                among = models.HasIdCondition(has_id=list(some))
                condition = self._first_points(self._condition, among)
                found += self._points.matching_points([condition], len(some))[0]
        return np.array([self._numbers[point] for point in found], dtype=np.int64)

    def _describe(self, chosen: Pks) -> Mapping[int, tuple[str, int]]:
        """The id and the length in characters of each; those deleted meanwhile are absent."""
        names = list(self._numbers)
        points = [names[number] for number in chosen.tolist()]
        described = {
            self._numbers[point]: (self._pending[point][0].id, len(self._pending[point][0].content))
            for point in points
            if point in self._pending
        }
        stored = [point for point in points if point not in self._pending]
        for record in self._points.retrieve(stored, ("memory_id", "length")):
            given = record.payload
            described[self._numbers[str(record.id)]] = given["memory_id"], int(given["length"])
        return described

    def _first_points(self, *conditions: Any | None) -> Any:
        """The first points of memories that are not changed."""
        from qdrant_client import models

        return self._points.first_points(
            *(each for each in conditions if each is not None),
            unlike=[
                models.FieldCondition(key="memory_id", match=models.MatchAny(any=self._changed))
            ]
            if self._changed
            else [],
        )
