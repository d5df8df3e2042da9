"""The embedding engines that ``benchmark_embedding.py`` compares, each by its own public face.

Every engine gets the same weights, the same length limit and the same number of threads. Imports
lie inside the classes: a worker process loads its own engine and nothing else.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Setup:
    """What a worker process is told: plain values, as they travel as JSON."""

    engine: str
    threads: int
    model_dir: str = ""  # the published files
    graph: str = ""  # our portable .onnx of the same weights
    stage: str = ""  # a folder of the engine's own, which ``prepare`` fills
    max_length: int = 256
    name: str = ""  # what messages call it; by default the engine
    settings: Mapping[str, str] = field(default_factory=dict)  # of our provider


class Engine(ABC):
    """Texts to (n, dim) float32 unit rows."""

    requires: ClassVar[tuple[str, ...]] = ()
    packages: tuple[str, ...] = ()  # distributions whose versions are reported
    batch_sizes: ClassVar[tuple[int, ...]] = ()
    """Those to try, the best is kept; none: the engine forms its batches itself."""

    @abstractmethod
    def __init__(self, setup: Setup) -> None: ...

    @classmethod
    def prepare(cls, setup: Setup) -> dict[str, str]:
        """Once, in a process of its own, before any measurement; what others need to know."""
        del setup
        return {}

    @abstractmethod
    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """(n, dim) float32, in the order of ``texts``."""

    def encode_one(self, text: str) -> Vectors:
        """(dim,) float32: the way that a single text takes."""
        row: Vectors = self.encode([text], 1)[0]
        return row

    def encode_query(self, text: str) -> Vectors:
        """(dim,) float32 of a question, where the engine knows a difference."""
        return self.encode_one(text)


class Ours(Engine):
    """The provider of this project as the settings make it; it forms its own micro-batches."""

    requires = ("cognitive_memory",)
    packages: tuple[str, ...] = ("onnxruntime", "tokenizers", "numpy")

    def __init__(self, setup: Setup) -> None:
        self.provider = _our_provider(setup)
        if setup.settings.get("provider") == "openvino":
            self.packages = (*self.packages, "openvino")

    @classmethod
    def prepare(cls, setup: Setup) -> dict[str, str]:
        """Bring the model here, if need be."""
        provider = _our_provider(setup)
        provider.encode("ready")
        return {"graph": provider.get_model_info()["path"]}

    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """In one call of ``encode_batch``."""
        del batch_size
        vectors: Vectors = self.provider.encode_batch(texts)
        return vectors

    def encode_one(self, text: str) -> Vectors:
        """In one call of ``encode``."""
        row: Vectors = self.provider.encode(text)
        return row

    def encode_query(self, text: str) -> Vectors:
        """In one call of ``encode_query``."""
        row: Vectors = self.provider.encode_query(text)
        return row


class SentenceTransformersTorch(Engine):
    """The reference, with its default batch size; it sorts texts by length itself."""

    requires: ClassVar[tuple[str, ...]] = ("sentence_transformers", "torch")
    packages: tuple[str, ...] = ("sentence-transformers", "torch", "transformers")
    batch_sizes = (32,)  # the library's default

    def __init__(self, setup: Setup) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(setup.threads)
        self.model = SentenceTransformer(setup.model_dir, device="cpu", local_files_only=True)

    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """In one call of the library's ``encode``."""
        vectors: Vectors = self.model.encode(
            list(texts), batch_size=batch_size, show_progress_bar=False
        )
        return vectors


