"""What the inputs of a model's products look like on real texts: the range of each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..core.errors import InvalidInputError
from ..encoding.batching import pad_batch, plan_batches
from ..encoding.runtime import open_session
from .architecture import Weights
from .encoder_graph import EncoderGraph

Floats = NDArray[np.float32]

TOKEN_BUDGET, BATCH_SIZE = 512, 32


@dataclass(frozen=True, slots=True)
class ChannelRange:
    """Lowest and highest value of each channel, both (channels,) float32."""

    low: Floats
    high: Floats

    def merge(self, values: Floats) -> ChannelRange:
        """With (n, channels) more values."""
        return ChannelRange(
            np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        )


class _Probe(EncoderGraph):
    """Gives out what each product takes in."""

    packed_attention = False

    def __init__(self, weights: Weights, config: Mapping[str, Any]) -> None:
        super().__init__(weights, config, fused=False)
        self.inputs: dict[str, str] = {}

    def product(self, inputs: str, name: str) -> str:
        self.inputs[name] = inputs
        return super().product(inputs, name)

    def model(self, dimension: int) -> onnx.ModelProto:
        model = super().model(dimension)
        model.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in dict.fromkeys(self.inputs.values())
        )
        return model


def measure_ranges(
    weights: Weights, config: Mapping[str, Any], rows: Sequence[list[int]]
) -> dict[str, ChannelRange]:
    """The range of each channel of what each product takes in, by the product's name.

    ``rows`` are the token ids of the texts. Padding does not count. Raises ``InvalidInputError``
    without any text.
    """
    if not rows:
        raise InvalidInputError("there is no calibration text; give some that are like your own")
    graph = _Probe(weights, config)
    model = graph.build()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        onnx.save(model, path)
        session = open_session(path, 0)
    tensors = list(dict.fromkeys(graph.inputs.values()))
    ranges: dict[str, ChannelRange] = {}
    for batch in plan_batches([len(row) for row in rows], TOKEN_BUDGET, BATCH_SIZE):
        ids, mask = pad_batch([rows[index] for index in batch])
        outputs = session.run(tensors, {"input_ids": ids, "attention_mask": mask})
        for tensor, output in zip(tensors, outputs, strict=True):
            values = output[mask.astype(bool)]
            known = ranges.get(tensor) or ChannelRange(values[0], values[0])
            ranges[tensor] = known.merge(values)
    return {name: ranges[tensor] for name, tensor in graph.inputs.items()}
