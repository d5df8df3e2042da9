"""For tests that start a process which coverage must not measure."""

from __future__ import annotations

import os


def unmeasured() -> dict[str, str]:
    """The environment without coverage's variables.

    Its locks may be taken when a process forks or is interrupted, and then it hangs.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}
