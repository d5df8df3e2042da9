"""Turn token vectors until their mean over a text is what the transformer says of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import InvalidInputError
from ..core.similarity import Vector, normalize

MAX_TEXTS = 5_000
"""The fit solves for one number a text, in the memory of MAX_TEXTS² doubles."""

RIDGE = 1.0
"""Beside 1 for a text: how much it costs to move a token's vector."""

COLUMNS = 2_048
"""Tokens whose counts in all texts are in memory at once."""

LEAST_LEVEL = 0.01

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Counts:
    """How often each token is in each text, by token: ``owners`` are the texts."""

    tokens: NDArray[np.int64]
    owners: NDArray[np.int64]
    texts: int

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Some tokens at a time, ascending, with their (texts, tokens) counts."""
        known = np.unique(self.tokens)
        for start in range(0, len(known), COLUMNS):
            part = known[start : start + COLUMNS]
            first, last = np.searchsorted(self.tokens, [part[0], part[-1] + 1])
            places = np.searchsorted(part, self.tokens[first:last])
            cells = self.owners[first:last] * len(part) + places
            counts = np.bincount(cells, minlength=self.texts * len(part))
            yield part, counts.reshape(self.texts, len(part)).astype(np.float64)


def fit_directions(rows: Vector, texts: Sequence[NDArray[np.int64]], targets: Vector) -> Vector:
    """``rows`` (tokens, dim) float32, turned; each keeps its length.

    ``texts`` holds indices into ``rows``, ``targets`` (n, dim) the transformer's vector of each
    text. It is ridge regression (Hoerl and Kennard 1970) in its dual form, of what the targets are
    beyond their mean, from the rows as they are. Only the directions of the solution are taken: its
    lengths say how often a token was seen, and would outweigh how rare it is.

    Raises ``InvalidInputError`` for fewer than two texts that hold a token, or too many.
    """
    held = [index for index, text in enumerate(texts) if len(text)]
    if not 2 <= len(held) <= MAX_TEXTS:
        raise InvalidInputError(
            f"got {len(held)} texts that hold a token; give from 2 to {MAX_TEXTS:,}"
        )
    counts = _count([texts[index] for index in held])
    wanted = targets[held].astype(np.float64)
    wanted -= wanted.mean(axis=0)
    sums = np.zeros_like(wanted)
    shared = np.zeros((len(held), len(held)))
    for tokens, part in counts.blocks():
        sums += part @ rows[tokens]
        shared += part @ part.T
    # Each text's sum is scaled to a unit vector, as it is in use.
    scales = 1 / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    sums *= scales
    shared *= scales * scales.T
    # Above 0, or a token that no text holds would point backwards.
    level = max(float((sums * wanted).sum() / (sums * sums).sum()), LEAST_LEVEL)
    shared[np.diag_indices_from(shared)] += RIDGE
    pulls = scales * np.linalg.solve(shared, wanted - level * sums)
    turned = level * rows.astype(np.float64)
    for tokens, part in counts.blocks():
        turned[tokens] += part.T @ pulls
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(normalize(turned.astype(np.float32)) * lengths)


def _count(texts: Sequence[NDArray[np.int64]]) -> _Counts:
    tokens = np.concatenate(texts)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    order = np.argsort(tokens, kind="stable")
    return _Counts(tokens[order], owners[order], len(texts))
