"""Sources of an import: exports of this package, and what other systems leave behind."""

from __future__ import annotations

from ..core.errors import InvalidInputError
from ..core.interfaces import ImportSource

EXPORT = "export"
FOREIGN = ("heimdall", "chroma", "mem0")
KINDS = (EXPORT, *FOREIGN)


def open_source(path: str, kind: str = EXPORT) -> ImportSource:
    """What lies at ``path``, to be read as ``kind``; its owner closes it.

    ``"-"`` is standard input, for an export only. Raises ``SourceError``, and
    ``InvalidInputError`` for a kind that is not one of ``KINDS``.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"got kind {kind!r}; it must be one of {', '.join(KINDS)}")
    if kind == "heimdall":
        from .heimdall import HeimdallSource

        return HeimdallSource(path)
    if kind == "chroma":
        from .chroma import open_chroma

        return open_chroma(path)
    if kind == "mem0":
        from .mem0 import Mem0Source

        return Mem0Source(path)
    from .json_lines import open_export

    return open_export(path)
