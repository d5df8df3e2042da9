"""The lines of an export: JSON objects, each named by its one first key.

``{"format": "cognitive-memory", "version": 1, …}``, then ``{"memory": {…}}`` in order of id, then
``{"connection": {…}}``, last ``{"end": {…}}`` with the counts. The same values give the same bytes.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from reprlib import repr as shown
from typing import Any

import numpy as np

from .errors import InvalidInputError, StorageError
from .experience import check_text
from .export_fields import CONNECTION, MEMORY, anything, check_fields, count
from .memory import CognitiveMemory, MemoryConnection, as_utc
from .similarity import UNIT_TOLERANCE, Vector

FORMAT = "cognitive-memory"
VERSION = 1

_ON_DISK = np.dtype("<f4")
_HEADER = ("format", "version", "vectors", "fingerprint", "dimension")


def encode_header(fingerprint: str | None, dimension: int | None) -> bytes:
    """The first line; both are ``None`` in an export without vectors."""
    has_vectors = dimension is not None
    values = (FORMAT, VERSION, has_vectors, fingerprint if has_vectors else None, dimension)
    return _line(dict(zip(_HEADER, values, strict=True)))


def encode_memory(memory: CognitiveMemory, vectors: Vector | None = None) -> bytes:
    """One memory, with its (chunks, dim) vectors if given."""
    record: dict[str, Any] = {
        "memory": {
            "id": memory.id,
            "content": memory.content,
            "hierarchy_level": memory.hierarchy_level,
            "memory_type": memory.memory_type,
            "importance_score": memory.importance_score,
            "tags": list(memory.tags),
            "source_path": memory.source_path,
            "source_type": memory.source_type,
            "created_date": _time(memory.created_date),
            "last_accessed": _time(memory.last_accessed),
            "access_count": memory.access_count,
            "metadata": dict(memory.metadata),
        }
    }
    if vectors is not None:
        record["vectors"] = [b64encode(row.astype(_ON_DISK).tobytes()).decode() for row in vectors]
    try:
        return _line(record)
    except ValueError as error:
        raise StorageError(
            f"memory {memory.id!r} cannot be written as JSON: {error}; delete it, or store it again"
        ) from None


def encode_connection(edge: MemoryConnection) -> bytes:
    """One edge."""
    return _line(
        {
            "connection": {
                "source_id": edge.source_id,
                "target_id": edge.target_id,
                "connection_type": edge.connection_type,
                "strength": edge.strength,
            }
        }
    )


def encode_end(memories: int, connections: int) -> bytes:
    """The last line: what has to stand before it."""
    return _line({"end": {"memories": memories, "connections": connections}})


def decode_line(line: bytes) -> dict[str, Any]:
    """The object that a line holds; raises ``InvalidInputError`` without naming the line."""
    try:
        text = line.decode()
        value = _DECODER.decode(text)
        # An escape can spell half a character, which UTF-8 cannot hold.
        if "\\u" in text:
            _ENCODER.encode(value).encode()
    except UnicodeError as error:
        raise InvalidInputError(f"not UTF-8: {error}; export again") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"not JSON: {error}; export again") from None
    if not isinstance(value, dict):
        raise InvalidInputError(f"a JSON {type(value).__name__}; expected an object")
    return value


def decode_header(record: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Fingerprint and dimension of the vectors that follow, ``None`` twice without any."""
    if record.get("format") != FORMAT:
        raise InvalidInputError(
            f"not the first line of an export: it does not name the format {FORMAT!r}"
        )
    if record.get("version") != VERSION:
        raise InvalidInputError(
            f"version {shown(record.get('version'))} of the format, this one reads {VERSION}; "
            "upgrade cognitive-memory-onnx"
        )
    fields = check_fields(record, dict.fromkeys(_HEADER, anything), "header")
    fingerprint, dimension = fields["fingerprint"], fields["dimension"]
    if fields["vectors"] is False and fingerprint is dimension is None:
        return None, None
    if fields["vectors"] is not True or not isinstance(fingerprint, str):
        raise InvalidInputError(
            f"got vectors {shown(fields['vectors'])} and fingerprint {shown(fingerprint)}; "
            "expected true and a text, or false and null"
        )
    if count(dimension) == 0:
        raise InvalidInputError("got dimension 0; vectors have at least one")
    return fingerprint, dimension


def decode_memory(
    record: Mapping[str, Any], dimension: int | None, max_text_bytes: int
) -> tuple[CognitiveMemory, Vector | None]:
    """A memory and its vectors; raises ``InvalidInputError`` for a field that is not sound."""
    expected = {"memory"} if dimension is None else {"memory", "vectors"}
    if not record.keys() <= expected:
        raise InvalidInputError(
            f"got {sorted(record.keys() - expected)} beside a memory; expected {sorted(expected)}"
        )
    fields = check_fields(record["memory"], MEMORY, "memory")
    check_text(fields["content"], max_text_bytes, "content")
    vectors = record.get("vectors")
    return (
        CognitiveMemory(**fields),
        None if vectors is None or dimension is None else _vectors(vectors, dimension),
    )


def decode_connection(record: Mapping[str, Any]) -> MemoryConnection:
    """An edge; raises ``InvalidInputError`` for a field that is not sound."""
    return MemoryConnection(**check_fields(record["connection"], CONNECTION, "connection"))


def decode_end(record: Mapping[str, Any]) -> tuple[int, int]:
    """How many memories and connections there must be."""
    fields = check_fields(record["end"], {"memories": count, "connections": count}, "end")
    return fields["memories"], fields["connections"]


def _line(record: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(record).encode() + b"\n"


def _time(moment: datetime) -> str:
    return as_utc(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _vectors(rows: Any, dimension: int) -> Vector:
    if not isinstance(rows, list) or not rows:
        raise InvalidInputError("vectors must be a list of at least one base64 text")
    return np.stack([_vector(row, dimension) for row in rows])


def _vector(text: Any, dimension: int) -> Vector:
    try:
        raw = b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a vector is not base64: {error}; export again") from None
    if len(raw) != 4 * dimension:
        raise InvalidInputError(
            f"a vector has {len(raw)} bytes; {dimension} dimensions are {4 * dimension}"
        )
    row: Vector = np.frombuffer(raw, dtype=_ON_DISK).astype(np.float32)
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(row))
    if not abs(length - 1) <= UNIT_TOLERANCE:  # also false for NaN
        raise InvalidInputError(f"a vector has length {length:.3g}, expected 1; export again")
    return row


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number that can be kept")
    return number


# Made once: an encoder or a decoder with options of its own takes longer to make than a line.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
