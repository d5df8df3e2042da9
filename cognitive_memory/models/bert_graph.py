"""Writes the inference graph of a BERT encoder straight from its weights.

Two forms of the same arithmetic: standard operators (opset 17) that every ONNX runtime has, and
fused operators of ONNX Runtime's ``com.microsoft`` domain (Attention, BiasGelu) that run faster.
Plain ``Add`` + ``LayerNormalization`` is kept in both: measured faster than
``SkipLayerNormalization``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..core.errors import ConversionError

OPSET = 17
FUSED_DOMAIN = "com.microsoft"
_ATTENTION_NAMES = ("query", "key", "value")

Weights = Mapping[str, NDArray[Any]]


def build_graph(weights: Weights, config: Mapping[str, Any], *, fused: bool) -> onnx.ModelProto:
    """``input_ids``, ``attention_mask`` (batch, length) int64 -> ``embeddings`` (batch, dim).

    Mean pooling over the mask, then unit length. ``weights`` are named as in a BERT checkpoint.
    Raises ``ConversionError`` for another architecture or missing weights.
    """
    _check_architecture(config)
    try:
        return BertGraph(weights, config, fused).build()
    except KeyError as missing:
        raise ConversionError(
            f"the weights hold no {missing}; a BERT encoder of "
            f"{config['num_hidden_layers']} layers is expected"
        ) from None


def _check_architecture(config: Mapping[str, Any]) -> None:
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "layer_norm_eps"):
        if key not in config:
            raise ConversionError(f"config.json holds no {key!r}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if hidden % heads:
        raise ConversionError(
            f"hidden_size={hidden} is not a multiple of num_attention_heads={heads}"
        )
    expected = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    }
    for key, value in expected.items():
        found = config.get(key, value if key == "position_embedding_type" else None)
        if found != value:
            raise ConversionError(
                f"{key}={found!r} is not supported by the graph builder (supported: {value!r}); "
                "try --exporter torch"
            )


class BertGraph:
    """The nodes of one graph; a subclass that overrides a method has another form of that part."""

    def __init__(self, weights: Weights, config: Mapping[str, Any], fused: bool) -> None:
        self.weights = weights
        self.fused = fused
        self.heads = int(config["num_attention_heads"])
        self.hidden = int(config["hidden_size"])
        self.layers = int(config["num_hidden_layers"])
        self.epsilon = float(config["layer_norm_eps"])
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def build(self) -> onnx.ModelProto:
        """The whole model."""
        mask = self.op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        tokens = self.embed()
        attention_mask = self.attention_mask(mask)
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}."
            attended = self.attention(tokens, attention_mask, prefix + "attention.")
            attended = self.dense(attended, prefix + "attention.output.dense")
            tokens = self.add_and_norm(attended, tokens, prefix + "attention.output.LayerNorm")
            widened = self.gelu(tokens, prefix + "intermediate.dense")
            widened = self.dense(widened, prefix + "output.dense")
            tokens = self.add_and_norm(widened, tokens, prefix + "output.LayerNorm")
        self.pool(tokens, mask)
        return self.model()

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        output = attributes.pop("output", f"{kind}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return str(output)

    def constant(self, name: str, value: NDArray[Any] | np.generic | list[int]) -> str:
        """The name of an initializer, added once; a list is int64."""
        if name not in self.constants:
            array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> NDArray[np.float32]:
        """One tensor of the checkpoint as float32."""
        return np.asarray(self.weights[name], dtype=np.float32)

    def embed(self) -> str:
        """Words, positions and token type, normalized: (batch, length, hidden)."""
        words = self.constant("word_embeddings", self.weight("embeddings.word_embeddings.weight"))
        # Every token is of type 0, so its row can be added to the positions once and for all.
        positions = self.constant(
            "position_embeddings",
            self.weight("embeddings.position_embeddings.weight")
            + self.weight("embeddings.token_type_embeddings.weight")[0],
        )
        one = self.constant("axis_1", [1])
        length = self.op("Slice", [self.op("Shape", ["input_ids"]), one, self.constant("two", [2])])
        # Slicing the table by the length: a Range that feeds a Gather breaks ORT's own fusion.
        rows = self.op("Slice", [positions, self.constant("axis_0", [0]), length])
        summed = self.op("Add", [self.op("Gather", [words, "input_ids"]), rows])
        return self.norm(summed, "embeddings.LayerNorm")

    def attention_mask(self, mask: str) -> str:
        """The mask in the form that ``attention`` takes."""
        if self.fused:
            return self.op("Cast", [mask], to=TensorProto.INT32)
        # 0 where a token is, the lowest float where padding is: its softmax is exactly zero.
        lowest = self.constant("highest_float", np.float32(np.finfo(np.float32).max))
        hidden = self.op("Sub", [mask, self.constant("float_1", np.float32(1))])
        return self.op(
            "Unsqueeze", [self.op("Mul", [hidden, lowest]), self.constant("axes_1_2", [1, 2])]
        )

    def attention(self, tokens: str, mask: str, prefix: str) -> str:
        """Attention over the heads, without its output layer."""
        parts = [f"{prefix}self.{name}" for name in _ATTENTION_NAMES]
        if self.fused:
            weight = np.concatenate([self.weight(f"{part}.weight").T for part in parts], axis=1)
            bias = np.concatenate([self.weight(f"{part}.bias") for part in parts])
            inputs = [
                tokens,
                self.constant(f"{prefix}self.weight", weight),
                self.constant(f"{prefix}self.bias", bias),
                mask,
            ]
            return self.op("Attention", inputs, domain=FUSED_DOMAIN, num_heads=self.heads)
        width = self.hidden // self.heads
        split = self.constant("split_heads", [0, 0, self.heads, width])
        query, key, value = (
            self.op("Reshape", [self.dense(tokens, part), split]) for part in parts
        )
        query = self.op("Transpose", [query], perm=[0, 2, 1, 3])
        key = self.op("Transpose", [key], perm=[0, 2, 3, 1])
        value = self.op("Transpose", [value], perm=[0, 2, 1, 3])
        scale = self.constant("attention_scale", np.float32(width**-0.5))
        scores = self.op("Mul", [self.op("MatMul", [query, key]), scale])
        shares = self.op("Softmax", [self.op("Add", [scores, mask])], axis=-1)
        mixed = self.op("Transpose", [self.op("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return self.op("Reshape", [mixed, self.constant("join_heads", [0, 0, self.hidden])])

    def product(self, inputs: str, name: str) -> str:
        """``inputs`` times the layer's weights."""
        weight = self.constant(f"{name}.weight", self.weight(f"{name}.weight").T)
        return self.op("MatMul", [inputs, weight])

    def dense(self, inputs: str, name: str) -> str:
        """A layer with its bias."""
        bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
        return self.op("Add", [self.product(inputs, name), bias])

    def gelu(self, inputs: str, name: str) -> str:
        """A layer with its bias, and the exact (erf) GELU."""
        if self.fused:
            bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
            return self.op("BiasGelu", [self.product(inputs, name), bias], domain=FUSED_DOMAIN)
        values = self.dense(inputs, name)
        root = self.constant("square_root_2", np.float32(2**0.5))
        error = self.op("Erf", [self.op("Div", [values, root])])
        grown = self.op("Add", [error, self.constant("float_1", np.float32(1))])
        half = self.constant("float_half", np.float32(0.5))
        return self.op("Mul", [self.op("Mul", [values, grown]), half])

    def norm(self, values: str, name: str) -> str:
        """Layer norm over the last axis."""
        inputs = [values] + [
            self.constant(f"{name}.{part}", self.weight(f"{name}.{part}"))
            for part in ("weight", "bias")
        ]
        return self.op("LayerNormalization", inputs, axis=-1, epsilon=self.epsilon)

    def add_and_norm(self, values: str, residual: str, name: str) -> str:
        """The residual connection."""
        return self.norm(self.op("Add", [values, residual]), name)

    def pool(self, tokens: str, mask: str) -> None:
        """The mean over the mask, at unit length, as the output ``embeddings``."""
        axis = self.constant("axis_1", [1])
        summed = self.op("MatMul", [self.op("Unsqueeze", [mask, axis]), tokens])
        count = self.op("ReduceSum", [mask, axis], keepdims=1)
        smallest = self.constant("smallest_count", np.float32(1e-9))
        mean = self.op(
            "Div", [self.op("Squeeze", [summed, axis]), self.op("Max", [count, smallest])]
        )
        length = self.op("ReduceL2", [mean], axes=[1], keepdims=1)
        shortest = self.constant("smallest_norm", np.float32(1e-12))
        self.op("Div", [mean, self.op("Max", [length, shortest])], output="embeddings")

    def model(self) -> onnx.ModelProto:
        """Nodes and constants with their declarations."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info(
            "embeddings", TensorProto.FLOAT, ["batch", self.hidden]
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
