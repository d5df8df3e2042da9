"""From published weights to a ready model folder, without torch, in seconds.

The folder is written beside its final place, checked against the golden vectors, and only then
moved there: what is under a model's name is whole and exact.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..core.errors import ConversionError
from ..core.model_files import TOKENIZER_FILE, ModelConfig, check_file, record_file
from ..encoding.runtime import import_runtime, runtime_errors
from .registry import ModelRecipe
from .verify import check_golden

CONVERTER = "cognitive_memory graph builder 1"
EXPORTERS = ("builder", "torch")
SECONDS_A_DAY = 86_400
SOURCE_FILES = ("model.safetensors", "tokenizer.json", "config.json")


def model_files(name: str) -> tuple[str, ...]:
    """The files of a model folder beside its ``model_config.json``."""
    return (f"{name}.onnx", f"{name}.ort", TOKENIZER_FILE)


def check_source(source: Path, recipe: ModelRecipe) -> None:
    """Raise ``ModelIntegrityError`` unless ``source`` holds the recipe's files, byte for byte."""
    for name, expected in recipe.files.items():
        check_file(source / name, expected, f"get {recipe.repository} at {recipe.revision[:8]}")


def convert_model(
    source: Path, target: Path, recipe: ModelRecipe, exporter: str = "builder"
) -> ModelConfig:
    """Convert the weights in ``source`` into the model folder ``target``, replacing it.

    Raises ``ModelIntegrityError`` for source files that are not the recipe's, and
    ``ConversionError`` when the result is not exact; ``target`` is then as it was.
    """
    check_source(source, recipe)
    with replacing(target) as folder:
        if exporter == "torch":
            from .torch_exporter import export_graph

            opset = export_graph(source, folder / f"{recipe.name}.onnx", recipe)
            runtime_source = folder / f"{recipe.name}.onnx"
        else:
            opset = _write_graphs(source, folder, recipe.name)
            runtime_source = folder / "fused.onnx"
        write_runtime_file(runtime_source, folder / f"{recipe.name}.ort")
        (folder / "fused.onnx").unlink(missing_ok=True)
        (folder / TOKENIZER_FILE).parent.mkdir()
        shutil.copyfile(source / "tokenizer.json", folder / TOKENIZER_FILE)
        config = _describe(source, folder, recipe, opset, exporter)
        config.write(folder)
        check_golden(folder, config)
    return config


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``target`` when the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ConversionError(f"cannot write to {target.parent}: {error.strerror}") from None
    try:
        yield staging
        staging.chmod(0o755)
        retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _put_in_place(staging, target, retired)
        finally:
            shutil.rmtree(retired, ignore_errors=True)
    except OSError as error:
        raise ConversionError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """What a process that was killed left behind; a day is longer than any conversion."""
    for leftover in folder.glob(".*-*"):
        with suppress(FileNotFoundError):  # another process may clean up, too
            if leftover.is_dir() and time.time() - leftover.stat().st_mtime > SECONDS_A_DAY:
                shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(folder: Path, target: Path, retired: Path) -> None:
    """Rename ``folder`` to ``target``; what is there goes to ``retired``, or back on failure."""
    for attempt in count():
        old = retired / str(attempt)
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            folder.rename(target)
        except OSError as error:
            # Another process has put its own there in between: that is replaced, too.
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                continue
            if old.exists():
                old.rename(target)
            raise
        return


def _write_graphs(source: Path, folder: Path, name: str) -> int:
    import onnx
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from .bert_graph import OPSET, build_graph

    try:
        weights = load_file(source / "model.safetensors")
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except (SafetensorError, ValueError) as error:
        raise ConversionError(f"{source} holds no readable model: {error}") from None
    for path, fused in ((f"{name}.onnx", False), ("fused.onnx", True)):
        onnx.save(build_graph(weights, config, fused=fused), folder / path)
    try:
        onnx.checker.check_model(str(folder / f"{name}.onnx"), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"{source} makes no valid graph: {error}") from None
    return OPSET


def write_runtime_file(graph: Path, target: Path) -> None:
    """Save ``graph`` as ONNX Runtime loads it fastest: optimized ahead, mappable into memory."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    # "extended" is the highest level whose result does not depend on the machine that ran it.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    try:
        runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise ConversionError(f"ONNX Runtime refuses the graph: {error}") from None


def _describe(
    source: Path, folder: Path, recipe: ModelRecipe, opset: int, exporter: str
) -> ModelConfig:
    model: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return ModelConfig(
        name=recipe.name,
        dimension=int(model["hidden_size"]),
        max_length=recipe.max_length,
        pooling=recipe.pooling,
        precision="fp32",
        opset=opset,
        converter=CONVERTER if exporter == "builder" else "torch.onnx exporter",
        onnxruntime=import_runtime().__version__,
        source={
            "repository": recipe.repository,
            "revision": recipe.revision,
            "license": recipe.license,
            "weights_sha256": recipe.files["model.safetensors"].sha256,
            "tokenizer_sha256": recipe.files["tokenizer.json"].sha256,
        },
        files={name: record_file(folder / name) for name in model_files(recipe.name)},
    )
