"""The second way to a graph: PyTorch's exporter, for architectures that the builder does not know.

Needs the extra ``torch``; its packages are imported inside the function and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConversionError, MissingExtraError
from .registry import POOLINGS, ModelRecipe

OPSET = 17


def export_graph(source: Path, target: Path, recipe: ModelRecipe) -> int:
    """Trace the model in ``source`` with its pooling into the ONNX file ``target``.

    Returns the opset. Raises ``MissingExtraError`` without torch, ``ConversionError`` when the
    model cannot be loaded or traced, or has another dimension than its recipe.
    """
    try:
        import torch
        from transformers import AutoModel
    except ImportError as error:
        raise MissingExtraError(
            f"--exporter torch needs {error.name}; pip install 'cognitive-memory-onnx[torch]'"
        ) from None
    if recipe.pooling not in POOLINGS:
        raise ConversionError(
            f"pooling {recipe.pooling!r} is not supported (supported: {', '.join(POOLINGS)})"
        )
    try:
        # The plain attention is traced: the fused one of torch has no standard operator.
        encoder = AutoModel.from_pretrained(
            source, local_files_only=True, attn_implementation="eager"
        ).eval()
        _check_dimension(recipe, encoder)
        with torch.no_grad():
            torch.onnx.export(
                _sentence_encoder(encoder, recipe.pooling),
                tuple(torch.ones(2, 8, dtype=torch.int64) for _ in range(2)),
                str(target),
                input_names=["input_ids", "attention_mask"],
                output_names=["embeddings"],
                dynamic_axes={
                    "input_ids": {0: "batch", 1: "length"},
                    "attention_mask": {0: "batch", 1: "length"},
                    "embeddings": {0: "batch"},
                },
                opset_version=OPSET,
                # The tracing exporter: the graphs of the newer one defeat ONNX Runtime's fusion.
                dynamo=False,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConversionError(f"{recipe.name} cannot be exported: {error}") from error
    return OPSET


def _check_dimension(recipe: ModelRecipe, encoder: Any) -> None:
    found = encoder.config.hidden_size
    if found != recipe.dimension:
        raise ConversionError(
            f"the recipe of {recipe.name} has dimension {recipe.dimension}, the model has {found}"
        )


def _sentence_encoder(encoder: Any, pooling: str) -> Any:
    """A module that pools and normalizes what ``encoder`` gives for each token."""
    import torch

    class SentenceEncoder(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            tokens = output.last_hidden_state
            if pooling == "cls":
                return torch.nn.functional.normalize(tokens[:, 0], dim=1)
            mask = attention_mask
            if pooling == "last":  # all but the last token of each text left out
                mask = attention_mask.cumsum(dim=1) == attention_mask.sum(dim=1, keepdim=True)
                mask = mask * attention_mask
            share = mask.unsqueeze(-1).to(torch.float32)
            mean = (tokens * share).sum(dim=1) / share.sum(dim=1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    return SentenceEncoder()
