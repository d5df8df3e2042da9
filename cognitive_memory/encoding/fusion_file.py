"""Arrays in one ``.npz`` file: written as a whole or not at all, read without trust."""

from __future__ import annotations

import os
import struct
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError

FORMAT = 1
LAYOUT = {
    "axes": ("U", 1, "names in one row"),
    "weights": ("f8", 1, "two float64 values"),
    "matrix": ("f4", 2, "float32 values in rows and columns"),
}
"""What a file holds beside its format: kind of values, dimensions, and both in words."""


def write_arrays(
    path: Path, *, axes: NDArray[Any], weights: NDArray[Any], matrix: NDArray[Any]
) -> None:
    """Write a file of ``FORMAT``: all of it or, after a fault, what was there before.

    Raises ``ConfigurationError`` when the file cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            with scratch.open("xb") as file:
                number = np.int64(FORMAT)
                np.savez(file, format=number, axes=axes, weights=weights, matrix=matrix)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}; give a file in a writable folder"
        ) from None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of ``LAYOUT`` in a file of ``FORMAT``.

    Raises ``ConfigurationError`` that names the file and the fault.
    """
    try:
        with path.open("rb") as file:
            # Asked first: NumPy takes what is not a zip file for something else that it can read.
            if not zipfile.is_zipfile(file):
                raise ConfigurationError(f"{path} is no .npz file; {_REMEDY}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                _check_format(path, archive)
                return {name: _read(path, archive, name) for name in LAYOUT}
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist; {_REMEDY}") from None
    except OSError as error:
        problem = error.strerror or error
        raise ConfigurationError(f"{path} cannot be read: {problem}; {_REMEDY}") from None
    except _DAMAGES as error:
        raise ConfigurationError(f"{path} is damaged ({error}); {_REMEDY}") from None


_REMEDY = "give a file that CognitiveFusionLayer.save wrote"
_DAMAGES = (
    EOFError,
    MemoryError,  # an array that claims to be larger than memory
    RuntimeError,  # encrypted, or compressed in an unknown way
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def _check_format(path: Path, archive: Any) -> None:
    found = _get(path, archive, "format")
    if found.shape or found.dtype.kind not in "iu" or int(found) != FORMAT:
        raise ConfigurationError(
            f"{path} has format {found.tolist()!r:.20}, this version reads {FORMAT}; {_REMEDY}"
        )


def _read(path: Path, archive: Any, name: str) -> NDArray[Any]:
    array = _get(path, archive, name)
    kind, dimensions, words = LAYOUT[name]
    is_kind = array.dtype.kind == kind if len(kind) == 1 else array.dtype == np.dtype(kind)
    if not is_kind or array.ndim != dimensions or (name == "weights" and len(array) != 2):
        raise ConfigurationError(
            f"{path} holds {name!r} as {array.dtype} of shape {array.shape}; expected {words}"
        )
    return array


def _get(path: Path, archive: Any, name: str) -> NDArray[Any]:
    found = archive[name] if name in archive.files else None
    if not isinstance(found, np.ndarray):  # what is no array comes as its bytes
        raise ConfigurationError(f"{path} holds no array {name!r}; {_REMEDY}")
    return found
