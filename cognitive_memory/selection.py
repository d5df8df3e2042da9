"""The implementation that a name in the settings stands for: one of ours, or an entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .core.config import Settings
from .core.errors import ConfigurationError

T = TypeVar("T")


def select(
    settings: Settings,
    name: str,
    known: dict[str, Callable[[Settings], T]],
    group: str,
    variable: str,
) -> T:
    """What ``known`` or the entry point ``name`` of ``group`` makes of the settings.

    Raises ``ConfigurationError`` that names ``variable`` and lists the known names.
    """
    if name in known:
        return known[name](settings)
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=group)}
    if name in installed:
        try:
            make: Callable[[Settings], T] = installed[name].load()
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"{variable}={name!r} stands for {installed[name].value}, "
                f"which cannot be imported: {error}"
            ) from error
        return make(settings)
    names = ", ".join(sorted({*known, *installed}))
    raise ConfigurationError(f"{variable}={name!r} is not known; known: {names}")
