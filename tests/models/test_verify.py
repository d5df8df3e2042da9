"""The proof that a converted model is exact: every byte, then every value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import tiny_config, tiny_weights, write_source
from tokenizers import Tokenizer

from cognitive_memory.core.errors import ConversionError, EmbeddingError, ModelIntegrityError
from cognitive_memory.core.interfaces import EmbeddingProvider
from cognitive_memory.core.model_files import TOKENIZER_FILE, read_model_config, record_file
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.verify import (
    GoldenSet,
    check_golden,
    load_golden,
    measure_agreement,
    verify_model,
)

NAME = "all-MiniLM-L6-v2"


class LengthProvider(EmbeddingProvider):
    """(letters, words) of a text, at unit length: vectors that a person can check."""

    dimension = 2
    fingerprint = "lengths"

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        counts = [(len(text), len(text.split())) for text in texts]
        return normalize(np.array(counts, dtype=np.float32).reshape(-1, 2))


def golden_of(*vectors: tuple[float, float]) -> GoldenSet:
    return GoldenSet(["a bc", "four"], np.array(vectors, dtype=np.float32), {})


def test_agreement_with_the_same_vectors_is_complete() -> None:
    golden = GoldenSet(texts := ["a bc", "four"], LengthProvider().encode_batch(texts), {})
    agreement = measure_agreement(LengthProvider(), golden)
    assert (agreement.texts, agreement.max_error) == (2, 0.0)
    assert agreement.min_cosine == pytest.approx(1.0)


def test_agreement_is_that_of_the_worst_value() -> None:
    # "a bc" is (4, 2) and "four" (4, 1), each divided by its length.
    good, bad = (4 / 20**0.5, 2 / 20**0.5), (1.0, 0.0)
    agreement = measure_agreement(LengthProvider(), golden_of(good, bad))
    assert agreement.max_error == pytest.approx(1 / 17**0.5)
    assert agreement.min_cosine == pytest.approx(4 / 17**0.5)


def test_vectors_of_another_length_do_not_agree() -> None:
    golden = GoldenSet(["a bc"], np.ones((1, 3), dtype=np.float32), {})
    with pytest.raises(
        ConversionError, match="the model gives 2 dimensions, its golden vectors have 3"
    ):
        measure_agreement(LengthProvider(), golden)


def test_the_real_model_agrees(model_dir: Path, provider: ONNXEmbeddingProvider) -> None:
    config = read_model_config(model_dir)
    agreement = verify_model(model_dir, config)
    assert agreement is not None
    assert agreement.texts == 126
    assert 0 < agreement.max_error <= 1e-6
    assert agreement.min_cosine >= 1 - 1e-6
    golden = load_golden(NAME)
    assert golden is not None
    assert measure_agreement(provider, golden).max_error <= 1e-6


@pytest.mark.parametrize("name", [f"{NAME}.onnx", f"{NAME}.ort", TOKENIZER_FILE])
def test_an_altered_byte_is_found(
    linked_model: Path, alter_byte: Callable[[Path], None], name: str
) -> None:
    alter_byte(linked_model / name)
    with pytest.raises(
        ModelIntegrityError,
        match=rf"{linked_model / name} has SHA-256 \w{{12}}… instead of \w{{12}}…; "
        f"run 'cognitive-memory model pull {NAME}' to replace it",
    ):
        verify_model(linked_model, read_model_config(linked_model))


@pytest.mark.parametrize("name", [f"{NAME}.onnx", f"{NAME}.ort", TOKENIZER_FILE])
def test_a_missing_file_is_found(linked_model: Path, name: str) -> None:
    (linked_model / name).unlink()
    with pytest.raises(ModelIntegrityError, match=rf"{name} cannot be read \(No such file"):
        verify_model(linked_model, read_model_config(linked_model))


def test_weights_that_do_not_fit_the_tokenizer_fail_at_inference(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, folder = tiny_config(), tmp_path / "tiny"
    recipe = write_source(tmp_path / "source", config, tiny_weights(config))
    described = convert_model(tmp_path / "source", folder, recipe)
    # Conversion refuses this; a folder may come from elsewhere.
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.add_tokens(["beyond"])
    tokenizer.save(str(folder / TOKENIZER_FILE))
    record = record_file(folder / TOKENIZER_FILE)
    replace(described, files={**described.files, TOKENIZER_FILE: record}).write(folder)
    with ONNXEmbeddingProvider(folder) as provider:
        assert provider.encode("a").shape == (32,)
        with pytest.raises(EmbeddingError, match=r"inference on \(1, 3\) tokens failed: "):
            provider.encode("beyond")
    assert capfd.readouterr() == ("", "")


def test_a_model_without_golden_vectors_is_checked_by_its_bytes(tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "source", tiny_config(), tiny_weights(tiny_config()))
    folder = tmp_path / "tiny"
    config = convert_model(tmp_path / "source", folder, recipe)
    assert load_golden("tiny") is None
    assert check_golden(folder, config) is None
    assert verify_model(folder, config) is None
    (folder / "tiny.onnx").write_bytes(b"")
    with pytest.raises(ModelIntegrityError, match=r"tiny\.onnx has 0 bytes instead of "):
        verify_model(folder, config)
