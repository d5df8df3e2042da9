"""Rows in fewer bytes: what they keep, and what a search over them finds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cognitive_memory.core import compressed_vectors
from cognitive_memory.core.compressed_vectors import (
    KINDS,
    CompressedVectors,
    VectorKind,
    compress,
    hamming,
)
from cognitive_memory.core.errors import DimensionMismatchError, InvalidInputError
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(1, 40)
DIMENSIONS = st.integers(1, 70)
DEPTHS = st.integers(0, 50)
NUMBERS: Sequence[VectorKind] = ("float32", "float16", "int8")
LEAST_COSINE: dict[VectorKind, float] = {"float32": 1 - 1e-6, "float16": 1 - 1e-6, "int8": 0.999}


def unit_rows(seed: int, count: int, dimension: int) -> Vector:
    """Every third row repeats an earlier one, so that ties are frequent."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dimension)).astype(np.float32)
    rows[2::3] = rows[: len(rows[2::3])]
    return normalize(rows)


def ranked(rows: Vector, query: Vector, k: int) -> list[int]:
    """The k best by cosine in the arithmetic of the search, ties by row."""
    cosines = (rows * query).sum(axis=1)
    return sorted(range(len(rows)), key=lambda row: (-cosines[row], row))[:k]


@given(seed=SEEDS, count=COUNTS, dimension=DIMENSIONS)
def test_restored_rows_are_close_and_of_unit_length(seed: int, count: int, dimension: int) -> None:
    rows = unit_rows(seed, count, dimension)
    for kind, least in LEAST_COSINE.items():
        restored = compress(rows, kind).restore()
        assert restored.dtype == np.float32
        assert restored.shape == rows.shape
        np.testing.assert_allclose(np.linalg.norm(restored, axis=1), 1, atol=1e-5)
        assert (restored * rows).sum(axis=1).min() >= least, kind
    signs = compress(rows, "binary").restore()
    np.testing.assert_array_equal(signs > 0, rows > 0)
    np.testing.assert_allclose(np.abs(signs), dimension**-0.5, rtol=1e-5)


@given(seed=SEEDS, spike=st.floats(0.05, 1), dimension=st.integers(2, 800))
def test_int8_stays_within_its_stated_bound(seed: int, spike: float, dimension: int) -> None:
    rest = normalize(np.random.default_rng(seed).standard_normal(dimension - 1).astype(np.float32))
    row = normalize(np.append(rest * np.sqrt(1 - spike**2), spike).astype(np.float32))[None]
    lost = dimension * (np.abs(row).max() / 254) ** 2
    cosine = float((compress(row, "int8").restore() * row).sum())
    assert cosine >= np.sqrt(max(0, 1 - lost)) - 1e-6


@given(seed=SEEDS, count=COUNTS, dimension=DIMENSIONS)
def test_a_rows_codes_depend_on_that_row_alone(seed: int, count: int, dimension: int) -> None:
    rows = unit_rows(seed, count, dimension)
    for kind in KINDS:
        alone = [compress(row[None], kind).codes for row in rows]
        np.testing.assert_array_equal(compress(rows, kind).codes, np.concatenate(alone))


@given(seed=SEEDS, count=COUNTS, dimension=DIMENSIONS, k=DEPTHS)
def test_a_search_finds_the_best_of_the_restored_rows(
    seed: int, count: int, dimension: int, k: int
) -> None:
    rows = unit_rows(seed, count, dimension)
    query = unit_rows(seed + 1, 1, dimension)[0]
    for kind in NUMBERS:
        compressed = compress(rows, kind)
        found, cosines = compressed.search(query, k)
        assert found.tolist() == ranked(compressed.restore(), query, k), kind
        assert len(found) == min(k, count)
        np.testing.assert_allclose(cosines, compressed.restore()[found] @ query, atol=1e-5)
        assert cosines.dtype == np.float32


@given(seed=SEEDS, count=COUNTS, dimension=DIMENSIONS, k=DEPTHS, rescore=st.integers(1, 6))
def test_bits_are_chosen_by_hamming_distance_and_ranked_by_cosine(
    seed: int, count: int, dimension: int, k: int, rescore: int
) -> None:
    rows = unit_rows(seed, count, dimension)
    query = unit_rows(seed + 1, 1, dimension)[0]
    distances = ((rows > 0) != (query > 0)).sum(axis=1)
    nearest = np.sort(np.argsort(distances, kind="stable")[: rescore * k])
    binary = compress(rows, "binary")
    for originals, exact in ((None, binary.restore()), (rows, rows)):
        found, _ = binary.search(query, k, rescore, originals)
        expected = nearest[ranked(exact[nearest], query, k)]
        assert found.tolist() == expected.tolist()


