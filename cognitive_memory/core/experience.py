"""What a caller gives (a text and a loose context) checked and made a memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .errors import InvalidInputError
from .memory import EPISODE, CognitiveMemory, MemoryType, as_utc

MAX_WORD_BYTES = 1024
"""Of a tag or another name."""

_FIELDS = frozenset(
    {"hierarchy_level", "memory_type", "importance_score", "tags", "source_type", "created_date"}
)


def check_text(text: Any, max_bytes: int, name: str = "text") -> str:
    """The text, if it can be kept and searched.

    Raises ``InvalidInputError`` when it is blank, too long, not valid Unicode or holds NUL.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"{name} is a {type(text).__name__}; expected a str")
    if not text.strip():
        raise InvalidInputError(f"{name} is blank; give at least one visible character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{name} is not valid UTF-8 at character {error.start} "
            f"({text[error.start]!r}); convert it to UTF-8"
        ) from None
    if size > max_bytes:
        raise InvalidInputError(
            f"{name} has {size:,} bytes, the limit is {max_bytes:,}; split it, "
            "or raise COGNITIVE_MEMORY_MAX_TEXT_BYTES"
        )
    if "\0" in text:
        raise InvalidInputError(
            f"{name} holds a NUL character at position {text.index(chr(0))}; remove it"
        )
    return text


def to_memory(
    text: str,
    context: Mapping[str, Any] | None,
    *,
    memory_id: str,
    now: datetime,
    max_bytes: int,
) -> CognitiveMemory:
    """A memory of ``text``; ``context`` gives fields by their names, the rest is metadata.

    Known keys: ``hierarchy_level`` (0 concept, 1 context, 2 episode), ``memory_type`` (default:
    episodic at level 2, else semantic), ``importance_score`` (0 to 1), ``tags``, ``source_type``,
    ``created_date`` (datetime or ISO 8601), ``metadata``. Raises ``InvalidInputError``.
    """
    check_text(text, max_bytes)
    if context is not None and not isinstance(context, Mapping):
        raise InvalidInputError(f"context is a {type(context).__name__}; expected a mapping")
    given = dict(context or {})
    level = _level(given.get("hierarchy_level", EPISODE))
    created = _moment(given.get("created_date", now))
    return CognitiveMemory(
        id=memory_id,
        content=text,
        hierarchy_level=level,
        memory_type=_memory_type(given.get("memory_type"), level),
        importance_score=_share(given.get("importance_score", 0.0)),
        tags=_tags(given.get("tags")),
        source_type=_word(given.get("source_type", "manual_entry"), "source_type"),
        created_date=created,
        last_accessed=created,
        metadata=_metadata({key: given[key] for key in given if key not in _FIELDS}),
    )


def _level(value: Any) -> int:
    if isinstance(value, bool) or value not in (0, 1, 2):
        raise InvalidInputError(
            f"got hierarchy_level {value!r}; it must be 0 (concept), 1 (context) or 2 (episode)"
        )
    return int(value)


def _memory_type(value: Any, level: int) -> MemoryType:
    if value is None:
        return MemoryType.EPISODIC if level == EPISODE else MemoryType.SEMANTIC
    try:
        return MemoryType(value)
    except ValueError:
        raise InvalidInputError(
            f"got memory_type {value!r}; it must be 'episodic' or 'semantic'"
        ) from None


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInputError(f"got importance_score {value!r}; it must be from 0 to 1")
    return float(value)


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"got tags {value!r}; expected a list of words")
    return tuple(dict.fromkeys(_word(tag, "tag") for tag in value))


def _word(value: Any, name: str) -> str:
    return check_text(value, MAX_WORD_BYTES, name).strip()


def _moment(value: Any) -> datetime:
    try:
        return as_utc(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise InvalidInputError(
            f"got created_date {value!r}; expected a datetime or ISO 8601, as 2026-01-31T12:00:00Z"
        ) from None


def _metadata(given: dict[str, Any]) -> dict[str, Any]:
    """Nested ``metadata`` and unknown keys, as JSON will give them back."""
    nested = given.pop("metadata", None)
    nested = {} if nested is None else nested
    if not isinstance(nested, Mapping):
        raise InvalidInputError(f"got metadata {nested!r}; expected a mapping")
    try:
        text = json.dumps({**given, **nested}, allow_nan=False, ensure_ascii=False)
        text.encode()
        values: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"context cannot be kept as JSON: {error}") from None
    return values
