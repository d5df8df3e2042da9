"""The machine that a benchmark runs on, and how busy others keep it meanwhile."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from cognitive_memory.core.resources import usable_cores


class ForeignLoad:
    """Cores that processes other than this one and its children keep busy (Linux)."""

    def __init__(self) -> None:
        self._begin = self._now()

    def cores(self) -> float | None:
        """The mean since the beginning; children count once they have ended."""
        if self._begin is None or (now := self._now()) is None:
            return None
        seconds, foreign = (after - before for after, before in zip(now, self._begin, strict=True))
        return max(0.0, foreign / seconds)

    @staticmethod
    def _now() -> tuple[float, float] | None:
        """Seconds of the clock, and of processor time that others have used."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        except OSError:
            return None
        user, nice, system, _idle, _wait, irq, softirq, *_ = (int(f) for f in line.split()[1:])
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy - sum(os.times()[:4])


def environment(foreign_cores: float | None) -> dict[str, Any]:
    """The machine, and how many of its cores others kept busy meanwhile."""
    processor = platform.processor() or platform.machine()
    try:
        description = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        processor = re.findall(r"^model name\s*: (.*)$", description, re.MULTILINE)[0]
    except (OSError, IndexError):
        pass
    return {
        "processor": processor,
        "cores": usable_cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "foreign_cores": foreign_cores,
    }
