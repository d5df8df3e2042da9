"""A model in a faster precision: how good the real one is, and when a target stays as it was."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import LETTERS, tiny_config, tiny_weights, write_source

from cognitive_memory.core.errors import (
    ConversionError,
    InvalidInputError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    ModelConfig,
    check_model_file,
    read_model_config,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models.convert import ARCHITECTURE_FILE, convert_model
from cognitive_memory.models.foreign import add_model
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quality import Gate, HeldTexts
from cognitive_memory.models.quantize import Quantizer, prepare_quantized, quantize_model
from cognitive_memory.models.verify import verify_model

NAME = "all-MiniLM-L6-v2"
ODD_TEXTS = [
    "",
    " \t\n",
    "a",
    "\N{PILE OF POO}\N{ROCKET}\N{FIRE}" * 9,
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3042\u308b\u3002",
    "\U00013000\U00013001 \U00013002",
    "word " * 400,
    "x" * 5000,
    "nul \0 byte, \u200b and \ufeff",
    "[CLS] [SEP] [MASK] [PAD]",
]
INT8 = PrecisionMap({"default": "int8"})
OPEN = Gate(mean_cosine=0.0, retention=0.0)


# --- the real model ---


@pytest.fixture(scope="module")
def quantized(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model in int8 as a user gets it: static, the texts of this package, its gate."""
    target = tmp_path_factory.mktemp("quantized") / f"{NAME}-int8"
    prepare_quantized(model_dir, target, "int8")
    return target


@pytest.fixture(scope="module")
def int8(quantized: Path) -> Iterator[ONNXEmbeddingProvider]:
    with ONNXEmbeddingProvider(quantized, precision="int8") as provider:
        yield provider


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Real paragraphs of mixed length: ``scripts/corpus.py``, which is not in the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
        texts: list[str] = importlib.import_module("corpus").paragraphs(200)
    return texts


@pytest.fixture(scope="module")
def corpus_vectors(int8: ONNXEmbeddingProvider, corpus: list[str]) -> Vector:
    return int8.encode_batch(corpus)


def test_int8_agrees_with_fp32_on_mixed_text(
    corpus_vectors: Vector, provider: ONNXEmbeddingProvider, corpus: list[str]
) -> None:
    cosines = (corpus_vectors * provider.encode_batch(corpus)).sum(axis=1)
    assert cosines.mean() >= 0.997
    assert cosines.min() >= 0.985


def test_int8_does_not_depend_on_the_batch(
    corpus_vectors: Vector, int8: ONNXEmbeddingProvider, corpus: list[str]
) -> None:
    alone = np.stack([int8.encode(text) for text in corpus[::4]])
    assert np.abs(alone - corpus_vectors[::4]).max() <= 1e-5
    backwards = int8.encode_batch(corpus[::-1])[::-1]
    assert np.abs(backwards - corpus_vectors).max() <= 1e-5


@pytest.mark.parametrize(
    "options",
    [{"token_budget": 64}, {"token_budget": 4096, "batch_size": 200}, {"optimization": "none"}],
    ids=str,
)
def test_int8_does_not_depend_on_how_it_is_run(
    quantized: Path, corpus_vectors: Vector, corpus: list[str], options: dict[str, Any]
) -> None:
    with ONNXEmbeddingProvider(quantized, workers=1, **options) as provider:
        vectors = provider.encode_batch(corpus[:60])
    assert np.abs(vectors - corpus_vectors[:60]).max() <= 1e-5


@settings(max_examples=30)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_no_text_depends_on_the_others(int8: ONNXEmbeddingProvider, texts: list[str]) -> None:
    together = int8.encode_batch(texts)
    alone = np.stack([int8.encode(text) for text in texts])
    assert np.abs(together - alone).max() <= 1e-5
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() <= 1e-5


def test_odd_texts_are_near_their_fp32_vectors(
    int8: ONNXEmbeddingProvider, provider: ONNXEmbeddingProvider
) -> None:
    together = int8.encode_batch(ODD_TEXTS)
    alone = np.stack([int8.encode(text) for text in ODD_TEXTS])
    assert np.abs(together - alone).max() <= 1e-5
    assert (together * provider.encode_batch(ODD_TEXTS)).sum(axis=1).min() >= 0.96


