"""Reads of a record in Qdrant: what the server holds, as the thread that asks has changed it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core.memory import MemoryConnection, MemoryFilter
from .qdrant_changes import Changes
from .qdrant_filters import matching
from .qdrant_points import slices
from .qdrant_project import QdrantProject
from .qdrant_record_payload import EDGE_FIELDS, to_edges


class RecordReads:
    """What the operations of a ``QdrantRecord`` look up; nothing is there before it is bound."""

    def __init__(self, project: QdrantProject) -> None:
        self._project = project

    def stored(
        self, filters: MemoryFilter | None, fields: Sequence[str]
    ) -> Iterator[Mapping[str, Any]]:
        """The first points of the memories on the server that match, in no certain order."""
        points = self._project.points()
        condition = matching(self._project.options.project, filters)
        if points is not None and condition is not None:
            for record in points.scroll(points.first_points(condition), fields):
                yield record.payload

    def existing(self, memory_ids: Iterable[str]) -> set[str]:
        """Those of them that are there, as this thread has changed them."""
        changed = self._project.transactions.changes().memories
        wanted = set(memory_ids)
        found = {each for each in wanted if changed.get(each)}
        points = self._project.points()
        if points is not None:
            stored = points.first_of(wanted - changed.keys(), ())
            found |= {payload["memory_id"] for payload in stored}
        return found

    def look_up_edges(
        self, memory_ids: Collection[str], changes: Changes
    ) -> dict[str, tuple[MemoryConnection, ...]]:
        """Those that begin at each of these memories that exist; kept with the changes."""
        points = self._project.points()
        if points is not None:
            missing = [each for each in memory_ids if each not in changes.edges]
            for payload in points.first_of(missing, EDGE_FIELDS):
                changes.edges[payload["memory_id"]] = to_edges(payload)
        return {each: changes.edges[each] for each in memory_ids if each in changes.edges}

    def edges_to(self, targets: Collection[str], changes: Changes) -> list[MemoryConnection]:
        """Those that end at one of these memories."""
        from qdrant_client import models

        points = self._project.points()
        if points is not None:
            for some in slices(sorted(targets), self._project.options.batch_size):
                ends_there = models.FieldCondition(
                    key="targets", match=models.MatchAny(any=list(some))
                )
                for record in points.scroll(points.first_points(ends_there), EDGE_FIELDS):
                    given = record.payload
                    changes.edges.setdefault(given["memory_id"], to_edges(given))
        wanted = set(targets)
        return [
            edge for edges in changes.edges.values() for edge in edges if edge.target_id in wanted
        ]
