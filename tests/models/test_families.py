"""Every family of encoders against transformers: ``scripts/generate_family_fixtures.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from test_convert import open_plain, run
from tiny_bert import write_tokenizer

from cognitive_memory.core.errors import ConversionError
from cognitive_memory.core.model_files import read_model_config, record_file
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.runtime import open_session
from cognitive_memory.models.architecture import read_architecture
from cognitive_memory.models.convert import SOURCE_FILES, convert_model
from cognitive_memory.models.encoder_graph import build_graph, stored_weights
from cognitive_memory.models.families import FAMILIES, Reach
from cognitive_memory.models.registry import POOLINGS, ModelRecipe

FIXTURES = Path(__file__).parents[1] / "golden" / "families"
PROVENANCE = json.loads((FIXTURES / "provenance.json").read_text(encoding="utf-8"))
CASES = list(PROVENANCE["variants"])
VARIANTS = [(case, name) for case in CASES for name in PROVENANCE["variants"][case]]
TOLERANCE = 1e-5
POSITIONS = 64

Weights = dict[str, NDArray[np.float32]]


@cache
def read_weights(case: str) -> Weights:
    return load_file(FIXTURES / case / "model.safetensors")


def read_config(case: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``config.json`` with other values; ``None`` removes a key."""
    config = json.loads((FIXTURES / case / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in {**config, **(changes or {})}.items() if value is not None}


def read_rows(case: str) -> list[list[int]]:
    """Token ids of each text."""
    ids = np.load(FIXTURES / case / "input_ids.npy")
    mask = np.load(FIXTURES / case / "attention_mask.npy")
    return [row[kept == 1].tolist() for row, kept in zip(ids, mask, strict=True)]


def read_vectors(case: str, variant: str = "as_it_is") -> dict[str, NDArray[np.float32]]:
    vectors = np.load(FIXTURES / case / f"{variant}.npy")
    return dict(zip(PROVENANCE["poolings"], vectors, strict=True))


def both_ways(session: Any, rows: list[list[int]]) -> Iterator[NDArray[np.float32]]:
    """All texts in one padded batch, and each alone."""
    yield run(session, rows)
    yield np.concatenate([run(session, [row]) for row in rows])


def write_source(folder: Path, case: str, pooling: str = "mean") -> ModelRecipe:
    """The case as published files, with a tokenizer, and its recipe."""
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_bytes((FIXTURES / case / name).read_bytes())
    write_tokenizer(folder / "tokenizer.json")
    return ModelRecipe(
        name=case,
        repository=f"tests/{case}",
        license="MIT",
        pooling=pooling,
        max_length=POSITIONS,
        dimension=24,
        files={name: record_file(folder / name) for name in SOURCE_FILES},
    )


def test_the_fixtures_cover_every_family_and_pooling() -> None:
    kinds = {read_config(*variant_changes(variant))["model_type"] for variant in VARIANTS}
    assert kinds == set(FAMILIES)
    assert tuple(PROVENANCE["poolings"]) == POOLINGS
    assert {len(row) for row in read_rows("modernbert")} >= {1, 2, 40}


def variant_changes(variant: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    case, name = variant
    return case, PROVENANCE["variants"][case][name]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "portable"])
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_graphs_give_the_vectors_of_the_reference(variant: tuple[str, str], fused: bool) -> None:
    case, changes = variant_changes(variant)
    rows, expected = read_rows(case), read_vectors(*variant)
    for pooling in POOLINGS:
        graph = build_graph(
            read_weights(case), read_config(case, changes), fused=fused, pooling=pooling
        )
        onnx.checker.check_model(graph, full_check=not fused)
        for vectors in both_ways(open_plain(graph.SerializeToString()), rows):
            assert np.abs(vectors - expected[pooling]).max() <= TOLERANCE


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("case", CASES)
def test_the_converted_folder_gives_them_too(case: str, pooling: str, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "source", case, pooling)
    target = tmp_path / case
    config = convert_model(tmp_path / "source", target, recipe)
    assert config.architecture == read_config(case)["model_type"]
    assert (config.dimension, config.pooling) == (24, pooling)
    assert read_model_config(target) == config
    for name in (f"{case}.ort", f"{case}.onnx"):
        session = open_session(target / name, 1)
        for vectors in both_ways(session, read_rows(case)):
            assert np.abs(vectors - read_vectors(case)[pooling]).max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_a_converted_folder_can_be_used_up_to_its_length(case: str, tmp_path: Path) -> None:
    recipe = write_source(tmp_path / "source", case)
    convert_model(tmp_path / "source", tmp_path / case, recipe)
    with ONNXEmbeddingProvider(tmp_path / case) as provider:
        together = provider.encode_batch(["a", "few words", "letters " * 40])
        alone = [provider.encode(text) for text in ("a", "few words", "letters " * 40)]
    assert np.abs(together - alone).max() <= TOLERANCE
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "portable"])
def test_the_weights_come_back_from_the_portable_graph(case: str, fused: bool) -> None:
    weights, config = read_weights(case), read_config(case)
    stored = stored_weights(build_graph(weights, config, fused=False), config)
    first, second = (
        build_graph(each, config, fused=fused).SerializeToString(deterministic=True)
        for each in (weights, stored)
    )
    assert first == second


