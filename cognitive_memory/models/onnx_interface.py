"""Brings an encoder's graph to the one interface that this package runs.

``input_ids``, ``attention_mask`` (batch, length) int64 -> ``embeddings`` (batch, dim) float32, unit
rows. The foreign graph stays as it is, behind a prefix; other inputs are computed before it, and
pooling and normalization after it, by operators that mean the same in every opset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.errors import ConversionError

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
OUTPUT = "embeddings"
TOKENS, SENTENCE = "token_vectors", "sentence_vector"
"""Further outputs of a graph that gives both, for the comparison in its trial."""

_PREFIX = "model/"
_TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_SENTENCE_OUTPUTS = ("sentence_embedding", "sentence_embeddings", "embeddings")
_INPUT_TYPES = (TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL)
_LEAST_IR = 8


def adapt_graph(model: onnx.ModelProto, pooling: str) -> None:
    """Change ``model`` in place; a graph with both outputs keeps them as ``TOKENS``, ``SENTENCE``.

    Its own sentence vector is preferred to a pooling appended here. Raises ``ConversionError`` for
    inputs that cannot be filled and for outputs that are no vectors.
    """
    graph = model.graph
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    _check_inputs(inputs)
    tokens, sentence = _choose_outputs(graph.output)
    types = {each.name: each.type.tensor_type.elem_type for each in inputs}
    onnx.compose.add_prefix(model, _PREFIX, inplace=True)
    frame = _Frame()
    for name, kind in types.items():
        frame.node("Cast", [frame.input(name)], _PREFIX + name, to=kind)
    before = len(frame.nodes)
    names = {"token": _PREFIX + tokens, "sentence": _PREFIX + sentence}
    outputs = [OUTPUT]
    if sentence:
        rows = frame.as_float(names["sentence"])
        if tokens:
            frame.node("Identity", [rows], SENTENCE)
            frame.node("Identity", [frame.as_float(names["token"])], TOKENS)
            outputs += [SENTENCE, TOKENS]
    else:
        rows = frame.pooled(frame.as_float(names["token"]), pooling)
    frame.normalize(rows)
    body = [*frame.nodes[:before], *graph.node, *frame.nodes[before:]]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(body)
    graph.initializer.extend(frame.constants.values())
    graph.input.extend(_declare(name, TensorProto.INT64, 2) for name in INPUTS[:2])
    graph.output.extend(
        _declare(name, TensorProto.FLOAT, 3 if name == TOKENS else 2) for name in outputs
    )
    model.ir_version = max(model.ir_version, _LEAST_IR)


def finish_graph(model: onnx.ModelProto, dimension: int) -> None:
    """Drop the outputs for the comparison and declare the dimension."""
    graph = model.graph
    extra = [each for each in graph.node if each.output[0] in (TOKENS, SENTENCE)]
    for node in extra:
        graph.node.remove(node)
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", dimension])
    )


class _Frame:
    """The nodes around the foreign graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = output or f"frame/{kind}_{len(self.nodes)}"
        name = f"frame/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """The name of an initializer, added once."""
        self.constants[name] = numpy_helper.from_array(np.asarray(value), f"frame/{name}")
        return f"frame/{name}"

    def input(self, name: str) -> str:
        """What an input of the foreign graph gets, (batch, length) int64."""
        if name == "token_type_ids":
            zero = numpy_helper.from_array(np.zeros(1, dtype=np.int64))
            return self.node("ConstantOfShape", [self.node("Shape", ["input_ids"])], value=zero)
        if name == "position_ids":
            count = self.node("CumSum", ["attention_mask", self.constant("axis", np.int64(1))])
            return self.node("Sub", [count, self.constant("one", np.int64(1))])
        return name

    def as_float(self, name: str) -> str:
        return self.node("Cast", [name], to=TensorProto.FLOAT)

    def reshaped(self, name: str, shape: Sequence[int]) -> str:
        """``name`` in another shape: 0 keeps a dimension, -1 takes the rest."""
        label = "shape_" + "_".join(map(str, shape))
        return self.node("Reshape", [name, self.constant(label, np.array(shape, dtype=np.int64))])

    def pooled(self, tokens: str, pooling: str) -> str:
        """(batch, dim) of (batch, length, dim); not divided, for the length becomes one anyhow."""
        if pooling == "cls":
            first = self.constant("first", np.int64(0))
            return self.node("Gather", [tokens, first], axis=1)
        share = self.as_float("attention_mask")
        if pooling == "last":
            axis = self.constant("axis", np.int64(1))
            position = self.node("CumSum", [share, axis])
            # The sum over the mask by a product: ReduceSum changed its form between opsets.
            count = self.node(
                "MatMul", [self.reshaped(share, [0, 1, -1]), self.reshaped(share, [0, -1, 1])]
            )
            at_end = self.node("Equal", [position, self.reshaped(count, [0, 1])])
            share = self.node("Mul", [self.as_float(at_end), share])
        summed = self.node("MatMul", [self.reshaped(share, [0, 1, -1]), tokens])
        return self.reshaped(summed, [0, -1])

    def normalize(self, rows: str) -> None:
        """Unit rows as the output; a row of zeros stays one, and the trial finds it."""
        across, down = self.reshaped(rows, [0, 1, -1]), self.reshaped(rows, [0, -1, 1])
        length = self.node("Sqrt", [self.reshaped(self.node("MatMul", [across, down]), [0, 1])])
        shortest = self.constant("shortest", np.float32(1e-12))
        self.node("Div", [rows, self.node("Max", [length, shortest])], OUTPUT)


def _check_inputs(inputs: Sequence[onnx.ValueInfoProto]) -> None:
    names = [each.name for each in inputs]
    unknown = [name for name in names if name not in INPUTS]
    if unknown or "input_ids" not in names:
        raise ConversionError(
            f"the graph takes {', '.join(names) or 'nothing'}; it must take input_ids, and of "
            f"other inputs only {', '.join(INPUTS[1:])} can be filled"
        )
    for each in inputs:
        tensor = each.type.tensor_type
        if tensor.elem_type not in _INPUT_TYPES:
            raise ConversionError(f"the input {each.name} has type {tensor.elem_type}, not integer")
        if not tensor.HasField("shape"):
            continue
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        if shape != [None, None]:
            shown = [dim or "any" for dim in shape]
            raise ConversionError(
                f"the input {each.name} has the shape {shown}; it must be free in batch and "
                "length: export the model with dynamic axes"
            )


def _choose_outputs(outputs: Sequence[onnx.ValueInfoProto]) -> tuple[str, str]:
    """Names of the token vectors and of the sentence vector, one of them empty at most."""
    ranks = {
        each.name: len(each.type.tensor_type.shape.dim)
        for each in outputs
        if each.type.tensor_type.HasField("shape")
    }
    names = [each.name for each in outputs]

    def find(known: Sequence[str], rank: int) -> str:
        for name in known:
            if name in names and ranks.get(name, rank) == rank:
                return name
        return ""

    tokens, sentence = find(_TOKEN_OUTPUTS, 3), find(_SENTENCE_OUTPUTS, 2)
    if tokens or sentence:
        return tokens, sentence
    by_rank = {rank: [name for name in names if ranks.get(name) == rank] for rank in (2, 3)}
    if len(by_rank[3]) == 1:
        return by_rank[3][0], ""
    if len(names) == 1 and by_rank[2]:
        return "", names[0]
    shown = ", ".join(f"{name} of rank {ranks.get(name, 'unknown')}" for name in names)
    raise ConversionError(
        f"the graph gives {shown or 'nothing'}; it must give last_hidden_state (batch, length, "
        "dim) or sentence_embedding (batch, dim)"
    )


def _declare(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
    shape = ["batch", "length" if rank == 3 or kind == TensorProto.INT64 else "dim", "dim"][:rank]
    return helper.make_tensor_value_info(name, kind, shape)
