"""Micro-batches: what goes together, and how it is padded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.encoding.batching import pad_batch, plan_batches

lengths = st.lists(st.integers(0, 600), max_size=200)
budgets = st.integers(1, 2000)
sizes = st.integers(1, 64)


def plan(lengths: list[int], token_budget: int, batch_size: int) -> list[list[int]]:
    return [batch.tolist() for batch in plan_batches(lengths, token_budget, batch_size)]


@pytest.mark.parametrize(
    ("lengths", "token_budget", "batch_size", "batches"),
    [
        ([], 10, 8, []),
        ([5], 10, 8, [[0]]),
        ([3, 9, 4, 3], 10, 8, [[1], [2], [0, 3]]),
        ([3, 9, 4, 3], 99, 8, [[1, 2, 0], [3]]),
        ([2, 2, 2, 2], 100, 3, [[0, 1, 2], [3]]),
        ([5, 5], 10, 8, [[0, 1]]),
        ([5, 6], 11, 8, [[1], [0]]),
        ([50, 40, 1], 10, 8, [[0], [1], [2]]),
        ([0, 0, 0], 1, 8, [[0], [1], [2]]),
    ],
)
def test_batches_of_known_lengths(
    lengths: list[int], token_budget: int, batch_size: int, batches: list[list[int]]
) -> None:
    assert plan(lengths, token_budget, batch_size) == batches


@given(lengths, budgets, sizes)
def test_every_text_is_in_exactly_one_batch(
    lengths: list[int], token_budget: int, batch_size: int
) -> None:
    indices = [index for batch in plan(lengths, token_budget, batch_size) for index in batch]
    assert sorted(indices) == list(range(len(lengths)))


@given(lengths, budgets, sizes)
def test_a_batch_keeps_to_the_budget_or_is_one_text(
    lengths: list[int], token_budget: int, batch_size: int
) -> None:
    for batch in plan(lengths, token_budget, batch_size):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= token_budget or len(batch) == 1
        assert 1 <= len(batch) <= batch_size


@given(lengths, budgets, sizes)
def test_the_longest_texts_come_first_and_equal_ones_in_their_order(
    lengths: list[int], token_budget: int, batch_size: int
) -> None:
    indices = [index for batch in plan(lengths, token_budget, batch_size) for index in batch]
    assert indices == sorted(range(len(lengths)), key=lambda index: -lengths[index])


@given(lengths, budgets, sizes)
def test_no_batch_has_room_for_the_next_text(
    lengths: list[int], token_budget: int, batch_size: int
) -> None:
    batches = plan(lengths, token_budget, batch_size)
    for batch, following in pairwise(batches):
        longest = max(1, *(lengths[index] for index in batch))
        full = len(batch) == batch_size or (len(batch) + 1) * longest > token_budget
        # The next would have to be padded, and there is enough in the batch without it.
        enough = 4 * len(batch) * longest >= token_budget
        assert full or (enough and lengths[following[0]] < longest)


def test_a_batch_of_enough_texts_is_not_padded_for_more() -> None:
    assert plan([10] * 12 + [9] * 30, 400, 32) == [list(range(12)), list(range(12, 42))]
    assert plan([10] * 9 + [9] * 30, 400, 32) == [list(range(10)), list(range(10, 39))]


def test_padding_of_known_rows() -> None:
    ids, mask = pad_batch([[7, 8, 9], [5], []])
    assert ids.tolist() == [[7, 8, 9], [5, 0, 0], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


@given(st.lists(st.lists(st.integers(0, 30521), max_size=40), min_size=1, max_size=20))
def test_padding_keeps_the_tokens_and_masks_the_rest(rows: list[list[int]]) -> None:
    ids, mask = pad_batch(rows)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    for row, row_ids, row_mask in zip(rows, ids, mask, strict=True):
        assert row_ids[row_mask == 1].tolist() == row
        assert row_mask.tolist() == [1] * len(row) + [0] * (ids.shape[1] - len(row))
        assert not row_ids[row_mask == 0].any()
