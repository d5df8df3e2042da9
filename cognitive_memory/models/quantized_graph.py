"""The graph of an encoder whose products are computed in 8 bits, or kept in 16.

``int8``: weights symmetric with a scale for each output (per channel). What goes into a product
is quantized either with a range known beforehand (*static*: measured on calibration texts) or by
each token's own largest value (*dynamic*). Either way a vector does not depend on what else is in
its batch, unlike the usual dynamic quantization, which takes one range for the whole batch.

Static ranges would be ruled by a few channels that are a hundred times larger than the others.
As in SmoothQuant (Xiao et al., 2023), channels are divided by a factor before and the weights
multiplied by it: s = max|x|^a / max|w|^(1-a). Factors are rounded to powers of two, so that two
machines, whose calibrations differ in the last bits, still make the same model.

Products are u8 x s8 (``MatMulIntegerToFloat``), the pair that has instructions of its own on x86
(VNNI) and ARM. Softmax, layer norm and residuals stay in fp32, as does attention itself: its
products are small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..core.errors import ConversionError
from .architecture import Weights
from .calibration import ChannelRange, Floats
from .encoder_graph import EncoderGraph
from .graph_writer import FUSED_DOMAIN
from .precision import LAYER_PARTS, PrecisionMap, part_products

_HIGHEST = 127
_MIDDLE = 128
_LARGEST_HALF = 65504.0


class QuantizedGraph(EncoderGraph):
    """``precisions`` says what is kept how; without ``ranges`` inputs are quantized dynamically."""

    packed_attention = False
    attention_operator = False

    migration = 0.9
    """SmoothQuant's alpha: how much of the difficulty goes from the inputs to the weights."""

    def __init__(
        self,
        weights: Weights,
        config: Mapping[str, Any],
        pooling: str,
        precisions: PrecisionMap,
        ranges: Mapping[str, ChannelRange] | None,
    ) -> None:
        super().__init__(weights, config, fused=True, pooling=pooling)
        self.ranges = ranges
        self.word_precision = precisions.embeddings
        self.precisions: dict[str, str] = {}
        self.companions: dict[str, list[str]] = {}
        """Each product with those that take the same input: they are smoothed together."""
        for layer in range(self.layers):
            for part in LAYER_PARTS:
                for group in part_products(self.architecture, layer, part):
                    self.precisions |= dict.fromkeys(group, precisions.of(layer, part))
                    self.companions |= dict.fromkeys(group, group)
        # Without 8-bit products all operators are standard ones: other devices have them.
        self.fused = "int8" in self.precisions.values()
        self._inputs: dict[str, tuple[str, str]] = {}
        self._scales: dict[str, str] = {}

    def look_up(self, table: str) -> str:
        """Rows of the word table, in its precision."""
        values = self.weight(table)
        if self.word_precision == "fp32":
            return super().look_up(table)
        if self.word_precision == "fp16":
            half = self.constant(table, _halved(values, table))
            return self.op("Cast", [self.op("Gather", [half, "input_ids"])], to=1)
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True) / _HIGHEST, 1e-12)
        codes = self.constant(table, np.rint(values / scale).astype(np.int8))
        scales = self.constant(f"{table}.scale", scale.astype(np.float32))
        rows = self.op("Cast", [self.op("Gather", [codes, "input_ids"])], to=1)
        return self.op("Mul", [rows, self.op("Gather", [scales, "input_ids"])])

    def product(self, inputs: str, name: str) -> str:
        """Without its bias."""
        precision = self.precisions[name]
        if precision == "int8":
            return self._integer_product(inputs, name, bias=False)
        if precision == "fp16":
            weight = _halved(self.weight(f"{name}.weight").T, name)
            # The runtime casts it once, when the model is loaded.
            cast = self.op("Cast", [self.constant(f"{name}.weight", weight)], to=1)
            return self.op("MatMul", [inputs, cast])
        return super().product(inputs, name)

    def dense(self, inputs: str, name: str) -> str:
        """With its bias, if it has one."""
        if self.precisions[name] == "int8":
            return self._integer_product(inputs, name, bias=f"{name}.bias" in self.weights)
        return super().dense(inputs, name)

    def gelu(self, inputs: str, name: str) -> str:
        """A layer with its bias, and the exact GELU."""
        if self.precisions[name] == "int8":
            # The bias comes with the product: nothing is left for BiasGelu, the slower one.
            return self.activate(self.dense(inputs, name))
        return super().gelu(inputs, name)

    def _integer_product(self, inputs: str, name: str, *, bias: bool) -> str:
        smoothing = self._smoothing(name)
        weight = self.weight(f"{name}.weight").T * smoothing[:, None]
        scale = np.maximum(np.abs(weight).max(axis=0) / _HIGHEST, 1e-12)
        codes, zero = self._quantized(inputs, name, smoothing)
        operands = [
            codes,
            self.constant(f"{name}.weight", np.rint(weight / scale).astype(np.int8)),
            self.constant("float_1", np.float32(1)),
        ]
        if self.ranges is not None:
            scale = scale * self._step(name, smoothing)[0]
        operands += [self.constant(f"{name}.scale", scale.astype(np.float32)), zero]
        added = [self.constant(f"{name}.bias", self.weight(f"{name}.bias"))] if bias else []
        if self.ranges is not None:
            operands += ["", *added] if bias else []
            return self.op("MatMulIntegerToFloat", operands, domain=FUSED_DOMAIN)
        values = self.op("MatMulIntegerToFloat", operands, domain=FUSED_DOMAIN)
        values = self.op("Mul", [values, self._scales[inputs]])
        return self.op("Add", [values, *added]) if bias else values

    def _quantized(self, inputs: str, name: str, smoothing: Floats) -> tuple[str, str]:
        """``inputs`` as 8-bit codes, once for all products that take them, and the code of 0."""
        if inputs not in self._inputs:
            one = self.constant("float_1", np.float32(1))
            if self.ranges is None:
                zero = self.constant("middle", np.uint8(_MIDDLE))
                scaled = self._scaled_by_token(inputs)
            else:
                step, first = self._step(name, smoothing)
                zero = self.constant(f"{name}.zero", np.uint8(first))
                factor = (1 / (smoothing * step)).astype(np.float32)
                scaled = self.op("Mul", [inputs, self.constant(f"{name}.factor", factor)])
            self._inputs[inputs] = self.op("QuantizeLinear", [scaled, one, zero]), zero
        return self._inputs[inputs]

    def _scaled_by_token(self, inputs: str) -> str:
        """Each token's values divided by their largest, times 127; the divisor is kept."""
        largest = self.op("ReduceMax", [self.op("Abs", [inputs])], axes=[-1], keepdims=1)
        least = self.constant("smallest_norm", np.float32(1e-12))
        step = self.constant("step", np.float32(1 / _HIGHEST))
        self._scales[inputs] = self.op("Mul", [self.op("Max", [largest, least]), step])
        return self.op("Div", [inputs, self._scales[inputs]])

    def _smoothing(self, name: str) -> Floats:
        """Factor of each input channel, (in,) float32, a power of two."""
        group = self.companions[name]
        weights = [self.weight(f"{each}.weight") for each in group]
        if self.ranges is None:
            return np.ones(weights[0].shape[1], dtype=np.float32)
        known = self.ranges[name]
        inputs = np.maximum(np.maximum(-known.low, known.high), 1e-5)
        heaviest = np.maximum(np.max([np.abs(each).max(axis=0) for each in weights], axis=0), 1e-5)
        exponents = self.migration * np.log2(inputs) - (1 - self.migration) * np.log2(heaviest)
        factors: Floats = np.exp2(np.rint(exponents)).astype(np.float32)
        return factors

    def _step(self, name: str, smoothing: Floats) -> tuple[float, int]:
        """What one code is worth, and the code of zero, for a product's smoothed inputs."""
        assert self.ranges is not None
        known = self.ranges[name]
        low = min(0.0, float((known.low / smoothing).min()))
        high = max(0.0, float((known.high / smoothing).max()))
        step = max(_rounded((high - low) / 255), 1e-12)
        return step, round(min(255.0, -low / step))


def _halved(values: Floats, name: str) -> NDArray[np.float16]:
    largest = float(np.abs(values).max())
    if not largest <= _LARGEST_HALF:
        raise ConversionError(
            f"{name} holds values up to {largest:.3g}, fp16 ends at {_LARGEST_HALF:g}; "
            "keep it in fp32"
        )
    return values.astype(np.float16)


def _rounded(value: float) -> float:
    """To three digits: see the module's docstring about two machines."""
    return float(f"{value:.3g}")


def parameters_digest(model: onnx.ModelProto) -> str:
    """SHA-256 of all constants of a graph, by name."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda each: each.name):
        digest.update(f"{tensor.name}\0{tensor.data_type}\0{list(tensor.dims)}\0".encode())
        digest.update(tensor.raw_data)
    return digest.hexdigest()
