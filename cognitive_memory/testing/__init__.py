"""For those who implement an interface: its contract as tests, and examples to test with.

A test module for an adapter subclasses a contract, defines the one fixture that its docstring
names, and inherits the tests. Needs pytest.
"""

from __future__ import annotations

import pytest

_SUITES = ("connections", "providers", "records", "replacement", "vectors", "words")

# Before the imports: only then do failed assertions of the suites show their values.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _SUITES))

from .connections import ConnectionGraphContract  # noqa: E402
from .examples import (  # noqa: E402
    FILTER_CASES,
    FILTERED_MEMORIES,
    WordLengthProvider,
    make_memory,
    unit,
)
from .providers import EmbeddingProviderContract  # noqa: E402
from .records import MemoryStorageContract  # noqa: E402
from .replacement import EmbeddingReplacementContract, Stores  # noqa: E402
from .vectors import VectorStorageContract  # noqa: E402
from .words import LexicalIndexContract  # noqa: E402

__all__ = [
    "FILTERED_MEMORIES",
    "FILTER_CASES",
    "ConnectionGraphContract",
    "EmbeddingProviderContract",
    "EmbeddingReplacementContract",
    "LexicalIndexContract",
    "MemoryStorageContract",
    "Stores",
    "VectorStorageContract",
    "WordLengthProvider",
    "make_memory",
    "unit",
]
