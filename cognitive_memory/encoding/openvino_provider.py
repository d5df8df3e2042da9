"""Embeddings from OpenVINO on the portable graph: fp32, or bf16 where the processor has it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import (
    ConfigurationError,
    EmbeddingError,
    MissingExtraError,
    ModelIntegrityError,
)
from ..core.model_files import ModelFolder
from ..core.processor import Processor, detect_processor
from ..core.similarity import Vector
from .engine import Engine
from .transformer_provider import TransformerProvider, check_choice

if TYPE_CHECKING:
    import openvino

PRECISIONS = ("fp32", "bf16")

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_TELEMETRY = "openvino_telemetry"


class OpenVINOEmbeddingProvider(TransformerProvider):
    """A converted fp32 model on the processor by OpenVINO; safe to use from many threads.

    ``precision`` ``fp32`` gives the vectors of ``ONNXEmbeddingProvider`` under the same
    fingerprint; ``bf16`` multiplies in bfloat16, which has a fingerprint of its own. For all
    other arguments see ``TransformerProvider``.

    Raises ``InvalidInputError`` for arguments out of range, and at first use
    ``MissingExtraError`` without OpenVINO, ``ConfigurationError`` for a model that is not fp32 or
    a processor without bfloat16, ``ModelNotFoundError`` or ``ModelIntegrityError``.
    """

    def __init__(
        self,
        model: str | Path | ModelFolder,
        *,
        token_budget: int = 1024,
        batch_size: int = 32,
        workers: int = 0,
        threads: int = 0,
        overflow: str = "truncate",
        precision: str = "fp32",
        dimension: int | None = None,
    ) -> None:
        check_choice("precision", precision, PRECISIONS)
        super().__init__(
            model,
            token_budget=token_budget,
            batch_size=batch_size,
            workers=workers,
            threads=threads,
            overflow=overflow,
            precision=precision,
            dimension=dimension,
        )

    def _make_engine(self) -> Engine:
        return OpenVINOEngine(
            self._open_model,
            threads=self._threads,
            workers=self._workers,
            precision=self._precision or "fp32",
        )

    def _computed(self, precision: str) -> str:
        if precision != "fp32":
            raise ConfigurationError(
                f"the provider openvino computes fp32 and bf16 from an fp32 model; the one in "
                f"{self._model.path} is {precision}; name another model, or set "
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx"
            )
        return self._precision or precision


class OpenVINOEngine(Engine):
    """Compiled once for an inference that is alone, once for as many at a time as ``workers``.

    Neither is compiled before it is needed.
    """

    device = "cpu"

    def __init__(
        self,
        model: Callable[[], ModelFolder],
        *,
        threads: int,
        workers: int,
        precision: str,
        processor: Callable[[], Processor] = detect_processor,
    ) -> None:
        """``model`` is called when the graph is first compiled, ``processor`` for bf16 only."""
        self._model = model
        self._precision = precision
        self._processor = processor
        self._streams = {True: (1, threads), False: (workers, workers)}
        self._lock = Lock()
        self._compiled: dict[bool, openvino.CompiledModel] = {}
        self._requests: dict[bool, list[openvino.InferRequest]] = {True: [], False: []}
        self._core: openvino.Core | None = None

    def import_library(self) -> None:
        """Import OpenVINO; raises ``MissingExtraError`` when it is not installed."""
        import_openvino()

    def load(self) -> None:
        """Compile for one text alone; raises as ``infer`` does."""
        self._compile(alone=True)

    def infer(self, ids: NDArray[np.int64], mask: NDArray[np.int64], alone: bool) -> Vector:
        """(n, dim) float32 of token ids and mask; see ``Engine.infer``."""
        compiled, idle = self._compile(alone), self._requests[alone]
        try:
            request = idle.pop()
        except IndexError:  # each serves one thread at a time
            request = compiled.create_infer_request()
        try:
            outputs = request.infer({"input_ids": ids, "attention_mask": mask})
        except RuntimeError as error:
            raise EmbeddingError(f"inference on {ids.shape} tokens failed: {error}") from error
        idle.append(request)
        vectors = np.asarray(outputs["embeddings"], dtype=np.float32)
        if len(vectors) != len(ids):  # what it cannot compute, it answers with no rows
            raise EmbeddingError(
                f"inference on {ids.shape} tokens failed: OpenVINO gave {vectors.shape}; "
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=onnx may say why"
            )
        return vectors

    def close(self) -> None:
        """Let go of the model; inferences under way end as usual."""
        with self._lock:
            self._compiled.clear()
            self._requests = {True: [], False: []}
            self._core = None

    def abandon(self) -> None:
        """Keep everything native from ever being destroyed."""
        for held in (*self._compiled.values(), *self._requests[True], *self._requests[False]):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))
        if self._core is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._core))

    def _compile(self, alone: bool) -> openvino.CompiledModel:
        with self._lock:
            if alone not in self._compiled:
                model = self._model()
                self._check_precision()
                self._compiled[alone] = self._compile_graph(model.checked(model.graph), alone)
            return self._compiled[alone]

    def _compile_graph(self, graph: Path, alone: bool) -> openvino.CompiledModel:
        streams, threads = self._streams[alone]
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            # This process is a guest: other work may be bound to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            return self._open_core().compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise ModelIntegrityError(f"{graph} cannot be loaded: {error}") from None

    def _check_precision(self) -> None:
        if self._precision != "bf16":
            return
        # OpenVINO would imitate it on some processors, slower than fp32.
        capabilities = self._open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self._processor().has_bfloat16 is False or "BF16" not in capabilities:
            raise ConfigurationError(
                "COGNITIVE_MEMORY_EMBEDDING__PRECISION='bf16': this processor does not multiply "
                "bfloat16 (avx512_bf16 or amx_bf16 on x86, bf16 on ARM); set fp32 or int8"
            )

    def _open_core(self) -> openvino.Core:
        if self._core is None:
            self._core = import_openvino().Core()
        return self._core


def import_openvino() -> Any:
    """The module ``openvino``, told not to report anything to anyone.

    Raises ``MissingExtraError`` when it is not installed.
    """
    # Its import sends an event and leaves a client id in the home folder, unless there is no
    # package to do that with: then it takes a stub of its own.
    is_silenced = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
    if is_silenced:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(
            f"the provider openvino needs {error.name}; "
            "pip install 'cognitive-memory-onnx[openvino]'"
        ) from None
    finally:
        if is_silenced:
            sys.modules.pop(_TELEMETRY, None)
    return openvino