def test_the_folder_is_small_whole_and_described(quantized: Path, model_dir: Path) -> None:
    config, source = read_model_config(quantized), read_model_config(model_dir)
    graphs = (f"{NAME}.onnx", f"{NAME}.ort")
    found = {str(path.relative_to(quantized)) for path in quantized.rglob("*") if path.is_file()}
    assert found == {*graphs, TOKENIZER_FILE, ARCHITECTURE_FILE, CONFIG_FILE}
    assert set(config.files) == found - {CONFIG_FILE}
    for name in config.files:
        check_model_file(quantized, config, name)
    for name in graphs:
        assert config.files[name].bytes <= 26_000_000
    assert (config.name, config.precision, config.precision_map) == (NAME, "int8", INT8.given)
    assert config.converter == f"{source.converter}, quantizer 1 (static)"
    assert config.source == source.source
    assert config.fingerprint.startswith(f"{NAME}/int8/384/")
    gate = Gate()
    assert config.quality["mean_cosine"] >= gate.mean_cosine
    assert config.quality["retention"] >= gate.retention
    assert config.quality["min_cosine"] <= config.quality["mean_cosine"]
    onnx.checker.check_model(onnx.load(quantized / f"{NAME}.onnx"))


def test_it_can_be_verified(quantized: Path, alter_byte: Callable[[Path], None]) -> None:
    agreement = verify_model(quantized, read_model_config(quantized))
    assert agreement is not None
    assert 0.96 <= agreement.min_cosine < 1
    config = read_model_config(quantized)
    better = replace(config, quality={**config.quality, "min_cosine": 0.9999})
    with pytest.raises(ConversionError, match=r"from a golden vector, 0\.9999 was the least when"):
        verify_model(quantized, better)


# --- a tiny model ---


WORDS = [
    "".join(letters) for letters in np.random.default_rng(7).choice(list(LETTERS), size=(80, 4))
]
HELD = HeldTexts(WORDS[:30], [f"{word} a" for word in WORDS[:30]])
CALIBRATION = WORDS[30:]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with prompts, converted."""
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config()
    recipe = write_source(folder / "source", config, tiny_weights(config))
    recipe = replace(recipe, prompts={"query": "q: ", "document": "d: "})
    convert_model(folder / "source", folder / "tiny", recipe)
    return folder / "tiny"


@pytest.fixture
def target(tmp_path: Path, tiny: Path) -> Path:
    """A place that already holds a model."""
    shutil.copytree(tiny, tmp_path / "models" / "tiny-int8")
    return tmp_path / "models" / "tiny-int8"


def make(
    source: Path, target: Path, precisions: PrecisionMap = INT8, **changes: Any
) -> ModelConfig:
    options = {"calibration": CALIBRATION, "held": HELD, "gate": OPEN, **changes}
    return quantize_model(source, target, precisions, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def cosines(first: Path, second: Path) -> Vector:
    with ONNXEmbeddingProvider(first) as one, ONNXEmbeddingProvider(second) as two:
        products: Vector = (one.encode_batch(WORDS) * two.encode_batch(WORDS)).sum(axis=1)
    return products


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_same_texts_make_the_same_model(tiny: Path, tmp_path: Path, method: str) -> None:
    first = make(tiny, tmp_path / "first", method=method)
    second = make(tiny, tmp_path / "second", method=method, calibration=CALIBRATION[::-1])
    assert first.parameters_sha256 == second.parameters_sha256
    assert first.fingerprint == second.fingerprint
    assert first.files["tiny.onnx"] == second.files["tiny.onnx"]
    assert first.quality == second.quality
    assert cosines(tmp_path / "first", tiny).min() > 0.99


def test_another_way_of_quantizing_is_another_model(tiny: Path, tmp_path: Path) -> None:
    made = [
        make(tiny, tmp_path / "a"),
        make(tiny, tmp_path / "b", method="dynamic"),
        make(tiny, tmp_path / "c", calibration=["a b"]),
        make(tiny, tmp_path / "d", PrecisionMap({"default": "int8", "output": "fp32"})),
        make(tiny, tmp_path / "e", PrecisionMap({"default": "fp16"})),
        read_model_config(tiny),
    ]
    assert len({config.fingerprint for config in made}) == len(made)
    assert [config.precision for config in made] == ["int8"] * 4 + ["fp16", "fp32"]


def test_prompts_are_kept_and_stand_before_texts(tiny: Path, tmp_path: Path) -> None:
    config = make(tiny, tmp_path / "tiny-int8")
    source = read_model_config(tiny)
    assert config.prompts == source.prompts == {"query": "q: ", "document": "d: "}
    assert replace(config, prompts={}).fingerprint != config.fingerprint != source.fingerprint
    with (
        ONNXEmbeddingProvider(tiny) as exact,
        ONNXEmbeddingProvider(tmp_path / "tiny-int8") as fast,
    ):
        query = fast.encode_query("abc")
        assert query @ exact.encode_query("abc") > 0.99
        assert query @ exact.encode("abc") < 0.99


def test_calibration_sees_the_prompt(tiny: Path, tmp_path: Path) -> None:
    """The ranges are those of the letters of a text and of its prompt."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    replace(read_model_config(bare), prompts={}).write(bare)
    with_prompt = make(tiny, tmp_path / "a", calibration=["abc"])
    same_text = make(bare, tmp_path / "b", calibration=["d: abc"])
    other_text = make(bare, tmp_path / "c", calibration=["abc"])
    assert with_prompt.parameters_sha256 == same_text.parameters_sha256
    assert with_prompt.parameters_sha256 != other_text.parameters_sha256


