"""A BERT small enough to make up: its published files, its recipe, and its vectors in NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cognitive_memory.core.model_files import record_file
from cognitive_memory.models.convert import SOURCE_FILES
from cognitive_memory.models.registry import ModelRecipe

MAX_LENGTH = 16
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]

Weights = dict[str, NDArray[np.float32]]
Floats = NDArray[np.float64]


def tiny_config(hidden: int = 32, layers: int = 2, heads: int = 4) -> dict[str, Any]:
    """A ``config.json``."""
    return {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 24,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "vocab_size": len(VOCABULARY),
    }


def tiny_weights(config: Mapping[str, Any], seed: int = 0) -> Weights:
    """Random weights, large enough that every operation leaves its mark."""
    random = np.random.default_rng(seed)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **_norm("embeddings.LayerNorm", hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{prefix}attention.self.{part}", hidden, hidden)
        shapes |= _linear(f"{prefix}attention.output.dense", hidden, hidden)
        shapes |= _norm(f"{prefix}attention.output.LayerNorm", hidden)
        shapes |= _linear(f"{prefix}intermediate.dense", wide, hidden)
        shapes |= _linear(f"{prefix}output.dense", hidden, wide)
        shapes |= _norm(f"{prefix}output.LayerNorm", hidden)
    return {
        name: (random.standard_normal(shape) * 0.3 + ("LayerNorm.weight" in name)).astype("f4")
        for name, shape in shapes.items()
    }


def write_source(folder: Path, config: Mapping[str, Any], weights: Weights) -> ModelRecipe:
    """Write the published files and return the recipe that pins them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(folder / "tokenizer.json")
    return recipe_of(folder, dimension=config["hidden_size"])


def write_tokenizer(path: Path) -> None:
    """A ``tokenizer.json`` of single letters."""
    _tokenizer().save(str(path))


def recipe_of(folder: Path, name: str = "tiny", dimension: int = 32) -> ModelRecipe:
    """A recipe for the files in ``folder`` as they are now."""
    return ModelRecipe(
        name=name,
        repository="tests/tiny",
        revision="0123456789abcdef",
        license="MIT",
        pooling="mean",
        max_length=MAX_LENGTH,
        dimension=dimension,
        files={file: record_file(folder / file) for file in SOURCE_FILES},
        package=None,
    )


def reference_vectors(
    weights: Mapping[str, NDArray[Any]], config: Mapping[str, Any], rows: Sequence[Sequence[int]]
) -> Floats:
    """(n, hidden) float64, unit rows: the forward pass as the papers have it, text by text."""
    wide = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    vectors = [_forward(wide, config, np.array(row)) for row in rows]
    return np.stack([vector / np.linalg.norm(vector) for vector in vectors])


def _forward(weights: Mapping[str, Floats], config: Mapping[str, Any], ids: NDArray[Any]) -> Floats:
    def linear(values: Floats, name: str) -> Floats:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(values: Floats, name: str) -> Floats:
        centered = values - values.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + config["layer_norm_eps"])
        scaled: Floats = centered / deviation * weights[f"{name}.weight"]
        return scaled + weights[f"{name}.bias"]

    tokens = norm(
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm",
    )
    heads = config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        query, key, value = (
            np.split(linear(tokens, f"{prefix}attention.self.{part}"), heads, axis=1)
            for part in ("query", "key", "value")
        )
        mixed = np.concatenate(
            [
                _softmax(q @ k.T / math.sqrt(q.shape[1])) @ v
                for q, k, v in zip(query, key, value, strict=True)
            ],
            axis=1,
        )
        mixed = linear(mixed, f"{prefix}attention.output.dense")
        tokens = norm(tokens + mixed, f"{prefix}attention.output.LayerNorm")
        grown = _gelu(linear(tokens, f"{prefix}intermediate.dense"))
        tokens = norm(tokens + linear(grown, f"{prefix}output.dense"), f"{prefix}output.LayerNorm")
    mean: Floats = tokens.mean(axis=0)
    return mean


def _softmax(scores: Floats) -> Floats:
    powers: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _gelu(values: Floats) -> Floats:
    share: Floats = (1 + np.vectorize(math.erf)(values / math.sqrt(2))) / 2
    return values * share


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _tokenizer() -> Tokenizer:
    ids = {word: index for index, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
