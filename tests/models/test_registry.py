"""The models that are known."""

from __future__ import annotations

import re

import pytest

from cognitive_memory.core.errors import ModelNotFoundError
from cognitive_memory.core.model_files import FileRecord
from cognitive_memory.models.convert import SOURCE_FILES
from cognitive_memory.models.registry import ModelRecipe, get_recipe, load_registry
from cognitive_memory.models.verify import load_golden

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")


@pytest.mark.parametrize("recipe", load_registry().values(), ids=list(load_registry()))
def test_a_recipe_pins_everything(recipe: ModelRecipe) -> None:
    assert load_registry()[recipe.name] is recipe
    assert set(recipe.files) == set(SOURCE_FILES)
    for record in recipe.files.values():
        assert SHA256.fullmatch(record.sha256)
        assert record.bytes > 0
    assert COMMIT.fullmatch(recipe.revision)
    assert recipe.repository.endswith(f"/{recipe.name}")
    assert recipe.license
    assert recipe.pooling == "mean"
    assert recipe.max_length > 0
    assert recipe.package is not None
    assert SHA256.fullmatch(recipe.package.sha256)
    assert "==" in recipe.package.requirement
    assert load_golden(recipe.name) is not None


def test_the_default_model_is_the_published_one() -> None:
    recipe = get_recipe("all-MiniLM-L6-v2")
    assert recipe.repository == "sentence-transformers/all-MiniLM-L6-v2"
    assert recipe.max_length == 256
    # The hash that public projects pin for these weights.
    assert recipe.files["model.safetensors"] == FileRecord(
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
    )


def test_a_repository_prefix_is_ignored() -> None:
    assert get_recipe("sentence-transformers/all-MiniLM-L6-v2") is get_recipe("all-MiniLM-L6-v2")


@pytest.mark.parametrize("name", ["all-minilm", "", "../all-MiniLM-L6-v2/", "gpt2"])
def test_an_unknown_model_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        get_recipe(name)
    assert str(caught.value) == (
        f"unknown model {name!r}; known: all-MiniLM-L6-v2; or give the folder of a converted model"
    )
