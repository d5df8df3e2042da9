"""What ``benchmark_stores.py`` asks of each store that it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import embedding_peers
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Setup(embedding_peers.Setup):
    """What a worker process is told; ``stage`` is the folder in which the store lies."""

    size: int = 0  # vectors that it holds or will hold
    dimension: int = 0


class Store(ABC):
    """Unit vectors by number, searched for the nearest by cosine."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Modules; importing them is timed apart."""
    packages: ClassVar[tuple[str, ...]] = ()  # distributions whose versions are reported
    is_searched: ClassVar[bool] = True
    """Whether more than inserting is measured."""
    most: ClassVar[int | None] = None
    """Vectors beyond which the store's own documentation advises against it."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.folder = Path(setup.stage)

    @abstractmethod
    def create(self) -> None:
        """Make an empty store, with what must be there before vectors can be; not timed."""

    @abstractmethod
    def open(self) -> None:
        """Open what another process has made."""

    def hold(self, first: int, rows: Vectors) -> Any:
        """What a caller would have in hands before inserting ``rows``; not timed."""
        return first, rows

    @abstractmethod
    def insert(self, held: Any) -> None:
        """Add what ``hold`` made."""

    @abstractmethod
    def finish(self) -> None:
        """Build what searching needs, and make it durable; timed as a part of inserting."""

    @abstractmethod
    def search(self, query: Vectors, k: int) -> Any:
        """The nearest of ``query`` (dim,), in whatever form the store gives them."""

    @abstractmethod
    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        """The same for each row of ``queries`` (n, dim), in one call."""

    @abstractmethod
    def numbers(self, found: Any) -> list[int]:
        """Of an answer of ``search``, or of one among those of ``search_batch``; not timed."""

    @abstractmethod
    def close(self) -> None:
        """Leave it as a process would that ends well."""
