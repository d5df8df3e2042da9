"""The architecture of one checkpoint: its sizes from ``config.json``, and weights that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConversionError
from .families import FAMILIES, Config, Family, Reach

Weights = Mapping[str, NDArray[Any]]
Shape = tuple[int | None, ...]
"""``None`` is any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the graph of a checkpoint is built by."""

    family: Family
    hidden: int
    heads: int
    layers: int
    wide: int
    """Of the feed-forward part."""
    epsilon: float
    activation: str
    """``gelu``, ``gelu_tanh``, ``relu`` or ``silu``."""
    positions: int
    """Tokens in the longest input."""
    first_position: int
    """Row of the position table that belongs to the first token."""
    reach: tuple[Reach, ...]
    """Of each layer."""

    def products(self) -> Iterator[tuple[str, Shape]]:
        """Name and (out, in) of each layer that multiplies."""
        family = self.family
        halves = 2 if family.gated and len(family.widening) == 1 else 1
        for number in range(self.layers):
            prefix = family.layer.format(number)
            for name in family.projections:
                yield prefix + name, (3 * self.hidden // len(family.projections), self.hidden)
            yield prefix + family.attention_output, (self.hidden, self.hidden)
            for name in family.widening:
                yield prefix + name, (halves * self.wide, self.hidden)
            yield prefix + family.narrowing, (self.hidden, self.wide)

    def norms(self) -> Iterator[str]:
        """Name of each layer norm."""
        family = self.family
        yield family.embedding_norm
        for number in range(self.layers):
            prefix = family.layer.format(number)
            if number or not family.norm_first:
                yield prefix + family.attention_norm
            yield prefix + family.output_norm
        if family.final_norm is not None:
            yield family.final_norm

    def shapes(self) -> dict[str, Shape]:
        """Every tensor of the checkpoint that counts, biases included."""
        family, row = self.family, (self.hidden,)
        found: dict[str, Shape] = {f"{family.words}.weight": (None, self.hidden)}
        if family.positions is not None:
            rows = self.first_position + self.positions
            found[f"{family.positions}.weight"] = (rows, self.hidden)
        if family.types is not None:
            found[f"{family.types}.weight"] = (None, self.hidden)
        for name, shape in self.products():
            found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        for name in self.norms():
            found |= {f"{name}.weight": row, f"{name}.bias": row}
        return found


def read_architecture(config: Config) -> Architecture:
    """What ``config.json`` says; raises ``ConversionError`` for what the builder does not know."""
    kind = config.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise _unsupported("model_type", kind, FAMILIES)
    for key, value in family.settled.items():
        if config.get(key) not in (None, value):
            raise _unsupported(key, config[key], [value])
    keys = {role: _key(config, names) for role, names in family.keys.items()}
    sizes = {name: _size(config, keys[name]) for name in ("hidden", "heads", "layers", "wide")}
    _check_heads(sizes, keys, rotary=family.positions is None)
    activation = config[keys["activation"]]
    if not isinstance(activation, str) or activation not in family.activations:
        raise _unsupported(keys["activation"], activation, family.activations)
    first = int(config.get("pad_token_id", 1)) + 1 if family.skips_padding_positions else 0
    try:
        reach = family.reach(config, sizes["layers"])
    except (KeyError, TypeError) as error:
        raise ConversionError(f"config.json does not describe rotary positions: {error}") from None
    return Architecture(
        family=family,
        **sizes,
        epsilon=float(config[keys["epsilon"]]) if family.epsilon is None else family.epsilon,
        activation=family.activations[activation],
        positions=_longest(config, keys["positions"], family) - first,
        first_position=first,
        reach=reach,
    )


def _key(config: Config, names: tuple[str, ...]) -> str:
    for name in names:
        if config.get(name) is not None:
            return name
    raise ConversionError(f"config.json holds no {' or '.join(map(repr, names))}")


def _size(config: Config, key: str) -> int:
    value = config[key]
    if not isinstance(value, int) or value < 1:
        raise ConversionError(f"config.json has {key}={value!r}; a positive number is expected")
    return value


def _check_heads(sizes: Mapping[str, int], keys: Mapping[str, str], *, rotary: bool) -> None:
    hidden, heads = sizes["hidden"], sizes["heads"]
    if hidden % heads:
        raise ConversionError(
            f"{keys['hidden']}={hidden} is not a multiple of {keys['heads']}={heads}"
        )
    if rotary and hidden // heads % 2:
        raise ConversionError(f"heads of {hidden // heads} dimensions cannot be rotated in pairs")


def _longest(config: Config, key: str, family: Family) -> int:
    """Rows of the position table, or the length up to which rotary positions are as trained."""
    positions = _size(config, key)
    if family.position_limit is not None and config.get("rotary_scaling_factor"):
        # Beyond it the reference scales all positions by the longest text of the batch.
        return min(positions, int(config.get(family.position_limit, 2048)))
    return positions


def _unsupported(key: str, found: object, supported: Any) -> ConversionError:
    return ConversionError(
        f"{key}={found!r} is not supported by the graph builder "
        f"(supported: {', '.join(map(repr, supported))}); try --exporter torch"
    )


def select_weights(weights: Weights, architecture: Architecture) -> dict[str, NDArray[Any]]:
    """The tensors that count, their prefix taken off.

    Raises ``ConversionError`` for one that is missing or of another shape, and for more layers
    than the config has.
    """
    family = architecture.family
    prefix = _prefix(weights, f"{family.words}.weight")
    beyond = prefix + family.layer.format(architecture.layers)
    if extra := next((name for name in weights if name.startswith(beyond)), None):
        raise ConversionError(
            f"config.json says {architecture.layers} layers, the weights hold more ({extra!r})"
        )
    selected = {}
    for name, shape in architecture.shapes().items():
        if prefix + name in weights:
            selected[name] = _checked(weights[prefix + name], name, shape)
        elif not (family.bias_optional and name.endswith(".bias")):
            raise ConversionError(
                f"the weights hold no {name!r}; "
                f"a {family.title} encoder of {architecture.layers} layers is expected"
            )
    return selected


def _prefix(weights: Weights, table: str) -> str:
    """What stands before every name, known by the one word table."""
    found = [name for name in weights if name == table or name.endswith("." + table)]
    if len(found) > 1:
        raise ConversionError(f"the weights hold several encoders: {', '.join(sorted(found))}")
    return found[0].removesuffix(table) if found else ""


def _checked(values: NDArray[Any], name: str, shape: Shape) -> NDArray[Any]:
    if len(values.shape) != len(shape) or any(
        wanted not in (None, size) for size, wanted in zip(values.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ConversionError(
            f"{name} has shape {values.shape}, by config.json it would be ({wanted})"
        )
    if not np.issubdtype(values.dtype, np.floating) and values.dtype.name != "bfloat16":
        raise ConversionError(f"{name} holds {values.dtype} values; float32 weights are expected")
    return values
