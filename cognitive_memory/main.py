"""What front ends call to begin and to end."""

from __future__ import annotations

from .core.errors import CognitiveMemoryError
from .core.interfaces import CognitiveSystem
from .factory import create_system


class InitializationError(CognitiveMemoryError):
    """The system cannot be started; the message says why."""


def initialize_system(profile: str = "default") -> CognitiveSystem:
    """The system that the settings describe; ``default`` is the only profile.

    Raises ``InitializationError`` for whatever stands in the way.
    """
    if profile != "default":
        raise InitializationError(f"unknown profile {profile!r}; known: default")
    try:
        return create_system()
    except CognitiveMemoryError as error:
        raise InitializationError(str(error)) from error


def graceful_shutdown(system: CognitiveSystem) -> bool:
    """Close the system; whether that went well, for callers that are ending anyway."""
    try:
        system.close()
    except CognitiveMemoryError:
        return False
    return True
