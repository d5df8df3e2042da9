"""Which execution providers a device means, and what is said of one that is not there."""

from __future__ import annotations

import json
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cognitive_memory.core.config import Settings
from cognitive_memory.core.errors import (
    ConfigurationError,
    InvalidInputError,
    MissingExtraError,
)
from cognitive_memory.encoding.devices import (
    DEVICES,
    EXECUTION_PROVIDERS,
    ProviderOptions,
    choose_device,
    execution_providers,
    not_loaded,
)
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.runtime import import_runtime, open_session
from cognitive_memory.factory import create_embedding_provider

CACHE = Path("/cache")
ALL = list(EXECUTION_PROVIDERS.values())
CPU: ProviderOptions = ("CPUExecutionProvider", {})
CUDA = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
TENSORRT = {
    "trt_fp16_enable": "0",
    "trt_engine_cache_enable": "1",
    "trt_engine_cache_path": str(CACHE),
}


@pytest.mark.parametrize(
    ("device", "precision", "memory_mb", "expected"),
    [
        ("cpu", "fp32", 0, [CPU]),
        ("cpu", "int8", 0, [CPU]),
        ("cuda", "fp32", 0, [("CUDAExecutionProvider", CUDA), CPU]),
        (
            "cuda",
            "fp16",
            2048,
            [("CUDAExecutionProvider", {**CUDA, "gpu_mem_limit": "2147483648"}), CPU],
        ),
        (
            "tensorrt",
            "fp32",
            0,
            [("TensorrtExecutionProvider", TENSORRT), ("CUDAExecutionProvider", CUDA), CPU],
        ),
        (
            "tensorrt",
            "fp16",
            1,
            [
                (
                    "TensorrtExecutionProvider",
                    {**TENSORRT, "trt_fp16_enable": "1", "trt_max_workspace_size": "1048576"},
                ),
                ("CUDAExecutionProvider", {**CUDA, "gpu_mem_limit": "1048576"}),
                CPU,
            ],
        ),
        ("coreml", "fp32", 0, [("CoreMLExecutionProvider", {"ModelFormat": "MLProgram"}), CPU]),
        (
            "openvino",
            "fp32",
            0,
            [("OpenVINOExecutionProvider", {"device_type": "CPU", "precision": "FP32"}), CPU],
        ),
    ],
)
def test_a_device_is_a_list_of_execution_providers(
    device: str, precision: str, memory_mb: int, expected: object
) -> None:
    assert execution_providers(device, precision, memory_mb, CACHE) == expected


@pytest.mark.parametrize(
    ("available", "precision", "chosen"),
    [
        (ALL, "fp32", "cuda"),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], "fp32", "cpu"),
        (["AzureExecutionProvider", "CPUExecutionProvider"], "fp32", "cpu"),
        (["OpenVINOExecutionProvider", "CPUExecutionProvider"], "fp32", "cpu"),
        (ALL, "fp16", "cuda"),
        (ALL, "int8", "cpu"),
    ],
)
def test_auto_chooses_what_is_there(available: list[str], precision: str, chosen: str) -> None:
    assert choose_device("auto", available, precision) == chosen


@pytest.mark.parametrize("device", sorted(EXECUTION_PROVIDERS))
def test_what_was_asked_for_is_taken_where_it_is_there(device: str) -> None:
    assert choose_device(device, ALL, "fp16") == device


@pytest.mark.parametrize("device", sorted(set(EXECUTION_PROVIDERS) - {"cpu"}))
def test_int8_stays_on_the_processor(device: str) -> None:
    assert choose_device("cpu", ALL, "int8") == "cpu"
    with pytest.raises(ConfigurationError, match=f"{device}.*slower than the processor; set it to"):
        choose_device(device, ALL, "int8")


def test_settings_know_the_same_devices() -> None:
    with pytest.raises(ConfigurationError, match=f"it must be one of {', '.join(DEVICES)}$"):
        Settings(embedding={"device": "gpu"})
    with pytest.raises(InvalidInputError, match=f"got device 'gpu'; known: {', '.join(DEVICES)}$"):
        ONNXEmbeddingProvider("nowhere", device="gpu")


