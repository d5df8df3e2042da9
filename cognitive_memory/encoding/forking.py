"""Locks that the child of a fork finds free, whatever other threads were doing."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from threading import Lock


class ForkSafeLock:
    """A lock that a forking thread takes first, so that the child finds it free and its data whole.

    ``before_fork`` is called with the lock held; it lets go of what a child must not inherit.
    """

    def __init__(self, before_fork: Callable[[], None] | None = None) -> None:
        self._lock = Lock()
        self._before_fork = before_fork
        _KNOWN.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def hold(self) -> None:
        """Take it for the time of a fork."""
        self._lock.acquire()
        _HELD.append(self)
        if self._before_fork is not None:
            self._before_fork()


_KNOWN: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_HELD: list[ForkSafeLock] = []
_FORKING = Lock()


def _hold_all() -> None:
    _FORKING.acquire()  # two threads that fork at once would wait for each other's locks
    for lock in list(_KNOWN):
        lock.hold()


def _release_all() -> None:
    while _HELD:
        _HELD.pop().__exit__()
    _FORKING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_release_all)