class SentenceTransformersOnnx(SentenceTransformersTorch):
    """The same library on ONNX Runtime, with the graph that Optimum exports."""

    requires = ("sentence_transformers", "optimum.onnxruntime")
    packages = ("sentence-transformers", "optimum-onnx", "onnxruntime", "transformers")

    def __init__(self, setup: Setup) -> None:
        import onnxruntime
        import torch

        torch.set_num_threads(setup.threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setup.threads
        self.model = self._open(setup.stage, session_options=options)

    @classmethod
    def prepare(cls, setup: Setup) -> dict[str, str]:
        """Export once, so that a start does not export."""
        cls._open(setup.model_dir, export=True).save_pretrained(setup.stage)
        return {}

    @staticmethod
    def _open(folder: str, **arguments: Any) -> Any:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(
            folder,
            device="cpu",
            backend="onnx",
            local_files_only=True,
            model_kwargs={"provider": "CPUExecutionProvider", **arguments},
        )


class FastEmbed(Engine):
    """fastembed on our portable graph, which pools and normalizes itself."""

    requires = ("fastembed",)
    packages = ("fastembed", "onnxruntime")
    batch_sizes = (1, 4, 8, 16, 32, 256)
    files = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")

    def __init__(self, setup: Setup) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        name = "benchmark/same-weights"
        config = json.loads(Path(setup.model_dir, "config.json").read_text(encoding="utf-8"))
        TextEmbedding.add_custom_model(
            name,
            pooling=PoolingType.DISABLED,
            normalization=False,
            sources=ModelSource(url="https://invalid.invalid/never-fetched"),
            dim=config["hidden_size"],
            model_file="model.onnx",
        )
        self.model = TextEmbedding(
            name,
            threads=setup.threads,
            providers=["CPUExecutionProvider"],
            specific_model_path=setup.stage,
        )

    @classmethod
    def prepare(cls, setup: Setup) -> dict[str, str]:
        """A folder as fastembed reads it; its length limit is set to the reference's."""
        stage = Path(setup.stage)
        for name in cls.files:
            shutil.copyfile(Path(setup.model_dir, name), stage / name)
        shutil.copyfile(setup.graph, stage / "model.onnx")
        path = stage / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model_max_length"] = setup.max_length
        path.write_text(json.dumps(config), encoding="utf-8")
        return {}

    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """In one call of ``embed``."""
        return np.stack(list(self.model.embed(list(texts), batch_size=batch_size)))


class OpenVino(Engine):
    """OpenVINO on our portable graph, with length-sorted micro-batches under a token budget."""

    requires = ("openvino", "tokenizers")
    packages = ("openvino", "tokenizers")
    token_budget = 1024

    def __init__(self, setup: Setup) -> None:
        from openvino import AsyncInferQueue, Core
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(setup.model_dir, "tokenizer.json")))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(setup.max_length)
        streams = min(2, setup.threads)
        compiled = Core().compile_model(
            setup.graph,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": setup.threads,
                "NUM_STREAMS": streams,
                # Left alone it computes in bf16 where the processor can.
                "INFERENCE_PRECISION_HINT": "f32",
            },
        )
        self.dimension = int(compiled.output(0).get_partial_shape()[1].get_length())
        self.queue = AsyncInferQueue(compiled, streams)
        self.queue.set_callback(self._keep)
        self.vectors: Vectors = np.empty((0, self.dimension), dtype=np.float32)

    def encode(self, texts: Sequence[str], batch_size: int) -> Vectors:
        """In one call, up to two micro-batches at once."""
        del batch_size
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        self.vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        for batch in self._batches([len(row) for row in rows]):
            ids = np.zeros((len(batch), max(len(rows[index]) for index in batch)), dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, index in enumerate(batch):
                ids[place, : len(rows[index])] = rows[index]
                mask[place, : len(rows[index])] = 1
            self.queue.start_async({"input_ids": ids, "attention_mask": mask}, batch)
        self.queue.wait_all()
        return self.vectors

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        batches: list[list[int]] = [[]]
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            longest = lengths[batches[-1][0]] if batches[-1] else 0
            if longest * (len(batches[-1]) + 1) > self.token_budget:
                batches.append([])
            batches[-1].append(index)
        return batches

    def _keep(self, request: Any, batch: list[int]) -> None:
        self.vectors[batch] = request.get_output_tensor(0).data


def _our_provider(setup: Setup) -> Any:
    from cognitive_memory import Settings
    from cognitive_memory.factory import create_embedding_provider

    limits = {"workers": setup.threads, "threads": setup.threads}
    # Whatever else the environment sets is measured as it is set.
    provider = create_embedding_provider(Settings(embedding={**setup.settings, **limits}))
    # Behind a cache, if there is one: texts come again here, and look-ups are not the subject.
    return getattr(provider, "provider", provider)


OURS = "ours"
TORCH = "sentence-transformers"
FASTEMBED = "fastembed"

ENGINES: dict[str, type[Engine]] = {
    OURS: Ours,
    TORCH: SentenceTransformersTorch,
    "sentence-transformers-onnx": SentenceTransformersOnnx,
    FASTEMBED: FastEmbed,
    "openvino": OpenVino,
}
