"""Conversion: the graph that comes out, and a target that changes as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from tiny_bert import (
    MAX_LENGTH,
    VOCABULARY,
    recipe_of,
    reference_vectors,
    tiny_config,
    tiny_weights,
    write_source,
)
from tokenizers import Tokenizer

from cognitive_memory.core.errors import (
    ConversionError,
    InvalidInputError,
    MissingExtraError,
    ModelIntegrityError,
)
from cognitive_memory.core.model_files import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    FileRecord,
    read_model_config,
    record_file,
)
from cognitive_memory.encoding.batching import pad_batch, plan_batches
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.runtime import import_runtime
from cognitive_memory.encoding.tokenization import TextTokenizer
from cognitive_memory.models.convert import (
    ARCHITECTURE_FILE,
    _put_in_place,
    check_source,
    convert_model,
    replacing,
)
from cognitive_memory.models.encoder_graph import build_graph, stored_weights
from cognitive_memory.models.fetch import pull_model
from cognitive_memory.models.registry import ModelRecipe, get_recipe
from cognitive_memory.models.verify import TOLERANCE, GoldenSet, verify_model

NAME = "all-MiniLM-L6-v2"
SCRIPT = Path(__file__).parents[2] / "scripts" / "convert_model_to_onnx.py"
TORCH = ("torch", "transformers", "sentence_transformers")


@pytest.fixture(scope="module")
def converted(source_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real model, converted by the code as it is now."""
    target = tmp_path_factory.mktemp("converted") / NAME
    convert_model(source_dir, target, get_recipe(NAME))
    return target


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The published files of a tiny model; ``recipe_of`` pins them."""
    config = tiny_config()
    write_source(tmp_path / "source", config, tiny_weights(config))
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A place that already holds a model."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text("as it was", encoding="utf-8")
    return folder


def assert_untouched(target: Path) -> None:
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert [path.name for path in target.iterdir()] == [CONFIG_FILE]
    assert (target / CONFIG_FILE).read_text(encoding="utf-8") == "as it was"


def open_plain(graph: bytes | str) -> Any:
    """A session that changes nothing in the graph."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(session: Any, rows: list[list[int]]) -> NDArray[np.float32]:
    ids, mask = pad_batch(rows)
    outputs = session.run(None, {"input_ids": ids, "attention_mask": mask})
    return np.asarray(outputs[0])


# The real model


def test_portable_graph_has_the_published_interface(converted: Path) -> None:
    model = onnx.load(converted / f"{NAME}.onnx")
    onnx.checker.check_model(model, full_check=True)
    inputs = {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param for dim in value.type.tensor_type.shape.dim],
        )
        for value in model.graph.input
    }
    expected = (onnx.TensorProto.INT64, ["batch", "length"])
    assert inputs == {"input_ids": expected, "attention_mask": expected}
    [output] = model.graph.output
    assert output.name == "embeddings"
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    batch, dimension = output.type.tensor_type.shape.dim
    assert (batch.dim_param, dimension.dim_value) == ("batch", 384)


def test_portable_graph_has_standard_operators_only(converted: Path) -> None:
    model = onnx.load(converted / f"{NAME}.onnx")
    [opset] = model.opset_import
    assert opset.domain == ""
    assert opset.version >= 17
    assert {node.domain for node in model.graph.node} == {""}


def test_portable_graph_is_exact_in_a_plain_session(converted: Path, golden: GoldenSet) -> None:
    tokenizer = TextTokenizer(converted / TOKENIZER_FILE, 256)
    rows = tokenizer.tokenize(golden.texts).rows
    batches = plan_batches([len(row) for row in rows], token_budget=512, batch_size=32)
    session = open_plain(str(converted / f"{NAME}.onnx"))
    vectors = np.concatenate([run(session, [rows[i] for i in batch]) for batch in batches])
    assert np.abs(vectors - golden.vectors[np.concatenate(batches)]).max() <= TOLERANCE
    assert len(vectors) == len(golden.texts)


