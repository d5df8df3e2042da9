"""The models that are known, and the recipes of users."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cognitive_memory.core.errors import InvalidInputError, ModelNotFoundError
from cognitive_memory.core.model_files import FileRecord
from cognitive_memory.models.convert import SOURCE_FILES
from cognitive_memory.models.registry import (
    POOLINGS,
    ModelRecipe,
    check_model_name,
    find_recipe,
    get_recipe,
    load_registry,
    parse_recipe,
    read_recipe_file,
)
from cognitive_memory.models.verify import load_golden

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
LICENSES = ("Apache-2.0", "MIT")
RECIPE = {
    "repository": "me/mine",
    "license": "MIT",
    "pooling": "cls",
    "max_length": 128,
    "dimension": 64,
}


@pytest.mark.parametrize("recipe", load_registry().values(), ids=list(load_registry()))
def test_a_recipe_of_the_registry(recipe: ModelRecipe) -> None:
    assert load_registry()[recipe.name] is recipe
    assert recipe.revision is not None
    assert COMMIT.fullmatch(recipe.revision)
    assert set(recipe.files) <= set(SOURCE_FILES)
    for record in recipe.files.values():
        assert SHA256.fullmatch(record.sha256)
        assert record.bytes > 0
    assert recipe.repository.endswith(f"/{recipe.name}")
    assert recipe.license in LICENSES
    assert recipe.pooling in POOLINGS
    assert 128 <= recipe.max_length <= 8192
    assert recipe.dimension in (256, 384, 768)
    # A prompt ends where the text begins: without the blank both would run into one word.
    assert all(prompt.endswith(" ") for prompt in recipe.prompts.values())


def test_which_models_are_known() -> None:
    assert list(load_registry()) == [
        "all-MiniLM-L6-v2",
        "all-MiniLM-L12-v2",
        "bge-small-en-v1.5",
        "bge-base-en-v1.5",
        "nomic-embed-text-v1.5",
        "multilingual-e5-small",
        "ruri-v3-30m",
    ]


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("all-MiniLM-L6-v2", {}),
        (
            "bge-base-en-v1.5",
            {"query": "Represent this sentence for searching relevant passages: "},
        ),
        ("nomic-embed-text-v1.5", {"query": "search_query: ", "document": "search_document: "}),
        ("multilingual-e5-small", {"query": "query: ", "document": "passage: "}),
        ("ruri-v3-30m", {"query": "検索クエリ: ", "document": "検索文書: "}),
    ],
)
def test_the_prompts_are_the_published_ones(name: str, prompts: dict[str, str]) -> None:
    assert get_recipe(name).prompts == prompts


def test_the_default_model_is_the_published_one() -> None:
    recipe = get_recipe("all-MiniLM-L6-v2")
    assert recipe.repository == "sentence-transformers/all-MiniLM-L6-v2"
    assert (recipe.max_length, recipe.dimension, recipe.pooling) == (256, 384, "mean")
    assert set(recipe.files) == set(SOURCE_FILES)
    # The hash that public projects pin for these weights.
    assert recipe.files["model.safetensors"] == FileRecord(
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
    )
    assert recipe.package is not None
    assert SHA256.fullmatch(recipe.package.sha256)
    assert "==" in recipe.package.requirement
    assert load_golden(recipe.name) is not None


def test_a_repository_is_another_name_of_its_model() -> None:
    recipe = get_recipe("all-MiniLM-L6-v2")
    assert get_recipe("sentence-transformers/all-MiniLM-L6-v2") is recipe
    assert find_recipe("somebody/all-MiniLM-L6-v2") is None


@pytest.mark.parametrize(
    "name",
    ["all-minilm", "", "../all-MiniLM-L6-v2", "../all-MiniLM-L6-v2/", "/all-MiniLM-L6-v2", "gpt2"],
)
def test_an_unknown_model_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        get_recipe(name)
    assert str(caught.value) == (
        f"unknown model {name!r}; known: all-MiniLM-L12-v2, all-MiniLM-L6-v2, bge-base-en-v1.5, "
        "bge-small-en-v1.5, multilingual-e5-small, nomic-embed-text-v1.5, ruri-v3-30m; "
        "or give the folder of a converted model"
    )


@pytest.mark.parametrize("name", ["a", "My.model_2-int8", "0", "x" * 100])
def test_a_name_of_a_model(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "-x", ".x", "a b", "ä", "x\n", "a\0", "x" * 101]
)
def test_what_is_no_name_of_a_model(name: str) -> None:
    message = re.escape(f"got the model name {name!r}; it must be 1 to 100 letters, digits,")
    with pytest.raises(InvalidInputError, match=message):
        check_model_name(name)


def test_a_recipe_of_a_user() -> None:
    recipe = parse_recipe(
        "mine", {**RECIPE, "prompts": {"query": "Q: ", "document": ""}, "dimensions": [16, 32, 16]}
    )
    assert (recipe.name, recipe.pooling, recipe.revision) == ("mine", "cls", None)
    assert (recipe.prompts, recipe.dimensions, recipe.files) == ({"query": "Q: "}, (32, 16), {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "max"}, "got pooling 'max'; known: mean, cls, last"),
        ({"pooling": None}, "got pooling None; known: mean, cls, last"),
        ({"pooling": ["mean"]}, "got pooling ['mean']; known: mean, cls, last"),
        (
            {"max_length": 0},
            "got max_length 0; a recipe needs a whole number from 1 to 32,768 there",
        ),
        (
            {"max_length": 40_000},
            "got max_length 40000; a recipe needs a whole number from 1 to 32,768 there",
        ),
        (
            {"dimension": "64"},
            "got dimension '64'; a recipe needs a whole number from 1 to 65,536 there",
        ),
        (
            {"dimension": True},
            "got dimension True; a recipe needs a whole number from 1 to 65,536 there",
        ),
        (
            {"dimensions": [64]},
            "got dimensions [64]; each must be a whole number below the dimension 64",
        ),
        (
            {"dimensions": "32"},
            "got dimensions '32'; each must be a whole number below the dimension 64",
        ),
        ({"prompts": {"title": "T"}}, "got a prompt for 'title'; known: query, document"),
        ({"prompts": {"query": 1}}, "got prompts {'query': 1}; a text for each of query, document"),
        ({"prompts": "Q"}, "got prompts 'Q'; a text for each of query, document"),
        (
            {"prompts": {"query": "\ud800"}},
            "got prompt for query '\\ud800', which is not valid Unicode",
        ),
        ({"license": "\ud800"}, "got license '\\ud800', which is not valid Unicode"),
        ({"license": ""}, "got license ''; a recipe needs a text there"),
        ({"repository": 3}, "got repository 3; a recipe needs a text there"),
        ({"polling": "mean"}, "a recipe has no field 'polling'"),
        ({"name": "other"}, "a recipe has no field 'name'"),
    ],
)
def test_a_recipe_that_says_what_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_recipe("mine", {**RECIPE, **change})
    assert str(caught.value) == message


def test_a_recipe_with_wrong_files() -> None:
    with pytest.raises(InvalidInputError, match="the files or the package of a recipe are wrong: "):
        parse_recipe("mine", {**RECIPE, "files": {"model.safetensors": {"sha256": "x"}}})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_recipe_file_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"the recipe {tmp_path}/recipe.json cannot be r"):
        read_recipe_file(tmp_path / "recipe.json")


def test_a_recipe_file_that_is_no_object_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="holds no JSON object"):
        read_recipe_file(tmp_path / "recipe.json")
    with pytest.raises(InvalidInputError, match="No such file or directory"):
        read_recipe_file(tmp_path / "gone.json")
