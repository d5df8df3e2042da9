"""Readers of settings: what was given, a word where it comes from the environment, to a value."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reader = Callable[[Any], Any]
"""From what was given, a string where it comes from the environment, to the value of a field.

Raises ``ValueError`` with what it must be.
"""

_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_WEB_ADDRESS = re.compile(r"https?://[^\s/?#]+(/\S*)?", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,100}")


def text(value: Any) -> str:
    """Any string but an empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError("it must be a word")
    return value


def flag(value: Any) -> bool:
    """A boolean, or one of the words for it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _FLAGS:
        return _FLAGS[value.strip().lower()]
    raise ValueError("it must be true or false (or 1, 0, yes, no, on, off)")


def path(value: Any) -> Path:
    """A path, with the home folder for ``~``."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError("it must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user; give an absolute path") from None


def model_name(value: Any) -> str:
    """A name, or a path with the home folder for ``~``."""
    name = text(os.fspath(value) if isinstance(value, os.PathLike) else value)
    return str(path(name)) if name.startswith("~") else name


def web_address(value: Any) -> str:
    """A URL of HTTP with a host."""
    if isinstance(value, str) and _WEB_ADDRESS.fullmatch(value):
        return value
    raise ValueError("it must be like https://host:6333")


def identifier(value: Any) -> str:
    """What can be part of the name of a collection on a server."""
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    raise ValueError("it must be 1 to 100 letters a-z, digits, '.', '_' or '-'")


def choice(*known: str) -> Reader:
    """One of these words."""

    def read(value: Any) -> str:
        if value not in known:
            raise ValueError(f"it must be one of {', '.join(known)}")
        return str(value)

    return read


def whole(least: int, most: int | None = None) -> Reader:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError("it must be a whole number")
        _check_bounds(number, least, most)
        return number

    return read


def real(least: float, most: float | None = None) -> Reader:
    """A finite number within bounds."""

    def read(value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError("it must be a finite number")
        _check_bounds(number, least, most)
        return number

    return read


def _check_bounds(number: float, least: float, most: float | None) -> None:
    if number < least:
        raise ValueError(f"it must be at least {least:g}")
    if most is not None and number > most:
        raise ValueError(f"it must be at most {most:,}")
