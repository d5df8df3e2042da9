"""The rows of ``benchmark_precisions.py``: models in the models folder, and what may run each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedding_peers import OURS, TORCH, Setup

from cognitive_memory import Settings
from cognitive_memory.core.errors import CognitiveMemoryError, ModelNotFoundError
from cognitive_memory.core.model_files import STATIC, ModelConfig, ModelFolder
from cognitive_memory.encoding.static_provider import TABLE_FILE
from cognitive_memory.model_folders import STORED_PRECISIONS, prepare_static, prepare_teacher
from cognitive_memory.models.installed import installed_models
from cognitive_memory.models.quantize import prepare_quantized

PUBLISHED = "all-MiniLM-L6-v2"
"""The model whose published weights are at hand for the yardstick."""

DEVICES = ("cuda", "tensorrt", "coreml", "openvino")

RUNTIMES: dict[str, dict[str, str]] = {
    "onnx": {"provider": "onnx", "device": "cpu"},
    **{f"onnx-{device}": {"provider": "onnx", "device": device} for device in DEVICES},
    "openvino": {"provider": "openvino", "device": "cpu"},
    "openvino-bf16": {"provider": "openvino", "device": "cpu", "precision": "bf16"},
    STATIC: {"provider": STATIC, "device": "cpu", "precision": "fp32"},
}
"""Name and settings; the precision is the model's own where nothing is said."""

RUN_BY = {
    "fp32": tuple(name for name in RUNTIMES if name != STATIC),
    "fp16": ("onnx", *(f"onnx-{device}" for device in DEVICES[:3])),
    "int8": ("onnx",),  # no other device has kernels for its products
    STATIC: (STATIC,),
}


@dataclass(frozen=True)
class Variant:
    """A row: a model of the models folder, or the published files, on one runtime."""

    model: str
    family: str
    """Name of the fp32 model with the same weights; its vectors are the reference."""
    stored: str
    """Precision of the model; what it is computed in may be another."""
    runtime: str
    folder: Path

    @property
    def name(self) -> str:
        """How the row is called."""
        return f"{self.model} {self.runtime}"

    @property
    def reference(self) -> str:
        """Name of the row that this one is compared with."""
        return f"{self.family} onnx"

    @property
    def yardstick(self) -> str:
        """Name of the row of sentence-transformers."""
        return f"{self.family} {TORCH}"

    @property
    def precision(self) -> str:
        """What it is computed in."""
        return "bf16" if self.runtime == "openvino-bf16" else self.stored

    @property
    def file(self) -> Path:
        """What is loaded."""
        if self.runtime == TORCH:
            return self.folder / "model.safetensors"
        if self.runtime == STATIC:
            return self.folder / TABLE_FILE
        model = ModelFolder(lambda: self.folder)
        return self.folder / (model.runtime_graph if self.runtime == "onnx" else model.graph)

    def setup(self, threads: int) -> Setup:
        """What its process is told."""
        if self.runtime == TORCH:
            return Setup(TORCH, threads, model_dir=str(self.folder), name=self.name)
        settings = {"model": str(self.folder), "precision": self.stored, **RUNTIMES[self.runtime]}
        return Setup(OURS, threads, name=self.name, settings=settings)


def build_missing(
    settings: Settings, skipped: dict[str, str], report: Callable[[str], None]
) -> None:
    """The default model in every precision; what cannot be built goes to ``skipped``."""
    published = prepare_teacher(settings, report=report)
    for precision in STORED_PRECISIONS:
        target = settings.model_folder / f"{published.name}-{precision}"
        if target.exists():
            continue
        try:
            prepare_quantized(published, target, precision, report)
        except CognitiveMemoryError as error:
            skipped[target.name] = str(error)
    prepare_static(settings, report)


def find_variants(
    settings: Settings, families: Sequence[str], skipped: dict[str, str]
) -> list[Variant]:
    """Every model on each runtime that may run it, the default model first.

    ``families`` are names of fp32 models, none for all. Raises ``ModelNotFoundError``.
    """
    models: list[tuple[Path, ModelConfig]] = []
    for model in installed_models(settings.model_folder.absolute()):
        if model.config is None:
            skipped[model.name] = str(model.fault)
        else:
            models.append((model.path, model.config))
    originals = {
        config.source["weights_sha256"]: path.name
        for path, config in models
        if config.precision == "fp32"
    }
    found = []
    for path, config in models:
        family = originals.get(config.source["weights_sha256"], path.name)
        found += [
            Variant(path.name, family, config.precision, runtime, path)
            for runtime in RUN_BY[config.precision]
            if not families or family in families
        ]
    known = {variant.family for variant in found}
    if unknown := set(families) - known or (set() if found else {"at all"}):
        raise ModelNotFoundError(f"no model {', '.join(unknown)} in {settings.model_folder}")
    if PUBLISHED in known:  # its files are fetched once the library turns out to be there
        found.append(Variant(PUBLISHED, PUBLISHED, "fp32", TORCH, Path()))
    first = default_family(settings)
    return sorted(
        found, key=lambda each: (each.family != first, each.family, each.stored != "fp32")
    )


def default_family(settings: Settings) -> str:
    """Name of the configured model."""
    return Path(settings.embedding.model).name
