"""ONNX Runtime, imported here and nowhere else: it has to be told something first."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..core.errors import ModelIntegrityError

if TYPE_CHECKING:
    import onnxruntime

SILENCE = "ORT_DISABLE_TELEMETRY"
"""Its wheels report to their maker since 1.29, unless this is set before they are imported."""


def import_runtime() -> ModuleType:
    """The module ``onnxruntime``; it sends nothing unless the user has set ``SILENCE`` to 0."""
    # The one write to the environment in this package: there is no argument for it, and the
    # function that the module offers comes too late, after device id and first event.
    os.environ.setdefault(SILENCE, "1")
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return, unused-ignore]


def open_session(graph: Path) -> onnxruntime.InferenceSession:
    """A session of one thread on a checked file; raises ``ModelIntegrityError``."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    # Parallel runs of one thread each beat one run of many threads, and nothing spins.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if graph.suffix == ".ort":
        # Already optimized; weights are used where the file is mapped, not copied.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
        options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
    try:
        return runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise ModelIntegrityError(f"{graph} cannot be loaded: {error}") from None


def runtime_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's own exceptions, which share no base but ``Exception``."""
    state = import_runtime().capi.onnxruntime_pybind11_state
    return tuple(
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    )
