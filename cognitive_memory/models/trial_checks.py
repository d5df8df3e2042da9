"""What the trial of a graph must have given for it to be an embedding model, and the recipe's."""

from __future__ import annotations

import numpy as np

from ..core.errors import ConversionError
from ..core.similarity import normalize
from .onnx_interface import OUTPUT, SENTENCE, TOKENS
from .trial import Trial

LARGEST_DIFFERENCE = 1e-4
"""Between vectors of one text that must be the same."""


def check_trial(trial: Trial) -> int:
    """The dimension of what a graph gave; raises ``ConversionError`` where it is no embedding."""
    if isinstance(trial.whole, str):
        raise ConversionError(
            f"the model fails on a text of the recipe's maximum length: {trial.whole}"
        )
    if isinstance(trial.highest, str):
        raise ConversionError(
            f"the tokenizer gives ids up to {trial.highest_id:,}, which the model refuses: "
            f"{trial.highest}"
        )
    vectors = [each[OUTPUT] for each in (trial.together, trial.short, trial.long, trial.whole)]
    for vector in (*vectors, trial.highest[OUTPUT]):
        if vector.ndim != 2 or vector.shape[1] != vectors[0].shape[1] or not vector.shape[1]:
            raise ConversionError(
                f"the model gives the shape {vector.shape}, not a vector for each text"
            )
        if not np.isfinite(vector).all():
            raise ConversionError("the model gives values that are not finite numbers")
        if np.abs(np.linalg.norm(vector, axis=1) - 1).max() > LARGEST_DIFFERENCE:
            raise ConversionError("the model gives a vector of zeros, or none of a finite length")
    together, alone = vectors[0], np.concatenate(vectors[1:3])
    if together.shape != alone.shape:
        raise ConversionError(f"the model gives the shape {together.shape} for two texts")
    difference = float(np.abs(together - alone).max())
    if difference > LARGEST_DIFFERENCE:
        raise ConversionError(
            f"the vector of a text changes by {difference:.2g} with the texts beside it, the limit "
            f"is {LARGEST_DIFFERENCE:g}; the model ignores attention_mask, or quantizes a batch as "
            "a whole"
        )
    if not trial.same and np.abs(alone[0] - alone[1]).max() == 0:
        raise ConversionError("the model gives the same vector for different texts")
    return int(together.shape[1])


def check_pooling(trial: Trial, pooling: str) -> None:
    """Raise ``ConversionError`` if the model's own vector is that of another pooling."""
    tokens, own = trial.long[TOKENS], normalize(trial.long[SENTENCE])
    if tokens.ndim != 3 or tokens.shape[2] != own.shape[1]:
        return  # further layers follow the pooling
    made = {
        "mean": tokens.mean(axis=1),
        "cls": tokens[:, 0],
        "last": tokens[:, -1],
    }
    alike = [
        kind
        for kind, rows in made.items()
        if np.abs(normalize(rows) - own).max() <= LARGEST_DIFFERENCE
    ]
    if alike and pooling not in alike:
        raise ConversionError(
            f"the recipe has pooling {pooling!r}, the model's own sentence vector is "
            f"{' and '.join(map(repr, alike))}"
        )
