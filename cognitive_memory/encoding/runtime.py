"""ONNX Runtime, imported here and nowhere else: it has to be told something first."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

from ..core.errors import ModelIntegrityError

if TYPE_CHECKING:
    import onnxruntime

SILENCE = "ORT_DISABLE_TELEMETRY"
"""Its wheels report to their maker since 1.29, unless this is set before they are imported."""


OPTIMIZATION_LEVELS = ("none", "basic", "extended", "all")
"""How far ONNX Runtime rewrites a portable graph; ``all`` takes the prepared one instead."""


def import_runtime() -> ModuleType:
    """The module ``onnxruntime``; it sends nothing unless the user has set ``SILENCE`` to 0."""
    # The one write to the environment in this package: there is no argument for it, and the
    # function that the module offers comes too late, after device id and first event.
    os.environ.setdefault(SILENCE, "1")
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return, unused-ignore]


def open_session(
    graph: Path, threads: int, optimization: str = "all"
) -> onnxruntime.InferenceSession:
    """A session on a checked file; raises ``ModelIntegrityError``.

    ``threads`` work on one inference. A ``.ort`` file is already optimized; ``optimization``
    says how far a ``.onnx`` file is on loading.
    """
    runtime = import_runtime()
    levels = runtime.GraphOptimizationLevel
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads spin between the operators of one inference, a fifth faster than waking them anew,
    # and sleep as soon as it ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if graph.suffix == ".ort":
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
        # Weights are used where the file is mapped, not copied.
        options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
        options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
    else:
        options.graph_optimization_level = {
            "none": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[optimization]
    try:
        return runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise ModelIntegrityError(f"{graph} cannot be loaded: {error}") from None


class Sessions:
    """The sessions on one graph: for one inference on many threads, and for many on one each.

    Both map the same file, but each prepares its own copy of some weights, so neither is opened
    before it is needed. Thread-safe.
    """

    def __init__(self, locate: Callable[[], Path], threads: int, optimization: str) -> None:
        """``locate`` gives the checked graph; it is called when the first session is opened."""
        self._locate = locate
        self._threads = threads
        self._optimization = optimization
        self._lock = Lock()
        self._opened: dict[int, onnxruntime.InferenceSession] = {}

    @property
    def single(self) -> onnxruntime.InferenceSession:
        """Lowest latency: all threads work on one inference at a time."""
        return self._open(self._threads)

    @property
    def bulk(self) -> onnxruntime.InferenceSession:
        """Highest throughput: inferences of one thread each run side by side."""
        return self._open(1)

    def close(self) -> None:
        """Let go of the sessions; those in use end with their last inference."""
        with self._lock:
            self._opened.clear()

    def abandon(self) -> None:
        """Keep the sessions from ever being destroyed, for a process that lost their threads."""
        for session in self._opened.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        with self._lock:
            if threads not in self._opened:
                self._opened[threads] = open_session(self._locate(), threads, self._optimization)
            return self._opened[threads]


def runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which share no base but ``Exception``."""
    state = import_runtime().capi.onnxruntime_pybind11_state
    return tuple(
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )
