"""A fusion layer on disk: the same layer back, or a refusal that says why."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cognitive_memory.core.errors import ConfigurationError
from cognitive_memory.encoding.dimensions import AXES
from cognitive_memory.encoding.fusion import CognitiveFusionLayer

MATRIX = np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)
LAYER = CognitiveFusionLayer(0.8, 0.2, matrix=MATRIX)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layer.npz"


def contents() -> dict[str, Any]:
    """What a file holds."""
    weights = np.array([0.8, 0.2])
    return {"format": np.int64(1), "axes": np.array(AXES), "weights": weights, "matrix": MATRIX}


@pytest.mark.parametrize("layer", [LAYER, CognitiveFusionLayer(), CognitiveFusionLayer(0, 7)])
def test_a_layer_comes_back_as_it_was(path: Path, layer: CognitiveFusionLayer) -> None:
    layer.save(path)
    again = CognitiveFusionLayer.load(str(path))
    assert np.array_equal(again.matrix, layer.matrix)
    assert (again.semantic_weight, again.dimension_weight, again.axes) == (
        layer.semantic_weight,
        layer.dimension_weight,
        layer.axes,
    )
    assert again.fingerprint == layer.fingerprint


def test_the_same_layer_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    LAYER.save(path)
    LAYER.save(str(other))
    assert path.read_bytes() == other.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, other]


def test_any_name_is_taken_as_it_is(tmp_path: Path) -> None:
    LAYER.save(tmp_path / "layer.weights")
    assert [each.name for each in tmp_path.iterdir()] == ["layer.weights"]


def test_other_axes_are_asked_for(path: Path) -> None:
    CognitiveFusionLayer(1, 1, axes=("a", "b")).save(path)
    assert CognitiveFusionLayer.load(path, axes=["a", "b"]).axes == ("a", "b")
    with pytest.raises(ConfigurationError, match=r"layer.npz is for the axes a, b; expected frus"):
        CognitiveFusionLayer.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("format"), "holds no array 'format'; give a file that Cogn"),
        (lambda a: a.update(format=np.int64(2)), "has format 2, this version reads 1; give a"),
        (lambda a: a.update(format=np.array([1])), r"has format \[1\], this version reads 1"),
        (lambda a: a.update(format=np.array("1")), "has format '1', this version reads 1"),
        (lambda a: a.pop("axes"), "holds no array 'axes'"),
        (lambda a: a.pop("weights"), "holds no array 'weights'"),
        (lambda a: a.pop("matrix"), "holds no array 'matrix'"),
        (lambda a: a.update(axes=np.arange(16)), r"'axes' as int64 of shape \(16,\); expected nam"),
        (lambda a: a.update(axes=np.array(AXES[:15])), "is for the axes frustration, .*; expected"),
        (lambda a: a.update(weights=np.ones(3)), r"'weights' as float64 of shape \(3,\); expec"),
        (
            lambda a: a.update(weights=np.ones(2, np.float32)),
            r"'weights' as float32 .* two float64",
        ),
        (lambda a: a.update(weights=np.zeros(2)), "holds no fusion layer: semantic_weight and dim"),
        (lambda a: a.update(weights=np.array([1, np.nan])), "no fusion layer: got dimension_weig"),
        (lambda a: a.update(matrix=MATRIX.astype(float)), r"'matrix' as float64 of shape \(16, 3"),
        (lambda a: a.update(matrix=MATRIX[0]), r"'matrix' as float32 of shape \(3,\); expected fl"),
        (lambda a: a.update(matrix=MATRIX[:15]), r"got a matrix of shape \(15, 3\); expected a ro"),
        (lambda a: a.update(matrix=MATRIX * np.float32(np.nan)), "row 0 of a matrix holds NaN or"),
        (lambda a: a.update(matrix=MATRIX.astype(object)), r"is damaged \(Object arrays cannot be"),
    ],
)
def test_what_is_no_layer_is_refused(
    path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    arrays = contents()
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(ConfigurationError, match=rf"layer.npz .*{message}"):
        CognitiveFusionLayer.load(path)


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, MATRIX)
    return buffer.getvalue()


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .npz file; give a file that CognitiveFusionLayer.save wrote"),
        (b"not an archive", "is no .npz file"),
        (npy(), "is no .npz file"),
        (archive(), "holds no array 'format'"),
        (archive(format=b""), "holds no array 'format'"),
        (archive(format=npy()[:-9]), "is damaged "),
        (archive(format=npy()[:20]), "is damaged "),
    ],
)
def test_another_file_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"layer.npz {message}"):
        CognitiveFusionLayer.load(path)


def test_a_damaged_file_is_refused_or_unharmed(path: Path) -> None:
    LAYER.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            again = CognitiveFusionLayer.load(path)
        except ConfigurationError as error:
            assert "layer.npz " in str(error)  # noqa: PT017  either way is right
        else:  # a byte that means nothing, such as a date
            assert again.fingerprint == LAYER.fingerprint
    for length in range(0, len(whole), 31):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigurationError, match=r"layer.npz is (no .npz file|damaged)"):
            CognitiveFusionLayer.load(path)


def test_a_file_that_is_not_there(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"layer.npz does not exist; give a file that"):
        CognitiveFusionLayer.load(path)
    with pytest.raises(ConfigurationError, match=rf"^{tmp_path} cannot be read: .*; give a file"):
        CognitiveFusionLayer.load(tmp_path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    for target in (tmp_path / "missing" / "layer.npz", tmp_path):
        with pytest.raises(ConfigurationError, match=r" cannot be written: .*; give a file in a"):
            LAYER.save(target)
    assert list(tmp_path.iterdir()) == []


def test_after_a_fault_the_file_is_what_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYER.save(path)
    before = path.read_bytes()

    def fail(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(ConfigurationError, match=r"layer.npz cannot be written: No space left on"):
        CognitiveFusionLayer().save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
