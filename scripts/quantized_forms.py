"""The forms of a quantized model that ``compare_quantization.py`` sets side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from compare_graphs import Floats

from cognitive_memory.models.architecture import Weights
from cognitive_memory.models.calibration import ChannelRange
from cognitive_memory.models.encoder_graph import FUSED_DOMAIN, EncoderGraph
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quantized_graph import QuantizedGraph


class PlainAttention(EncoderGraph):
    """fp32, with attention in plain products as the quantized forms have it."""

    packed_attention = False
    attention_operator = False


class Unsmoothed(QuantizedGraph):
    """A range for each product's inputs, whatever their outliers."""

    def _smoothing(self, name: str) -> Floats:
        return np.ones(self.weight(f"{name}.weight").shape[1], dtype=np.float32)


class Migration50(QuantizedGraph):
    """SmoothQuant's own default."""

    migration = 0.5


class Migration70(QuantizedGraph):
    """Between that and the shipped 0.9."""

    migration = 0.7


class Migration100(QuantizedGraph):
    """Every channel of the inputs brought to the same range."""

    migration = 1.0


class Symmetric(QuantizedGraph):
    """Ranges around zero, also where GELU leaves little below it."""

    def _step(self, name: str, smoothing: Floats) -> tuple[float, int]:
        assert self.ranges is not None
        known = self.ranges[name]
        return float((np.maximum(-known.low, known.high) / smoothing).max()) / 127, 128


class SmoothedByToken(QuantizedGraph):
    """Scaled by each token's largest value, after the channels were smoothed by 0.5."""

    def __init__(
        self,
        weights: Weights,
        config: Mapping[str, Any],
        pooling: str,
        precisions: PrecisionMap,
        ranges: Mapping[str, ChannelRange] | None,
    ) -> None:
        self.static = QuantizedGraph(weights, config, pooling, precisions, ranges)
        self.static.migration = 0.5
        super().__init__(weights, config, pooling, precisions, None)

    def _smoothing(self, name: str) -> Floats:
        return self.static._smoothing(name)

    def _quantized(self, inputs: str, name: str, smoothing: Floats) -> tuple[str, str]:
        if inputs not in self._inputs:
            factor = self.constant(f"{name}.factor", 1 / smoothing)
            smoothed = self.op("Mul", [inputs, factor])
            self._inputs[inputs] = super()._quantized(smoothed, name, smoothing)
            self._scales[inputs] = self._scales[smoothed]
        return self._inputs[inputs]


class ByBatch(QuantizedGraph):
    """One range for all that is in the batch, as quantization tools make it."""

    def _integer_product(self, inputs: str, name: str, *, bias: bool) -> str:
        weight = self.weight(f"{name}.weight").T
        scale = np.abs(weight).max(axis=0) / 127
        operands = [
            inputs,
            self.constant(f"{name}.weight", np.rint(weight / scale).astype(np.int8)),
            self.constant(f"{name}.scale", scale),
        ]
        if bias:
            operands += ["", self.constant(f"{name}.bias", self.weight(f"{name}.bias"))]
        return self.op("DynamicQuantizeMatMul", operands, domain=FUSED_DOMAIN)


class AttentionOperator(QuantizedGraph):
    """``MultiHeadAttention`` in place of its products."""

    attention_operator = True


class BiasInGelu(QuantizedGraph):
    """``BiasGelu`` after a product without its bias."""

    def gelu(self, inputs: str, name: str) -> str:
        product = self._integer_product(inputs, name, bias=False)
        bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
        return self.op("BiasGelu", [product, bias], domain=FUSED_DOMAIN)


class Blockwise(QuantizedGraph):
    """``MatMulNBits``: weights of 8 bits with a scale for each block of ``block`` inputs.

    ``level`` is the operator's: 0 multiplies in fp32, 4 may in 8 bits, block by block.
    """

    block: ClassVar[int]
    level: ClassVar[int]

    def _integer_product(self, inputs: str, name: str, *, bias: bool) -> str:
        weight = self.weight(f"{name}.weight")
        rows, columns = weight.shape
        blocks = weight.reshape(rows, columns // self.block, self.block)
        scale = np.maximum(np.abs(blocks).max(axis=2) / 127, 1e-12).astype(np.float32)
        codes = (np.rint(blocks / scale[..., None]) + 128).astype(np.uint8)
        operands = [
            inputs,
            self.constant(f"{name}.weight", codes),
            self.constant(f"{name}.scale", scale),
        ]
        if bias:
            operands += ["", "", self.constant(f"{name}.bias", self.weight(f"{name}.bias"))]
        sizes = {"K": columns, "N": rows, "bits": 8, "block_size": self.block}
        return self.op(
            "MatMulNBits", operands, domain=FUSED_DOMAIN, accuracy_level=self.level, **sizes
        )


@dataclass(frozen=True)
class Form:
    """A way to write the model: a graph, its precisions, and whether ranges are measured."""

    kind: type[EncoderGraph] = QuantizedGraph
    parts: str = "int8"
    is_static: bool = True


def blockwise(size: int, accuracy: int) -> Form:
    """In blocks of ``size`` inputs."""
    kind = type(f"Blockwise{size}x{accuracy}", (Blockwise,), {"block": size, "level": accuracy})
    return Form(kind, is_static=False)


REFERENCE = "fp32"
FORMS: Mapping[str, Form] = {
    REFERENCE: Form(EncoderGraph),
    "fp32, attention in plain products": Form(PlainAttention),
    "fp16 weights": Form(parts="fp16"),
    "int8 as shipped: static, smoothed by 0.9": Form(),
    "static, not smoothed": Form(Unsmoothed),
    "static, smoothed by 0.5": Form(Migration50),
    "static, smoothed by 0.7": Form(Migration70),
    "static, smoothed by 1": Form(Migration100),
    "static, symmetric ranges": Form(Symmetric),
    "static, MultiHeadAttention": Form(AttentionOperator),
    "static, BiasGelu": Form(BiasInGelu),
    "static, word table in fp32": Form(parts="int8,embeddings=fp32"),
    "static, attention in fp32": Form(parts="int8,attention=fp32,output=fp32"),
    "static, feed-forward in fp32": Form(parts="int8,feed-forward=fp32"),
    "dynamic, by token": Form(is_static=False),
    "dynamic, by token, smoothed by 0.5": Form(SmoothedByToken),
    "dynamic, by batch": Form(ByBatch, is_static=False),
    **{
        f"8-bit blocks of {size}, accuracy level {level}": blockwise(size, level)
        for size in (32, 64, 128)
        for level in (0, 4)
    },
}
