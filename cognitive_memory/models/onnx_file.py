"""Reads an ONNX file that nobody vouches for.

What it says of itself is checked before anything is loaded by it: weights beside the graph stay in
its folder and within their files, shapes agree with the bytes that are there, functions end. Memory
is bounded by the size of the files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import TensorProto

from ..core.errors import ConversionError

MOST_BYTES = 2**31 - 1
"""What one message of the format can hold, weights included."""
LEAST_OPSET = 11
DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Operator sets that ONNX Runtime has without a library of somebody else."""

_DEEPEST = 32
_NUMBER = re.compile(r"\d{1,18}")
_BITS: dict[int, int] = {
    **dict.fromkeys((TensorProto.UINT4, TensorProto.INT4), 4),
    **dict.fromkeys((TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.UINT16, TensorProto.INT16), 16),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16), 16),
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 32),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 64),
}
_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
"""Where values lie that are not raw bytes; all other types are in ``int32_data``."""


def read_graph(path: Path) -> tuple[onnx.ModelProto, list[Path]]:
    """The model in ``path`` with its weights inside and its functions inlined, and the files read.

    Raises ``ConversionError`` for what is no ONNX model, is hostile or needs other software.
    """
    size = _size(path)
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        _check_text(model, path)
        if not model.graph.node:
            raise ConversionError(f"{path} is not an ONNX model: it holds no graph")
        model.ClearField("training_info")
        model = _inline_functions(model, path)
        _check_operators(model, path)
        files = _take_weights_in(model, path, size)
    except DecodeError:
        raise ConversionError(f"{path} is not an ONNX model, or is cut short") from None
    return model, [path, *files]


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of ``graph`` and of the graphs inside them."""
    yield from _nodes(graph.node)


def _nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _inner_graphs(node):
            yield from _nodes(graph.node)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_text(message: Any, path: Path) -> None:
    """Names that are not Unicode come as bytes, which no library below expects."""
    for field, value in message.ListFields():
        values = (
            [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        )
        if field.type == field.TYPE_MESSAGE:
            for each in values:
                _check_text(each, path)
        elif field.type == field.TYPE_STRING and not all(isinstance(each, str) for each in values):
            raise ConversionError(f"{path} is damaged: a name in it is not Unicode")


def _size(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise ConversionError(f"{path} is not a file")
    if size > MOST_BYTES:
        raise ConversionError(f"{path} has {size:,} bytes; an ONNX file has at most {MOST_BYTES:,}")
    return size


def _inline_functions(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Functions that the file brings along, put where they are called."""
    if not model.functions:
        return model
    bodies = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def expanded(nodes: Any, callers: tuple[tuple[str, str], ...]) -> int:
        """Bytes of ``nodes`` after the inlining."""
        total = 0
        for node in _nodes(nodes):
            key = (node.domain, node.op_type)
            if key in bodies and key not in sizes:
                if key in callers or len(callers) > _DEEPEST:
                    raise ConversionError(
                        f"{path}: function {node.op_type!r} calls itself, or more than {_DEEPEST} "
                        "others one inside the other"
                    )
                sizes[key] = expanded(bodies[key].node, (*callers, key))
            total += sizes.get(key, 0) + node.ByteSize()
            if total > MOST_BYTES:
                raise ConversionError(f"{path}: its functions grow beyond {MOST_BYTES:,} bytes")
        return total

    expanded(model.graph.node, ())
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"{path}: its functions cannot be inlined: {error}") from None


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    versions = {each.domain: each.version for each in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset < LEAST_OPSET:
        raise ConversionError(
            f"{path} has opset {opset}, the least is {LEAST_OPSET}; export the model again"
        )
    for node in all_nodes(model.graph):
        if node.domain not in DOMAINS:
            raise ConversionError(
                f"{path} needs the operator {node.op_type!r} of {node.domain!r}, which ONNX "
                "Runtime does not have; export the model with standard operators"
            )
        is_standard = node.domain != "com.microsoft"
        if is_standard and not onnx.defs.has(node.op_type, opset, ""):
            raise ConversionError(
                f"{path} needs the operator {node.op_type!r}, which opset {opset} does not have"
            )


def _take_weights_in(model: onnx.ModelProto, path: Path, size: int) -> list[Path]:
    """Check every tensor, then read the weights that lie beside the graph; the files of these."""
    outside: list[tuple[onnx.TensorProto, Path, int, int]] = []
    for tensor in _tensors(model.graph, path):
        length = _byte_length(tensor, path)
        if tensor.data_location == TensorProto.EXTERNAL:
            file, offset = _find_outside(tensor, path, length)
            outside.append((tensor, file, offset, length))
        else:
            _check_inside(tensor, path, length)
    files = sorted({file for _, file, _, _ in outside})
    total = sum(length for _, _, _, length in outside)
    held = sum(file.stat().st_size for file in files)
    if total > held:
        raise ConversionError(
            f"{path} claims {total:,} bytes of weights beside it, its files hold {held:,}"
        )
    if size + total > MOST_BYTES:
        raise ConversionError(
            f"{path} has {size + total:,} bytes with the weights beside it; one graph has at "
            f"most {MOST_BYTES:,}"
        )
    for tensor, file, offset, length in outside:
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return files


def _tensors(graph: onnx.GraphProto, path: Path) -> Iterator[onnx.TensorProto]:
    if graph.sparse_initializer:
        raise ConversionError(f"{path} holds sparse weights, which are not supported")
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ConversionError(f"{path} holds sparse weights, which are not supported")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in _inner_graphs(node):
            yield from _tensors(inner, path)


def _byte_length(tensor: onnx.TensorProto, path: Path) -> int:
    bits = _BITS.get(tensor.data_type)
    if bits is None or tensor.HasField("segment"):
        raise ConversionError(
            f"{path}: tensor {tensor.name!r} has type {tensor.data_type}, which is not supported"
        )
    if any(each < 0 for each in tensor.dims):
        raise ConversionError(f"{path}: tensor {tensor.name!r} has shape {list(tensor.dims)}")
    return (math.prod(map(int, tensor.dims)) * bits + 7) // 8


def _check_inside(tensor: onnx.TensorProto, path: Path, length: int) -> None:
    """Compare the shape of a tensor with the values that it holds."""
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data)
    else:
        field = _FIELDS.get(tensor.data_type, "int32_data")
        bits = _BITS[tensor.data_type]
        # Values of four bits lie two in a byte, and each byte is one number of the field.
        held = len(getattr(tensor, field)) * max(bits, 8) // 8
    if held != length:
        raise ConversionError(
            f"{path}: tensor {tensor.name!r} of shape {list(tensor.dims)} needs {length:,} bytes "
            f"and holds {held:,}"
        )


