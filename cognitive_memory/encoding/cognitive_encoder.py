"""A provider, an extractor and a fusion layer as one ``EmbeddingProvider``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.errors import InvalidInputError
from ..core.interfaces import DimensionExtractor, EmbeddingProvider, Span
from ..core.similarity import Vector
from .fusion import CognitiveFusionLayer


class CognitiveEncoder(EmbeddingProvider):
    """Vectors of a provider, fused with the dimensions of the same texts.

    Closing it closes the provider. Raises ``InvalidInputError`` when the layer was made for other
    axes than those of the extractor.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        extractor: DimensionExtractor,
        fusion: CognitiveFusionLayer,
    ) -> None:
        if tuple(extractor.axes) != fusion.axes:
            raise InvalidInputError(
                f"the extractor has the axes {', '.join(extractor.axes)}, the fusion layer "
                f"{', '.join(fusion.axes)}; make the layer with axes=extractor.axes"
            )
        self.provider = provider
        self.extractor = extractor
        self.fusion = fusion

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a fused vector."""
        return self.fusion.fused_dimension(self.provider.dimension)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Those of the three parts: vectors fused by other rules or weights are others."""
        parts = (self.provider, self.extractor, self.fusion)
        return "+".join(part.fingerprint for part in parts)

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows, in the order of ``texts``; raises as the provider does."""
        semantic = self.provider.encode_batch(texts)
        return self.fusion.fuse(semantic, self.extractor.extract_batch(texts))

    def encode_query(self, text: str) -> Vector:
        """(dim,) float32: the provider's vector of a question, with the dimensions of the text."""
        semantic = self.provider.encode_query(text)[None]
        vector: Vector = self.fusion.fuse(semantic, self.extractor.extract_batch([text]))[0]
        return vector

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """As the provider cuts them."""
        return self.provider.chunk_batch(texts)

    def warm_up(self) -> None:
        """Get the provider ready."""
        self.provider.warm_up()

    def get_model_info(self) -> dict[str, Any]:
        """JSON values of the provider's model, and how it is fused."""
        return {
            **self.provider.get_model_info(),
            "dimension": self.dimension,
            "fingerprint": self.fingerprint,
            "fusion": {
                "axes": list(self.fusion.axes),
                "semantic_share": self.fusion.semantic_share,
                "dimension_share": self.fusion.dimension_share,
            },
        }

    def close(self) -> None:
        """Close the provider."""
        self.provider.close()
