"""Adds a model of the user's own: an ONNX file from anywhere, or published weights.

What an ONNX file holds is checked, brought to the one interface, and tried before it is kept: the
recipe must agree with what the model does.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..core.errors import ConversionError, InvalidInputError, ModelNotFoundError
from ..core.interfaces import Report
from ..core.model_files import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    ModelConfig,
    record_file,
)
from ..core.similarity import Vector
from ..encoding.onnx_provider import ONNXEmbeddingProvider
from ..encoding.runtime import import_runtime
from .convert import SOURCE_FILES, convert_model, graph_files, replacing, write_runtime_file
from .fetch import LOCAL_COPY, pin_files
from .onnx_file import read_graph
from .onnx_interface import adapt_graph, finish_graph
from .registry import ModelRecipe, find_recipe, parse_recipe
from .trial import LONG, SHORT, try_graph
from .trial_checks import LARGEST_DIFFERENCE, check_pooling, check_trial
from .verify import cuts_expected

CONVERTER = "cognitive_memory model add 1"
RESERVED_ENDINGS = ("-fp16", "-bf16", "-int8", "-static")
"""Of the folders of a model's other forms."""

_DEFAULTS = {"repository": "local", "license": "unknown"}
_GRAPHS = ("model.onnx", "onnx/model.onnx")
_MODULES = ("Transformer", "Pooling", "Normalize")
_PRECISIONS: dict[int, str] = {
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8), "int8"),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4), "int8"),
}
_INTEGER_OPERATORS = ("DynamicQuantize", "MatMulInteger", "QAttention", "QGemm", "QLinear")
_POOLING_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def add_model(
    name: str,
    source: Path,
    models_dir: Path,
    values: Mapping[str, Any],
    *,
    replace_existing: bool = False,
    report: Report | None = None,
) -> ModelConfig:
    """Make the model folder ``models_dir/name`` of ``source`` and a recipe of the user's own.

    ``source`` is an ONNX file with its ``tokenizer.json`` beside or above it, a folder that holds
    ``model.onnx`` or ``onnx/model.onnx``, or one of published weights. ``values`` are the fields of
    ``ModelRecipe``; without ``dimension`` it is that of the model. Raises ``InvalidInputError`` for
    the name or the recipe, ``ModelNotFoundError`` for the source, ``ConversionError`` where model
    and recipe differ or the model is unusable; then nothing was written.
    """
    # No model has so many; the real one is known after a look at the model.
    recipe = parse_recipe(name, {"dimension": 65_536, **_DEFAULTS, **values})
    target = models_dir / name
    _check_free(target, replace_existing)
    graph = _find_graph(source)
    if graph is None:
        return _add_weights(source, target, recipe, values, report or (lambda _: None))
    root = graph.parent.parent if graph.parent.name == "onnx" else graph.parent
    _check_published_pooling(root, recipe)
    with replacing(target) as folder:
        tokenizer = _find_tokenizer(graph, root)
        return _write_model(folder, graph, tokenizer, recipe, values, root)


def _check_free(target: Path, replace_existing: bool) -> None:
    name = target.name
    if find_recipe(name) is not None:
        raise InvalidInputError(
            f"{name} is a known model, which 'cognitive-memory model pull {name}' brings; "
            "choose another name for yours"
        )
    ending = next((each for each in RESERVED_ENDINGS if name.endswith(each)), None)
    if ending is not None:
        raise InvalidInputError(
            f"got the model name {name!r}; {ending} marks another form of a model; choose "
            "another name"
        )
    if not target.exists():
        return
    if not (target / CONFIG_FILE).is_file():
        raise InvalidInputError(f"{target} exists and holds no model; choose another name")
    if not replace_existing:
        raise InvalidInputError(f"{name} is there already; give --replace, or choose another name")


def _find_graph(source: Path) -> Path | None:
    """The ONNX file that ``source`` is or holds; ``None`` for a folder of published weights."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelNotFoundError(f"{source} does not exist; --from takes an ONNX file or a folder")
    for name in _GRAPHS:
        if (source / name).is_file():
            return source / name
    if (source / SOURCE_FILES[0]).is_file():
        return None
    raise ModelNotFoundError(
        f"{source} holds none of {', '.join((*_GRAPHS, SOURCE_FILES[0]))}; "
        "--from takes an ONNX file, or a folder that holds one of these"
    )


def _find_tokenizer(graph: Path, root: Path) -> Path:
    for folder in (graph.parent, root):
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    raise ModelNotFoundError(
        f"no tokenizer.json beside {graph}; save it there with "
        "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
    )


def _check_published_pooling(root: Path, recipe: ModelRecipe) -> None:
    """What sentence-transformers writes beside a model must not contradict the recipe."""
    path = root / "1_Pooling" / "config.json"
    published = [
        value if key == "pooling_mode" else _POOLING_MODES.get(key, key)
        for key, value in _read_json(path).items()
        if key.startswith("pooling_mode") and value
    ]
    if published and published != [recipe.pooling]:
        raise ConversionError(
            f"the recipe has pooling {recipe.pooling!r}, "
            f"{path} says {' and '.join(map(repr, published))}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    """An object from a file that may be missing."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConversionError(f"{path} holds no JSON object")
    return values


