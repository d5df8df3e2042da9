"""What the importers of other systems share: careful fields, and an account of what is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import InvalidInputError, SourceError
from ..core.experience import MAX_WORD_BYTES, check_text, to_memory
from ..core.interfaces import ImportSource
from ..core.memory import CognitiveMemory, as_utc
from .sniffing import reason

VECTORS = "vectors (texts are embedded anew by the configured model)"


class ForeignSource(ImportSource):
    """A file of another system. What cannot be kept is left out and counted, and stops nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._max_text_bytes = 0
        self._losses: dict[str, int] = {}
        try:
            self._modified = datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {path}: {reason(error)}; check the path") from None

    def check(self, max_text_bytes: int) -> int:
        """Read everything; the number of memories that can be taken."""
        self._max_text_bytes = max_text_bytes
        count = sum(1 for _ in self.memories())
        for _ in self.connections():
            pass
        return count

    def losses(self) -> Mapping[str, int]:
        """Reasons with counts."""
        return self._losses

    def _lose(self, what: str, count: int = 1) -> None:
        if count:
            self._losses[what] = self._losses.get(what, 0) + count

    def _memory(
        self,
        memory_id: str,
        text: Any,
        created: datetime | None,
        fields: Mapping[str, Any],
        **exact: Any,
    ) -> CognitiveMemory | None:
        """A memory, ``None`` for a text that cannot be kept.

        ``fields`` are those of ``to_memory`` and must be sound; ``exact`` are set as they are.
        """
        if not isinstance(text, str) or not text.strip():
            self._lose("memories without text")
            return None
        try:
            check_text(text, self._max_text_bytes)
        except InvalidInputError:
            limit = f"{self._max_text_bytes:,} bytes"
            self._lose(f"memories whose text holds NUL, is no Unicode or exceeds {limit}")
            return None
        if created is None:
            self._lose("creation times (the file's own time was taken)")
        memory = to_memory(
            text,
            fields,
            memory_id=memory_id,
            now=created or self._modified,
            max_bytes=self._max_text_bytes,
        )
        return replace(memory, **exact)

    def _id(self, value: Any) -> str | None:
        """The id as a text, ``None`` for one that names nothing."""
        if isinstance(value, str | int):
            try:
                return check_text(str(value), self._max_text_bytes)
            except InvalidInputError:
                pass
        self._lose("memories without a usable id")
        return None

    def _tags(self, values: Any) -> list[str]:
        """Those that can be kept."""
        if values is None:
            return []
        given = values if isinstance(values, list) else [None]
        tags = [tag for value in given if (tag := self._word(value))]
        self._lose("tags that are blank, no text or too long", len(given) - len(tags))
        return tags

    def _word(self, value: Any) -> str | None:
        """A name that can be kept, ``None`` for any other value."""
        try:
            return check_text(value, MAX_WORD_BYTES)
        except InvalidInputError:
            return None

    def _metadata(self, values: Any) -> dict[str, Any]:
        """Them, if JSON can keep them."""
        if values is None:
            return {}
        try:
            if isinstance(values, dict):
                json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
                return dict(values)
        except (TypeError, ValueError, RecursionError):
            pass
        self._lose("metadata that is no JSON object")
        return {}

    def _count(self, value: Any) -> int:
        is_count = isinstance(value, int) and 0 <= value < 2**63
        return value if is_count else 0


def moment(value: Any) -> datetime | None:
    """Aware UTC from ISO 8601 (naive is local) or seconds since 1970; ``None`` for neither."""
    try:
        if isinstance(value, str):
            return as_utc(datetime.fromisoformat(value))
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def parsed(text: Any) -> Any:
    """The value of a JSON text; the text itself where it is none, ``None`` for ``None``."""
    try:
        return None if text is None else json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def number_of(values: Any) -> int:
    """How many a JSON list or object holds; 0 for any other value, which holds none."""
    return len(values) if isinstance(values, list | dict) else 0


def first_missing(needed: Mapping[str, Sequence[str]], tables: Mapping[str, set[str]]) -> str:
    """The first table or column that is not there, as a text; empty when all are."""
    for table, columns in needed.items():
        if table not in tables:
            return f"table {table!r}"
        for column in columns:
            if column not in tables[table]:
                return f"column {table}.{column}"
    return ""