@pytest.mark.parametrize("prefix", ["bert.", "roberta.", "distilbert.", "model.", "encoder."])
@pytest.mark.parametrize("case", CASES)
def test_a_prefix_of_the_names_is_taken_off(case: str, prefix: str) -> None:
    weights = {prefix + name: value for name, value in read_weights(case).items()}
    weights["lm_head.decoder.weight"] = np.zeros((160, 24), np.float32)
    config = read_config(case)
    plain, prefixed = (
        build_graph(each, config, fused=True).SerializeToString(deterministic=True)
        for each in (read_weights(case), weights)
    )
    assert plain == prefixed


def test_two_encoders_in_one_file_are_refused() -> None:
    weights = {
        f"{part}.{name}": value
        for part in ("question", "passage")
        for name, value in read_weights("bert").items()
    }
    with pytest.raises(
        ConversionError,
        match=r"several encoders: passage\.embeddings\.\S+, question\.embeddings\.\S+$",
    ):
        build_graph(weights, read_config("bert"), fused=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "portable"])
def test_every_weight_of_every_family_counts(case: str, fused: bool) -> None:
    """A tensor that is changed changes a vector: nothing is left out of the graph.

    The bias of the keys alone cannot: it moves all scores of a token by the same amount.
    """
    weights, config, rows = read_weights(case), read_config(case), read_rows(case)
    session = open_plain(build_graph(weights, config, fused=fused).SerializeToString())
    before = run(session, rows)
    for name, value in weights.items():
        if name.endswith(("key.bias", "k_lin.bias")) or ".pooler." in f".{name}":
            continue
        other = value + np.linspace(0.1, 0.5, value.size, dtype="f4").reshape(value.shape)
        graph = build_graph({**weights, name: other}, config, fused=fused)
        after = run(open_plain(graph.SerializeToString()), rows)
        assert np.abs(after - before).max() > 1e-4, name


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (
            "nomic_bert",
            {"activation_function": "gelu"},
            r"\(supported: 'swiglu', 'geglu', 'silu'\)",
        ),
        ("nomic_bert", {"prenorm": True}, r"prenorm=True is not .*\(supported: False\)"),
        ("nomic_bert", {"rotary_emb_fraction": 0.5}, r"rotary_emb_fraction=0\.5 is not supported"),
        ("nomic_bert", {"rotary_emb_interleaved": True}, "rotary_emb_interleaved=True is not"),
        ("nomic_bert", {"n_embd": None}, r"config\.json holds no 'n_embd' or 'hidden_size'$"),
        ("nomic_bert", {"n_head": 8}, "heads of 3 dimensions cannot be rotated in pairs"),
        ("distilbert", {"n_heads": 5}, "dim=24 is not a multiple of n_heads=5"),
        (
            "modernbert",
            {"layer_types": ["full_attention"]},
            "layer_types names 1 layers, .* says 3",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            r"rope_parameters\.full_attention: rope_type='yarn' is not .*\(supported: 'default'\)",
        ),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            r"config\.json does not describe rotary positions: 'sliding_attention'",
        ),
        ("modernbert", {"rope_scaling": {"factor": 2}}, "rope_scaling=.* is not supported"),
        ("xlm-roberta", {"pad_token_id": 5}, r"position_embeddings\.weight has shape \(66, 24\)"),
    ],
)
def test_what_a_family_does_not_have_is_named(
    case: str, changes: dict[str, Any], message: str
) -> None:
    if case == "xlm-roberta":
        changes = {**changes, "max_position_embeddings": 70}
    with pytest.raises(ConversionError, match=message):
        build_graph(read_weights(case), read_config(case, changes), fused=True)


def test_positions_that_would_be_scaled_by_the_batch_are_not_offered(tmp_path: Path) -> None:
    scaled = {"rotary_scaling_factor": 2, "max_trained_positions": 48}
    assert read_architecture(read_config("nomic_bert", scaled)).positions == 48
    recipe = write_source(tmp_path / "source", "nomic_bert")
    path = tmp_path / "source" / "config.json"
    path.write_text(json.dumps(read_config("nomic_bert", scaled)), encoding="utf-8")
    recipe = replace(recipe, files={})
    with pytest.raises(ConversionError, match="max_length 64, the model has positions for 48 tok"):
        convert_model(tmp_path / "source", tmp_path / "target", recipe)
    convert_model(tmp_path / "source", tmp_path / "target", replace(recipe, max_length=48))


def test_roberta_has_two_positions_less_than_its_table() -> None:
    architecture = read_architecture(read_config("xlm-roberta"))
    assert (architecture.positions, architecture.first_position) == (POSITIONS, 2)
    assert len(read_weights("xlm-roberta")["embeddings.position_embeddings.weight"]) == 66


def test_modernbert_sees_near_and_far_in_turn() -> None:
    absent = ("layer_types", "rope_parameters", "global_attn_every_n_layers")
    config = read_config("modernbert", dict.fromkeys(absent))
    reach = read_architecture({**config, "num_hidden_layers": 5}).reach
    far, near = Reach(160_000.0, None), Reach(10_000.0, 4)
    assert reach == (far, near, near, far, near)
    without = read_architecture({**config, "local_rope_theta": None}).reach
    assert without[1] == Reach(160_000.0, 4)


def test_every_family_names_its_tensors_in_the_graph() -> None:
    for case in CASES:
        graph = build_graph(read_weights(case), read_config(case), fused=False).graph
        names = {tensor.name for tensor in graph.initializer}
        absent = {name for name in read_weights(case) if name not in names}
        # Token type 0 is added to the positions where there are any.
        assert {name for name in absent if ".pooler." not in f".{name}"} <= {
            "embeddings.token_type_embeddings.weight"
        }
