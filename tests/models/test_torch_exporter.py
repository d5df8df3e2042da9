"""The second way to a graph; runs where the extra ``torch`` is installed (``make torch``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognitive_memory.core.errors import ConversionError
from cognitive_memory.core.model_files import read_model_config
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.registry import get_recipe
from cognitive_memory.models.verify import TOLERANCE, verify_model

torch = pytest.importorskip("torch", reason="needs the extra 'torch': make torch")

pytestmark = pytest.mark.filterwarnings("default")


def test_the_exported_graph_gives_the_golden_vectors(source_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "all-MiniLM-L6-v2"
    convert_model(source_dir, target, get_recipe("all-MiniLM-L6-v2"), exporter="torch")
    config = read_model_config(target)
    assert config.converter == "torch.onnx exporter"
    assert config.opset >= 17
    agreement = verify_model(target, config)
    assert agreement is not None
    assert agreement.max_error <= TOLERANCE


def test_what_cannot_be_loaded_is_a_conversion_error(source_dir: Path, tmp_path: Path) -> None:
    from cognitive_memory.models.torch_exporter import export_graph

    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConversionError, match="cannot be exported"):
        export_graph(tmp_path, tmp_path / "x.onnx", get_recipe("all-MiniLM-L6-v2"))
