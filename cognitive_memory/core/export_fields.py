"""The fields of an export's records, each with its check: what a store gave, it must take back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from reprlib import repr as shown
from typing import Any

from .errors import InvalidInputError
from .memory import ConnectionType, MemoryType, as_utc

Check = Callable[[Any], Any]
"""From a JSON value to the field's; raises ``InvalidInputError`` without naming the field."""

_MAX_COUNT = 2**63 - 1


def check_fields(given: Any, checks: Mapping[str, Check], what: str) -> dict[str, Any]:
    """Each field through its check; raises ``InvalidInputError`` that names the field."""
    if not isinstance(given, dict):
        raise InvalidInputError(f"{what} is {shown(given)}; expected an object")
    for name in sorted(checks.keys() ^ given.keys()):
        problem = "lacks" if name in checks else "has an unknown"
        raise InvalidInputError(f"{what} {problem} field {name!r}; export again")
    fields = {}
    for name, check in checks.items():
        try:
            fields[name] = check(given[name])
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from None
    return fields


def anything(value: Any) -> Any:
    """Any value."""
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise InvalidInputError(f"got {shown(value)}; expected a text without NUL")
    return value


def _name(value: Any) -> str:
    if not _text(value).strip():
        raise InvalidInputError("is blank; give at least one visible character")
    return str(value)


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def count(value: Any) -> int:
    """A whole number that 64 bits hold."""
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise InvalidInputError(f"got {shown(value)}; expected a whole number from 0")
    return value


def _level(value: Any) -> int:
    if count(value) > 2:
        raise InvalidInputError(
            f"got {shown(value)}; it must be 0 (concept), 1 (context), 2 (episode)"
        )
    return int(value)


def _share(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise InvalidInputError(f"got {shown(value)}; it must be from 0 to 1")
    return float(value)


def _strength(value: Any) -> float:
    if not _share(value):
        raise InvalidInputError("got 0; it must be above 0, at most 1")
    return float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidInputError(f"got {shown(value)}; expected a list of texts")
    return tuple(_text(each) for each in value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError(f"got {shown(value)}; expected an object")
    return value


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(value))
        if moment.tzinfo is not None:
            return as_utc(moment)
    except (ValueError, OverflowError):
        pass
    raise InvalidInputError(
        f"got {shown(value)}; expected ISO 8601 with its offset, as 2026-01-31T12:00:00Z"
    )


def _one_of(kinds: type[MemoryType] | type[ConnectionType]) -> Check:
    known = {str(kind): kind for kind in kinds}

    def check(value: Any) -> MemoryType | ConnectionType:
        if not isinstance(value, str) or value not in known:
            raise InvalidInputError(f"got {shown(value)}; known: {', '.join(known)}")
        return known[value]

    return check


MEMORY: Mapping[str, Check] = {
    "id": _name,
    "content": _text,
    "hierarchy_level": _level,
    "memory_type": _one_of(MemoryType),
    "importance_score": _share,
    "tags": _texts,
    "source_path": _optional_text,
    "source_type": _text,
    "created_date": _moment,
    "last_accessed": _moment,
    "access_count": count,
    "metadata": _object,
}
CONNECTION: Mapping[str, Check] = {
    "source_id": _name,
    "target_id": _name,
    "connection_type": _one_of(ConnectionType),
    "strength": _strength,
}
