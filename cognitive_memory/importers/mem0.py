"""Memories of mem0: the JSON of ``get_all()``, of the library and of the platform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.errors import SourceError
from ..core.memory import CognitiveMemory, MemoryConnection
from ..core.similarity import Vector
from .foreign import VECTORS, ForeignSource, moment, number_of
from .foreign_json import read_json

_FIELDS = ("id", "memory", "created_at", "categories", "metadata")
"""Keys of a record that are fields here; of the others, all but ``_LOST`` become metadata."""

_LOST = {"hash": "hashes of texts", "score": "scores of a search"}


class Mem0Source(ForeignSource):
    """``{"results": [...]}`` or the list alone; ids are ``mem0:<id>``."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        given = read_json(path)
        self._whole = given if isinstance(given, dict) else {"results": given}
        records = self._whole.get("results")
        if not isinstance(records, list) or not all(_is_record(each) for each in records):
            raise SourceError(
                f"{path} is no result of mem0's get_all(): expected a list 'results' of records "
                "with 'id' and 'memory'"
            )
        self._records: list[dict[str, Any]] = records

    def memories(self) -> Iterator[tuple[CognitiveMemory, Vector | None]]:
        """Each record once."""
        self._losses.clear()
        self._lose(VECTORS, len(self._records))
        self._count_lost()
        taken: set[str] = set()
        for record in self._records:
            memory = self._read(record)
            if memory is None:
                continue
            if memory.id in taken:
                self._lose("records with the id of an earlier one")
                continue
            taken.add(memory.id)
            yield memory, None

    def connections(self) -> Iterator[MemoryConnection]:
        """None: mem0's relations are between entities, not memories."""
        return iter(())

    def _count_lost(self) -> None:
        relations = self._whole.get("relations")
        self._lose("relations between entities", number_of(relations))
        for name, what in _LOST.items():
            self._lose(what, sum(record.get(name) is not None for record in self._records))
        expiring = sum(record.get("expiration_date") is not None for record in self._records)
        self._lose("expiration dates (kept as metadata, nothing expires)", expiring)
        total = self._whole.get("count")
        if self._whole.get("next") and isinstance(total, int):
            self._lose("records on other pages (save and import each)", total - len(self._records))

    def _read(self, record: dict[str, Any]) -> CognitiveMemory | None:
        if (known := self._id(record["id"])) is None:
            return None
        others = {
            name: value
            for name, value in record.items()
            if name not in _FIELDS and name not in _LOST and value is not None
        }
        fields = {
            "tags": self._tags(record.get("categories")),
            "source_type": "mem0",
            "metadata": self._metadata({**others, **self._metadata(record.get("metadata"))}),
        }
        created = moment(record.get("created_at"))
        return self._memory(f"mem0:{known}", record["memory"], created, fields)


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= {"id", "memory"}