def test_model_folder_is_described_and_nothing_else_is_in_it(
    converted: Path, source_dir: Path
) -> None:
    recipe = get_recipe(NAME)
    document = json.loads((converted / CONFIG_FILE).read_text(encoding="utf-8"))
    files = document.pop("files")
    assert document == {
        "name": NAME,
        "dimension": 384,
        "max_length": 256,
        "pooling": "mean",
        "precision": "fp32",
        "opset": 17,
        "converter": "cognitive_memory graph builder 2",
        "architecture": "bert",
        "prompts": {},
        "dimensions": [],
        "parameters_sha256": None,
        "precision_map": {},
        "quality": {},
        "onnxruntime": import_runtime().__version__,
        "format": 1,
        "source": {
            "repository": "sentence-transformers/all-MiniLM-L6-v2",
            "revision": recipe.revision,
            "license": "Apache-2.0",
            "weights_sha256": recipe.files["model.safetensors"].sha256,
            "tokenizer_sha256": recipe.files["tokenizer.json"].sha256,
        },
    }
    there = {str(path.relative_to(converted)) for path in converted.rglob("*") if path.is_file()}
    assert (
        there
        == {*files, CONFIG_FILE}
        == {
            f"{NAME}.onnx",
            f"{NAME}.ort",
            TOKENIZER_FILE,
            ARCHITECTURE_FILE,
            CONFIG_FILE,
        }
    )
    for name, record in files.items():
        assert FileRecord(**record) == record_file(converted / name)
    assert record_file(converted / TOKENIZER_FILE) == recipe.files["tokenizer.json"]
    assert record_file(converted / ARCHITECTURE_FILE) == recipe.files["config.json"]


def test_files_can_be_read_by_others(converted: Path) -> None:
    assert converted.stat().st_mode & 0o777 == 0o755
    assert (converted / CONFIG_FILE).stat().st_mode & 0o444


def test_published_files_are_those_of_the_recipe(source_dir: Path, tmp_path: Path) -> None:
    recipe = get_recipe(NAME)
    check_source(source_dir, recipe)
    with pytest.raises(
        ModelIntegrityError,
        match=r"model\.safetensors cannot be read \(No such file or directory\); "
        r"get sentence-transformers/all-MiniLM-L6-v2 at 1110a243$",
    ):
        check_source(tmp_path, recipe)


# A tiny model against NumPy


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "portable"])
@pytest.mark.parametrize(("hidden", "layers", "heads"), [(32, 2, 4), (48, 3, 2), (16, 1, 1)])
def test_graph_agrees_with_a_forward_pass_in_numpy(
    fused: bool, hidden: int, layers: int, heads: int
) -> None:
    config = tiny_config(hidden, layers, heads)
    weights = tiny_weights(config)
    random = np.random.default_rng(1)
    rows = [random.integers(0, len(VOCABULARY), length).tolist() for length in (1, 2, 7, 16, 24)]
    expected = reference_vectors(weights, config, rows)
    graph = build_graph(weights, config, fused=fused)
    onnx.checker.check_model(graph, full_check=not fused)
    session = open_plain(graph.SerializeToString())
    together = run(session, rows)
    alone = np.concatenate([run(session, [row]) for row in rows])
    assert np.abs(together - expected).max() <= 1e-5
    assert np.abs(alone - expected).max() <= 1e-5


def test_half_precision_weights_are_computed_in_full(source: Path) -> None:
    config = tiny_config()
    weights = {name: value.astype(np.float16) for name, value in tiny_weights(config).items()}
    rows = [[2, 10, 11, 3], [2, 3]]
    graph = build_graph(weights, config, fused=True)
    vectors = run(open_plain(graph.SerializeToString()), rows)
    assert np.abs(vectors - reference_vectors(weights, config, rows)).max() <= 1e-5


def test_converted_folder_gives_the_vectors_of_its_weights(source: Path, target: Path) -> None:
    config = convert_model(source, target, recipe_of(source))
    assert (config.name, config.dimension, config.max_length) == ("tiny", 32, MAX_LENGTH)
    assert read_model_config(target) == config
    texts = ["", "abc", "some words", "a longer text that is cut at the limit"]
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    expected = reference_vectors(
        tiny_weights(tiny_config()),
        tiny_config(),
        [encoding.ids for encoding in tokenizer.encode_batch(texts)],
    )
    with ONNXEmbeddingProvider(target) as provider:
        vectors = provider.encode_batch(texts)
    assert np.abs(vectors - expected).max() <= 1e-5
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_fewer_bits_are_read(source: Path, target: Path, dtype: str) -> None:
    config = tiny_config()
    kind = onnx.helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, dtype.upper()))
    weights = {name: value.astype(kind) for name, value in tiny_weights(config).items()}
    convert_model(source, target, write_source(source, config, weights))
    graph = onnx.load(target / "tiny.onnx")
    stored = stored_weights(graph, config)
    name = "encoder.layer.1.output.dense.weight"
    assert stored[name].dtype == np.float32
    assert np.array_equal(stored[name], weights[name].astype(np.float32))