@given(seed=SEEDS, count=COUNTS, dimension=DIMENSIONS)
def test_hamming_distance_is_the_number_of_other_signs(
    seed: int, count: int, dimension: int
) -> None:
    rows = unit_rows(seed, count, dimension)
    codes = compress(rows, "binary").codes
    expected = ((rows > 0) != (rows[0] > 0)).sum(axis=1)
    np.testing.assert_array_equal(hamming(codes, codes[0]), expected)
    restored = compress(rows, "binary").restore()
    # The cosine of two rows of signs is 1 - 2 * distance / dim: the order is the same.
    np.testing.assert_allclose(restored @ restored[0], 1 - 2 * expected / dimension, atol=1e-5)


@pytest.mark.parametrize("dimension", [1, 7, 8, 63, 64, 65, 384])
def test_bits_are_counted_alike_without_the_function_of_numpy_2(
    dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = compress(unit_rows(3, 30, dimension), "binary").codes
    expected = np.unpackbits(codes ^ codes[1], axis=1).sum(axis=1)
    np.testing.assert_array_equal(hamming(codes, codes[1]), expected)
    np.testing.assert_array_equal(hamming(codes[::2], codes[1]), expected[::2])
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(hamming(codes, codes[1]), expected)


def test_rows_span_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, query = unit_rows(5, 50, 16), unit_rows(6, 1, 16)[0]
    monkeypatch.setattr(compressed_vectors, "BLOCK_NUMBERS", 7 * 16)
    for kind in NUMBERS:
        compressed = compress(rows, kind)
        found, _ = compressed.search(query, 12)
        assert found.tolist() == ranked(compressed.restore(), query, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_originals_decide_what_the_codes_leave_open(kind: VectorKind, tmp_path: Path) -> None:
    rows, query = unit_rows(1, 200, 384), unit_rows(2, 1, 384)[0]
    path = tmp_path / "rows.npy"
    np.save(path, rows.astype(np.float16))
    mapped = np.load(path, mmap_mode="r")
    found, cosines = compress(rows, kind).search(query, 5, rescore=40, originals=mapped)
    assert found.tolist() == ranked(normalize(mapped.astype(np.float32)), query, 5)
    np.testing.assert_allclose(cosines, (rows[found] * query).sum(axis=1), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_alone_are_enough_to_open_them_again(kind: VectorKind, tmp_path: Path) -> None:
    rows, query = unit_rows(1, 60, 20), unit_rows(2, 1, 20)[0]
    kept = compress(rows, kind)
    np.save(tmp_path / "codes.npy", kept.codes)
    opened = CompressedVectors(np.load(tmp_path / "codes.npy", mmap_mode="r"), 20, kind)
    for before, after in zip(kept.search(query, 9), opened.search(query, 9), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_empties(kind: VectorKind) -> None:
    query = unit_rows(0, 1, 12)[0]
    none = compress(np.empty((0, 12), dtype=np.float32), kind)
    assert len(none) == none.nbytes == 0
    assert none.restore().shape == (0, 12)
    for compressed, k in ((none, 3), (compress(unit_rows(0, 4, 12), kind), 0)):
        found, cosines = compressed.search(query, k)
        assert found.shape == cosines.shape == (0,)
        assert found.dtype == np.intp
        assert cosines.dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "size"), [("float32", 1536), ("float16", 768), ("int8", 384), ("binary", 48)]
)
def test_sizes(kind: VectorKind, size: int) -> None:
    assert compress(unit_rows(0, 10, 384), kind).nbytes == 10 * size


def test_codes_are_a_copy_that_cannot_be_written_to() -> None:
    rows = unit_rows(0, 3, 8)
    compressed = compress(rows, "float32")
    rows[0] = 0
    np.testing.assert_allclose(np.linalg.norm(compressed.codes, axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        compressed.codes[0, 0] = 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_rows_and_queries_that_are_no_unit_vectors_are_refused(value: float) -> None:
    rows = unit_rows(0, 3, 8)
    compressed = compress(rows, "int8")
    rows[1] = value
    with pytest.raises(InvalidInputError, match=r"row 1 has length (nan|inf|0), not 1"):
        compress(rows, "int8")
    with pytest.raises(InvalidInputError, match=r"length (nan|inf|0), not 1"):
        compressed.search(rows[1], 2)


def test_arguments_that_do_not_fit_are_refused() -> None:
    rows = unit_rows(0, 3, 8)
    compressed = compress(rows, "binary")
    with pytest.raises(InvalidInputError, match="unknown kind of vectors 'int4'; known: float32"):
        compress(rows, "int4")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"got vectors of shape \(8,\)"):
        compress(rows[0], "int8")
    with pytest.raises(DimensionMismatchError, match=r"shape \(7,\), these vectors have 8"):
        compressed.search(rows[0, :7], 1)
    with pytest.raises(DimensionMismatchError, match=r"originals of shape \(2, 8\) for 3 rows"):
        compressed.search(rows[0], 1, originals=rows[:2])
    with pytest.raises(InvalidInputError, match="k=-1 and rescore=4; k is at least 0"):
        compressed.search(rows[0], -1)
    with pytest.raises(InvalidInputError, match="k=1 and rescore=0"):
        compressed.search(rows[0], 1, rescore=0)


def test_codes_that_do_not_fit_are_refused() -> None:
    codes: NDArray[Any] = compress(unit_rows(0, 3, 12), "binary").codes
    with pytest.raises(DimensionMismatchError, match=r"2 binary codes for each row; 24 .* have 3"):
        CompressedVectors(codes, 24, "binary")
    with pytest.raises(InvalidInputError, match="2-dimensional uint8 as int8 codes"):
        CompressedVectors(codes, 2, "int8")
    with pytest.raises(InvalidInputError, match="1-dimensional uint8 as binary codes"):
        CompressedVectors(codes[0], 12, "binary")


def test_kinds_are_in_order_of_size() -> None:
    assert get_args(VectorKind) == KINDS
    sizes = [compress(unit_rows(0, 2, 64), kind).nbytes for kind in KINDS]
    assert sizes == sorted(sizes, reverse=True)


@pytest.fixture(scope="module")
def embedded(provider: ONNXEmbeddingProvider) -> tuple[Sequence[str], Vector, Vector]:
    """Real texts with their vectors, and those of their questions."""
    held = resources.files("cognitive_memory.models") / "texts" / "held.jsonl"
    lines = [json.loads(line) for line in held.read_text(encoding="utf-8").splitlines()]
    texts = [line["text"] for line in lines]
    queries = provider.encode_batch([line["query"] for line in lines])
    return texts, provider.encode_batch(texts), queries


def test_a_provider_gives_them(
    provider: ONNXEmbeddingProvider, embedded: tuple[Sequence[str], Vector, Vector]
) -> None:
    texts = embedded[0][:5]
    for kind in KINDS:
        compressed = provider.encode_compressed(texts, kind)
        expected = compress(provider.encode_batch(texts), kind)
        np.testing.assert_array_equal(compressed.codes, expected.codes)
        assert (compressed.kind, compressed.dimension) == (kind, provider.dimension)


@pytest.mark.parametrize(
    ("kind", "rescore", "has_originals", "least"),
    [
        ("float32", 4, False, 1.0),
        ("float16", 4, False, 0.998),
        ("int8", 4, False, 0.99),
        ("int8", 4, True, 1.0),
        ("binary", 1, False, 0.5),
        ("binary", 4, False, 0.63),
        ("binary", 4, True, 0.85),
    ],
)
def test_recall_of_real_embeddings(
    kind: VectorKind,
    rescore: int,
    has_originals: bool,
    least: float,
    embedded: tuple[Sequence[str], Vector, Vector],
    record_property: Any,
) -> None:
    _, rows, queries = embedded
    compressed, originals = compress(rows, kind), rows if has_originals else None
    shared = [
        len(set(ranked(rows, query, 10)).intersection(found.tolist()))
        for query in queries
        for found, _ in [compressed.search(query, 10, rescore, originals)]
    ]
    recall = sum(shared) / (10 * len(queries))
    title = f"{kind}, rescore {rescore}{' from originals' if has_originals else ''}"
    record_property("figure", f"recall@10 of {title}: {recall:.4f}")
    assert recall >= least
