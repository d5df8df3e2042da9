"""Products in 8 bits: each as exact as rounding allows, in every family, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from test_convert import open_plain, run
from test_families import (
    CASES,
    TOLERANCE,
    VARIANTS,
    both_ways,
    read_config,
    read_rows,
    read_vectors,
    read_weights,
    variant_changes,
)

from cognitive_memory.core.errors import InvalidInputError
from cognitive_memory.models.architecture import read_architecture
from cognitive_memory.models.calibration import ChannelRange, measure_ranges
from cognitive_memory.models.encoder_graph import build_graph
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quantized_graph import QuantizedGraph, parameters_digest
from cognitive_memory.models.registry import POOLINGS

Array = NDArray[Any]
METHODS = ("static", "dynamic")
INT8 = PrecisionMap({"default": "int8"})

NEAR = 0.92
"""Random models have no redundancy: 8 bits cost them more than those that were trained."""


@cache
def measured(case: str, variant: str = "as_it_is") -> Mapping[str, ChannelRange]:
    _, changes = variant_changes((case, variant))
    return measure_ranges(read_weights(case), read_config(case, changes), read_rows(case))


def quantized(
    case: str,
    method: str,
    precisions: PrecisionMap = INT8,
    variant: str = "as_it_is",
    pooling: str = "mean",
) -> onnx.ModelProto:
    _, changes = variant_changes((case, variant))
    ranges = measured(case, variant) if method == "static" else None
    config = read_config(case, changes)
    return QuantizedGraph(read_weights(case), config, pooling, precisions, ranges).build()


def cosines(first: Array, second: Array) -> Array:
    products: Array = (first * second).sum(axis=1)
    return products


# --- every product by itself ---


@dataclass(frozen=True)
class Product:
    """One 8-bit product as it was computed, and what it was made of."""

    name: str
    inputs: Array
    codes: Array
    zero: int
    factor: Array
    """What inputs are multiplied with before they are rounded: (in,), or (tokens, 1)."""
    weight_codes: Array
    scale: Array
    """Of the result: (out,)."""
    bias: Array | float
    output: Array

    @property
    def weights(self) -> Array:
        """(in, out), as the product has them in effect."""
        scaled: Array = self.weight_codes * self.scale
        return scaled * self.factor[:, None] if self.is_static else scaled

    @property
    def is_static(self) -> bool:
        return self.factor.ndim == 1


def computed_products(model: onnx.ModelProto, rows: list[list[int]]) -> Iterator[Product]:
    """What each product took in and gave out, text by text."""
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    wanted: dict[str, int] = {}
    nodes = [node for node in model.graph.node if node.op_type == "MatMulIntegerToFloat"]
    for node in nodes:
        scaling = makers[makers[node.input[0]].input[0]]
        kinds = [(node.input[0], TensorProto.UINT8), (scaling.input[0], TensorProto.FLOAT)]
        if scaling.op_type == "Div":
            kinds.append((scaling.input[1], TensorProto.FLOAT))
        wanted |= dict([*kinds, (node.output[0], TensorProto.FLOAT)])
    probed.graph.output.extend(
        helper.make_tensor_value_info(name, kind, None) for name, kind in wanted.items()
    )
    session = open_plain(probed.SerializeToString())
    for row in rows:
        feeds = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)}
        values = zip(wanted, session.run(list(wanted), feeds), strict=True)
        found = {name: np.asarray(value[0], np.float64) for name, value in values}
        for node in nodes:
            codes, weight, _, scale, zero = node.input[:5]
            scaling = makers[makers[codes].input[0]]
            is_static = scaling.op_type == "Mul"
            factor = constants[scaling.input[1]] if is_static else 1 / found[scaling.input[1]]
            yield Product(
                name=weight.removesuffix(".weight"),
                inputs=found[scaling.input[0]],
                codes=found[codes],
                zero=int(constants[zero]),
                factor=factor.astype(np.float64),
                weight_codes=constants[weight].astype(np.float64),
                scale=constants[scale].astype(np.float64),
                bias=constants[node.input[6]].astype(np.float64) if len(node.input) > 6 else 0.0,
                output=found[node.output[0]],
            )


@cache
def all_products(case: str, method: str) -> list[Product]:
    return list(computed_products(quantized(case, method), read_rows(case)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_every_product_is_in_8_bits_once(case: str, method: str) -> None:
    products = computed_products(quantized(case, method), read_rows(case)[:1])
    names = [each.name for each in products]
    architecture = read_architecture(read_config(case))
    assert sorted(names) == sorted(name for name, _ in architecture.products())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_weights_are_rounded_by_half_a_step_of_their_output(case: str, method: str) -> None:
    weights = read_weights(case)
    for product in all_products(case, method):
        step = np.abs(product.scale * (product.factor[:, None] if product.is_static else 1))
        error = np.abs(product.weights - weights[f"{product.name}.weight"].T)
        assert (error <= 0.5001 * step).all(), product.name
        # No bit is given away: each output uses the whole range of codes, and no more.
        assert (np.abs(product.weight_codes).max(axis=0) == 127).all(), product.name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_inputs_are_rounded_by_half_a_step(case: str, method: str) -> None:
    for product in all_products(case, method):
        # Products before this one were rounded, too: some inputs are beyond what was calibrated.
        wanted = np.clip(product.inputs * product.factor + product.zero, 0, 255)
        assert np.abs(product.codes - wanted).max() <= 0.501, product.name
        if not product.is_static:
            assert product.zero == 128
            assert (np.abs(product.codes - 128).max(axis=1) == 127).all()


@pytest.mark.parametrize("case", CASES)
def test_the_ranges_of_calibration_are_the_range_of_codes(case: str) -> None:
    for product in all_products(case, "static"):
        known = measured(case)[product.name]
        lowest = min(0.0, (known.low * product.factor).min()) + product.zero
        highest = max(0.0, (known.high * product.factor).max()) + product.zero
        # Within a rounded zero and a step of three digits.
        assert abs(lowest) <= 2, product.name
        assert abs(highest - 255) <= 2, product.name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_the_codes(case: str, method: str) -> None:
    for product in all_products(case, method):
        expected = (product.codes - product.zero) @ product.weight_codes * product.scale
        np.testing.assert_allclose(
            product.output, expected + product.bias, rtol=1e-5, atol=1e-5, err_msg=product.name
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_factors_are_powers_of_two_that_products_of_one_input_share(case: str, method: str) -> None:
    if method == "dynamic":
        kinds = {node.op_type for node in quantized(case, method).graph.node}
        assert "Div" in kinds
        return
    for product in all_products(case, method):
        ratios = np.log2(product.factor / product.factor[0])
        np.testing.assert_allclose(ratios, np.rint(ratios), atol=1e-5)


def test_channels_are_smoothed_by_the_formula_of_the_paper() -> None:
    """Among equal weights, a channel of 2**10 times larger inputs is shrinks by 2**9."""
    weights = dict(read_weights("bert"))
    name = "encoder.layer.1.intermediate.dense"
    inputs = "encoder.layer.1.attention.output.LayerNorm"
    weights[f"{inputs}.weight"] = np.ones(24, np.float32)
    weights[f"{inputs}.bias"] = np.zeros(24, np.float32)
    weights[f"{name}.weight"] = np.ones_like(weights[f"{name}.weight"])
    ranges = dict(measure_ranges(weights, read_config("bert"), read_rows("bert")))
    high = np.ones(24, np.float32)
    high[5] = 2**10
    ranges[name] = ChannelRange(-high, high)
    model = QuantizedGraph(weights, read_config("bert"), "mean", INT8, ranges).build()
    product = next(
        each for each in computed_products(model, read_rows("bert")[:1]) if each.name == name
    )
    expected = np.zeros(24)
    expected[5] = -9
    np.testing.assert_allclose(np.log2(product.factor / product.factor[0]), expected, atol=1e-5)


@pytest.mark.parametrize(("low", "high", "zero"), [(5.0, 6.0, 0), (-6.0, -5.0, 255)])
def test_zero_has_a_code_where_no_input_is_near_it(low: float, high: float, zero: int) -> None:
    name = "encoder.layer.0.output.dense"
    ones = np.ones_like(measured("bert")[name].low)
    ranges = {**measured("bert"), name: ChannelRange(low * ones, high * ones)}
    model = QuantizedGraph(read_weights("bert"), read_config("bert"), "mean", INT8, ranges).build()
    products = computed_products(model, read_rows("bert")[:1])
    product = next(each for each in products if each.name == name)
    assert product.zero == zero


# --- whole models ---


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_int8_is_near_and_does_not_depend_on_the_batch(
    variant: tuple[str, str], method: str
) -> None:
    case, rows = variant[0], read_rows(variant[0])
    model = quantized(case, method, variant=variant[1])
    exact = read_vectors(*variant)["mean"]
    together, alone = both_ways(open_plain(model.SerializeToString()), rows)
    assert np.abs(together - alone).max() <= TOLERANCE
    assert cosines(together, exact).min() > NEAR
    assert np.median(cosines(together, exact)) > 0.99


@pytest.mark.parametrize("case", CASES)
def test_a_model_smoothed_on_one_side_only_is_far(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound above sees it."""
    measured(case)
    smooth = QuantizedGraph._quantized

    def forgetful(self: QuantizedGraph, inputs: str, name: str, smoothing: Array) -> Any:
        return smooth(self, inputs, name, np.ones_like(smoothing))

    monkeypatch.setattr(QuantizedGraph, "_quantized", forgetful)
    vectors = run(open_plain(quantized(case, "static").SerializeToString()), read_rows(case))
    assert cosines(vectors, read_vectors(case)["mean"]).min() < NEAR - 0.1


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_all_in_fp32_is_the_fp32_model(case: str, method: str, pooling: str) -> None:
    precisions = PrecisionMap({"default": "fp32"})
    model = quantized(case, method, precisions, pooling=pooling)
    exact = build_graph(read_weights(case), read_config(case), fused=True, pooling=pooling)
    rows = read_rows(case)
    expected = run(open_plain(exact.SerializeToString()), rows)
    for vectors in both_ways(open_plain(model.SerializeToString()), rows):
        assert np.abs(vectors - expected).max() <= 1e-6


