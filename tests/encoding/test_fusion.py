"""Fused rows: their length, their cosine, and the way back."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.core.similarity import Vector, cosine, normalize
from cognitive_memory.encoding.dimensions import AXES
from cognitive_memory.encoding.fusion import CognitiveFusionLayer

HALF = CognitiveFusionLayer(1, 1)
SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 9))
WEIGHTS = st.floats(0.01, 100)
DEGREES = st.sampled_from([0.0, 0.0, 0.15, 0.4, 0.6, 0.9999, 1.0])


@st.composite
def parts(draw: st.DrawFn) -> tuple[Vector, Vector]:
    """(n, d) unit rows and (n, 16) scores."""
    count, dimension = draw(SHAPES)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    semantic = normalize(generator.standard_normal((count, dimension)).astype(np.float32))
    scores = draw(arrays.arrays(np.float32, (count, 16), elements=DEGREES))
    return semantic, scores


def random_matrix(columns: int = 5, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal((16, columns)).astype(np.float32)


LAYERS = st.builds(
    CognitiveFusionLayer, WEIGHTS, WEIGHTS, matrix=st.sampled_from([None, random_matrix()])
)


def dimension_cosines(scores: Vector, matrix: Vector) -> np.ndarray[Any, Any]:
    """As the documentation defines them, in float64."""
    mapped = scores.astype(np.float64) @ matrix.astype(np.float64)
    lengths = np.linalg.norm(mapped, axis=1)
    units = mapped / np.where(lengths == 0, 1, lengths)[:, None]
    is_none = lengths == 0
    return units @ units.T + np.outer(is_none, is_none)


def one(*scores: float) -> Vector:
    """(1, 16) scores that begin with these."""
    row = np.zeros((1, 16), dtype=np.float32)
    row[0, : len(scores)] = scores
    return row


def semantic_rows(count: int = 3, dimension: int = 4) -> Vector:
    return np.eye(count, dimension, dtype=np.float32)


def test_a_row_that_can_be_checked_by_eye() -> None:
    layer = CognitiveFusionLayer(0.64, 0.36)
    fused = layer.fuse(np.array([[0.6, 0.8]], dtype=np.float32), one(0.3, 0.4))
    np.testing.assert_allclose(fused[0, :4], [0.48, 0.64, 0.36, 0.48], atol=1e-7)
    assert not fused[0, 4:].any()
    assert fused.shape == (1, layer.fused_dimension(2)) == (1, 2 + 16 + 1)
    assert fused.dtype == np.float32


def test_without_any_dimension_the_last_column_holds_their_place() -> None:
    layer = CognitiveFusionLayer(0.64, 0.36)
    fused = layer.fuse(semantic_rows(2, 2), np.vstack([one(), one(0.5)]))
    np.testing.assert_allclose(fused[0], [0.8, *[0] * 17, 0.6], atol=1e-7)
    np.testing.assert_allclose(fused[1], [0, 0.8, 0.6, *[0] * 16], atol=1e-7)


def test_by_default_only_the_semantic_part_counts() -> None:
    layer = CognitiveFusionLayer()
    fused = layer.fuse(semantic_rows(), np.vstack([one(), one(1), one(0, 1)]))
    assert np.array_equal(fused[:, :4], semantic_rows())
    assert not fused[:, 4:].any()


@given(pair=parts(), layer=LAYERS)
def test_the_cosine_is_the_weighted_sum(
    pair: tuple[Vector, Vector], layer: CognitiveFusionLayer
) -> None:
    semantic, scores = pair
    fused = layer.fuse(semantic, scores)
    expected = layer.dimension_share * dimension_cosines(scores, layer.matrix)
    doubles = semantic.astype(np.float64)
    expected += layer.semantic_share * (doubles @ doubles.T)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)
    for row, cosines in zip(fused, expected, strict=True):
        np.testing.assert_allclose(cosine(row, fused), cosines, atol=1e-6)
        semantic_part, dimension_part = layer.similarity_parts(row, fused)
        assert semantic_part.dtype == dimension_part.dtype == np.float32
        np.testing.assert_allclose(semantic_part + dimension_part, cosines, atol=1e-6)


def test_the_parts_of_a_similarity() -> None:
    layer = CognitiveFusionLayer(3, 1)
    fused = layer.fuse(semantic_rows(3), np.vstack([one(1), one(1), one()]))
    semantic, dimensions = layer.similarity_parts(fused[0], fused)
    np.testing.assert_allclose(semantic, [0.75, 0, 0], atol=1e-6)
    np.testing.assert_allclose(dimensions, [0.25, 0.25, 0], atol=1e-6)
    assert [len(part) for part in layer.similarity_parts(fused[0], fused[:0])] == [0, 0]


@given(pair=parts(), layer=LAYERS)
def test_splitting_gives_the_parts_back(
    pair: tuple[Vector, Vector], layer: CognitiveFusionLayer
) -> None:
    semantic, scores = pair
    again, directions = layer.split(layer.fuse(semantic, scores))
    np.testing.assert_allclose(again, semantic, atol=1e-6)
    assert directions.shape == (len(scores), layer.matrix.shape[1])
    np.testing.assert_allclose(directions, normalize(scores @ layer.matrix), atol=1e-5)


@given(pair=parts(), layer=LAYERS, other=st.tuples(WEIGHTS, WEIGHTS))
def test_other_weights_need_no_other_embedding(
    pair: tuple[Vector, Vector], layer: CognitiveFusionLayer, other: tuple[float, float]
) -> None:
    semantic, scores = pair
    for weights in (other, (1, 0), (0, 1)):
        wanted = CognitiveFusionLayer(*weights, matrix=layer.matrix)
        rows = layer.rederive(layer.fuse(semantic, scores), wanted)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, wanted.fuse(semantic, scores), atol=1e-6)


@given(pair=parts())
def test_a_matrix_can_be_applied_afterwards(pair: tuple[Vector, Vector]) -> None:
    wanted = CognitiveFusionLayer(1, 2, matrix=random_matrix())
    rows = HALF.rederive(HALF.fuse(*pair), wanted)
    np.testing.assert_allclose(rows, wanted.fuse(*pair), atol=1e-5)


def test_what_is_not_there_cannot_be_rederived() -> None:
    semantic, scores = semantic_rows(), np.vstack([one(), one(1), one(0, 1)])
    learned = CognitiveFusionLayer(1, 1, matrix=random_matrix())
    semantic_only, dimensions_only = CognitiveFusionLayer(1, 0), CognitiveFusionLayer(0, 1)
    with pytest.raises(InvalidInputError, match="semantic_weight is 0, so fused rows hold no sem"):
        dimensions_only.rederive(dimensions_only.fuse(semantic, scores), HALF)
    with pytest.raises(
        InvalidInputError, match=r"dimension_weight is 0, .* extract dimensions and"
    ):
        semantic_only.rederive(semantic_only.fuse(semantic, scores), HALF)
    with pytest.raises(InvalidInputError, match="another matrix, which cannot be undone; extract"):
        learned.rederive(learned.fuse(semantic, scores), HALF)
    with pytest.raises(
        InvalidInputError, match=r"rows for the axes frustration, .* those of a, b;"
    ):
        HALF.rederive(HALF.fuse(semantic, scores), CognitiveFusionLayer(1, 1, axes=("a", "b")))
    for layer in (semantic_only, dimensions_only):
        with pytest.raises(InvalidInputError, match="_weight is 0, so fused rows hold no "):
            layer.split(layer.fuse(semantic, scores))


def test_what_is_not_asked_for_need_not_be_there() -> None:
    semantic, scores = semantic_rows(), np.vstack([one(), one(1), one(0, 1)])
    plain = CognitiveFusionLayer()
    for matrix in (None, random_matrix(3)):
        layer = CognitiveFusionLayer(2, 0, matrix=matrix)
        rows = layer.rederive(layer.fuse(semantic, scores), plain)
        np.testing.assert_allclose(rows, plain.fuse(semantic, scores), atol=1e-7)


def test_only_the_ratio_of_the_weights_counts() -> None:
    layers = [CognitiveFusionLayer(*pair) for pair in [(3, 1), (0.75, 0.25), (1.5e308, 0.5e308)]]
    for layer in layers:
        assert (layer.semantic_share, layer.dimension_share) == (0.75, 0.25)
    assert len({layer.fingerprint for layer in layers}) == 1


def test_the_fingerprint_names_what_decides_the_rows() -> None:
    layers = [
        HALF,
        CognitiveFusionLayer(1, 2),
        CognitiveFusionLayer(1, 1, matrix=random_matrix()),
        CognitiveFusionLayer(1, 1, matrix=random_matrix(seed=1)),
        CognitiveFusionLayer(1, 1, axes=AXES[::-1]),
    ]
    assert len({layer.fingerprint for layer in layers}) == len(layers)
    assert HALF.fingerprint.startswith("fusion-1/0.5:0.5/")


def test_other_processes_give_the_same_bytes() -> None:
    code = (
        "import numpy as np\n"
        "from cognitive_memory.encoding.fusion import CognitiveFusionLayer\n"
        "matrix = np.linspace(-1, 1, 80, dtype=np.float32).reshape(16, 5)\n"
        "layer = CognitiveFusionLayer(0.7, 0.3, matrix=matrix)\n"
        "semantic = np.eye(7, 9, dtype=np.float32)\n"
        "scores = np.linspace(0, 1, 112, dtype=np.float32).reshape(7, 16)\n"
        "print(layer.fingerprint, layer.fuse(semantic, scores).tobytes().hex())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    matrix = np.linspace(-1, 1, 80, dtype=np.float32).reshape(16, 5)
    layer = CognitiveFusionLayer(0.7, 0.3, matrix=matrix)
    scores = np.linspace(0, 1, 112, dtype=np.float32).reshape(7, 16)
    fused = layer.fuse(semantic_rows(7, 9), scores)
    assert printed == {f"{layer.fingerprint} {fused.tobytes().hex()}\n"}


def test_a_layer_does_not_change() -> None:
    given_matrix = random_matrix()
    layer = CognitiveFusionLayer(1, 1, matrix=given_matrix)
    given_matrix[:] = 0
    assert layer.matrix.any()
    with pytest.raises(ValueError, match="read-only"):
        layer.matrix[:] = 0


# Bad input


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((0, 0), "semantic_weight and dimension_weight are both 0; one must be above 0"),
        ((-0.5, 1), "got semantic_weight -0.5; it must be a finite number of at least 0"),
        ((1, float("nan")), "got dimension_weight nan; it must be a finite number"),
        ((float("inf"), 1), "got semantic_weight inf; it must be a finite number"),
        (("1", 1), "got semantic_weight '1'; it must be a finite number"),
        ((1, None), "got dimension_weight None; it must be a finite number"),
        ((True, 1), "got semantic_weight True; it must be a finite number"),
        ((1, 1e-13), "got the weights 1.0 and 1e-13, .* a share of 1e-13; give 0, or one of at le"),
        ((5e-324, 1e308), "is a share of 0; give 0, or one of at least 1e-12"),
    ],
)
def test_weights_that_mean_nothing(weights: tuple[Any, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CognitiveFusionLayer(*weights)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((15, 3), dtype=np.float32), r"got a matrix of shape \(15, 3\); expected a row"),
        (np.ones((16, 0), dtype=np.float32), r"\(16, 0\); .* and at least one column"),
        (np.ones(16, dtype=np.float32), r"got a matrix of shape \(16,\) and type float32"),
        (np.ones((16, 2), dtype=np.int64), r"of shape \(16, 2\) and type int64; expected"),
        (np.full((16, 2), np.nan, dtype=np.float32), "row 0 of a matrix holds NaN or infinity"),
        (np.full((16, 2), 1e300), "row 0 of a matrix holds NaN or infinity"),
    ],
)
def test_matrices_that_do_not_fit(matrix: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CognitiveFusionLayer(1, 1, matrix=matrix)


@pytest.mark.parametrize(
    ("semantic", "scores", "message"),
    [
        (semantic_rows(3), one(), "got 3 semantic rows and 1 of dimensions; each text has both"),
        (semantic_rows(1)[0], one(), r"got semantic of shape \(4,\) and type float32; expected"),
        (semantic_rows(1), one()[:, :15], r"got dimensions of shape \(1, 15\) .* \(n, 16\) float"),
        (semantic_rows(1), one().astype(int), r"type int64; expected \(n, 16\) float32"),
        (semantic_rows(1), one(np.nan), "row 0 of dimensions holds NaN or infinity"),
        (np.full((1, 4), np.inf, np.float32), one(), "row 0 of semantic holds NaN or infinity"),
        (semantic_rows(1) * 2, one(), "row 0 of semantic has length 2; expected 1, as an emb"),
        (semantic_rows(3, 2), np.vstack([one()] * 3), "row 2 of semantic has length 0; expected 1"),
    ],
)
def test_rows_that_do_not_fit(semantic: Any, scores: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        HALF.fuse(semantic, scores)


def test_fused_rows_that_are_none() -> None:
    fused = HALF.fuse(semantic_rows(2), np.vstack([one(), one(1)]))
    with pytest.raises(InvalidInputError, match="got fused of 17 columns; fused rows have at leas"):
        HALF.split(fused[:, :17])
    with pytest.raises(InvalidInputError, match=r"row 0 of fused has length 0.7071; expected 1"):
        HALF.split(fused[:, :20])
    with pytest.raises(InvalidInputError, match="got a query of 20 columns and rows of 21; both"):
        HALF.similarity_parts(HALF.fuse(semantic_rows(1, 3), one())[0], fused)
    with pytest.raises(InvalidInputError, match=r"got query of shape \(1, 2, 21\)"):
        HALF.similarity_parts(fused, fused)
    assert HALF.fuse(semantic_rows(0), one()[:0]).shape == (0, 21)
