"""ONNX Runtime, imported here and nowhere else: it has to be told something first."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..core.errors import ModelIntegrityError
from .devices import CPU, ProviderOptions

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
    graph: Path,
    threads: int,
    optimization: str = "all",
    providers: Sequence[ProviderOptions] = ((CPU, {}),),
) -> onnxruntime.InferenceSession:
    """A session on a checked file; raises ``ModelIntegrityError``.

    ``threads`` work on one inference. A ``.ort`` file is already optimized; ``optimization``
    says how far a ``.onnx`` file is on loading. Which ``providers`` could be loaded,
    ``session.get_providers()`` tells; one that raises a ``RuntimeError`` is not caught.
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
    # Exact 8-bit products also where there is no VNNI (see core/processor.py). It is a rewriting
    # of the graph, so it takes a .onnx file and the level "extended"; where products are exact
    # anyway it does nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
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
        return runtime.InferenceSession(
            # Its own fallback prints to standard output and goes on without the device.
            str(graph),
            options,
            providers=list(providers),
            enable_fallback=0,
        )
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


def preload_cuda() -> None:
    """Load CUDA and cuDNN from the packages that bring them, where there are any.

    What is missing is printed, and told by the session that then has no such provider.
    """
    runtime = import_runtime()
    if hasattr(runtime, "preload_dlls"):  # since 1.21
        with redirect_stdout(sys.stderr):  # standard output is for results
            runtime.preload_dlls()
