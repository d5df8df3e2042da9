"""Maps of precisions: what counts for which part, and what is no map."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_families import CASES, read_config
from tiny_bert import tiny_config

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.models.architecture import read_architecture
from cognitive_memory.models.families import FAMILIES
from cognitive_memory.models.precision import (
    DEFAULT,
    EMBEDDINGS,
    LAYER_PARTS,
    PRECISIONS,
    PrecisionMap,
    part_products,
)

LAYERS = 3
NAMES = [
    DEFAULT,
    EMBEDDINGS,
    *LAYER_PARTS,
    *(f"layer.{layer}" for layer in range(LAYERS)),
    *(f"layer.{layer}.{part}" for layer in range(LAYERS) for part in LAYER_PARTS),
]
MAPS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PRECISIONS))


@given(MAPS)
def test_what_is_named_more_closely_counts(names: dict[str, str]) -> None:
    precisions = PrecisionMap(names)
    for layer in range(LAYERS):
        for part in LAYER_PARTS:
            expected = "fp32"
            # From far to near, so that the last one that is there stays.
            for name in (DEFAULT, part, f"layer.{layer}", f"layer.{layer}.{part}"):
                expected = names.get(name, expected)
            assert precisions.of(layer, part) == expected
    assert precisions.embeddings == names.get(EMBEDDINGS, names.get(DEFAULT, "fp32"))


@given(MAPS.filter(len))
def test_text_and_names_are_the_same_map(names: dict[str, str]) -> None:
    text = ",".join(f"{name}={precision}" for name, precision in names.items())
    assert PrecisionMap.parse(text).given == names
    if DEFAULT in names:
        bare = ", ".join(
            precision if name == DEFAULT else f"{name}={precision}"
            for name, precision in names.items()
        )
        assert PrecisionMap.parse(bare).given == names


@given(MAPS)
def test_every_part_has_its_closest_name(names: dict[str, str]) -> None:
    architecture = read_architecture(tiny_config(layers=LAYERS))
    parts = dict(PrecisionMap(names).parts(architecture))
    assert list(parts) == [
        EMBEDDINGS,
        *(f"layer.{layer}.{part}" for layer in range(LAYERS) for part in LAYER_PARTS),
    ]
    assert dict(PrecisionMap(parts).parts(architecture)) == parts


def test_a_file_is_a_map(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"default": "int8", "layer.0": "fp16"}), encoding="utf-8")
    assert PrecisionMap.parse(str(path)).given == {"default": "int8", "layer.0": "fp16"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1]", "is no precision map: a JSON object of names and precisions is expected"),
        (b'"int8"', "is no precision map"),
        (b"null", "is no precision map"),
        (b'{"default": 8}', "is no precision map"),
        (b'{"default": null}', "is no precision map"),
        (b'{"default": ["int8"]}', "is no precision map"),
        (b'{"default": "int8"', "cannot be read as a precision map"),
        (b"", "cannot be read as a precision map"),
        (b"\xff\xfe", "cannot be read as a precision map: .*decode byte 0xff"),
        (b"[" * 200_000, "cannot be read as a precision map: .*recursion"),
        (None, "cannot be read as a precision map: .*No such file"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_file_that_is_no_map_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "map.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=reason) as caught:
        PrecisionMap.parse(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "head",
        "Output",
        "LAYER.0",
        "layer",
        "layer.",
        "layer.x",
        "layer.-1",
        "layer.+1",
        "layer. 1",
        "layer.1 ",
        "layer.1\n",
        "layer.1.",
        "layer.01",
        "layer.00",
        "layer.\N{SUPERSCRIPT TWO}",
        "layer.\N{ARABIC-INDIC DIGIT ONE}",
        "layer.1_0",
        "layer.0.embeddings",
        "layer.0.output.output",
        "layer.1.5",
        "embeddings.0",
    ],
)
def test_a_name_that_nothing_has_is_refused(name: str) -> None:
    """Also another spelling of one: it would be looked up by no one, and so have no effect."""
    with pytest.raises(InvalidInputError, match="is no part of a model; known: default, embed"):
        PrecisionMap({name: "int8"})


@pytest.mark.parametrize("precision", ["", "INT8", "int4", "bf16", " int8", "fp16=fp32"])
def test_an_unknown_precision_is_refused(precision: str) -> None:
    with pytest.raises(InvalidInputError, match=r"is not known; known: fp32, fp16, int8$"):
        PrecisionMap({"output": precision})


@pytest.mark.parametrize(
    "text",
    ["", ",", "int8,", ",int8", "int8,,output=fp32", "output", "=fp32", "output=fp32,output=int8"],
)
def test_text_that_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="precision map: "):
        PrecisionMap.parse(text)


@given(st.text(max_size=30))
def test_no_text_does_anything_but_make_a_map_or_be_refused(text: str) -> None:
    try:
        precisions = PrecisionMap.parse(text)
    except InvalidInputError:
        return
    assert set(precisions.given.values()) <= set(PRECISIONS)
    assert all(name in (DEFAULT, EMBEDDINGS, *LAYER_PARTS) for name in precisions.given) or any(
        name.startswith("layer.") for name in precisions.given
    )


@pytest.mark.parametrize("number", ["3", "99999999999", "9" * 5000])
def test_a_layer_that_the_model_does_not_have_is_named(number: str) -> None:
    precisions = PrecisionMap({f"layer.{number}.output": "int8"})
    with pytest.raises(
        InvalidInputError, match=r"does not exist; the model has the layers 0 to 2$"
    ):
        precisions.check_layers(3)
    PrecisionMap({"layer.2": "int8", "layer.0.output": "fp32", "output": "fp16"}).check_layers(3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_parts_hold_each_product_once(kind: str) -> None:
    case = next((each for each in CASES if read_config(each)["model_type"] == kind), None)
    config = read_config(case) if case else {**read_config("xlm-roberta"), "model_type": kind}
    architecture = read_architecture(config)
    found = [
        name
        for layer in range(architecture.layers)
        for part in LAYER_PARTS
        for group in part_products(architecture, layer, part)
        for name in group
    ]
    assert sorted(found) == sorted(name for name, _ in architecture.products())
