"""Names of devices to execution providers of ONNX Runtime and their options.

Pure functions: what is installed is an argument. Options by the documentation of ONNX Runtime's
execution providers.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..core.errors import ConfigurationError, MissingExtraError

DEVICES = ("auto", "cpu", "cuda", "tensorrt", "coreml", "openvino")

CHOSEN_BY_AUTO = ("cuda",)
"""What ``auto`` takes, the first that is there; otherwise the processor.

Not Core ML, which every Mac has: whether it is faster for short texts has not been measured.
"""

CPU = "CPUExecutionProvider"

EXECUTION_PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

_WITH_MEMORY_LIMIT = ("auto", "cuda", "tensorrt")

_INSTALL = {
    "cuda": "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime",
    "tensorrt": "pip install 'onnxruntime-gpu[cuda,cudnn]' in place of onnxruntime, and TensorRT",
    "coreml": "it is part of onnxruntime for macOS and of no other",
    "openvino": (
        "pip install onnxruntime-openvino in place of onnxruntime, or keep that and set "
        "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=openvino"
    ),
}

_VARIABLE = "COGNITIVE_MEMORY_EMBEDDING__DEVICE"

ProviderOptions = tuple[str, dict[str, str]]


def choose_device(device: str, available: Collection[str], precision: str) -> str:
    """The device to use: as it was asked for, or the choice of ``auto``.

    ``available`` are the execution providers of the installed ONNX Runtime. Raises
    ``MissingExtraError`` for a device that is not among them, or ``ConfigurationError`` where no
    package brings it, or for int8 on another device than the processor.
    """
    if device == "auto":
        candidates = CHOSEN_BY_AUTO if precision != "int8" else ()
        present = (name for name in candidates if EXECUTION_PROVIDERS[name] in available)
        return next(present, "cpu")
    if precision == "int8" and device != "cpu":
        # No other has kernels for these products, so every one would travel back and forth.
        raise ConfigurationError(
            f"{_VARIABLE}={device!r} would compute an int8 model slower than the processor; set it "
            "to cpu, or COGNITIVE_MEMORY_EMBEDDING__PRECISION=fp16"
        )
    if EXECUTION_PROVIDERS[device] not in available:
        kind = ConfigurationError if device == "coreml" else MissingExtraError
        raise kind(
            f"{_VARIABLE}={device!r}: the installed ONNX Runtime has no "
            f"{EXECUTION_PROVIDERS[device]}, only {', '.join(available)}; {_INSTALL[device]}"
        )
    return device


def execution_providers(
    device: str, precision: str, memory_mb: int, cache: Path
) -> list[ProviderOptions]:
    """What to open a session with, best first; ``cache`` is a folder for compiled engines.

    ``memory_mb`` in MiB, 0 for no limit. What the first does not know how to compute, the next
    ones do.
    """
    cpu: ProviderOptions = (CPU, {})
    if device in ("cuda", "tensorrt"):
        # TF32 rounds to 10 bits: other vectors under the name of fp32.
        cuda = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
        engine = {
            "trt_fp16_enable": str(int(precision == "fp16")),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
        }
        if memory_mb:
            cuda["gpu_mem_limit"] = str(memory_mb * 2**20)
            engine["trt_max_workspace_size"] = str(memory_mb * 2**20)
        on_cuda = [(EXECUTION_PROVIDERS["cuda"], cuda), cpu]
        return (
            on_cuda if device == "cuda" else [(EXECUTION_PROVIDERS["tensorrt"], engine), *on_cuda]
        )
    if device == "coreml":
        return [(EXECUTION_PROVIDERS["coreml"], {"ModelFormat": "MLProgram"}), cpu]
    if device == "openvino":
        # On a GPU it would compute in half precision by default; on the processor it is fp32.
        options = {"device_type": "CPU", "precision": "FP32"}
        return [(EXECUTION_PROVIDERS["openvino"], options), cpu]
    return [cpu]


def check_memory_limit(device: str, memory_mb: int) -> None:
    """Raise ``ConfigurationError`` for a limit on a device that takes none."""
    if memory_mb and device not in _WITH_MEMORY_LIMIT:
        raise ConfigurationError(
            f"COGNITIVE_MEMORY_EMBEDDING__DEVICE_MEMORY_MB={memory_mb} limits cuda and tensorrt, "
            f"not {device}; remove it, or change {_VARIABLE}"
        )


def not_loaded(device: str, loaded: Collection[str], reason: str = "") -> ConfigurationError:
    """The error for a device whose libraries do not load, with what was loaded instead."""
    found = f": {reason}" if reason else f", only {', '.join(loaded)}"
    return ConfigurationError(
        f"{_VARIABLE}={device!r}: ONNX Runtime cannot load {EXECUTION_PROVIDERS[device]}{found}; "
        f"install its libraries ({_INSTALL[device]}) and the driver, or set {_VARIABLE}=cpu"
    )