def _add_weights(
    source: Path, target: Path, recipe: ModelRecipe, values: Mapping[str, Any], report: Report
) -> ModelConfig:
    _check_published_pooling(source, recipe)
    _check_modules(source)
    published = _read_json(source / "config.json")
    dimension = next(
        (published[key] for key in ("hidden_size", "n_embd", "dim") if key in published), None
    )
    recipe = _with_dimension(recipe, values, dimension, f"{source / 'config.json'} says")
    return convert_model(source, target, pin_files(source, recipe, report=report))


def _check_modules(root: Path) -> None:
    """Layers after the pooling are in no ``model.safetensors`` and in no token vectors."""
    path = root / "modules.json"
    if not path.is_file():
        return
    try:
        kinds = [each["type"].rsplit(".", 1)[-1] for each in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from None
    further = [kind for kind in kinds if kind not in _MODULES]
    if further:
        raise ConversionError(
            f"{path} puts {', '.join(further)} after the pooling, which is not in these weights; "
            "export the whole model to ONNX with its sentence_embedding as output"
        )


def _with_dimension(
    recipe: ModelRecipe, values: Mapping[str, Any], found: Any, origin: str
) -> ModelRecipe:
    """The recipe with the model's dimension; one that was given must be the same."""
    given = values.get("dimension", found)
    if given != found:
        raise ConversionError(f"the recipe has dimension {given}, {origin} {found}")
    return parse_recipe(recipe.name, {**_DEFAULTS, **values, "dimension": found})


def _write_model(
    folder: Path,
    graph: Path,
    tokenizer: Path,
    recipe: ModelRecipe,
    values: Mapping[str, Any],
    root: Path,
) -> ModelConfig:
    """Everything that a model folder holds, checked."""
    model, read = read_graph(graph)
    adapt_graph(model, recipe.pooling)
    given_both = len(model.graph.output) > 1
    if not given_both:
        _check_modules(root)
    (folder / TOKENIZER_FILE).parent.mkdir()
    shutil.copyfile(tokenizer, folder / TOKENIZER_FILE)
    portable = folder / f"{recipe.name}.onnx"
    _save(model, portable)
    trial = try_graph(portable, folder / TOKENIZER_FILE, recipe.max_length)
    dimension = check_trial(trial)
    if given_both:
        check_pooling(trial, recipe.pooling)
    recipe = _with_dimension(recipe, values, dimension, "the model gives")
    finish_graph(model, dimension)
    _save(model, portable)
    write_runtime_file(portable, folder / f"{recipe.name}.ort")
    config = _describe(folder, recipe, model, read, tokenizer)
    config.write(folder)
    _check_written(folder)
    return config


def _save(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
        onnx.save(model, path)
    except (onnx.checker.ValidationError, ValueError) as error:
        line = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ConversionError(f"the graph is not valid ONNX: {line}") from None


def _describe(
    folder: Path, recipe: ModelRecipe, model: onnx.ModelProto, read: list[Path], tokenizer: Path
) -> ModelConfig:
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    hashes = [record_file(path).sha256 for path in read]
    together = hashlib.sha256("\0".join(hashes).encode()).hexdigest()
    return ModelConfig(
        name=recipe.name,
        dimension=recipe.dimension,
        max_length=recipe.max_length,
        pooling=recipe.pooling,
        precision=_precision(model),
        opset=opset,
        converter=CONVERTER,
        onnxruntime=import_runtime().__version__,
        source={
            "repository": recipe.repository,
            "revision": recipe.revision or LOCAL_COPY,
            "license": recipe.license,
            "weights_sha256": hashes[0] if len(hashes) == 1 else together,
            "tokenizer_sha256": record_file(tokenizer).sha256,
        },
        files={name: record_file(folder / name) for name in graph_files(recipe.name)},
        architecture="onnx",
        prompts=recipe.prompts,
        dimensions=recipe.dimensions,
    )


def _precision(model: onnx.ModelProto) -> str:
    """int8 if anything is computed in it, else that of most weights."""
    if any(node.op_type.startswith(_INTEGER_OPERATORS) for node in model.graph.node):
        return "int8"  # though its word table may be larger than all other weights, and fp32
    counts = dict.fromkeys(("fp32", "fp16", "bf16", "int8"), 0)
    for tensor in model.graph.initializer:
        counts[_PRECISIONS.get(tensor.data_type, "fp32")] += math.prod(tensor.dims)
    return max(counts, key=lambda precision: counts[precision])


def _check_written(folder: Path) -> None:
    """Prepared by ONNX Runtime and as it is, the graph must give the same vectors."""
    made: list[Vector] = []
    for optimization in ("all", "basic"):
        with ONNXEmbeddingProvider(folder, optimization=optimization) as provider, cuts_expected():
            made.append(provider.encode_batch([SHORT, LONG]))
    difference = float(np.abs(made[0] - made[1]).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ConversionError(
            f"ONNX Runtime's preparation changes the model's vectors by {difference:.2g}, the "
            f"limit is {LARGEST_DIFFERENCE:g}; another version of it may do better"
        )