def test_the_description_has_what_the_recipe_says(source: Path, target: Path) -> None:
    recipe = replace(
        recipe_of(source), prompts={"query": "find: "}, dimensions=(16, 8), pooling="cls"
    )
    config = convert_model(source, target, recipe)
    assert (config.prompts, config.dimensions, config.pooling) == (
        {"query": "find: "},
        (16, 8),
        "cls",
    )
    assert read_model_config(target) == config


def test_a_recipe_without_hashes_records_those_of_the_files(source: Path, target: Path) -> None:
    pinned = recipe_of(source)
    config = convert_model(source, target, replace(pinned, files={}, revision=None))
    assert config.source["weights_sha256"] == pinned.files["model.safetensors"].sha256
    assert config.source["tokenizer_sha256"] == pinned.files["tokenizer.json"].sha256
    assert config.fingerprint == convert_model(source, target, pinned).fingerprint


def test_a_folder_of_the_first_converter_is_replaced(
    source_dir: Path, converted: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    old = models / NAME
    shutil.copytree(converted, old)
    (old / ARCHITECTURE_FILE).unlink()
    config = read_model_config(old)
    files = {name: record for name, record in config.files.items() if name != ARCHITECTURE_FILE}
    replace(config, files=files, converter="cognitive_memory graph builder 1").write(old)
    # What is there can still be used …
    with ONNXEmbeddingProvider(old) as provider:
        before = provider.encode("a text")
    # … and brought up to date.
    pull_model(NAME, models, source=source_dir, offline=True)
    assert read_model_config(old).converter == "cognitive_memory graph builder 2"
    assert (old / ARCHITECTURE_FILE).is_file()
    with ONNXEmbeddingProvider(old) as provider:
        assert np.array_equal(provider.encode("a text"), before)
        assert provider.fingerprint == config.fingerprint


# What is not converted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "mpnet"},
            r"model_type='mpnet' is not .*\(supported: 'bert', .*\); try --exporter torch$",
        ),
        ({"model_type": None}, "model_type=None is not supported"),
        (
            {"hidden_act": "quick_gelu"},
            r"hidden_act='quick_gelu' is not .*\(supported: 'gelu', .*'silu', 'swish'\)",
        ),
        ({"hidden_act": ["gelu"]}, r"hidden_act=\['gelu'\] is not supported"),
        ({"is_decoder": True}, r"is_decoder=True is not supported .*\(supported: False\)"),
        (
            {"position_embedding_type": "relative_key"},
            r"position_embedding_type='relative_key' is not .*\(supported: 'absolute'\)",
        ),
        (
            {"num_hidden_layers": 3},
            r"the weights hold no 'encoder\.layer\.2\.\S+'; a BERT encoder of 3 layers is expected",
        ),
        (
            {"num_hidden_layers": 1},
            r"config\.json says 1 layers, the weights hold more \('encoder\.layer\.1\.\S+'\)",
        ),
        (
            {"hidden_size": 48},
            r"word_embeddings\.weight has shape \(56, 32\), .* it would be \(any, 48\)$",
        ),
        (
            {"intermediate_size": 60},
            r"0\.intermediate\.dense\.weight has shape \(64, 32\), .* it would be \(60, 32\)$",
        ),
        ({"hidden_size": "32"}, "config.json has hidden_size='32'; a positive number is expected"),
        (
            {"num_attention_heads": 5},
            "hidden_size=32 is not a multiple of num_attention_heads=5",
        ),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_another_architecture_is_named(changes: dict[str, Any], message: str, fused: bool) -> None:
    config = tiny_config()
    weights = tiny_weights(config)
    with pytest.raises(ConversionError, match=message):
        build_graph(weights, {**config, **changes}, fused=fused)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.1.attention.self.key.bias",
        "encoder.layer.0.output.dense.weight",
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_a_missing_weight_is_named(name: str, fused: bool) -> None:
    config = tiny_config()
    weights = tiny_weights(config)
    del weights[name]
    with pytest.raises(ConversionError, match=f"the weights hold no '{name}'"):
        build_graph(weights, config, fused=fused)