def _find_outside(tensor: onnx.TensorProto, path: Path, length: int) -> tuple[Path, int]:
    """The file that holds a tensor's values, and where in it they begin."""
    entries = {each.key: each.value for each in tensor.external_data}
    file = _inside_folder(path, entries.get("location", ""))
    numbers = (entries.get("offset") or "0", entries.get("length") or str(length))
    if not all(map(_NUMBER.fullmatch, numbers)):
        raise ConversionError(f"{path}: tensor {tensor.name!r} lies at {numbers} of {file.name}")
    offset, given = map(int, numbers)
    held = file.stat().st_size
    if given != length or offset + length > held:
        raise ConversionError(
            f"{path}: tensor {tensor.name!r} of shape {list(tensor.dims)} needs {length:,} bytes; "
            f"{given:,} from {offset:,} on are given, and {file.name} has {held:,}"
        )
    return file, offset


def _inside_folder(path: Path, location: str) -> Path:
    """The file beside ``path`` that ``location`` names; it may lie nowhere else."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    outside = ConversionError(
        f"{path} looks for weights at {location!r}; they must lie in the folder of the graph, as "
        "files and not as links that lead out of it"
    )
    if not location or "\0" in location or posix.is_absolute() or windows.anchor:
        raise outside
    if ".." in posix.parts or ".." in windows.parts:
        raise outside
    try:
        found = (path.parent / location).resolve(strict=True)
        folder = path.parent.resolve(strict=True)
    except (OSError, RuntimeError):
        raise ConversionError(
            f"{path} keeps weights in {location!r}, which is not beside it; copy it there"
        ) from None
    if not found.is_relative_to(folder):
        raise outside
    if not found.is_file():
        raise ConversionError(f"{path} keeps weights in {location!r}, which is not a file")
    return found
