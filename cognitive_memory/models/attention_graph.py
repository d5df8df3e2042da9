"""Attention in the graph of an encoder: its products, rotary positions, masks and windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .architecture import Weights, read_architecture, select_weights
from .families import Config, Reach
from .graph_writer import FUSED_DOMAIN, GraphWriter


class AttentionGraph(GraphWriter):
    """What attends, and the products that all parts share.

    Values are (batch, length, hidden) float32 unless said otherwise. A constant that comes from
    the checkpoint has its name there; weights of products are transposed.
    """

    packed_attention = True
    """Whether the fused form multiplies inside ``Attention``; else all products are ``product``."""

    attention_operator = True
    """Whether the fused form attends in one operator, which takes the mask as it is."""

    def __init__(self, weights: Weights, config: Config, fused: bool) -> None:
        super().__init__(fused=fused)
        self.architecture = read_architecture(config)
        self.family = self.architecture.family
        self.weights = select_weights(weights, self.architecture)
        self.heads = self.architecture.heads
        self.hidden = self.architecture.hidden
        self.layers = self.architecture.layers
        self._rotary: dict[float, list[str]] = {}

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor of the checkpoint as float32."""
        return np.asarray(self.weights[name], dtype=np.float32)

    def name(self, number: int, part: str) -> str:
        """The checkpoint's name for a part of a layer."""
        return self.family.layer.format(number) + part

    def product(self, inputs: str, name: str) -> str:
        """``inputs`` times the layer's weights."""
        weight = self.constant(f"{name}.weight", self.weight(f"{name}.weight").T)
        return self.op("MatMul", [inputs, weight])

    def dense(self, inputs: str, name: str) -> str:
        """A layer with its bias, if it has one."""
        values = self.product(inputs, name)
        if f"{name}.bias" not in self.weights:
            return values
        return self.op("Add", [values, self.constant(f"{name}.bias", self.weight(f"{name}.bias"))])

    def attention_mask(self, mask: str, window: int | None = None) -> str:
        """The mask in the form that ``attention`` takes.

        0 where a token may look, the lowest float elsewhere, whose softmax is exactly zero:
        (batch, 1, 1, length), or (batch, 1, length, length) with a window. Fused and without a
        window the mask itself as int32.
        """
        if self.fused and self.attention_operator and window is None:
            return self.op("Cast", [mask], to=TensorProto.INT32)
        highest = np.finfo(np.float32).max
        axes = self.constant("axes_1_2", [1, 2])
        if window is None:
            hidden = self.op("Sub", [mask, self.constant("float_1", np.float32(1))])
            scaled = self.op("Mul", [hidden, self.constant("highest", np.float32(highest))])
            return self.op("Unsqueeze", [scaled, axes])
        zero = self.constant("float_0", np.float32(0))
        numbers = np.arange(self.architecture.positions, dtype=np.float32)
        columns = self.rows(self.constant("numbers", numbers))
        lines = self.op("Unsqueeze", [columns, self.constant("axis_1", [1])])
        apart = self.op("Abs", [self.op("Sub", [lines, columns])])
        far = self.op("Greater", [apart, self.constant(f"window_{window}", np.float32(window))])
        padding = self.op("Unsqueeze", [self.op("Equal", [mask, zero]), axes])
        lowest = self.constant("lowest", np.float32(-highest))
        return self.op("Where", [self.op("Or", [padding, far]), lowest, zero])

    def attention(self, tokens: str, mask: str, number: int) -> str:
        """Attention over the heads of a layer, without its output layer."""
        reach = self.architecture.reach[number]
        names = [self.name(number, part) for part in self.family.projections]
        if self.fused and self.packed_attention and len(names) == 3 and reach == Reach():
            weight = np.concatenate([self.weight(f"{name}.weight").T for name in names], axis=1)
            bias = np.concatenate([self.weight(f"{name}.bias") for name in names])
            packed = self.name(number, "query_key_value")
            inputs = [
                tokens,
                self.constant(f"{packed}.weight", weight),
                self.constant(f"{packed}.bias", bias),
                mask,
            ]
            return self.op("Attention", inputs, domain=FUSED_DOMAIN, num_heads=self.heads)
        projected = [self.dense(tokens, name) for name in names]
        query, key, value = projected if len(names) == 3 else self.split(projected[0], 3)
        if reach.rotary_base is not None:
            query, key = (self.rotate(each, reach.rotary_base) for each in (query, key))
        return self.attend(query, key, value, mask, windowed=reach.window is not None)

    def attend(self, query: str, key: str, value: str, mask: str, *, windowed: bool) -> str:
        """Scores, their softmax, and the mixture of the values."""
        if self.fused and self.attention_operator:
            # Inputs 3 to 5: bias, mask of the keys, what is added to the scores.
            inputs = [query, key, value, "", *(("", mask) if windowed else (mask,))]
            return self.op("MultiHeadAttention", inputs, domain=FUSED_DOMAIN, num_heads=self.heads)
        width = self.hidden // self.heads
        split = self.constant("split_heads", [0, 0, self.heads, width])
        query, key, value = (self.op("Reshape", [each, split]) for each in (query, key, value))
        query, value = (self.op("Transpose", [each], perm=[0, 2, 1, 3]) for each in (query, value))
        scores = self.op("Add", [self.scores(query, key), mask])
        shares = self.op("Softmax", [scores], axis=-1)
        mixed = self.op("Transpose", [self.op("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return self.op("Reshape", [mixed, self.constant("join_heads", [0, 0, self.hidden])])

    def scores(self, query: str, key: str) -> str:
        """Scaled products of (batch, heads, length, width) and (batch, length, heads, width)."""
        scale = (self.hidden // self.heads) ** -0.5
        if self.fused:
            inputs = [query, self.op("Transpose", [key], perm=[0, 2, 1, 3])]
            return self.op("FusedMatMul", inputs, domain=FUSED_DOMAIN, transB=1, alpha=scale)
        key = self.op("Transpose", [key], perm=[0, 2, 3, 1])
        factor = self.constant("attention_scale", np.float32(scale))
        return self.op("Mul", [self.op("MatMul", [query, key]), factor])

    def rotate(self, values: str, base: float) -> str:
        """Rotary positions: the halves of each head are the coordinates that are turned."""
        if base not in self._rotary:
            self._rotary[base] = self.rotary_tables(base)
        cosines, sines = self._rotary[base]
        if self.fused:
            start = self.constant("axis_0", [0])
            return self.op("RotaryEmbedding", [values, start, cosines, sines], domain=FUSED_DOMAIN)
        width = self.hidden // self.heads
        heads = self.op(
            "Reshape", [values, self.constant("split_heads", [0, 0, self.heads, width])]
        )
        first, second = self.split(heads, 2)
        turned = [
            self.op("Sub", [self.op("Mul", [first, cosines]), self.op("Mul", [second, sines])]),
            self.op("Add", [self.op("Mul", [second, cosines]), self.op("Mul", [first, sines])]),
        ]
        return self.op("Concat", turned, axis=-1)

    def rotary_tables(self, base: float) -> list[str]:
        """Cosines and sines: fused (positions, width / 2), else those of each token (n, 1, …)."""
        width = self.hidden // self.heads
        # In float32 throughout, as the reference has it: the angles of late positions are coarse.
        exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
        numbers = np.arange(self.architecture.positions, dtype=np.float32)
        angles = np.outer(numbers, np.float32(1) / np.float32(base) ** exponents)
        tables = [
            self.constant(f"{kind.__name__}_{base:g}", kind(angles)) for kind in (np.cos, np.sin)
        ]
        if self.fused:
            return tables
        axis = self.constant("axis_1", [1])
        return [self.op("Unsqueeze", [self.rows(table), axis]) for table in tables]
