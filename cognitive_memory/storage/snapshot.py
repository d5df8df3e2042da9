"""An exact index in a file that is mapped into memory: opened in the time of one reading.

A snapshot is derived from the record and may be deleted at any time. Its numbers are little
endian, its parts follow each other without gaps::

    prefix    "CMINDEX" and a zero byte; uint32 format; uint32 CRC-32 of these twelve bytes
    header    uint64 rows, uint64 dimension, int64 last deletion, 32 bytes SHA-256 of the
              identity; uint32 CRC-32 of each block of the body; zeros to the next multiple of
              4,096 bytes, less four; uint32 CRC-32 of the header up to here
    body      vector ids (rows,) int64; owners (rows,) int64; chunks (rows,) int32; matrix
              (rows, dimension) float32. Each begins at a multiple of 4,096 bytes, with zeros
              before it. Blocks are of 4 MiB, the last one of what is left.

Every format keeps the prefix. What is not checked before use is nothing: each bit of the file is
covered by a checksum or, in the prefix, compared.

Nothing is synced to the disk: what a power failure tears, the checksums find. A file that is
mapped is replaced, never written to, so whoever maps the old one keeps it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import struct
import uuid
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StoreFormatError
from ..core.leftovers import remove_leftovers
from ..core.resources import usable_cores
from .exact_index import ExactIndex

_LOG = logging.getLogger(__name__)

MAGIC = b"CMINDEX\0"
FORMAT = 1
ALIGNMENT = 4096
BLOCK_BYTES = 2**22
"""Bytes of the body under one checksum."""

LEFTOVER_SECONDS = 3600.0
"""An unfinished file older than this has no writer any more."""

_PREFIX = struct.Struct("<8sII")
_FIELDS = struct.Struct("<QQq32s")
_CHECKSUM = struct.Struct("<I")
_Kind = TypeVar("_Kind", np.int64, np.int32, np.float32)
_INT64, _INT32, _FLOAT32 = np.dtype("<i8"), np.dtype("<i4"), np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a file holds."""

    index: ExactIndex
    last_deletion: int
    """Up to which the record's deletions have been applied."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts of a file lie, in bytes from its beginning."""

    rows: int
    dimension: int

    @property
    def sections(self) -> list[tuple[int, int]]:
        """(start, length) of the vector ids, owners, chunks and the matrix."""
        found: list[tuple[int, int]] = []
        start = self.body
        for width in (8, 8, 4, 4 * self.dimension):
            found.append((start, width * self.rows))
            start = _aligned(start + width * self.rows)
        return found

    @property
    def body_bytes(self) -> int:
        width = _aligned(8 * self.rows) * 2 + _aligned(4 * self.rows)
        return width + 4 * self.dimension * self.rows

    @property
    def blocks(self) -> int:
        return -(-self.body_bytes // BLOCK_BYTES)

    @property
    def body(self) -> int:
        return _aligned(_PREFIX.size + _FIELDS.size + (self.blocks + 1) * _CHECKSUM.size)

    @property
    def file_bytes(self) -> int:
        return self.body + self.body_bytes


def write_snapshot(
    index: ExactIndex, path: Path, identity: Mapping[str, str], last_deletion: int
) -> None:
    """Write the living rows to ``path``: the whole file or, after a fault, what was there before.

    ``identity``: whose rows they are, such as the store and its embedding. ``last_deletion``: up
    to which the record's deletions have been applied.

    Raises ``OSError`` when the file cannot be written or replaced.
    """
    remove_leftovers(path.parent, f".{escape(path.name)}.{'[0-9a-f]' * 32}", LEFTOVER_SECONDS)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with scratch.open("x+b") as file:
            layout = _write_body(file, index)
            file.flush()
            checksums = []
            if layout.blocks:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    checksums = _checksums(mapped, layout)
            file.seek(0)
            file.write(_head(layout, identity, last_deletion, checksums))
        scratch.replace(path)
    finally:
        # After a fault nothing is left; where it cannot be removed the first error matters more.
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def open_snapshot(path: Path, identity: Mapping[str, str], dimension: int) -> Snapshot | None:
    """The index in the file, ``None`` if there is no file, or one of others or another format.

    Its rows are read where they are mapped, in memory that all processes share; appending and
    deleting do not change the file. Of a file that is damaged or cannot be read one warning is
    logged, and ``None`` comes back.
    """
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
                raise StoreFormatError("it is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _read(mapped, identity, dimension)
    except FileNotFoundError:
        return None
    except (OSError, StoreFormatError) as error:
        _LOG.warning(
            "the index snapshot %s is not used: %s; the index is built from the record", path, error
        )
        return None


def _write_body(file: BinaryIO, index: ExactIndex) -> _Layout:
    vector_ids, owners, chunks = index.living_ids()
    layout = _Layout(len(vector_ids), index.dimension)
    file.truncate(layout.file_bytes)  # what is not written reads as zeros
    columns: list[tuple[NDArray[Any], np.dtype[Any]]] = [
        (vector_ids, _INT64),
        (owners, _INT64),
        (chunks, _INT32),
    ]
    *starts, matrix = (start for start, _ in layout.sections)
    for start, (column, kind) in zip(starts, columns, strict=True):
        file.seek(start)
        file.write(np.ascontiguousarray(column, dtype=kind).data)
    file.seek(matrix)
    for rows in index.living_rows():
        file.write(np.ascontiguousarray(rows, dtype=_FLOAT32).data)
    return layout


def _head(
    layout: _Layout, identity: Mapping[str, str], last_deletion: int, checksums: list[int]
) -> bytes:
    start = MAGIC + FORMAT.to_bytes(4, "little")
    prefix = start + _CHECKSUM.pack(zlib.crc32(start))
    fields = _FIELDS.pack(layout.rows, layout.dimension, last_deletion, _digest(identity))
    header = fields + struct.pack(f"<{len(checksums)}I", *checksums)
    header = header.ljust(layout.body - len(prefix) - _CHECKSUM.size, b"\0")
    return prefix + header + _CHECKSUM.pack(zlib.crc32(header))


def _read(mapped: mmap.mmap, identity: Mapping[str, str], dimension: int) -> Snapshot | None:
    """The same as ``open_snapshot``.

    Raises ``StoreFormatError`` that names the damage.
    """
    if not _is_our_format(mapped):
        return None
    layout, last_deletion, digest, expected = _read_header(mapped)
    if digest != _digest(identity) or layout.dimension != dimension:
        return None
    for number, found in enumerate(_checksums(mapped, layout)):
        if found != expected[number]:
            start = layout.body + number * BLOCK_BYTES
            raise StoreFormatError(f"the block at byte {start} differs from its checksum")
    vector_ids, owners, chunks, matrix = layout.sections
    index = ExactIndex.over(
        _array(mapped, vector_ids, _INT64),
        _array(mapped, owners, _INT64),
        _array(mapped, chunks, _INT32),
        _array(mapped, matrix, _FLOAT32).reshape(layout.rows, dimension),
    )
    return Snapshot(index, last_deletion)


def _array(mapped: mmap.mmap, section: tuple[int, int], kind: np.dtype[_Kind]) -> NDArray[_Kind]:
    """A read-only view of the file; a copy on a machine of the other byte order."""
    start, length = section
    array = np.frombuffer(mapped, dtype=kind, count=length // kind.itemsize, offset=start)
    return array.astype(kind.newbyteorder("="), copy=False)


def _is_our_format(mapped: mmap.mmap) -> bool:
    """Whether it is, rather than another one of ours."""
    prefix = mapped[: _PREFIX.size]
    if prefix[: len(MAGIC)] != MAGIC or len(prefix) < _PREFIX.size:
        raise StoreFormatError("it is no index snapshot")
    _, found, checksum = _PREFIX.unpack(prefix)
    if zlib.crc32(prefix[: -_CHECKSUM.size]) != checksum:
        raise StoreFormatError("its prefix differs from its checksum")
    return bool(found == FORMAT)


def _read_header(mapped: mmap.mmap) -> tuple[_Layout, int, bytes, tuple[int, ...]]:
    """Layout, last deletion, SHA-256 of the identity, checksums of the blocks."""
    start = _PREFIX.size
    if len(mapped) < start + _FIELDS.size:
        raise StoreFormatError(f"it ends after {len(mapped)} bytes, within its header")
    rows, dimension, last_deletion, digest = _FIELDS.unpack_from(mapped, start)
    layout = _Layout(rows, dimension)
    # Compared first: what a damaged header says may lie outside the file.
    if layout.file_bytes != len(mapped):
        raise StoreFormatError(f"it has {len(mapped)} bytes, its header says {layout.file_bytes}")
    end = layout.body - _CHECKSUM.size
    if _CHECKSUM.unpack_from(mapped, end)[0] != zlib.crc32(mapped[start:end]):
        raise StoreFormatError("its header differs from its checksum")
    expected = struct.unpack_from(f"<{layout.blocks}I", mapped, start + _FIELDS.size)
    return layout, last_deletion, digest, expected


def _checksums(mapped: mmap.mmap, layout: _Layout) -> list[int]:
    """CRC-32 of each block of the body, by all cores: zlib gives up the lock of the interpreter."""
    starts = range(layout.body, layout.file_bytes, BLOCK_BYTES)
    with memoryview(mapped) as view, ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda start: _checksum_of(view, start, layout.file_bytes), starts))


def _checksum_of(view: memoryview, start: int, end: int) -> int:
    with view[start : min(start + BLOCK_BYTES, end)] as block:
        return zlib.crc32(block)


def _digest(identity: Mapping[str, str]) -> bytes:
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).digest()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
