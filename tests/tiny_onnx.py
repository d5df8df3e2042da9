"""Encoders small enough to make up, as ONNX files from anywhere, and their vectors in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
WIDTH = 6
_RANDOM = np.random.default_rng(0)
WORDS = _RANDOM.standard_normal((len(VOCABULARY), WIDTH)).astype(np.float32)
TYPES = _RANDOM.standard_normal((2, WIDTH)).astype(np.float32)
LONGEST = 128
POSITIONS = _RANDOM.standard_normal((LONGEST, WIDTH)).astype(np.float32)


@dataclass(frozen=True)
class Encoder:
    """Which graph to make.

    A token's vector is the sum of its rows in the tables above, and with a mask also of those of
    all other tokens, so that each has a part in each.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    output: str = "last_hidden_state"
    sentence: str | None = None
    """An output of the mean over the mask, or of ``sentence_pooling``."""
    sentence_pooling: str = "mean"
    integer: int = TensorProto.INT64
    opset: int = 17
    shape: tuple[str | int, str | int] = ("batch", "length")

    def graph(self, **weights: NDArray[Any]) -> onnx.ModelProto:
        """The model; ``weights`` replace the tables."""
        tables = {"words": WORDS, "types": TYPES, "positions": POSITIONS, **weights}
        parts = {
            "words": "input_ids",
            "types": "token_type_ids",
            "positions": "position_ids",
        }
        used = {table: name for table, name in parts.items() if name in self.inputs}
        nodes = [
            helper.make_node("Gather", [table, name], [f"{table}_rows"])
            for table, name in used.items()
        ]
        rows = "token_rows" if "attention_mask" in self.inputs else self.output
        nodes.append(helper.make_node("Sum", [f"{table}_rows" for table in used], [rows]))
        if rows != self.output:
            nodes += [
                helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["mask", "row"], ["mask_row"]),
                helper.make_node("MatMul", ["mask_row", rows], ["context"]),
                helper.make_node("Add", [rows, "context"], [self.output]),
            ]
        outputs = [_output(self.output, ["batch", "length", WIDTH])]
        constants = [numpy_helper.from_array(tables[table], table) for table in used]
        constants += [numpy_helper.from_array(np.array([0, 1, -1]), "row")]
        if self.sentence is not None:
            made, more = self._pool()
            nodes += made
            constants += more
            outputs.append(_output(self.sentence, ["batch", WIDTH]))
        graph = helper.make_graph(
            nodes,
            "encoder",
            [helper.make_tensor_value_info(name, self.integer, self.shape) for name in self.inputs],
            outputs,
            constants,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )

    def _pool(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Nodes and constants of the sentence's vector."""
        assert self.sentence is not None
        if self.sentence_pooling == "cls":
            node = helper.make_node("Gather", [self.output, "zero"], [self.sentence], axis=1)
            return [node], [numpy_helper.from_array(np.array(0), "zero")]
        if self.sentence_pooling == "unmasked mean":
            node = helper.make_node(
                "ReduceMean", [self.output], [self.sentence], axes=[1], keepdims=0
            )
            return [node], []
        return [
            helper.make_node("MatMul", ["mask_row", self.output], ["summed"]),
            helper.make_node("Reshape", ["summed", "flat"], [self.sentence]),
        ], [numpy_helper.from_array(np.array([0, -1]), "flat")]

    def vectors(self, folder: Path, texts: Sequence[str], pooling: str) -> NDArray[np.float64]:
        """(n, WIDTH) unit rows, text by text."""
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        rows = []
        for text in texts:
            ids = np.array(tokenizer.encode(text).ids)
            tokens = WORDS[ids].astype(np.float64)
            if "token_type_ids" in self.inputs:
                tokens = tokens + TYPES[0]
            if "position_ids" in self.inputs:
                tokens = tokens + POSITIONS[: len(ids)]
            if "attention_mask" in self.inputs:
                tokens = tokens + tokens.sum(axis=0)
            row = {"mean": tokens.mean(axis=0), "cls": tokens[0], "last": tokens[-1]}[pooling]
            rows.append(row / np.linalg.norm(row))
        return np.stack(rows)


def write_onnx(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """Write ``model`` and a tokenizer, as repositories have them; the folder."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / name)
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _output(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
