"""Lengths to micro-batches: texts of like length together, few enough to stay in cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def plan_batches(
    lengths: Sequence[int], token_budget: int, batch_size: int
) -> list[NDArray[np.intp]]:
    """Indices of each micro-batch, longest texts first.

    Each holds at most ``batch_size`` texts and, padded to its longest, at most ``token_budget``
    tokens; a text longer than the budget gets a batch of its own.

    >>> [batch.tolist() for batch in plan_batches([3, 9, 4, 3], token_budget=10, batch_size=8)]
    [[1], [2, 0], [3]]
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        # The first is the longest, so it decides what the batch is padded to.
        room = token_budget // max(1, lengths[order[start]])
        size = max(1, min(batch_size, room))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad_batch(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask, both (n, longest) int64, zero where there is no token."""
    longest = max(len(row) for row in rows)
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
