"""An ONNX graph in the making: nodes, constants, and the interface that every model here has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
FUSED_DOMAIN = "com.microsoft"


class GraphWriter:
    """Nodes are appended in the order in which they are computed."""

    def __init__(self, *, fused: bool) -> None:
        self.fused = fused
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = attributes.pop("output", f"{kind}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return str(output)

    def split(self, values: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        outputs = [f"Split_{len(self.nodes)}_{part}" for part in range(parts)]
        # Opset 17 has no attribute for the number of parts: outputs alone mean equal ones.
        self.nodes.append(helper.make_node("Split", [values], outputs, name=outputs[0], axis=-1))
        return outputs

    def constant(self, name: str, value: NDArray[Any] | np.generic | list[int]) -> str:
        """The name of an initializer, added once; a list is int64."""
        if name not in self.constants:
            array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    @cached_property
    def length(self) -> str:
        """The number of tokens of the longest text, as (1,) int64."""
        one = self.constant("axis_1", [1])
        return self.op("Slice", [self.op("Shape", ["input_ids"]), one, self.constant("two", [2])])

    def rows(self, table: str, first: int = 0) -> str:
        """A row of ``table`` for each token; ``first`` belongs to the first token."""
        # Slicing the table by the length: a Range that feeds a Gather breaks ORT's own fusion.
        end = self.length
        if first:
            end = self.op("Add", [end, self.constant("first_position", [first])])
        start = self.constant("first_position" if first else "axis_0", [first])
        return self.op("Slice", [table, start, end])

    def model(self, dimension: int) -> onnx.ModelProto:
        """Nodes and constants with their declarations."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info(
            "embeddings", TensorProto.FLOAT, ["batch", dimension]
        )
        graph = helper.make_graph(
            self.nodes, "sentence_encoder", inputs, [output], list(self.constants.values())
        )
        domains = [helper.make_opsetid("", OPSET)]
        if self.fused:
            domains.append(helper.make_opsetid(FUSED_DOMAIN, 1))
        # IR version 8 belongs to opset 17; a higher one would shut older runtimes out.
        return helper.make_model(
            graph, opset_imports=domains, ir_version=8, producer_name="cognitive_memory"
        )