@pytest.mark.parametrize("case", CASES)
def test_fp16_weights_are_computed_in_fp32(case: str) -> None:
    """As if the weights of products and the word table had been cast, and nothing else."""
    precisions = PrecisionMap({"default": "fp16"})
    architecture = read_architecture(read_config(case))
    cast = {f"{name}.weight" for name, _ in architecture.products()}
    cast.add(f"{architecture.family.words}.weight")
    weights = {
        name: value.astype(np.float16).astype(np.float32) if name in cast else value
        for name, value in read_weights(case).items()
    }
    exact = build_graph(weights, read_config(case), fused=True)
    rows = read_rows(case)
    expected = run(open_plain(exact.SerializeToString()), rows)
    session = open_plain(quantized(case, "static", precisions).SerializeToString())
    for vectors in both_ways(session, rows):
        assert np.abs(vectors - expected).max() <= TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_words_in_8_bits_have_a_scale_for_each(case: str) -> None:
    precisions = PrecisionMap({"embeddings": "int8"})
    table = f"{read_architecture(read_config(case)).family.words}.weight"
    weights = dict(read_weights(case))
    scale = np.abs(weights[table]).max(axis=1, keepdims=True) / 127
    weights[table] = np.rint(weights[table] / scale).astype(np.int8) * scale
    exact = build_graph(weights, read_config(case), fused=True)
    rows = read_rows(case)
    expected = run(open_plain(exact.SerializeToString()), rows)
    session = open_plain(quantized(case, "static", precisions).SerializeToString())
    for vectors in both_ways(session, rows):
        assert np.abs(vectors - expected).max() <= TOLERANCE


