"""Exact search against a naive reference in double precision."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cognitive_memory.core.errors import DimensionMismatchError
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.storage import exact_index, row_pages
from cognitive_memory.storage.exact_index import ExactIndex

Hit = tuple[int, float, int]
Row = tuple[int, int, Vector]
"""Owner, chunk, vector."""

SMALL = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
"""Few different vectors, so that ties are frequent."""

OWNER = st.integers(1, 8)
Steps = list[list[tuple[int, list[int]]] | tuple[int, ...]]
STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(OWNER, SMALL), max_size=12),
        st.lists(st.integers(1, 60), max_size=10).map(tuple),
    ),
    max_size=8,
)
"""Lists append (owner, vector) rows; tuples delete vector ids."""


@pytest.fixture(scope="module", autouse=True, params=[7, row_pages.PAGE_ROWS])
def page_rows(request: pytest.FixtureRequest) -> Iterator[int]:
    """Pages so small that nearly every operation crosses them, and real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_pages, "PAGE_ROWS", request.param)
        yield request.param


def unit_row(numbers: list[int]) -> Vector:
    return normalize(np.array(numbers, dtype=np.float32))


@dataclass
class Reference:
    """The same operations, one row at a time."""

    rows: dict[int, Row] = field(default_factory=dict)

    def search(self, query: Vector, k: int, owners: set[int] | None) -> list[Hit]:
        """All that tie with the last of the ``k`` best, ties by owner."""
        best: dict[int, Hit] = {}
        for owner, chunk, row in self.rows.values():
            score = float(row.astype(np.float64) @ query.astype(np.float64))
            hit = (owner, min(max(score, -1.0), 1.0), chunk)
            if owners is None or owner in owners:
                best[owner] = min(best.get(owner, hit), hit, key=lambda one: (-one[1], one[2]))
        ranked = sorted(best.values(), key=lambda hit: (-hit[1], hit[0]))
        return [hit for hit in ranked if k > 0 and hit[1] >= ranked[min(k, len(ranked)) - 1][1]]


def build(steps: Steps) -> tuple[ExactIndex, Reference]:
    index, reference = ExactIndex(3), Reference()
    change(index, reference, steps)
    return index, reference


def change(index: ExactIndex, reference: Reference, steps: Steps) -> None:
    chunks: dict[int, int] = {}
    for owner, chunk, _ in reference.rows.values():
        chunks[owner] = max(chunk, chunks.get(owner, -1))
    last = index.last_vector_id
    for step in steps:
        if isinstance(step, tuple):
            index.delete(np.array(step, dtype=np.int64))
            for vector_id in step:
                reference.rows.pop(vector_id, None)
            continue
        rows: list[Row] = []
        for owner, numbers in step:
            chunks[owner] = chunks.get(owner, -1) + 1
            rows.append((owner, chunks[owner], unit_row(numbers)))
        append(index, last + 1, rows)
        reference.rows.update(enumerate(rows, last + 1))
        last += len(rows)
        assert index.last_vector_id == last
        assert index.count == len(reference.rows)


def append(index: ExactIndex, first_id: int, rows: list[Row]) -> None:
    index.append(
        np.arange(first_id, first_id + len(rows), dtype=np.int64),
        np.array([owner for owner, _, _ in rows], dtype=np.int64),
        np.array([chunk for _, chunk, _ in rows], dtype=np.int32),
        np.array([row for _, _, row in rows], dtype=np.float32).reshape(len(rows), index.dimension),
    )


def assert_equal(hits: list[Hit], expected: list[Hit]) -> None:
    assert [(hit[0], hit[2]) for hit in hits] == [(hit[0], hit[2]) for hit in expected]
    assert [hit[1] for hit in hits] == pytest.approx([hit[1] for hit in expected])


