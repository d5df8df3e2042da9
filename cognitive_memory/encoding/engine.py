"""The part of a transformer provider that differs between runtimes: tokens in, vectors out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ..core.similarity import Vector


class Engine(ABC):
    """Runs a model's graph, which it opens at the first use. Thread-safe."""

    device: str
    """Where it computes; ``auto`` until the first use has settled that."""

    @abstractmethod
    def import_library(self) -> None:
        """Import the runtime; raises ``MissingExtraError`` when it is not installed."""

    @abstractmethod
    def load(self) -> None:
        """Open what one text alone needs; raises as ``infer`` does."""

    @abstractmethod
    def infer(self, ids: NDArray[np.int64], mask: NDArray[np.int64], alone: bool) -> Vector:
        """(n, dim) float32, unit rows, of token ids and their mask, both (n, length) int64.

        ``alone``: no other inference runs, so this one may take all threads. Raises
        ``ModelError`` or ``ConfigurationError`` when the model cannot be opened here,
        ``EmbeddingError`` when the inference fails.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the model; inferences under way end as usual."""

    @abstractmethod
    def abandon(self) -> None:
        """Keep native objects from ever being destroyed, for a child process without their threads.

        It takes no lock: one could be held by a thread that did not come along.
        """
