"""Torch-free memory backend: text in, unit vectors and words kept, the right memory back.

Names are imported when they are first used: ``import cognitive_memory`` alone loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "CognitiveMemory": "core.memory",
    "CognitiveMemoryError": "core.errors",
    "CognitiveMemorySystem": "core.cognitive_system",
    "CognitiveSystem": "core.interfaces",
    "EmbeddingProvider": "core.interfaces",
    "LoadReport": "core.memory",
    "MemoryConnection": "core.memory",
    "MemoryFilter": "core.memory",
    "ONNXEmbeddingProvider": "encoding.onnx_provider",
    "SearchResult": "core.memory",
    "SentenceBERTProvider": "encoding.sentence_bert",
    "Settings": "core.config",
    "VectorStorage": "core.interfaces",
    "create_system": "factory",
}

__all__ = [
    "CognitiveMemory",
    "CognitiveMemoryError",
    "CognitiveMemorySystem",
    "CognitiveSystem",
    "EmbeddingProvider",
    "LoadReport",
    "MemoryConnection",
    "MemoryFilter",
    "ONNXEmbeddingProvider",
    "SearchResult",
    "SentenceBERTProvider",
    "Settings",
    "VectorStorage",
    "__version__",
    "create_system",
]

if TYPE_CHECKING:
    from .core.cognitive_system import CognitiveMemorySystem as CognitiveMemorySystem
    from .core.config import Settings as Settings
    from .core.errors import CognitiveMemoryError as CognitiveMemoryError
    from .core.interfaces import CognitiveSystem as CognitiveSystem
    from .core.interfaces import EmbeddingProvider as EmbeddingProvider
    from .core.interfaces import VectorStorage as VectorStorage
    from .core.memory import CognitiveMemory as CognitiveMemory
    from .core.memory import LoadReport as LoadReport
    from .core.memory import MemoryConnection as MemoryConnection
    from .core.memory import MemoryFilter as MemoryFilter
    from .core.memory import SearchResult as SearchResult
    from .encoding.onnx_provider import ONNXEmbeddingProvider as ONNXEmbeddingProvider
    from .encoding.sentence_bert import SentenceBERTProvider as SentenceBERTProvider
    from .factory import create_system as create_system


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
