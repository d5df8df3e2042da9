"""The historic name of the provider, kept for code that imports it."""

from .onnx_provider import ONNXEmbeddingProvider

SentenceBERTProvider = ONNXEmbeddingProvider

__all__ = ["SentenceBERTProvider"]
