"""Embeddings from ONNX Runtime: the same vectors as sentence-transformers, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..core.model_files import ModelFolder
from .devices import DEVICES
from .engine import Engine
from .onnx_engine import ONNXEngine
from .runtime import OPTIMIZATION_LEVELS
from .transformer_provider import TransformerProvider, check_choice, check_least


class ONNXEmbeddingProvider(TransformerProvider):
    """A converted model folder on ONNX Runtime; safe to use from many threads.

    ``optimization``: ``all`` runs the prepared graph of fused operators; ``extended``, ``basic``
    and ``none`` run the portable graph, rewritten that far on loading. ``device``: ``cpu``,
    ``cuda``, ``tensorrt``, ``coreml``, ``openvino``, or ``auto``, which alone may choose; all but
    the processor run the portable graph. ``memory_mb`` (MiB, 0: no limit) bounds ``cuda`` and
    ``tensorrt``. For all other arguments see ``TransformerProvider``.

    Raises ``InvalidInputError`` for arguments out of range, ``ConfigurationError`` for those that
    exclude each other, and at first use ``MissingExtraError`` or ``ConfigurationError`` for a
    device that is not there, ``ModelNotFoundError`` or ``ModelIntegrityError``.
    """

    def __init__(
        self,
        model: str | Path | ModelFolder,
        *,
        token_budget: int = 512,
        batch_size: int = 32,
        workers: int = 0,
        threads: int = 0,
        optimization: str = "all",
        overflow: str = "truncate",
        precision: str | None = None,
        dimension: int | None = None,
        device: str = "auto",
        memory_mb: int = 0,
    ) -> None:
        check_choice("optimization", optimization, OPTIMIZATION_LEVELS)
        check_choice("device", device, DEVICES)
        check_least("memory_mb", memory_mb, 0)
        if precision == "bf16":
            raise ConfigurationError(
                "COGNITIVE_MEMORY_EMBEDDING__PRECISION='bf16' is computed by OpenVINO alone; set "
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER=openvino (pip install "
                "'cognitive-memory-onnx[openvino]')"
            )
        self._optimization = optimization
        self._device = device
        self._memory_mb = memory_mb
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

    def _computed(self, precision: str) -> str:
        """As the model is kept; but TensorRT computes in half precision what is kept in it."""
        kept = super()._computed(precision)
        return f"{kept}-tensorrt" if (kept, self._device) == ("fp16", "tensorrt") else kept

    def _make_engine(self) -> Engine:
        return ONNXEngine(
            self._open_model,
            threads=self._threads,
            optimization=self._optimization,
            device=self._device,
            memory_mb=self._memory_mb,
        )

    def get_model_info(self) -> dict[str, Any]:
        """JSON values that describe the model, and how much text was cut so far."""
        return {**super().get_model_info(), "optimization": self._optimization}