@pytest.mark.parametrize(
    "key", ["hidden_size", "num_attention_heads", "num_hidden_layers", "layer_norm_eps"]
)
def test_a_missing_size_is_named(key: str) -> None:
    config = tiny_config()
    weights = tiny_weights(config)
    del config[key]
    with pytest.raises(ConversionError, match=rf"config\.json holds no '{key}'"):
        build_graph(weights, config, fused=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": 384}, "the recipe of tiny has dimension 384, the weights have 32$"),
        (
            {"max_length": 25},
            "the recipe of tiny has max_length 25, the model has positions for 24 tokens$",
        ),
        ({"pooling": "max"}, r"pooling 'max' is not supported \(supported: mean, cls, last\)$"),
    ],
)
def test_a_recipe_that_is_not_the_models_leaves_the_target_as_it_was(
    source: Path, target: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        convert_model(source, target, replace(recipe_of(source), **changes))
    assert_untouched(target)


def test_tokens_without_a_row_leave_the_target_as_it_was(source: Path, target: Path) -> None:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_tokens(["beyond"])
    tokenizer.save(str(source / "tokenizer.json"))
    message = "the tokenizer of tiny gives token ids up to 56, the word table has 56 rows$"
    with pytest.raises(ConversionError, match=message):
        convert_model(source, target, recipe_of(source))
    assert_untouched(target)


def with_hash(recipe: ModelRecipe, name: str, digest: str) -> ModelRecipe:
    record = FileRecord(digest, recipe.files[name].bytes)
    return replace(recipe, files={**recipe.files, name: record})


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_another_hash_leaves_the_target_as_it_was(source: Path, target: Path, name: str) -> None:
    recipe = with_hash(recipe_of(source), name, "0" * 64)
    message = rf"{name} has SHA-256 \w{{12}}… instead of 000000000000…; get tests/tiny at 01234567"
    with pytest.raises(ModelIntegrityError, match=message):
        convert_model(source, target, recipe)
    assert_untouched(target)


def test_another_architecture_leaves_the_target_as_it_was(source: Path, target: Path) -> None:
    config = json.dumps({**tiny_config(), "model_type": "mpnet"})
    (source / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ConversionError, match="model_type='mpnet' is not supported"):
        convert_model(source, target, recipe_of(source))
    assert_untouched(target)


def test_weights_of_another_shape_leave_the_target_as_it_was(source: Path, target: Path) -> None:
    config = tiny_config()
    weights = tiny_weights(config)
    weights["encoder.layer.1.output.dense.weight"] = np.zeros((7, 5), dtype=np.float32)
    recipe = write_source(source, config, weights)
    message = r"1\.output\.dense\.weight has shape \(7, 5\), by config\.json it would be \(32, 64\)"
    with pytest.raises(ConversionError, match=message):
        convert_model(source, target, recipe)
    assert_untouched(target)


@pytest.mark.parametrize("content", ["[]", "null", "[" * 100_000])
def test_a_config_that_is_no_object_is_named(source: Path, target: Path, content: str) -> None:
    (source / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConversionError, match=r"holds no readable model: config\.json"):
        convert_model(source, target, recipe_of(source))
    assert_untouched(target)


def test_a_tokenizer_that_is_none_is_named(source: Path, target: Path) -> None:
    (source / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConversionError, match=r"tokenizer\.json is not a tokenizer: "):
        convert_model(source, target, recipe_of(source))
    assert_untouched(target)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_unreadable_files_leave_the_target_as_it_was(source: Path, target: Path, name: str) -> None:
    (source / name).write_bytes(b"neither weights nor JSON")
    with pytest.raises(ConversionError, match=rf"{source} holds no readable model: "):
        convert_model(source, target, recipe_of(source))
    assert_untouched(target)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (384, r"differs from its golden vectors by 0\.\d+, the limit is 1e-06; the conversion was"),
        (32, "the model gives 32 dimensions, its golden vectors have 384"),
    ],
)
def test_other_vectors_leave_the_target_as_it_was(
    source: Path, target: Path, hidden: int, message: str
) -> None:
    config = tiny_config(hidden, layers=1)
    write_source(source, config, tiny_weights(config))
    with pytest.raises(ConversionError, match=message):
        convert_model(source, target, recipe_of(source, NAME, hidden))
    assert_untouched(target)


