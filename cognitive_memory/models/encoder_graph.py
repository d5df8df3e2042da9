"""Writes the inference graph of a transformer encoder straight from its weights.

Two forms of the same arithmetic: standard operators (opset 17) that every ONNX runtime has, and
fused operators of ONNX Runtime's ``com.microsoft`` domain (Attention, BiasGelu, RotaryEmbedding)
that run faster. Plain ``Add`` + ``LayerNormalization`` is kept in both: measured faster than
``SkipLayerNormalization``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from ..core.errors import ConversionError
from .architecture import Weights, read_architecture
from .attention_graph import AttentionGraph
from .families import Config
from .graph_writer import FUSED_DOMAIN, OPSET
from .registry import POOLINGS

__all__ = ["FUSED_DOMAIN", "OPSET", "POOLINGS", "EncoderGraph", "build_graph", "stored_weights"]


def build_graph(
    weights: Weights, config: Config, *, fused: bool, pooling: str = "mean"
) -> onnx.ModelProto:
    """``input_ids``, ``attention_mask`` (batch, length) int64 -> ``embeddings`` (batch, dim).

    Pooled over the mask, then of unit length. Padding stands on the right. ``weights`` are named
    as in the family's checkpoints, with or without a prefix. Raises ``ConversionError`` for
    another architecture or pooling, and weights that are missing or do not fit.
    """
    return EncoderGraph(weights, config, fused, pooling).build()


def stored_weights(model: onnx.ModelProto, config: Config) -> dict[str, NDArray[Any]]:
    """The weights in a portable graph, as ``build_graph`` takes them to write it again."""
    architecture = read_architecture(config)
    family = architecture.family
    turned = {f"{name}.weight" for name, _ in architecture.products()}
    known = architecture.shapes()
    weights = {}
    for tensor in model.graph.initializer:
        if tensor.name in known:
            values = numpy_helper.to_array(tensor)
            weights[tensor.name] = values.T if tensor.name in turned else values
    if family.types is not None and family.positions is not None:  # added to the positions
        weights[f"{family.types}.weight"] = np.zeros((1, architecture.hidden), np.float32)
    return weights


class EncoderGraph(AttentionGraph):
    """The nodes of one graph; a subclass that overrides a method has another form of that part.

    Each of ``product``, ``dense``, ``attention``, ``embed``, ``gelu``, ``norm``, ``add_and_norm``
    and ``pool`` adds nodes and returns the name of its values.
    """

    def __init__(
        self, weights: Weights, config: Config, fused: bool, pooling: str = "mean"
    ) -> None:
        super().__init__(weights, config, fused)
        if pooling not in POOLINGS:
            raise ConversionError(
                f"pooling {pooling!r} is not supported (supported: {', '.join(POOLINGS)})"
            )
        self.pooling = pooling
        self.epsilon = self.architecture.epsilon

    def build(self) -> onnx.ModelProto:
        """The whole model."""
        mask = self.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        tokens = self.embed()
        masks: dict[int | None, str] = {}
        for number, reach in enumerate(self.architecture.reach):
            if reach.window not in masks:
                masks[reach.window] = self.attention_mask(mask, reach.window)
            tokens = self.layer(tokens, masks[reach.window], number)
        if self.family.final_norm is not None:
            tokens = self.norm(tokens, self.family.final_norm)
        self.pool(tokens, mask)
        return self.model(self.hidden)

    def embed(self) -> str:
        """Words, positions and token type, normalized."""
        family = self.family
        # Every token is of type 0, so its row can be added to the positions once and for all.
        kind = self.weight(f"{family.types}.weight")[:1] if family.types is not None else 0
        added = None
        if family.positions is not None:
            name = f"{family.positions}.weight"
            positions = self.constant(name, self.weight(name) + kind)
            added = self.rows(positions, self.architecture.first_position)
        elif family.types is not None:
            added = self.constant(f"{family.types}.weight", np.asarray(kind))
        tokens = self.look_up(f"{family.words}.weight")
        if added is not None:
            tokens = self.op("Add", [tokens, added])
        return self.norm(tokens, family.embedding_norm)

    def look_up(self, table: str) -> str:
        """The row of each token in the word table."""
        return self.op("Gather", [self.constant(table, self.weight(table)), "input_ids"])

    def layer(self, tokens: str, mask: str, number: int) -> str:
        """Attention and the feed-forward part, each beside a residual connection."""
        family = self.family
        attention_norm = self.name(number, family.attention_norm)
        output_norm = self.name(number, family.output_norm)
        output = self.name(number, family.attention_output)
        narrowing = self.name(number, family.narrowing)
        if family.norm_first:
            # The first one is left out where the embeddings have just been normalized.
            known = f"{attention_norm}.weight" in self.weights
            inputs = self.norm(tokens, attention_norm) if known else tokens
            attended = self.dense(self.attention(inputs, mask, number), output)
            tokens = self.op("Add", [attended, tokens])
            widened = self.widen(self.norm(tokens, output_norm), number)
            return self.op("Add", [self.dense(widened, narrowing), tokens])
        attended = self.dense(self.attention(tokens, mask, number), output)
        tokens = self.add_and_norm(attended, tokens, attention_norm)
        widened = self.dense(self.widen(tokens, number), narrowing)
        return self.add_and_norm(widened, tokens, output_norm)

    def widen(self, tokens: str, number: int) -> str:
        """The first half of the feed-forward part: (batch, length, wide)."""
        names = [self.name(number, part) for part in self.family.widening]
        if self.family.gated:
            values = [self.dense(tokens, name) for name in names]
            grown, gate = values if len(names) == 2 else self.split(values[0], 2)
            return self.op("Mul", [self.activate(grown), gate])
        if self.architecture.activation == "gelu":
            return self.gelu(tokens, names[0])
        return self.activate(self.dense(tokens, names[0]))

    def gelu(self, inputs: str, name: str) -> str:
        """A layer with its bias, and the exact (erf) GELU."""
        if self.fused and f"{name}.bias" in self.weights:
            bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
            return self.op("BiasGelu", [self.product(inputs, name), bias], domain=FUSED_DOMAIN)
        return self.activate(self.dense(inputs, name))

    def activate(self, values: str) -> str:
        """The activation of the architecture."""
        kind = self.architecture.activation
        if kind == "relu":
            return self.op("Relu", [values])
        if kind == "silu":
            return self.op("Mul", [values, self.op("Sigmoid", [values])])
        if self.fused:
            return self.op("Gelu" if kind == "gelu" else "FastGelu", [values], domain=FUSED_DOMAIN)
        one = self.constant("float_1", np.float32(1))
        if kind == "gelu":
            root = self.constant("square_root_2", np.float32(2**0.5))
            share = self.op("Add", [self.op("Erf", [self.op("Div", [values, root])]), one])
        else:
            share = self.op("Add", [self.op("Tanh", [self._tanh_argument(values)]), one])
        half = self.constant("float_half", np.float32(0.5))
        return self.op("Mul", [self.op("Mul", [values, share]), half])

    def _tanh_argument(self, values: str) -> str:
        """The argument of tanh in the approximate GELU of Hendrycks and Gimpel (2016)."""
        cube = self.op("Mul", [self.op("Mul", [values, values]), values])
        small = self.op("Mul", [cube, self.constant("gelu_cubic", np.float32(0.044715))])
        scale = self.constant("gelu_scale", np.float32((2 / np.pi) ** 0.5))
        return self.op("Mul", [self.op("Add", [values, small]), scale])

    def norm(self, values: str, name: str) -> str:
        """Layer norm over the last axis."""
        parts = [
            f"{name}.{part}" for part in ("weight", "bias") if f"{name}.{part}" in self.weights
        ]
        inputs = [values, *(self.constant(part, self.weight(part)) for part in parts)]
        return self.op("LayerNormalization", inputs, axis=-1, epsilon=self.epsilon)

    def add_and_norm(self, values: str, residual: str, name: str) -> str:
        """The residual connection."""
        return self.norm(self.op("Add", [values, residual]), name)

    def pool(self, tokens: str, mask: str) -> None:
        """One vector for each text, at unit length, as the output ``embeddings``."""
        if self.pooling == "mean":
            pooled = self._mean(tokens, mask)
        elif self.pooling == "cls":
            first = self.constant("index_0", np.int64(0))
            pooled = self.op("Gather", [tokens, first], axis=1)
        else:
            last = self.op("ArgMax", [mask], axis=1, keepdims=1, select_last_index=1)
            pooled = self.op("GatherND", [tokens, last], batch_dims=1)
        length = self.op("ReduceL2", [pooled], axes=[1], keepdims=1)
        shortest = self.constant("smallest_norm", np.float32(1e-12))
        self.op("Div", [pooled, self.op("Max", [length, shortest])], output="embeddings")

    def _mean(self, tokens: str, mask: str) -> str:
        axis = self.constant("axis_1", [1])
        summed = self.op("MatMul", [self.op("Unsqueeze", [mask, axis]), tokens])
        count = self.op("ReduceSum", [mask, axis], keepdims=1)
        smallest = self.constant("smallest_count", np.float32(1e-9))
        return self.op(
            "Div", [self.op("Squeeze", [summed, axis]), self.op("Max", [count, smallest])]
        )