@settings(max_examples=300)
@given(
    steps=STEPS,
    numbers=SMALL.filter(any),
    k=st.integers(-1, 12),
    owners=st.none() | st.sets(st.integers(1, 10)),
)
def test_search_equals_the_reference(
    steps: Steps,
    numbers: list[int],
    k: int,
    owners: set[int] | None,
) -> None:
    index, reference = build(steps)
    query = unit_row(numbers)
    wanted = None if owners is None else np.array(sorted(owners), dtype=np.int64)
    assert_equal(index.search(query, k, wanted), reference.search(query, k, owners))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_large_index_equals_the_reference(share: float) -> None:
    """Past the first capacity, at a real dimension, with many twins and chunks."""
    generator = np.random.default_rng(3)
    vectors = normalize(generator.standard_normal((2_500, 384)).astype(np.float32))
    vectors[generator.choice(2_500, 500, replace=False)] = vectors[0]
    rows = [(number // 5, number % 5, row) for number, row in enumerate(vectors)]
    index, reference = ExactIndex(384), Reference(dict(enumerate(rows, 1)))
    for start in range(0, 2_500, 250):
        append(index, start + 1, rows[start : start + 250])
    dead = generator.choice(2_500, 700, replace=False) + 1
    index.delete(dead)
    for vector_id in dead:
        del reference.rows[int(vector_id)]
    owners = {number for number in range(500) if generator.random() < share}
    wanted = np.array(sorted(owners), dtype=np.int64)
    query = normalize(vectors[0] + vectors[1])
    for k in (1, 2, 10, 100, 300, 1_000):
        assert_equal(index.search(query, k, wanted), reference.search(query, k, owners))


@settings(max_examples=100)
@given(
    steps=STEPS,
    numbers=st.lists(SMALL.filter(any), max_size=9),
    k=st.integers(-1, 12),
    owners=st.none() | st.sets(st.integers(1, 10)),
    scores=st.integers(1, 200),
    at_once=st.integers(1, 4),
)
def test_a_batch_finds_what_its_queries_find_alone(
    steps: Steps,
    numbers: list[list[int]],
    k: int,
    owners: set[int] | None,
    scores: int,
    at_once: int,
) -> None:
    index, _ = build(steps)
    queries = np.array([unit_row(each) for each in numbers], dtype=np.float32).reshape(-1, 3)
    wanted = None if owners is None else np.array(sorted(owners), dtype=np.int64)
    alone = [index.search(query, k, wanted) for query in queries]
    assert index.search_batch(queries, k, wanted) == alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_index, "SCORES_AT_ONCE", scores)
        patch.setattr(exact_index, "QUERIES_AT_ONCE", at_once)
        patch.setattr(exact_index, "MULTIPLICATIONS_AT_ONCE", scores)
        assert index.search_batch(queries, k, wanted) == alone


@pytest.mark.parametrize("share", [None, 0.5, 0.1, 0.01])
def test_a_large_batch_finds_what_its_queries_find_alone(share: float | None) -> None:
    """A product of many queries rounds otherwise than one of each; hits and ties are the same."""
    generator = np.random.default_rng(5)
    vectors = normalize(generator.standard_normal((3_000, 384)).astype(np.float32))
    vectors[generator.choice(3_000, 600, replace=False)] = vectors[0]
    index = ExactIndex(384)
    append(index, 1, [(number // 3, number % 3, row) for number, row in enumerate(vectors)])
    index.delete(generator.choice(3_000, 300, replace=False) + 1)
    queries = np.concatenate([vectors[:40], normalize(vectors[:40] + vectors[40:80])])
    owners = None if share is None else np.flatnonzero(generator.random(1_000) < share)
    for k in (1, 10, 250):
        alone = [index.search(query, k, owners) for query in queries]
        assert index.search_batch(queries, k, owners) == alone
        assert index.search_batch(queries[::-1].T.copy().T, k, owners) == alone[::-1]


def test_a_batch_holds_the_cosines_of_a_few_queries_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact_index, "SCORES_AT_ONCE", 50_000)
    generator = np.random.default_rng(6)
    index, queries = ExactIndex(8), normalize(generator.random((100, 8), dtype=np.float32))
    numbers = np.arange(1, 10_001)
    rows = normalize(generator.standard_normal((10_000, 8)).astype(np.float32))
    index.append(numbers, numbers, np.zeros(10_000, dtype=np.int32), rows)
    tracemalloc.start()
    try:
        index.search_batch(queries, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000  # bytes; all cosines at once would take 4,000,000


ROWS = st.lists(
    st.tuples(st.integers(1, 5), st.lists(SMALL, min_size=1, max_size=3)),
    min_size=16,
    max_size=40,
)
"""(gap to the owner before, vectors): owners ascend, with gaps between them."""


@settings(max_examples=200)
@given(
    rows=ROWS,
    numbers=SMALL.filter(any),
    k=st.integers(1, 8),
    dead=st.sets(st.integers(1, 60)),
    wanted=st.sets(st.integers(0, 210), max_size=2),
    picked=st.sets(st.integers(0, 15), max_size=2),
    seed=st.integers(0, 3),
)
def test_a_few_owners_give_the_same_hits_however_the_rows_lie(
    rows: list[tuple[int, list[list[int]]]],
    numbers: list[int],
    k: int,
    dead: set[int],
    wanted: set[int],
    picked: set[int],
    seed: int,
) -> None:
    """In order of their owners, they are looked up by halving; otherwise all are compared."""
    owners = np.cumsum([gap for gap, _ in rows]).tolist()
    ascending = [
        (owner, chunk, unit_row(vector))
        for owner, (_, vectors) in zip(owners, rows, strict=True)
        for chunk, vector in enumerate(vectors)
    ]
    shuffled = [
        ascending[place] for place in np.random.default_rng(seed).permutation(len(ascending))
    ]
    asked = np.array([*wanted, *(owners[place] for place in picked)], dtype=np.int64)
    # So many rows beside them that the owners asked for are few.
    others = [(1_000 + number, 0, unit_row([1, 0, 0])) for number in range(64)]
    found = []
    for lying in (ascending, shuffled):
        index, reference = ExactIndex(3), Reference(dict(enumerate([*lying, *others], 1)))
        append(index, 1, lying)
        append(index, len(lying) + 1, others)
        gone = [
            vector_id
            for vector_id, (owner, chunk, _) in reference.rows.items()
            if (3 * owner + chunk) % 60 in dead
        ]
        index.delete(np.array(gone, dtype=np.int64))
        for vector_id in gone:
            del reference.rows[vector_id]
        hits = index.search(unit_row(numbers), k, asked)
        assert hits == index.search(unit_row(numbers), k, asked[::-1])
        expected = reference.search(unit_row(numbers), k, set(asked.tolist()))
        assert [hit[0] for hit in hits] == [hit[0] for hit in expected]
        found.append(hits)
    assert found[0] == found[1]


def test_a_changed_memory_is_found_among_a_few() -> None:
    """Its new rows lie behind those of later memories."""
    index = ExactIndex(2)
    east, north = np.eye(2, dtype=np.float32)
    append(index, 1, [(owner, 0, east) for owner in range(1, 41)])
    query, one = east, np.array([7], dtype=np.int64)
    assert index.search(query, 5, one) == [(7, 1.0, 0)]
    index.delete(one)
    append(index, 41, [(7, 0, north)])
    assert index.search(query, 5, one) == [(7, 0.0, 0)]
    assert index.search(query, 5, np.array([8, 99], dtype=np.int64)) == [(8, 1.0, 0)]
    assert index.search(query, 5, np.array([99], dtype=np.int64)) == []


@pytest.mark.parametrize("cores", [1, 2, 3, 7])
def test_threads_share_the_product(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Each takes a few blocks; the last of them is not full."""
    monkeypatch.setattr(exact_index, "usable_cores", lambda: cores)
    monkeypatch.setattr(exact_index, "ROWS_PER_THREAD", 64)
    monkeypatch.setattr(exact_index, "BLOCK_NUMBERS", 16 * 8)
    generator = np.random.default_rng(4)
    vectors = normalize(generator.standard_normal((333, 8)).astype(np.float32))
    index, rows = ExactIndex(8), [(number, 0, row) for number, row in enumerate(vectors)]
    append(index, 1, rows)
    reference = Reference(dict(enumerate(rows, 1)))
    for query, hits in zip(vectors[:3], index.search_batch(vectors[:3], 333), strict=True):
        assert hits == index.search(query, 333)
        assert_equal(hits, reference.search(query, 333, None))


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_an_error_in_a_thread_reaches_the_caller(failing: int) -> None:
    done = []

    def work(start: int, end: int) -> None:
        if start == 10 * failing:
            raise MemoryError(f"at {start}")
        done.append((start, end))

    with pytest.raises(MemoryError, match=f"at {10 * failing}"):
        exact_index._share_out(work, 40, 4)
    parts = [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert sorted(done) == [part for part in parts if part[0] != 10 * failing]


def test_growing_never_copies_rows(page_rows: int) -> None:
    """At the peak there is each row once, and what one more page and the small arrays take."""
    index, rows = ExactIndex(128), np.ones((1_000, 128), dtype=np.float32)
    chunks = np.zeros(1_000, dtype=np.int32)
    tracemalloc.start()
    try:
        for start in range(0, 40_000, 1_000):
            numbers = np.arange(start + 1, start + 1_001)
            index.append(numbers, numbers, chunks, rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    numbers_and_marks = 64 * 1_024 * (8 + 8 + 4 + 1)
    pages = -(-40_000 // page_rows)
    assert peak < pages * (page_rows * 128 * 4 + 400) + 2 * numbers_and_marks


@settings(max_examples=100)
@given(before=STEPS, after=STEPS, other=STEPS, numbers=SMALL.filter(any))
def test_a_copy_and_its_original_change_apart(
    before: Steps, after: Steps, other: Steps, numbers: list[int]
) -> None:
    index, reference = build(before)
    copy, copied = index.copy(), Reference(dict(reference.rows))
    query = unit_row(numbers)
    change(index, reference, after)
    assert_equal(copy.search(query, 99), copied.search(query, 99, None))
    change(copy, copied, other)
    assert_equal(copy.search(query, 99), copied.search(query, 99, None))
    assert_equal(index.search(query, 99), reference.search(query, 99, None))


@settings(max_examples=100)
@given(steps=STEPS, count=st.integers(0, 100))
def test_a_sample_is_of_living_rows_and_holds_the_last(steps: Steps, count: int) -> None:
    index, reference = build(steps)
    found = index.sample(count)
    ids = [vector_id for vector_id, _ in found]
    assert ids == sorted(set(ids))
    assert len(ids) == min(count, len(reference.rows))
    assert ids[-1:] == sorted(reference.rows)[-1:][: len(ids)]
    for vector_id, row in found:
        np.testing.assert_array_equal(row, reference.rows[vector_id][2])


def test_a_sample_is_spread_over_all_rows() -> None:
    index = ExactIndex(2)
    append(index, 1, [(1, 0, np.array([1, 0], dtype=np.float32))] * 100)
    assert [vector_id for vector_id, _ in index.sample(4)] == [1, 34, 67, 100]


@settings(max_examples=100)
@given(steps=STEPS)
def test_the_living_rows_belong_to_the_living_ids(steps: Steps) -> None:
    index, reference = build(steps)
    vector_ids, owners, chunks = index.living_ids()
    rows = np.concatenate([np.empty((0, 3), dtype=np.float32), *index.living_rows()])
    assert vector_ids.tolist() == sorted(reference.rows)
    expected = [reference.rows[vector_id] for vector_id in sorted(reference.rows)]
    assert owners.tolist() == [owner for owner, _, _ in expected]
    assert chunks.tolist() == [chunk for _, chunk, _ in expected]
    assert rows.tolist() == [row.tolist() for _, _, row in expected]


def test_of_equal_rows_the_lowest_chunk_is_named() -> None:
    index = ExactIndex(2)
    row = np.array([1, 0], dtype=np.float32)
    append(index, 1, [(1, 3, -row), (1, 2, row), (1, 1, row)])
    assert index.search(row, 1) == [(1, 1.0, 1)]


def test_deleting_unknown_ids_is_no_error() -> None:
    index = ExactIndex(2)
    index.delete(np.array([1, 2], dtype=np.int64))
    append(index, 5, [(1, 0, np.array([1, 0], dtype=np.float32))])
    index.delete(np.array([0, 4, 6, 100], dtype=np.int64))
    query = np.array([1, 0], dtype=np.float32)
    assert index.search(query, 1) == [(1, 1.0, 0)]
    index.delete(np.array([5, 5], dtype=np.int64))
    assert index.search(query, 1) == []
    assert index.last_vector_id == 5


@pytest.mark.parametrize("shape", [(3,), (1, 2), (1,), ()])
def test_a_query_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    query: NDArray[np.float32] = np.ones(shape, dtype=np.float32)
    with pytest.raises(DimensionMismatchError, match="this index holds 2 dimensions"):
        ExactIndex(2).search(query, 1)


@pytest.mark.parametrize("shape", [(3, 3), (2,), (1, 1), (), (1, 2, 2)])
def test_a_batch_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    queries: NDArray[np.float32] = np.ones(shape, dtype=np.float32)
    with pytest.raises(DimensionMismatchError, match="this index holds 2 dimensions"):
        ExactIndex(2).search_batch(queries, 1)