@pytest.mark.parametrize(
    ("device", "kind", "fix"),
    [
        ("cuda", MissingExtraError, "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("tensorrt", MissingExtraError, "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
        ("coreml", ConfigurationError, "it is part of onnxruntime for macOS"),
        ("openvino", MissingExtraError, "pip install onnxruntime-openvino"),
    ],
)
def test_a_device_that_is_not_there_is_named_with_its_package(
    model_dir: Path, device: str, kind: type[Exception], fix: str
) -> None:
    available = import_runtime().get_available_providers()
    if EXECUTION_PROVIDERS[device] in available:
        pytest.skip(f"{device} is here")
    settings = Settings(models_dir=model_dir.parent, embedding={"device": device, "cache_bytes": 0})
    with create_embedding_provider(settings) as provider:
        for _ in range(2):
            with pytest.raises(kind) as error:
                provider.encode("text")
        assert provider.get_model_info()["device"] == device
    assert str(error.value).startswith(
        f"COGNITIVE_MEMORY_EMBEDDING__DEVICE='{device}': the installed ONNX Runtime has no "
        f"{EXECUTION_PROVIDERS[device]}, only {', '.join(available)}; {fix}"
    )


def test_what_cannot_be_loaded_is_named_with_what_was() -> None:
    message = str(not_loaded("cuda", ["CPUExecutionProvider"]))
    assert "cannot load CUDAExecutionProvider, only CPUExecutionProvider; install" in message
    assert "'onnxruntime-gpu[cuda,cudnn]'" in message
    assert message.endswith("or set COGNITIVE_MEMORY_EMBEDDING__DEVICE=cpu")
    assert "TensorrtExecutionProvider: no libnvinfer; " in str(
        not_loaded("tensorrt", [], "no libnvinfer")
    )


def test_auto_says_what_it_chose(model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ONNXEmbeddingProvider(model_dir) as provider:
        assert provider.get_model_info()["device"] == "auto"
        provider.encode("text")
        provider.encode_batch(["many texts"] * 300)
        device = provider.get_model_info()["device"]
    assert device in EXECUTION_PROVIDERS
    assert caplog.messages == [f"embedding on device {device}, chosen by auto"]


def test_the_processor_is_taken_in_silence(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with ONNXEmbeddingProvider(model_dir, device="cpu") as provider:
        provider.encode("text")
        assert provider.get_model_info()["device"] == "cpu"
    assert caplog.messages == []


@pytest.mark.parametrize("device", ["cpu", "coreml", "openvino"])
def test_a_memory_limit_where_there_is_none_is_refused(device: str) -> None:
    message = f"DEVICE_MEMORY_MB=512 limits cuda and tensorrt, not {device}; remove it"
    with pytest.raises(ConfigurationError, match=message):
        ONNXEmbeddingProvider("nowhere", device=device, memory_mb=512)
    with pytest.raises(InvalidInputError, match="got memory_mb -1; it must be at least 0"):
        ONNXEmbeddingProvider("nowhere", memory_mb=-1)


def test_8_bit_products_are_exact(tmp_path: Path) -> None:
    """On a processor without VNNI only by a session that is told so, and of a portable graph."""
    weights = np.full((64, 8), 127, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weights", "zero"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", 8])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(128, dtype=np.uint8), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "product.onnx"
    path.write_bytes(model.SerializeToString())
    x = np.full((3, 64), 255, dtype=np.uint8)
    for optimization in ("extended", "all"):
        (y,) = open_session(path, 1, optimization).run(["y"], {"x": x})
        assert np.array_equal(y, (x.astype(np.int64) - 128) @ weights.astype(np.int64))


@pytest.mark.skipif(find_spec("openvino") is not None, reason="openvino is here")
def test_without_openvino_its_provider_names_the_extra(model_dir: Path) -> None:
    wanted = {"provider": "openvino", "warm_up": True}
    settings = Settings(models_dir=model_dir.parent, embedding=wanted)
    with create_embedding_provider(settings) as provider:
        assert provider.dimension == 384
        message = r"needs openvino; pip install 'cognitive-memory-onnx\[openvino\]'"
        with pytest.raises(MissingExtraError, match=message):
            provider.encode("text")
    assert "openvino_telemetry" not in sys.modules


def test_half_precision_on_tensorrt_has_a_fingerprint_of_its_own(linked_model: Path) -> None:
    path = linked_model / "model_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "precision": "fp16"}), encoding="utf-8")
    kept, computed = (
        ONNXEmbeddingProvider(linked_model, device=device).fingerprint
        for device in ("cpu", "tensorrt")
    )
    assert "/fp16/" in kept
    assert "/fp16-tensorrt/" in computed
