"""The published files of a model, and whether they fit one another and the recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConversionError
from .architecture import Architecture, Weights, read_architecture, select_weights
from .registry import ModelRecipe


def read_published_config(source: Path) -> dict[str, Any]:
    """``config.json`` in ``source``; raises ``ConversionError`` if it is not one."""
    path = source / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{source} holds no readable model: {path.name}: {error}") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{source} holds no readable model: {path.name} is no JSON object")
    return values


def read_weights(source: Path) -> dict[str, NDArray[Any]]:
    """The tensors of ``model.safetensors``; raises ``ConversionError`` if it cannot be read."""
    import onnx  # noqa: F401  before the weights are read: it brings the type bfloat16
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(source / "model.safetensors")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ConversionError(f"{source} holds no readable model: {error}") from None


def check_published(source: Path, recipe: ModelRecipe, weights: Weights) -> Architecture:
    """The architecture of ``source``; raises ``ConversionError`` for what does not fit it.

    That is: weights of other shapes than its ``config.json`` says, another dimension or a longer
    text in the recipe, and token ids that have no row in the word table.
    """
    architecture = read_architecture(read_published_config(source))
    table = select_weights(weights, architecture)[f"{architecture.family.words}.weight"]
    if recipe.dimension != architecture.hidden:
        raise ConversionError(
            f"the recipe of {recipe.name} has dimension {recipe.dimension}, "
            f"the weights have {architecture.hidden}"
        )
    if recipe.max_length > architecture.positions:
        raise ConversionError(
            f"the recipe of {recipe.name} has max_length {recipe.max_length}, "
            f"the model has positions for {architecture.positions} tokens"
        )
    highest = _highest_token(source / "tokenizer.json")
    if highest >= len(table):
        raise ConversionError(
            f"the tokenizer of {recipe.name} gives token ids up to {highest:,}, "
            f"the word table has {len(table):,} rows"
        )
    return architecture


def _highest_token(path: Path) -> int:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path} is not a tokenizer: {error}") from None
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    return int(np.max(list(ids), initial=0))
