"""Files that a process which was killed has left unfinished."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

FOLDER_SUFFIX = ".cognitive-memory"
"""Ends the name of an unfinished folder: it may lie beside others with names of any form."""


def remove_leftovers(folder: Path, pattern: str, older_than_seconds: float) -> None:
    """Delete the files in ``folder`` whose names match and that nobody writes any more.

    ``pattern`` is one of ``Path.glob``. What cannot be deleted stays: another process may delete
    it, too, or still map it.
    """
    for leftover in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > older_than_seconds:
                leftover.unlink()
