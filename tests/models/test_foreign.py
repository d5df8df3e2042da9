"""Models of a user's own: any ONNX graph with a recipe becomes a model, or nothing is written."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bert import MAX_LENGTH, tiny_config, tiny_weights, write_source
from tiny_onnx import LONGEST, WIDTH, WORDS, Encoder, write_onnx

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import (
    CognitiveMemoryError,
    ConversionError,
    InvalidInputError,
    ModelNotFoundError,
)
from cognitive_memory.core.model_files import ModelConfig, record_file
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.factory import create_embedding_provider
from cognitive_memory.models.foreign import add_model
from cognitive_memory.models.onnx_file import read_graph
from cognitive_memory.models.onnx_interface import adapt_graph
from cognitive_memory.models.trial import try_graph
from cognitive_memory.models.verify import verify_model

RECIPE = {"pooling": "mean", "max_length": MAX_LENGTH}
TEXTS = ["a", "the cat sat", "", "abc d e f"]
FULL = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def add(models: Path, source: Path, name: str = "mine", **values: Any) -> ModelConfig:
    return add_model(name, source, models, {**RECIPE, **values})


def refused(models: Path, source: Path, **values: Any) -> str:
    """The message of a model that is not added, of which nothing is left."""
    with pytest.raises(CognitiveMemoryError) as caught:
        add(models, source, **values)
    assert not models.exists() or list(models.iterdir()) == []
    return str(caught.value)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "source", Encoder().graph())


# The interface


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize(
    "encoder",
    [
        Encoder(),
        Encoder(inputs=FULL),
        Encoder(inputs=FULL, integer=TensorProto.INT32),
        Encoder(output="token_embeddings"),
        Encoder(inputs=FULL, output="output_0", opset=11),
        Encoder(inputs=FULL, opset=21),
    ],
    ids=["two inputs", "four inputs", "int32", "other name", "opset 11", "opset 21"],
)
def test_token_vectors_are_pooled(
    tmp_path: Path, models: Path, encoder: Encoder, pooling: str
) -> None:
    source = write_onnx(tmp_path / "source", encoder.graph())
    config = add(models, source, pooling=pooling)
    expected = encoder.vectors(source, TEXTS, pooling)
    assert (config.dimension, config.pooling, config.opset) == (WIDTH, pooling, encoder.opset)
    for optimization in ("all", "basic", "none"):
        with ONNXEmbeddingProvider(models / "mine", optimization=optimization) as provider:
            vectors = provider.encode_batch(TEXTS)
        assert vectors.dtype == np.float32
        assert np.abs(vectors - expected).max() <= 1e-6
    assert verify_model(models / "mine", config) is None


@pytest.mark.parametrize("output", ["hidden", "last_hidden_state"])
def test_its_own_sentence_vector_is_normalized(tmp_path: Path, models: Path, output: str) -> None:
    encoder = Encoder(output=output, sentence="sentence_embedding")
    source = write_onnx(tmp_path / "source", encoder.graph())
    add(models, source)
    with ONNXEmbeddingProvider(models / "mine") as provider:
        difference = np.abs(provider.encode_batch(TEXTS) - encoder.vectors(source, TEXTS, "mean"))
    assert difference.max() <= 1e-6
    graph = onnx.load(models / "mine" / "mine.onnx").graph
    assert [each.name for each in graph.input] == ["input_ids", "attention_mask"]
    assert [each.name for each in graph.output] == ["embeddings"]


def test_a_graph_without_a_mask(tmp_path: Path, models: Path) -> None:
    encoder = Encoder(inputs=("input_ids", "position_ids"))
    source = write_onnx(tmp_path / "source", encoder.graph())
    add(models, source)
    with ONNXEmbeddingProvider(models / "mine") as provider:
        difference = np.abs(provider.encode_batch(TEXTS) - encoder.vectors(source, TEXTS, "mean"))
    assert difference.max() <= 1e-6


def test_weights_beside_the_graph_are_taken_in(tmp_path: Path, models: Path) -> None:
    encoder = Encoder()
    source = write_onnx(tmp_path / "source", encoder.graph())
    alone = add(models, source, "alone")
    onnx.save_model(
        encoder.graph(), source / "model.onnx", save_as_external_data=True,
        location="model.onnx_data", size_threshold=0,
    )  # fmt: skip
    beside = add(models, source, "beside")
    shutil.rmtree(source)
    assert beside.source["weights_sha256"] != alone.source["weights_sha256"]
    made = []
    for name in ("alone", "beside"):
        with ONNXEmbeddingProvider(models / name) as provider:
            made.append(provider.encode_batch(TEXTS))
    assert np.array_equal(made[0], made[1])


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_graph_in_the_folder_onnx(tmp_path: Path, models: Path, given: str) -> None:
    source = write_onnx(tmp_path / "source", Encoder().graph(), "onnx/model.onnx")
    assert add(models, source if given == "folder" else source / "onnx/model.onnx").dimension == 6


def test_the_whole_recipe_is_kept(source: Path, models: Path) -> None:
    config = add(
        models,
        source,
        dimension=WIDTH,
        dimensions=[2, 4],
        prompts={"query": "q: ", "document": "d: "},
        license="CC-BY-4.0",
        repository="me/mine",
    )
    assert config.prompts == {"query": "q: ", "document": "d: "}
    assert (config.dimensions, config.architecture) == ((4, 2), "onnx")
    assert config.source == {
        "repository": "me/mine",
        "revision": "a local copy",
        "license": "CC-BY-4.0",
        "weights_sha256": record_file(source / "model.onnx").sha256,
        "tokenizer_sha256": record_file(source / "tokenizer.json").sha256,
    }


def test_settings_find_it_by_its_name(source: Path, models: Path) -> None:
    config = add(models, source)
    settings = Settings(models_dir=models, offline=True, embedding={"model": "mine"})
    with create_embedding_provider(settings) as provider:
        assert provider.fingerprint == config.fingerprint
        assert provider.encode("a cat").shape == (WIDTH,)


def test_functions_are_put_where_they_are_called(tmp_path: Path, models: Path) -> None:
    encoder = Encoder()
    source = write_onnx(tmp_path / "source", with_functions(encoder.graph(), ("look_up", "Gather")))
    add(models, source)
    with ONNXEmbeddingProvider(models / "mine") as provider:
        difference = np.abs(provider.encode_batch(TEXTS) - encoder.vectors(source, TEXTS, "mean"))
    assert difference.max() <= 1e-6


def with_functions(
    model: onnx.ModelProto, *bodies: tuple[str, str], times: int = 1
) -> onnx.ModelProto:
    """The ``Gather`` of a model in a chain of functions; each calls the next so many times."""
    opset = model.opset_import[0]
    domains = [helper.make_opsetid("own", 1)]
    for name, called in bodies:
        domain = "own" if called != "Gather" else ""
        nodes = [
            helper.make_node(called, ["table", "ids"], [f"rows_{index}"], domain=domain)
            for index in range(times)
        ]
        model.functions.append(
            helper.make_function(
                "own", name, ["table", "ids"], ["rows_0"], nodes, [opset, *domains]
            )
        )
    model.opset_import.extend(domains)
    model.graph.node[0].op_type = bodies[0][0]
    model.graph.node[0].domain = "own"
    return model


# What replaces what


def test_a_name_that_is_there_needs_replace(source: Path, models: Path) -> None:
    first = add(models, source)
    message = "mine is there already; give --replace, or choose another name"
    with pytest.raises(InvalidInputError, match=message):
        add(models, source, pooling="cls")
    second = add_model("mine", source, models, {**RECIPE, "pooling": "cls"}, replace_existing=True)
    assert first.fingerprint != second.fingerprint
    assert [path.name for path in models.iterdir()] == ["mine"]


def test_a_failure_leaves_the_model_that_is_there(source: Path, models: Path) -> None:
    config = add(models, source)
    with pytest.raises(ConversionError):
        add_model("mine", source, models, {**RECIPE, "dimension": 5}, replace_existing=True)
    assert [path.name for path in models.iterdir()] == ["mine"]
    verify_model(models / "mine", config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x", "got the model name '../x'; it must be 1 to 100 letters, digits, "),
        ("a/b", "got the model name 'a/b'; it must be 1 to 100 letters, digits, "),
        (".x", "got the model name '.x'; it must be 1 to 100 letters, digits, "),
        (
            "bge-small-en-v1.5",
            "bge-small-en-v1.5 is a known model, which 'cognitive-memory model pull bge-small-en-v",
        ),
        ("x-int8", "got the model name 'x-int8'; -int8 marks another form of a model; "),
    ],
)
def test_names_that_are_refused(source: Path, models: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        add(models, source, name)
    assert str(caught.value).startswith(message)
    assert not models.exists()


def test_a_folder_that_is_no_model_is_not_replaced(source: Path, models: Path) -> None:
    (models / "mine").mkdir(parents=True)
    (models / "mine" / "diary.txt").touch()
    with pytest.raises(InvalidInputError, match=r"mine exists and holds no model; choose another"):
        add_model("mine", source, models, RECIPE, replace_existing=True)
    assert (models / "mine" / "diary.txt").exists()


# A recipe that differs from the model


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dimension": 8}, "the recipe has dimension 8, the model gives 6"),
        (
            {"dimensions": [4, 6]},
            "got dimensions [4, 6]; each must be a whole number below the dimension 6",
        ),
        ({"pooling": "max"}, "got pooling 'max'; known: mean, cls, last"),
        (
            {"max_length": 2},
            "the model does not run: a maximum length of 2 leaves no room for a word",
        ),
    ],
)
def test_a_recipe_that_differs(
    source: Path, models: Path, values: dict[str, Any], message: str
) -> None:
    assert refused(models, source, **values).startswith(message)


def test_more_tokens_than_the_model_takes(tmp_path: Path, models: Path) -> None:
    source = write_onnx(tmp_path / "source", Encoder(inputs=FULL).graph())
    message = refused(models, source, max_length=LONGEST + 1)
    assert message.startswith("the model fails on a text of the recipe's maximum length: ")
    assert "out of data bounds" in message


@pytest.mark.parametrize(
    ("own", "asked"), [("mean", "cls"), ("cls", "mean"), ("cls", "last"), ("mean", "last")]
)
def test_another_pooling_than_the_models_own(
    tmp_path: Path, models: Path, own: str, asked: str
) -> None:
    encoder = Encoder(sentence="sentence_embedding", sentence_pooling=own)
    source = write_onnx(tmp_path / "source", encoder.graph())
    assert refused(models, source, pooling=asked) == (
        f"the recipe has pooling {asked!r}, the model's own sentence vector is {own!r}"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "'cls'"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "'cls' and 'mean'"),
        ({"pooling_mode_max_tokens": True}, "'pooling_mode_max_tokens'"),
        ({"pooling_mode": "lasttoken"}, "'lasttoken'"),
    ],
)
def test_another_pooling_than_the_published_one(
    source: Path, models: Path, settings: dict[str, Any], said: str
) -> None:
    path = source / "1_Pooling" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"word_embedding_dimension": 6, **settings}), encoding="utf-8")
    assert refused(models, source) == f"the recipe has pooling 'mean', {path} says {said}"


def test_layers_after_the_pooling_need_the_sentence_vector(tmp_path: Path, models: Path) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Pooling", "Dense")]
    tokens = write_onnx(tmp_path / "tokens", Encoder().graph())
    both = write_onnx(tmp_path / "both", Encoder(sentence="sentence_embedding").graph())
    for folder in (tokens, both):
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    assert refused(models, tokens).startswith(
        f"{tokens}/modules.json puts Dense after the pooling, which is not in these weights; "
    )
    assert add(models, both).dimension == WIDTH


def test_a_tokenizer_with_more_ids_than_the_model(tmp_path: Path, models: Path) -> None:
    source = write_onnx(tmp_path / "source", Encoder().graph(words=WORDS[:-1]))
    message = refused(models, source)
    assert message.startswith("the tokenizer gives ids up to 55, which the model refuses: ")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            Encoder(inputs=("input_ids", "attention_mask", "pixel_values")),
            "the graph takes input_ids, attention_mask, pixel_values; it must take input_ids, and",
        ),
        (
            Encoder(shape=(1, "length")),
            "the input input_ids has the shape [1, 'any']; it must be free in batch and length",
        ),
        (Encoder(integer=TensorProto.DOUBLE), "the input input_ids has type 11, not integer"),
        (
            Encoder(sentence="sentence_embedding", sentence_pooling="unmasked mean"),
            "the vector of a text changes by ",
        ),
        (Encoder(opset=10), "has opset 10, the least is 11; export the model again"),
    ],
    ids=["input", "fixed", "double", "mask", "opset"],
)
def test_a_graph_that_does_not_fit(
    tmp_path: Path, models: Path, encoder: Encoder, message: str
) -> None:
    source = write_onnx(tmp_path / "source", encoder.graph())
    assert message in refused(models, source)


def test_outputs_that_are_no_vectors(tmp_path: Path, models: Path) -> None:
    model = Encoder().graph()
    model.graph.output[0].type.tensor_type.shape.dim.add()
    source = write_onnx(tmp_path / "source", model)
    assert refused(models, source) == (
        "the graph gives last_hidden_state of rank 4; it must give last_hidden_state (batch, "
        "length, dim) or sentence_embedding (batch, dim)"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS * np.float32(np.nan), "the model gives values that are not finite numbers"),
        (WORDS * 0, "the model gives a vector of zeros, or none of a finite length"),
        (WORDS * 0 + 1, "the model gives the same vector for different texts"),
    ],
    ids=["nan", "zero", "constant"],
)
def test_vectors_that_say_nothing(
    tmp_path: Path, models: Path, words: np.ndarray[Any, Any], message: str
) -> None:
    source = write_onnx(tmp_path / "source", Encoder().graph(words=words))
    assert refused(models, source) == message


def test_a_source_that_holds_no_model(tmp_path: Path, models: Path, source: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(models, tmp_path / "empty").startswith(
        f"{tmp_path}/empty holds none of model.onnx, onnx/model.onnx, model.safetensors; "
    )
    assert refused(models, tmp_path / "gone").startswith(f"{tmp_path}/gone does not exist; ")
    (source / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "tokenizer.json is not a tokenizer" in refused(models, source)
    (source / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer\.json beside "):
        add(models, source)


# Published weights


def test_published_weights_with_a_recipe(tmp_path: Path, models: Path) -> None:
    write_source(tmp_path / "source", tiny_config(), tiny_weights(tiny_config()))
    lines: list[str] = []
    values = {**RECIPE, "prompts": {"query": "q: "}}
    config = add_model("mine", tmp_path / "source", models, values, report=lines.append)
    assert (config.dimension, config.architecture, config.prompts) == (32, "bert", {"query": "q: "})
    assert lines[0].startswith("nothing pins the files of mine; trusted on first use and recorded")
    assert refused(tmp_path / "others", tmp_path / "source", dimension=33) == (
        f"the recipe has dimension 33, {tmp_path}/source/config.json says 32"
    )


def test_published_weights_with_layers_after_the_pooling(tmp_path: Path, models: Path) -> None:
    write_source(tmp_path / "source", tiny_config(), tiny_weights(tiny_config()))
    path = tmp_path / "source" / "modules.json"
    path.write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]), encoding="utf-8")
    assert "puts Dense after the pooling" in refused(models, tmp_path / "source")
    path.write_text("[1]", encoding="utf-8")
    assert f"{path} cannot be read" in refused(models, tmp_path / "source")


# Hostile files


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"#!/bin/sh\n", b"\x0a\xff\xff\xff\xff"])
def test_what_is_not_onnx(source: Path, models: Path, content: bytes) -> None:
    (source / "model.onnx").write_bytes(content)
    assert "model.onnx is not an ONNX model" in refused(models, source)


def test_a_file_that_is_cut_short(source: Path, models: Path) -> None:
    content = (source / "model.onnx").read_bytes()
    (source / "model.onnx").write_bytes(content[:-20])
    assert "is not an ONNX model, or is cut short" in refused(models, source)


def test_a_file_that_is_too_large(source: Path, models: Path) -> None:
    with (source / "model.onnx").open("wb") as file:
        file.truncate(2**31)
    assert "has 2,147,483,648 bytes; an ONNX file has at most" in refused(models, source)


def outside(folder: Path, **entries: str) -> None:
    """Move the words out of the graph to where ``entries`` say."""
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    (folder / "data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "data", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../data",
        "a/../../data",
        "..\\data",
        "C:\\data",
        "\\\\host\\data",
        "",
        "a\0b",
        "link",
    ],
)
def test_weights_outside_the_folder(source: Path, models: Path, location: str) -> None:
    outside(source, location=location)
    shutil.copy(source / "data", source.parent / "data")
    (source / "link").symlink_to(source.parent / "data")
    message = refused(models, source)
    assert f"looks for weights at {location!r}; they must lie in the folder of the graph" in message


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "gone"}, "keeps weights in 'gone', which is not beside it; copy it there"),
        ({"location": "folder"}, "keeps weights in 'folder', which is not a file"),
        ({"offset": "8"}, "needs 1,344 bytes; 1,344 from 8 on are given, and data has 1,344"),
        ({"offset": "-8"}, "tensor 'words' lies at ('-8', '1344') of data"),
        ({"offset": "9" * 40}, "tensor 'words' lies at ('9999999999"),
        ({"length": "1"}, "needs 1,344 bytes; 1 from 0 on are given, and data has 1,344"),
        ({"length": "1_344"}, "tensor 'words' lies at ('0', '1_344') of data"),
    ],
)
def test_weights_beside_the_graph_that_are_not_there(
    source: Path, models: Path, entries: dict[str, str], message: str
) -> None:
    (source / "folder").mkdir()
    outside(source, **entries)
    assert message in refused(models, source)


def test_weights_that_claim_one_file_again_and_again(source: Path, models: Path) -> None:
    outside(source)
    model = onnx.load(source / "model.onnx", load_external_data=False)
    for index in range(3):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name = f"copy_{index}"
    (source / "model.onnx").write_bytes(model.SerializeToString())
    message = "claims 5,376 bytes of weights beside it, its files hold 1,344"
    assert message in refused(models, source)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([2**40, 2**40], "needs 4,835,703,278,458,516,698,824,704 bytes and holds 1,344"),
        ([-1, WIDTH], "tensor 'words' has shape [-1, 6]"),
        ([], "of shape [] needs 4 bytes and holds 1,344"),
        ([2**62, 4, 0], "needs 0 bytes and holds 1,344"),
    ],
)
def test_absurd_shapes(source: Path, models: Path, dims: list[int], message: str) -> None:
    model = onnx.load(source / "model.onnx")
    model.graph.initializer[0].dims[:] = dims
    (source / "model.onnx").write_bytes(model.SerializeToString())
    assert message in refused(models, source)


def changed(source: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(source / "model.onnx")
    change(model)
    (source / "model.onnx").write_bytes(model.SerializeToString())


def test_absurd_values_in_fields_of_their_own(source: Path, models: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * 7)

    changed(source, change)
    assert "of shape [56, 6] needs 1,344 bytes and holds 28" in refused(models, source)


@pytest.mark.parametrize(
    ("kind", "domain", "message"),
    [
        ("Gather", "com.acme", "needs the operator 'Gather' of 'com.acme', which ONNX Runtime"),
        ("Teleport", "", "needs the operator 'Teleport', which opset 17 does not have"),
        ("Teleport", "com.microsoft", "the model does not run: "),
    ],
)
def test_unknown_operators(
    source: Path, models: Path, kind: str, domain: str, message: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = kind, domain
        model.opset_import.append(helper.make_opsetid(domain or "com.acme", 1))

    changed(source, change)
    assert message in refused(models, source)


def test_functions_that_call_themselves(tmp_path: Path, models: Path) -> None:
    model = with_functions(Encoder().graph(), ("one", "two"), ("two", "one"))
    source = write_onnx(tmp_path / "source", model)
    assert "function 'one' calls itself, or more than 32 others" in refused(models, source)


def test_functions_that_grow_without_bounds(tmp_path: Path, models: Path) -> None:
    chain = [(f"f{index}", f"f{index + 1}") for index in range(20)]
    model = with_functions(Encoder().graph(), *chain, ("f20", "Gather"), times=16)
    source = write_onnx(tmp_path / "source", model)
    assert "its functions grow beyond 2,147,483,647 bytes" in refused(models, source)


def replace_words(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Let ``nodes`` make the table of words."""
    del model.graph.initializer[0]
    body = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(body)


