"""The search for the fastest map: its logic on made-up models, and a real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_bert import LETTERS, tiny_config, tiny_weights, write_source

from cognitive_memory.core.errors import ConversionError
from cognitive_memory.models.architecture import read_architecture
from cognitive_memory.models.convert import convert_model
from cognitive_memory.models.precision import LAYER_PARTS, PrecisionMap
from cognitive_memory.models.precision_search import find_fastest_map, part_costs
from cognitive_memory.models.quality import Gate, HeldTexts, Quality
from cognitive_memory.models.quantize import Quantizer

ARCHITECTURE = read_architecture(tiny_config(layers=2))
COSTS = part_costs(ARCHITECTURE)
PARTS = list(COSTS)
GATE = Gate(mean_cosine=0.99, retention=0.99)

Kept = frozenset[str]


class Model:
    """Made up: each part in int8 takes from the cosine what ``losses`` says of it."""

    def __init__(self, losses: Sequence[float], floor: float = 0.0) -> None:
        self.losses = dict(zip(PARTS, losses, strict=True))
        self.floor = floor
        self.tried: list[Kept] = []

    def quality(self, kept: Kept) -> Quality:
        cosine = 1 - self.floor - sum(self.losses[part] for part in PARTS if part not in kept)
        return Quality(cosine, cosine, 1.0)

    def measure(self, precisions: PrecisionMap) -> Quality:
        kept = kept_of(precisions)
        self.tried.append(kept)
        return self.quality(kept)


def kept_of(precisions: PrecisionMap) -> Kept:
    """The parts in fp32; all others are in int8."""
    parts = dict(precisions.parts(ARCHITECTURE))
    assert parts.pop("embeddings") == "int8"
    assert set(parts.values()) <= {"fp32", "int8"}
    return frozenset(part for part, precision in parts.items() if precision == "fp32")


def cost(kept: Kept) -> float:
    return sum(COSTS[part] for part in kept)


def search(measure: Callable[[PrecisionMap], Quality], gate: Gate = GATE) -> Kept:
    return kept_of(find_fastest_map(ARCHITECTURE, measure, gate))


LOSSES = st.lists(
    st.floats(0, 0.02, allow_subnormal=False), min_size=len(PARTS), max_size=len(PARTS)
)


def test_costs_are_the_multiplications_of_each_part() -> None:
    hidden, wide = ARCHITECTURE.hidden, ARCHITECTURE.wide
    sizes = {
        "attention": 3 * hidden * hidden,
        "output": hidden * hidden,
        "feed-forward": 2 * hidden * wide,
    }
    assert {
        f"layer.{layer}.{part}": 0.75 * sizes[part] for layer in range(2) for part in LAYER_PARTS
    } == COSTS


def test_int8_throughout_is_taken_if_it_passes() -> None:
    model = Model([0.001] * len(PARTS))
    assert search(model.measure) == frozenset()
    assert model.tried == [frozenset()]


def test_nothing_that_passes_is_an_error_that_says_how_near_it_came() -> None:
    model = Model([0.001] * len(PARTS), floor=0.02)
    with pytest.raises(
        ConversionError,
        match=r"^no precision map passes the gate: with the embeddings alone in int8 it is "
        r"mean cosine 0\.9800, minimum 0\.9800, retrieval retention 100\.0%$",
    ):
        search(model.measure)
    assert model.tried == [frozenset(), frozenset(PARTS)]


def test_a_model_that_gives_no_numbers_passes_nothing() -> None:
    with pytest.raises(ConversionError, match="mean cosine nan"):
        search(lambda precisions: Quality(float("nan"), float("nan"), float("nan")))


@pytest.mark.parametrize("part", PARTS)
def test_the_one_part_that_matters_is_found(part: str) -> None:
    model = Model([0.05 if each == part else 0.0001 for each in PARTS])
    assert search(model.measure) == {part}


@given(LOSSES)
def test_the_result_passes_and_no_part_of_it_can_be_left_out(losses: list[float]) -> None:
    model = Model(losses)
    assume(not GATE.passes(model.quality(frozenset())))
    kept = search(model.measure)
    assert GATE.passes(model.quality(kept))
    for part in kept:
        assert not GATE.passes(model.quality(kept - {part}))


@given(LOSSES)
def test_the_result_is_the_cheapest_that_was_tried(losses: list[float]) -> None:
    model = Model(losses)
    kept = search(model.measure)
    passing = [each for each in model.tried if GATE.passes(model.quality(each))]
    assert cost(kept) == min(map(cost, passing))


def test_one_part_alone_may_be_cheaper_than_what_is_gathered() -> None:
    """The large part gains more for its cost than the middle one, which would do, too."""
    losses = {"layer.0.output": 0.015, "layer.0.feed-forward": 0.044, "layer.0.attention": 0.03}
    model = Model([losses.get(part, 0.0) for part in PARTS])
    assert search(model.measure, Gate(mean_cosine=0.94)) == {"layer.0.attention"}


def test_retention_counts_as_much_as_cosine() -> None:
    needed = PARTS[3]

    def measure(precisions: PrecisionMap) -> Quality:
        return Quality(1.0, 1.0, 1.0 if needed in kept_of(precisions) else 0.9)

    assert search(measure) == {needed}


def test_each_try_is_reported() -> None:
    lines: list[str] = []
    model = Model([0.005] * len(PARTS))
    find_fastest_map(ARCHITECTURE, model.measure, GATE, lines.append)
    assert len(lines) == len(model.tried)
    assert lines[0].startswith("in fp32 nothing: mean cosine 0.9700, ")
    assert lines[2].startswith("in fp32 layer.0.attention: mean cosine ")


def test_a_search_on_a_model_finds_what_the_gate_lets_through(tmp_path: Path) -> None:
    """Outliers in one product make it bad in 8 bits: it is the one that stays in fp32."""
    config = tiny_config()
    weights = tiny_weights(config)
    # Each output has one weight that is 400 times the others: 8 bits leave nothing of these.
    name = "encoder.layer.1.attention.output.dense.weight"
    weights[name] /= np.float32(20)
    weights[name][:, 0] = 20
    recipe = write_source(tmp_path / "source", config, weights)
    convert_model(tmp_path / "source", tmp_path / "tiny", recipe)
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list(LETTERS), 3)) for _ in range(60)]
    held = HeldTexts(words[:20], [f"{word} a" for word in words[:20]])
    workshop = Quantizer(tmp_path / "tiny", "dynamic", words[20:], held)
    tried = {part: workshop.try_out(map_of({part})).mean_cosine for part in PARTS}
    best = max(tried.values())
    nothing = workshop.try_out(map_of(set())).mean_cosine
    assert nothing < best
    gate = Gate(mean_cosine=(best + nothing) / 2, retention=0)
    found = find_fastest_map(workshop.architecture, workshop.try_out, gate)
    kept = kept_of(found)
    assert kept == {part for part in PARTS if tried[part] == best}
    config_found = workshop.make(tmp_path / "tiny-int8", found, gate)
    assert config_found.precision == "int8"
    assert config_found.precision_map == found.given


def map_of(kept: set[str]) -> PrecisionMap:
    return PrecisionMap({"default": "int8", **dict.fromkeys(kept, "fp32")})
