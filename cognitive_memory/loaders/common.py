"""What the loaders share: ids, canonical paths, strict reading, and finding files."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NoReturn

from ..core.errors import SourceError
from ..core.interfaces import MemoryLoader
from ..core.memory import CognitiveMemory, ConnectionType, MemoryConnection

SEQUENTIAL_STRENGTH = 0.5
"""Of the edge from one memory to the next of its source: near in place, perhaps not in meaning."""

SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__"})
"""Folders of other people's text; those of a virtual environment are known by its marker file."""

VIRTUAL_ENVIRONMENT_MARKER = "pyvenv.cfg"


def memory_id(source: str, position: str) -> str:
    """First 32 hex digits of the SHA-256 of both, with a NUL between: no path holds one.

    ``memory_id("/notes/a.md", "1") -> "3c0877f4…"``
    """
    return sha256(f"{source}\0{position}".encode()).hexdigest()[:32]


def sequential_connections(
    memories: Sequence[CognitiveMemory], strength: float = SEQUENTIAL_STRENGTH
) -> list[MemoryConnection]:
    """An edge from each memory to the next."""
    return [
        MemoryConnection(one.id, other.id, ConnectionType.SEQUENTIAL, strength)
        for one, other in pairwise(memories)
    ]


def canonical_source(path: str) -> str:
    """The absolute path without links: one name for a file, however it was spelled."""
    if not path or "\0" in path:
        raise SourceError(f"{path!r} is not a path; name a file or a folder")
    try:
        source = os.path.realpath(path)
    except OSError as error:
        raise SourceError(f"cannot find {path}: {error.strerror}; give an absolute path") from error
    try:
        source.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"the name of {source!a} is not UTF-8; rename it") from error
    return source


def file_mode(path: str) -> int:
    """``st_mode`` of what ``path`` leads to, 0 where it leads nowhere."""
    try:
        return Path(path).stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        refuse_unreadable(path, error)


def refuse_unreadable(path: str, error: OSError) -> NoReturn:
    """Raise the operating system's reason as a ``SourceError``."""
    raise SourceError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def read_text(source: str, *, allow_nul: bool = False) -> tuple[str, datetime]:
    r"""Text of a UTF-8 file and the aware UTC time of its last modification.

    The byte order mark is gone and lines end in ``\n``. NUL is refused, unless ``allow_nul``.
    """
    mode = file_mode(source)
    if not mode:
        raise SourceError(f"{source} does not exist; check the path")
    if not S_ISREG(mode):
        kind = "a folder" if S_ISDIR(mode) else "a device or pipe"
        raise SourceError(f"{source} is {kind}, not a file; give the path of a file")
    try:
        with Path(source).open("rb") as file:
            modified = os.fstat(file.fileno()).st_mtime
            raw = file.read()
    except OSError as error:
        refuse_unreadable(source, error)
    text = _decode(raw, source)
    if not allow_nul:
        _refuse_nul(text, source)
    return text, datetime.fromtimestamp(modified, UTC)


def _decode(raw: bytes, source: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        likely = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise SourceError(
            f"{source} is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}; "
            f"convert it, for example with 'iconv -f {likely} -t UTF-8'"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _refuse_nul(text: str, source: str) -> None:
    if (position := text.find("\0")) >= 0:
        line = text.count("\n", 0, position) + 1
        raise SourceError(
            f"{source} holds a NUL character in line {line}; remove it, "
            "or convert the file to UTF-8 if it is UTF-16"
        )


def find_files(folder: str, extensions: Sequence[str]) -> list[str]:
    """Canonical paths of the files below ``folder`` with one of these endings, in any case, sorted.

    Hidden files and folders, ``SKIPPED_FOLDERS`` and virtual environments are passed over. Links
    are followed, but never to a folder that was visited or that holds ``folder``. A linked file
    counts when its target has the ending too, so that no two loaders claim one file.
    """
    root = canonical_source(folder)
    visited = {str(parent) for parent in Path(root).parents}
    found: set[str] = set()

    def refuse(error: OSError) -> NoReturn:
        refuse_unreadable(str(error.filename), error)

    for place, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in visited or (place != root and VIRTUAL_ENVIRONMENT_MARKER in names):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [
            name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS
        ]
        for name in names:
            if not name.startswith(".") and has_extension(name, extensions):
                source = canonical_source(str(Path(place, name)))
                if has_extension(source, extensions) and S_ISREG(file_mode(source)):
                    found.add(source)
    return sorted(found)


def has_extension(name: str, extensions: Sequence[str]) -> bool:
    """Whether a file name has one of these endings (lower case, with dots), in any case."""
    return Path(name).suffix.lower() in extensions


class FileLoader(MemoryLoader):
    """A loader whose sources are files with certain endings."""

    extensions: tuple[str, ...]
    """Lower case, with dots."""

    def find_sources(self, path: str) -> list[str]:
        """``path`` itself if it is such a file, or those below it if it is a folder."""
        source = canonical_source(path)
        mode = file_mode(source)
        if S_ISDIR(mode):
            return find_files(source, self.extensions)
        return [source] if S_ISREG(mode) and has_extension(source, self.extensions) else []

    def validate_source(self, path: str) -> bool:
        """Whether ``path`` itself is a readable file of this kind; never raises."""
        try:
            source = canonical_source(path)
            if not (S_ISREG(file_mode(source)) and has_extension(source, self.extensions)):
                return False
            Path(source).open("rb").close()
        except (OSError, SourceError):
            return False
        return True

    def get_supported_extensions(self) -> list[str]:
        """File name endings with their dots."""
        return list(self.extensions)
