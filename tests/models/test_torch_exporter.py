"""The second way to a graph; runs where the extra ``torch`` is installed (``make torch``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bert import tiny_config, tiny_weights, write_source

from cognitive_memory.core.errors import ConversionError
from cognitive_memory.core.model_files import read_model_config
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.registry import POOLINGS, get_recipe
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


@pytest.mark.parametrize("pooling", POOLINGS)
def test_both_ways_give_the_same_vectors(pooling: str, tmp_path: Path) -> None:
    config = tiny_config()
    recipe = write_source(tmp_path / "source", config, tiny_weights(config))
    recipe = replace(recipe, pooling=pooling)
    texts = ["a", "some words", "many more words than that", ""]
    vectors = []
    for exporter in ("builder", "torch"):
        convert_model(tmp_path / "source", tmp_path / exporter, recipe, exporter)
        with ONNXEmbeddingProvider(tmp_path / exporter) as provider:
            vectors.append(provider.encode_batch(texts))
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": 384}, "the recipe of tiny has dimension 384, the model has 32$"),
        ({"pooling": "max"}, r"pooling 'max' is not supported \(supported: mean, cls, last\)$"),
    ],
)
def test_another_recipe_is_a_conversion_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = tiny_config()
    recipe = write_source(tmp_path / "source", config, tiny_weights(config))
    with pytest.raises(ConversionError, match=message):
        convert_model(tmp_path / "source", tmp_path / "out", replace(recipe, **changes), "torch")
    assert not (tmp_path / "out").exists()