def test_fp16_has_half_the_size_and_one_graph(tiny: Path, tmp_path: Path) -> None:
    config = make(tiny, tmp_path / "half", PrecisionMap({"default": "fp16"}))
    assert set(config.files) == {"tiny.onnx", TOKENIZER_FILE, ARCHITECTURE_FILE}
    assert cosines(tmp_path / "half", tiny).min() > 0.99999
    assert verify_model(tmp_path / "half", config) is None


@pytest.mark.parametrize(
    ("given_map", "precision"),
    [
        ("int8", "int8"),
        ("fp16", "fp16"),
        ("fp16,output=int8", "int8"),
        ("embeddings=int8", "int8"),
        ("layer.1.output=fp16", "fp16"),
        ("int8,embeddings=fp16,attention=fp16,output=fp16,feed-forward=fp16", "fp16"),
    ],
)
def test_a_model_is_called_by_its_fewest_bits(
    tiny: Path, tmp_path: Path, given_map: str, precision: str
) -> None:
    config = make(tiny, tmp_path / "made", PrecisionMap.parse(given_map))
    assert config.precision == precision
    assert config.precision_map == PrecisionMap.parse(given_map).given
    assert cosines(tmp_path / "made", tiny).min() > 0.99


def test_what_happens_is_reported(tiny: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    make(tiny, tmp_path / "made", report=lines.append)
    assert lines[0] == "calibrating tiny with 50 texts"
    assert lines[1].startswith("tiny in int8: mean cosine 0.99")
    assert len(lines) == 2


def test_a_workshop_calibrates_and_embeds_its_reference_once(tiny: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    workshop = Quantizer(tiny, "static", CALIBRATION, HELD, lines.append)
    first = workshop.try_out(INT8)
    config = workshop.make(tmp_path / "made", INT8, Gate(0.9, 0.9))
    assert [line for line in lines if line.startswith("calibrating")] == lines[:1]
    assert config.quality["mean_cosine"] == round(first.mean_cosine, 6)


def test_a_target_that_is_a_model_is_replaced(tiny: Path, target: Path) -> None:
    config = make(tiny, target)
    assert read_model_config(target) == config
    assert [path.name for path in target.parent.iterdir()] == [target.name]


# --- what is refused, and leaves the target as it was ---


def assert_refused(
    target: Path, error: type[BaseException], message: str, run: Callable[[], object]
) -> None:
    before = content(target.parent)
    with pytest.raises(error, match=message or None):
        run()
    assert content(target.parent) == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    "gate", [Gate(mean_cosine=0.99999), Gate(mean_cosine=0, retention=1.5)], ids=str
)
def test_below_the_gate(tiny: Path, target: Path, gate: Gate) -> None:
    assert_refused(
        target,
        ConversionError,
        r"^tiny in int8 is below the gate and was not written: mean cosine 0\.99",
        lambda: make(tiny, target, gate=gate),
    )


def test_weights_beyond_the_range_of_fp16(target: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    config = tiny_config()
    weights = tiny_weights(config)
    weights[name] *= 1e6
    recipe = write_source(target.parent.parent / "source", config, weights)
    source = target.parent.parent / "large"
    convert_model(target.parent.parent / "source", source, recipe)
    assert_refused(
        target,
        ConversionError,
        r"^encoder\.layer\.0\.output\.dense holds values up to .*, fp16 ends at 65504; keep it in",
        lambda: make(source, target, PrecisionMap({"default": "fp16"})),
    )


@pytest.mark.parametrize(
    ("precisions", "message"),
    [
        ("fp32", "keeps everything in fp32: nothing to do"),
        ("embeddings=fp32", "keeps everything in fp32: nothing to do"),
        ("int8,layer.2=fp32", r"layer\.2 does not exist; the model has the layers 0 to 1"),
        ("int8,layer.99999999999=fp32", r"layer\.99999999999 does not exist"),
    ],
)
def test_a_map_that_does_not_fit(tiny: Path, target: Path, precisions: str, message: str) -> None:
    given = PrecisionMap.parse(precisions)
    assert_refused(target, InvalidInputError, message, lambda: make(tiny, target, given))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "got method 'magic'; known: static, dynamic"),
        ({"calibration": []}, "there is no calibration text"),
        ({"calibration": ["fine", "\ud800"]}, "text 1 is not valid Unicode: a lone surrogate"),
        ({"held": HeldTexts(["a"], ["\ud800"])}, "text 0 is not valid Unicode: a lone surrogate"),
    ],
    ids=str,
)
def test_texts_and_methods_that_are_none(
    tiny: Path, target: Path, changes: dict[str, Any], message: str
) -> None:
    assert_refused(target, InvalidInputError, message, lambda: make(tiny, target, **changes))


