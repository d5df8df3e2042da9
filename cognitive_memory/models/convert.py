"""From published weights to a ready model folder, without torch, in seconds.

The folder is written beside its final place, checked against the golden vectors, and only then
moved there: what is under a model's name is whole and exact.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from ..core.errors import ConversionError, InvalidInputError
from ..core.leftovers import FOLDER_SUFFIX
from ..core.model_files import CONFIG_FILE, TOKENIZER_FILE, ModelConfig, check_file, record_file
from ..encoding.runtime import import_runtime, runtime_errors
from .registry import ModelRecipe, find_recipe
from .verify import check_golden

CONVERTER = "cognitive_memory graph builder 2"
EXPORTERS = ("builder", "torch")
SECONDS_A_DAY = 86_400
SOURCE_FILES = ("model.safetensors", "tokenizer.json", "config.json")
ARCHITECTURE_FILE = "config.json"
"""As it was published: what ``architecture.read_architecture`` reads."""


def graph_files(name: str) -> tuple[str, ...]:
    """What a model folder cannot do without, beside its ``model_config.json``."""
    return (f"{name}.onnx", f"{name}.ort", TOKENIZER_FILE)


def model_files(name: str) -> tuple[str, ...]:
    """The files of a folder that was converted here: with the architecture, to build it anew."""
    return (*graph_files(name), ARCHITECTURE_FILE)


def check_source(source: Path, recipe: ModelRecipe) -> None:
    """Raise ``ModelIntegrityError`` unless ``source`` holds the recipe's files, byte for byte."""
    commit = f" at {recipe.revision[:8]}" if recipe.revision else ""
    for name, expected in recipe.files.items():
        check_file(source / name, expected, f"get {recipe.repository}{commit}")


def convert_model(
    source: Path, target: Path, recipe: ModelRecipe, exporter: str = "builder"
) -> ModelConfig:
    """Convert the weights in ``source`` into the model folder ``target``, replacing it.

    Raises ``ModelIntegrityError`` for source files that are not the recipe's, and
    ``ConversionError`` when weights, config and recipe differ, the builder does not know the
    architecture, or the result is not exact; ``target`` is then as it was.
    """
    check_source(source, recipe)
    check_replaceable(target, recipe.name)
    with replacing(target) as folder:
        if exporter == "torch":
            from .torch_exporter import export_graph

            opset = export_graph(source, folder / f"{recipe.name}.onnx", recipe)
            runtime_source = folder / f"{recipe.name}.onnx"
        else:
            opset = _write_graphs(source, folder, recipe)
            runtime_source = folder / "fused.onnx"
        write_runtime_file(runtime_source, folder / f"{recipe.name}.ort")
        (folder / "fused.onnx").unlink(missing_ok=True)
        (folder / TOKENIZER_FILE).parent.mkdir()
        shutil.copyfile(source / "tokenizer.json", folder / TOKENIZER_FILE)
        shutil.copyfile(source / "config.json", folder / ARCHITECTURE_FILE)
        config = _describe(source, folder, recipe, opset, exporter)
        config.write(folder)
        check_golden(folder, config)
    return config


def check_replaceable(target: Path, name: str) -> None:
    """Raise ``InvalidInputError`` if ``target`` is a folder of anything else than one model.

    One that was named by mistake must not be lost to the model ``name``.
    """
    try:
        is_taken = target.is_dir() and not target.is_symlink() and any(target.iterdir())
        is_model = (target / CONFIG_FILE).is_file()
    except OSError as error:
        raise ConversionError(f"cannot write {target}: {error.strerror}") from None
    if is_taken and not is_model:
        raise InvalidInputError(
            f"{target} holds other things than a model; give a folder of its own, as "
            f"{target / name}"
        )


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``target`` when the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        staging = Path(tempfile.mkdtemp(FOLDER_SUFFIX, f".{target.name}-", target.parent))
    except OSError as error:
        raise ConversionError(f"cannot write to {target.parent}: {error.strerror}") from None
    try:
        yield staging
        staging.chmod(0o755)
        retired = Path(tempfile.mkdtemp(FOLDER_SUFFIX, f".{target.name}-", target.parent))
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
    for leftover in folder.glob(f".*-*{FOLDER_SUFFIX}"):
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


def _write_graphs(source: Path, folder: Path, recipe: ModelRecipe) -> int:
    import onnx

    from .encoder_graph import OPSET, build_graph
    from .published import check_published, read_published_config, read_weights

    weights, config = read_weights(source), read_published_config(source)
    check_published(source, recipe, weights)
    portable = folder / f"{recipe.name}.onnx"
    for path, fused in ((portable, False), (folder / "fused.onnx", True)):
        onnx.save(build_graph(weights, config, fused=fused, pooling=recipe.pooling), path)
    try:
        onnx.checker.check_model(str(portable), full_check=True)
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
    from .published import read_published_config

    def digest(name: str) -> str:
        return (recipe.files.get(name) or record_file(source / name)).sha256

    # Heads and activation decide the vectors, too; where the registry pins the file, its name does.
    known = find_recipe(recipe.name)
    is_pinned = known is not None and ARCHITECTURE_FILE in known.files
    architecture = {} if is_pinned else {"architecture_sha256": digest(ARCHITECTURE_FILE)}
    return ModelConfig(
        name=recipe.name,
        dimension=recipe.dimension,
        max_length=recipe.max_length,
        pooling=recipe.pooling,
        precision="fp32",
        opset=opset,
        converter=CONVERTER if exporter == "builder" else "torch.onnx exporter",
        onnxruntime=import_runtime().__version__,
        source={
            "repository": recipe.repository,
            "revision": recipe.revision or "unknown",
            "license": recipe.license,
            "weights_sha256": digest("model.safetensors"),
            "tokenizer_sha256": digest("tokenizer.json"),
            **architecture,
        },
        files={name: record_file(folder / name) for name in model_files(recipe.name)},
        architecture=str(read_published_config(source).get("model_type")),
        prompts=recipe.prompts,
        dimensions=recipe.dimensions,
    )