def test_vectors_that_are_no_numbers_leave_the_target_as_it_was(source: Path, target: Path) -> None:
    config = tiny_config(384, layers=1)
    weights = tiny_weights(config)
    weights["embeddings.LayerNorm.bias"][:] = np.nan
    write_source(source, config, weights)
    with pytest.raises(ConversionError, match="differs from its golden vectors by nan"):
        convert_model(source, target, recipe_of(source, NAME, 384))
    assert_untouched(target)


def test_a_place_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(ConversionError, match=r"cannot write to .*file/models: Not a directory"):
        convert_model(source, tmp_path / "file" / "models" / "tiny", recipe_of(source))


def test_many_can_replace_one_target_at_once(target: Path) -> None:
    def replace_often(writer: int) -> None:
        for turn in range(40):
            with replacing(target) as folder:
                for name in "ab":
                    (folder / name).write_text(f"{writer} {turn}", encoding="utf-8")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(replace_often, range(6)))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert (target / "a").read_text("utf-8") == (target / "b").read_text("utf-8")


def test_a_folder_that_is_lost_leaves_the_target_as_it_was(target: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConversionError, match=rf"cannot write {target}: No such file or directory"),
        replacing(target) as folder,
    ):
        folder.rmdir()
    assert_untouched(target)
    (retired := tmp_path / "retired").mkdir()
    with pytest.raises(FileNotFoundError):
        _put_in_place(tmp_path / "lost", target, retired)
    assert_untouched(target)


def test_another_architecture_on_the_same_weights_has_another_fingerprint(
    source: Path, tmp_path: Path
) -> None:
    first = convert_model(source, tmp_path / "first", recipe_of(source)).fingerprint
    config = json.loads((source / "config.json").read_text("utf-8"))
    (source / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}), "utf-8")
    second = convert_model(source, tmp_path / "second", recipe_of(source)).fingerprint
    assert first != second


def test_a_folder_of_other_things_is_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("kept", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"notes holds other things .* as .*notes/tiny$"):
        convert_model(source, tmp_path / "notes", recipe_of(source))
    assert (tmp_path / "notes" / "mine").read_text("utf-8") == "kept"


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_whatever_is_at_the_target_is_replaced(source: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "models" / "tiny"
    elsewhere = tmp_path / "elsewhere"
    target.parent.mkdir()
    if kind == "file":
        target.write_text("in the way", encoding="utf-8")
    else:
        target.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
    config = convert_model(source, target, recipe_of(source))
    assert read_model_config(target) == config
    assert not target.is_symlink()
    assert (elsewhere / "kept").exists() == (kind == "link")
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_the_torch_exporter_names_its_extra(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r"needs torch; pip install 'cognitive-memory-onnx\[torch\]'"
    ):
        convert_model(source, target, recipe_of(source), exporter="torch")
    assert_untouched(target)


def test_no_torch_is_imported(source: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tiny_bert import recipe_of
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.fetch import pull_model
source = Path({str(source)!r})
convert_model(source, Path({str(tmp_path / "tiny")!r}), recipe_of(source))
print(*(name for name in {TORCH!r} if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "\n", "")
    assert (tmp_path / "tiny" / CONFIG_FILE).is_file()


# The script


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


def test_the_script_says_what_it_takes() -> None:
    result = run_script("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for option in ("--model-dir", "--out", "--model", "--exporter"):
        assert option in result.stdout


def test_the_script_makes_a_verified_folder(source_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_script("--model-dir", source_dir, "--out", out)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{out}: 384 dimensions, opset 17, ")
    assert second.startswith("126 golden vectors: max absolute error ")
    agreement = verify_model(out, read_model_config(out))
    assert agreement is not None
    assert agreement.max_error <= TOLERANCE


def test_the_script_fails_in_one_line(tmp_path: Path) -> None:
    result = run_script("--model-dir", tmp_path, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {tmp_path / 'model.safetensors'} cannot be read ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_only_its_own_leftovers_are_removed(tmp_path: Path) -> None:
    own, other, fresh = ".tiny-1.cognitive-memory", ".vscode-server", ".tiny-2.cognitive-memory"
    for name in (own, other, fresh):
        (tmp_path / name).mkdir()
    for name in (own, other):
        os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / "model"):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([fresh, other, "model"])
