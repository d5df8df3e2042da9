"""Models in the models folder: what is damaged is made anew how, and what a store needs is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cognitive_memory.core.errors import ModelError, ModelIntegrityError
from cognitive_memory.core.model_files import FileRecord, ModelConfig, check_model_file
from cognitive_memory.models.installed import remove_model

CONFIG = ModelConfig(
    name="mine",
    dimension=64,
    max_length=16,
    pooling="mean",
    precision="fp32",
    opset=17,
    converter="",
    onnxruntime="",
    source={"weights_sha256": "a", "tokenizer_sha256": "b"},
    files={"mine.onnx": FileRecord("c", 1)},
    dimensions=(32,),
)


@pytest.mark.parametrize("made", [{}, {"dimension": 32}, {"precision": "bf16"}])
def test_a_model_whose_vectors_are_stored_is_kept(tmp_path: Path, made: dict[str, Any]) -> None:
    (tmp_path / "mine").mkdir()
    CONFIG.write(tmp_path / "mine")
    stored = replace(CONFIG, **made).fingerprint
    with pytest.raises(ModelError, match=f"the store holds vectors of {stored}, which need mine"):
        remove_model(tmp_path, "mine", in_use_by=stored)
    remove_model(tmp_path, "mine", in_use_by=replace(CONFIG, max_length=8).fingerprint)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (CONFIG, "pull mine"),
        (replace(CONFIG, architecture="onnx"), "add mine --replace --from PATH"),
        (replace(CONFIG, precision="static"), "distill mine"),
        (
            replace(CONFIG, precision="fp16", parameters_sha256="d"),
            "quantize mine --precision fp16",
        ),
    ],
)
def test_a_damaged_model_names_what_makes_it_anew(
    tmp_path: Path, config: ModelConfig, command: str
) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelIntegrityError) as caught:
        check_model_file(tmp_path, config, "mine.onnx")
    assert str(caught.value).endswith(f"; run 'cognitive-memory model {command}' to replace it")