def test_a_map_decides_for_each_product() -> None:
    precisions = PrecisionMap(
        {"default": "int8", "output": "fp32", "layer.1": "fp16", "layer.1.attention": "int8"}
    )
    model = quantized("bert", "static", precisions)
    held = {each.name: each.data_type for each in model.graph.initializer}
    kinds = {"int8": TensorProto.INT8, "fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}
    families = {
        "attention.self.query": "attention",
        "attention.self.value": "attention",
        "attention.output.dense": "output",
        "intermediate.dense": "feed-forward",
        "output.dense": "feed-forward",
    }
    for layer in range(3):
        for name, part in families.items():
            weight = f"encoder.layer.{layer}.{name}.weight"
            assert held[weight] == kinds[precisions.of(layer, part)], weight
    assert held["embeddings.word_embeddings.weight"] == TensorProto.INT8
    rows = read_rows("bert")
    together, alone = both_ways(open_plain(model.SerializeToString()), rows)
    assert np.abs(together - alone).max() <= TOLERANCE
    assert cosines(together, read_vectors("bert")["mean"]).min() > 0.99


TEXTS = st.lists(st.lists(st.integers(0, 159), min_size=1, max_size=40), min_size=2, max_size=8)


@settings(max_examples=25)
@given(case=st.sampled_from(CASES), method=st.sampled_from(METHODS), rows=TEXTS)
def test_no_text_depends_on_the_others(case: str, method: str, rows: list[list[int]]) -> None:
    together, alone = both_ways(session_of(case, method), rows)
    assert np.abs(together - alone).max() <= TOLERANCE
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() <= TOLERANCE


@cache
def session_of(case: str, method: str) -> Any:
    return open_plain(quantized(case, method).SerializeToString())


# --- calibration and digests ---


def test_calibration_does_not_see_padding_or_order() -> None:
    weights, config, rows = read_weights("bert"), read_config("bert"), read_rows("bert")
    together = measured("bert")
    for others in (
        [measure_ranges(weights, config, rows[::-1])],
        [measure_ranges(weights, config, [row]) for row in rows],
    ):
        for name, known in together.items():
            low = np.min([each[name].low for each in others], axis=0)
            high = np.max([each[name].high for each in others], axis=0)
            np.testing.assert_allclose(low, known.low, atol=1e-5)
            np.testing.assert_allclose(high, known.high, atol=1e-5)


def test_calibration_takes_texts() -> None:
    with pytest.raises(InvalidInputError, match="no calibration text; give some that are like"):
        measure_ranges(read_weights("bert"), read_config("bert"), [])


def test_inputs_beyond_the_calibrated_range_are_cut_not_wrapped() -> None:
    weights, config, rows = read_weights("bert"), read_config("bert"), read_rows("bert")
    ranges = measure_ranges(weights, config, rows[:1])
    model = QuantizedGraph(weights, config, "mean", INT8, ranges).build()
    cut = 0
    for product in computed_products(model, rows):
        wanted = product.inputs * product.factor + product.zero
        cut += int(((wanted < 0) | (wanted > 255)).sum())
        assert np.abs(product.codes - np.clip(wanted, 0, 255)).max() <= 0.501
    assert cut > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_the_same_texts_make_the_same_parameters(case: str, method: str) -> None:
    first, second = (quantized(case, method) for _ in range(2))
    assert parameters_digest(first) == parameters_digest(second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_other_parameters_have_another_digest() -> None:
    digests = {
        parameters_digest(model)
        for model in (
            quantized("bert", "static"),
            quantized("bert", "dynamic"),
            quantized("bert", "static", PrecisionMap({"default": "int8", "layer.2": "fp32"})),
            quantized("bert", "static", PrecisionMap({"default": "fp16"})),
            quantized("bert", "static", PrecisionMap({"default": "fp32"})),
            quantized("distilbert", "static"),
        )
    }
    assert len(digests) == 6
    model = quantized("bert", "static")
    before = parameters_digest(model)
    tensor = model.graph.initializer[3]
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
    assert parameters_digest(model) != before