@pytest.mark.parametrize("name", ["tiny.onnx", TOKENIZER_FILE, ARCHITECTURE_FILE])
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_a_damaged_source(
    tiny: Path,
    target: Path,
    tmp_path: Path,
    alter_byte: Callable[[Path], None],
    name: str,
    method: str,
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny, source)
    alter_byte(source / name)
    assert_refused(
        target,
        ModelIntegrityError,
        rf"{name} has SHA-256 .* run 'cognitive-memory model pull tiny' to replace it",
        lambda: make(source, target, method=method),
    )


def test_a_source_that_is_not_there(target: Path, tmp_path: Path) -> None:
    assert_refused(
        target, ModelNotFoundError, "no model in", lambda: make(tmp_path / "none", target)
    )


def test_a_quantized_source(tiny: Path, target: Path, tmp_path: Path) -> None:
    make(tiny, tmp_path / "int8")
    assert_refused(
        target,
        ConversionError,
        "is in int8; only an fp32 model can be quantized",
        lambda: make(tmp_path / "int8", target),
    )


def test_a_foreign_graph(tiny: Path, target: Path, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    shutil.copyfile(tiny / "tiny.onnx", folder / "model.onnx")
    shutil.copyfile(tiny / TOKENIZER_FILE, folder / "tokenizer.json")
    recipe = {"pooling": "mean", "max_length": 16}
    add_model("mine", folder, tmp_path / "added", recipe)
    assert_refused(
        target,
        ConversionError,
        r"has no config\.json, so its graph cannot be written anew: it was added as an ONNX file",
        lambda: make(tmp_path / "added" / "mine", target),
    )


def test_a_target_that_is_the_source(tiny: Path, tmp_path: Path) -> None:
    before = content(tiny)
    link = tmp_path / "link"
    link.symlink_to(tiny)
    for path in (tiny, tiny / ".." / "tiny", link):
        with pytest.raises(InvalidInputError, match="is the fp32 model itself; give another fold"):
            make(tiny, path)
    assert content(tiny) == before


def test_a_target_that_holds_other_things(tiny: Path, tmp_path: Path) -> None:
    """As when the folder of all models is given for that of one."""
    models = tmp_path / "models"
    shutil.copytree(tiny, models / "tiny")
    before = content(models)
    with pytest.raises(InvalidInputError, match=r"holds other things than a model; .*models/tiny$"):
        make(tiny, models)
    assert content(models) == before
    (tmp_path / "empty").mkdir()
    make(tiny, tmp_path / "empty")
    assert read_model_config(tmp_path / "empty").precision == "int8"


def test_a_place_that_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConversionError, match=r"cannot write .*file"):
        make(tiny, tmp_path / "file" / "models" / "tiny-int8")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_leaves_nothing_behind(tiny: Path, target: Path) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("tiny in int8"):
            raise KeyboardInterrupt

    assert_refused(target, KeyboardInterrupt, "", lambda: make(tiny, target, report=interrupt))


def test_many_can_make_one_target_at_once(tiny: Path, target: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: make(tiny, target), range(8)))
    assert len({config.fingerprint for config in made}) == 1
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    config = read_model_config(target)
    for name in config.files:
        check_model_file(target, config, name)


def test_the_description_is_json_that_reads_back(tiny: Path, tmp_path: Path) -> None:
    config = make(tiny, tmp_path / "made", PrecisionMap.parse("int8,output=fp32"))
    values = json.loads((tmp_path / "made" / CONFIG_FILE).read_text(encoding="utf-8"))
    assert values["precision_map"] == {"default": "int8", "output": "fp32"}
    assert set(values["quality"]) == {"mean_cosine", "min_cosine", "retention"}
    assert read_model_config(tmp_path / "made") == config
