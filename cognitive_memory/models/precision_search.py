"""The fastest precision map that passes the gate.

Speed is judged by multiplications: one in fp32 costs as much as ``INTEGER_SPEEDUP`` in int8.
That is the same on every machine, where a measured time would make every search another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.errors import ConversionError
from .architecture import Architecture
from .precision import EMBEDDINGS, LAYER_PARTS, PrecisionMap, part_products
from .quality import Gate, Quality

INTEGER_SPEEDUP = 4.0

Measure = Callable[[PrecisionMap], Quality]


def find_fastest_map(
    architecture: Architecture,
    measure: Measure,
    gate: Gate,
    report: Callable[[str], None] = lambda _: None,
) -> PrecisionMap:
    """The map that keeps the least multiplications in fp32 among those tried that pass ``gate``.

    If int8 throughout passes, it is that. Else each part of each layer is tried in fp32 alone;
    those that gain most for their cost are kept in fp32 until the gate is passed, and then each
    that turns out not to be needed, the costliest first, goes back to int8. Raises
    ``ConversionError`` when even int8 embeddings alone do not pass.
    """
    costs = part_costs(architecture)
    passing: list[Sequence[str]] = []

    known: dict[frozenset[str], Quality] = {}

    def tried(parts: Sequence[str]) -> Quality:
        if (key := frozenset(parts)) in known:
            return known[key]
        quality = known[key] = measure(_map(parts))
        kept = "all products" if len(parts) == len(costs) else ", ".join(sorted(parts))
        report(f"in fp32 {kept or 'nothing'}: {quality}")
        if gate.passes(quality):
            passing.append(parts)
        return quality

    everything = tried([])
    if passing:
        return _map([])
    if not gate.passes(least := tried(list(costs))):
        raise ConversionError(
            f"no precision map passes the gate: with the embeddings alone in int8 it is {least}"
        )
    gains = {part: tried([part]).mean_cosine - everything.mean_cosine for part in costs}
    order = sorted(costs, key=lambda part: -gains[part] / costs[part])
    kept = order[: _fewest(len(order), lambda count: gate.passes(tried(order[:count])))]
    for part in sorted(kept, key=lambda part: -costs[part]):
        without = [each for each in kept if each != part]
        if gate.passes(tried(without)):
            kept = without
    # Not always what is kept now: one part alone, tried at the beginning, may cost less.
    return _map(min(passing, key=lambda parts: sum(costs[part] for part in parts)))


def part_costs(architecture: Architecture) -> dict[str, float]:
    """Multiplications for each token that a part costs more in fp32, by the part's name."""
    shapes = dict(architecture.products())
    costs = {}
    for layer in range(architecture.layers):
        for part in LAYER_PARTS:
            groups = part_products(architecture, layer, part)
            sizes = [shapes[name] for group in groups for name in group]
            weights = sum((rows or 0) * (columns or 0) for rows, columns in sizes)
            costs[f"layer.{layer}.{part}"] = weights * (1 - 1 / INTEGER_SPEEDUP)
    return costs


def _map(parts: Sequence[str]) -> PrecisionMap:
    return PrecisionMap({"default": "int8", EMBEDDINGS: "int8", **dict.fromkeys(parts, "fp32")})


def _fewest(most: int, passes: Callable[[int], bool]) -> int:
    """The smallest count that passes, by halving; ``most`` is known to."""
    low, high = 0, most  # low fails, high passes
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
