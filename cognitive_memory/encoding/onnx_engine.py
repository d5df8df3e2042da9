"""The engine of ONNX Runtime: which graph, on which device, in how many sessions."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationError, EmbeddingError
from ..core.model_files import ModelFolder
from ..core.processor import Processor, detect_processor, int8_warning
from ..core.similarity import Vector
from .devices import (
    EXECUTION_PROVIDERS,
    check_memory_limit,
    choose_device,
    execution_providers,
    not_loaded,
)
from .engine import Engine
from .runtime import import_runtime, open_session, preload_cuda, runtime_errors

if TYPE_CHECKING:
    import onnxruntime

_LOG = logging.getLogger(__name__)

ENGINE_CACHE = "tensorrt"
"""Folder beside the graph for what TensorRT compiled of it."""


class ONNXEngine(Engine):
    """On the processor two sessions: for one inference on many threads, and many on one each.

    Both map the same file, but each prepares its own copy of some weights, so neither is opened
    before it is needed. Another device has one session on the portable graph.
    """

    def __init__(
        self,
        model: Callable[[], ModelFolder],
        *,
        threads: int,
        optimization: str,
        device: str,
        memory_mb: int,
        processor: Callable[[], Processor] = detect_processor,
    ) -> None:
        """``model`` is called when the first session is opened, ``processor`` for int8 only."""
        check_memory_limit(device, memory_mb)
        self.device = device
        self._model = model
        self._threads = threads
        self._optimization = optimization
        self._memory_mb = memory_mb
        self._processor = processor
        self._lock = Lock()
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}

    def import_library(self) -> None:
        """Import ONNX Runtime, which is always installed."""
        import_runtime()

    def load(self) -> None:
        """Open the session for one text alone; raises as ``infer`` does."""
        self._session(alone=True)

    def infer(self, ids: NDArray[np.int64], mask: NDArray[np.int64], alone: bool) -> Vector:
        """(n, dim) float32 of token ids and mask; see ``Engine.infer``."""
        session = self._session(alone)
        try:
            outputs = session.run(["embeddings"], {"input_ids": ids, "attention_mask": mask})
        except runtime_errors() as error:
            raise EmbeddingError(f"inference on {ids.shape} tokens failed: {error}") from error
        return np.asarray(outputs[0], dtype=np.float32)

    def close(self) -> None:
        """Let go of the sessions; those in use end with their last inference."""
        with self._lock:
            self._sessions.clear()

    def abandon(self) -> None:
        """Keep the sessions from ever being destroyed, for a process that lost their threads."""
        for session in self._sessions.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))

    def _session(self, alone: bool) -> onnxruntime.InferenceSession:
        with self._lock:
            if not self._sessions:
                self._settle_device()
            threads = self._threads if alone or self.device != "cpu" else 1
            if threads not in self._sessions:
                self._sessions[threads] = self._open_on_cpu(threads)
            return self._sessions[threads]

    def _settle_device(self) -> None:
        """Choose for ``auto``; open the one session of a device that is not the processor."""
        available = import_runtime().get_available_providers()
        device = choose_device(self.device, available, self._model().config.precision)
        if device != "cpu":
            try:
                self._sessions[self._threads] = self._open_on_device(device)
            except ConfigurationError as error:
                if self.device != "auto":
                    raise
                _LOG.warning("%s; until then the processor is used", error)
                device = "cpu"
        if self.device == "auto":
            _LOG.info("embedding on device %s, chosen by auto", device)
        self.device = device

    def _open_on_device(self, device: str) -> onnxruntime.InferenceSession:
        model = self._model()
        graph = model.checked(model.graph)
        providers = execution_providers(
            device, model.config.precision, self._memory_mb, graph.parent / ENGINE_CACHE
        )
        if device in ("cuda", "tensorrt"):
            preload_cuda()
        try:
            session = open_session(graph, self._threads, self._optimization, providers)
        except RuntimeError as error:  # TensorRT raises, where CUDA is silently left out
            raise not_loaded(device, [], str(error).strip()) from None
        loaded = session.get_providers()
        if EXECUTION_PROVIDERS[device] not in loaded:
            raise not_loaded(device, loaded)
        return session

    def _open_on_cpu(self, threads: int) -> onnxruntime.InferenceSession:
        model = self._model()
        config, optimization = model.config, self._optimization
        runs_on, written_by = import_runtime().__version__, config.onnxruntime
        # A runtime older than the one that wrote the prepared graph may not read it.
        is_prepared = optimization == "all" and _version(runs_on) >= _version(written_by)
        if config.precision == "int8":
            processor = self._processor()
            if not self._sessions and (warning := int8_warning(processor)):
                _LOG.warning("%s", warning)
            if not processor.is_exact_in_int8:
                # Only a graph that is rewritten on loading can be told not to saturate.
                is_prepared = False
                optimization = "all" if optimization == "all" else "extended"
        return open_session(
            model.checked(model.runtime_graph if is_prepared else model.graph),
            threads,
            optimization,
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