def test_a_graph_that_takes_all_memory_is_stopped(source: Path, models: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        replace_words(model, [helper.make_node("ConstantOfShape", ["shape"], ["words"])])
        shape = np.array([2**36, WIDTH], dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(shape, "shape"))

    changed(source, change)
    assert refused(models, source).startswith("the model does not run: ")


def test_a_graph_that_never_ends_is_stopped(source: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["again"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].output[0] = "rows"
        loop = helper.make_node(
            "Loop",
            ["turns", ""],
            [
                "words_rows",
            ],
            body=body,
        )
        loop.input.append("rows")
        model.graph.node.insert(1, loop)
        turns = numpy_helper.from_array(np.array(2**62), "turns")
        model.graph.initializer.append(turns)

    changed(source, change)
    model, _ = read_graph(source / "model.onnx")
    adapt_graph(model, "mean")
    onnx.save(model, source / "adapted.onnx")
    with pytest.raises(ConversionError, match="the model does not run: no end after 4 seconds"):
        try_graph(source / "adapted.onnx", source / "tokenizer.json", MAX_LENGTH, seconds=4)


def mutated(content: bytes, dice: random.Random) -> bytes:
    """``content`` cut short, or with a few bits and bytes changed, dropped or put in."""
    changes = bytearray(content)
    position = dice.randrange(len(changes))
    match dice.randrange(5):
        case 0:
            return bytes(changes[:position])
        case 1:
            del changes[position : position + dice.randrange(1, 100)]
        case 2:
            changes[position:position] = dice.randbytes(dice.randrange(1, 10))
        case _:
            for _ in range(dice.choice((1, 1, 4))):
                changes[dice.randrange(len(changes))] ^= 1 << dice.randrange(8)
    return bytes(changes)


def test_damaged_files_give_a_model_or_a_clear_error(tmp_path: Path, models: Path) -> None:
    encoder = Encoder(inputs=FULL, sentence="sentence_embedding")
    source = write_onnx(tmp_path / "source", encoder.graph())
    content = (source / "model.onnx").read_bytes()
    dice = random.Random(6)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        (source / "model.onnx").write_bytes(mutated(content, dice))
        try:
            adapt_graph(read_graph(source / "model.onnx")[0], "mean")
            outcomes["read"] += 1
        except CognitiveMemoryError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) >= 50
    for _ in range(8):
        (source / "model.onnx").write_bytes(mutated(content, dice))
        try:
            add_model("mine", source, models, RECIPE, replace_existing=True)
        except CognitiveMemoryError:
            continue
    assert not models.exists() or {path.name for path in models.iterdir()} <= {"mine"}
