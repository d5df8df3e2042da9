"""Which part of a model is kept in which precision.

A map names parts and layers; what is named more closely counts:
``default`` < ``embeddings``, ``attention``, ``output``, ``feed-forward`` < ``layer.3`` <
``layer.3.attention``.

``attention`` are the products that make queries, keys and values, ``output`` the one after it,
``feed-forward`` the two or three behind, ``embeddings`` the word table. Everything else (softmax,
layer norm, positions, pooling) is always fp32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..core.errors import InvalidInputError
from .architecture import Architecture

PRECISIONS = ("fp32", "fp16", "int8")
LAYER_PARTS = ("attention", "output", "feed-forward")
EMBEDDINGS = "embeddings"
DEFAULT = "default"

_LAYER = re.compile(rf"layer\.(0|[1-9][0-9]*)(\.({'|'.join(LAYER_PARTS)}))?")


class PrecisionMap:
    """Names of parts to precisions; raises ``InvalidInputError`` for a name that is neither.

    >>> each = PrecisionMap({"default": "int8", "output": "fp32", "layer.0.output": "fp16"})
    >>> each.of(0, "output"), each.of(1, "output"), each.of(1, "attention")
    ('fp16', 'fp32', 'int8')
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        for name, precision in given.items():
            _check_name(name)
            if precision not in PRECISIONS:
                raise InvalidInputError(
                    f"precision map: {name}={precision!r} is not known; "
                    f"known: {', '.join(PRECISIONS)}"
                )
        self.given = dict(given)

    @classmethod
    def parse(cls, text: str) -> PrecisionMap:
        """A JSON file's path, or ``int8,output=fp32,layer.0=fp16`` (a bare word is the default)."""
        if text.endswith(".json"):
            return cls(_read_map(Path(text)))
        given: dict[str, str] = {}
        for item in text.split(","):
            name, equals, precision = item.strip().partition("=")
            if not equals:
                name, precision = DEFAULT, name
            if name in given:
                raise InvalidInputError(f"precision map: {name!r} is given twice in {text!r}")
            given[name] = precision
        return cls(given)

    def of(self, layer: int, part: str) -> str:
        """Precision of the products of a part of a layer."""
        for name in (f"layer.{layer}.{part}", f"layer.{layer}", part, DEFAULT):
            if name in self.given:
                return self.given[name]
        return "fp32"

    @property
    def embeddings(self) -> str:
        """Precision of the word table."""
        return self.given.get(EMBEDDINGS, self.given.get(DEFAULT, "fp32"))

    def check_layers(self, layers: int) -> None:
        """Raise ``InvalidInputError`` for a layer that the model does not have."""
        for name in self.given:
            if name.startswith("layer.") and name.split(".")[1] not in map(str, range(layers)):
                raise InvalidInputError(
                    f"precision map: {name} does not exist; "
                    f"the model has the layers 0 to {layers - 1}"
                )

    def parts(self, architecture: Architecture) -> Iterator[tuple[str, str]]:
        """Every part by its closest name, with its precision."""
        yield EMBEDDINGS, self.embeddings
        for layer in range(architecture.layers):
            for part in LAYER_PARTS:
                yield f"layer.{layer}.{part}", self.of(layer, part)


def part_products(architecture: Architecture, layer: int, part: str) -> list[list[str]]:
    """The products of a part by their names in the checkpoint; those in one list share inputs."""
    family = architecture.family
    groups: dict[str, list[tuple[str, ...]]] = {
        "attention": [family.projections],
        "output": [(family.attention_output,)],
        "feed-forward": [family.widening, (family.narrowing,)],
    }
    prefix = family.layer.format(layer)
    return [[prefix + name for name in group] for group in groups[part]]


def _check_name(name: str) -> None:
    if name in (DEFAULT, EMBEDDINGS, *LAYER_PARTS):
        return
    # In one spelling only: another would be looked up by no one.
    if not _LAYER.fullmatch(name):
        raise InvalidInputError(
            f"precision map: {name!r} is no part of a model; known: {DEFAULT}, {EMBEDDINGS}, "
            f"{', '.join(LAYER_PARTS)}, layer.N, layer.N.PART"
        )


def _read_map(path: Path) -> dict[str, str]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} cannot be read as a precision map: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise InvalidInputError(
            f"{path} is no precision map: a JSON object of names and precisions is expected"
        )
    return given
