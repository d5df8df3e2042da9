"""Commands that bring models here, convert, add, show, check and remove them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidInputError, ModelNotFoundError
from .common import DONE, add_command, print_result, read_settings, say
from .distill import add_distill_command
from .quantize import add_quantize_command

if TYPE_CHECKING:
    from ..core.config import Settings
    from ..core.model_files import ModelConfig
    from ..models.installed import InstalledModel
    from ..models.registry import ModelRecipe

RECIPE_OPTIONS = ("pooling", "max_length", "dimension", "dimensions", "license")


def add_model_command(commands: Any) -> None:
    """``model`` with its actions."""
    parser = commands.add_parser("model", help="Bring models here, convert and check them.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    pull = add_command(actions, "pull", _model_pull, "Fetch, check and convert a model.")
    pull.add_argument("name", nargs="?", help="default: the configured model")
    pull.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take files from DIR")
    convert = add_command(
        actions, "convert", _model_convert, "Convert published files into a model."
    )
    convert.add_argument("name", nargs="?", help="default: the configured model")
    convert.add_argument("--from", dest="source", type=Path, metavar="DIR", required=True)
    convert.add_argument("--out", type=Path, metavar="DIR", help="default: in the models folder")
    convert.add_argument("--exporter", choices=("builder", "torch"), default="builder")
    _add_add(actions)
    add_distill_command(actions)
    add_quantize_command(actions)
    show = add_command(actions, "show", _model_show, "Everything that is known of a model.")
    show.add_argument("name", nargs="?", help="default: the configured model")
    verify = add_command(actions, "verify", _model_verify, "Check a model's bytes and vectors.")
    verify.add_argument("name", nargs="?", help="default: the configured model")
    remove = add_command(actions, "remove", _model_remove, "Remove a model from this machine.")
    remove.add_argument("name")
    remove.add_argument("--force", action="store_true", help="even if the store needs it")
    add_command(actions, "list", _model_list, "Known and added models, and which are here.")


def _add_add(actions: Any) -> None:
    add = add_command(actions, "add", _model_add, "Add a model of your own: ONNX, or weights.")
    add.add_argument("name", help="letters, digits, '.', '_' and '-'")
    add.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        required=True,
        help="an ONNX file, or a folder with model.onnx or model.safetensors",
    )
    add.add_argument("--recipe", type=Path, metavar="FILE", help="JSON with the fields below")
    add.add_argument("--pooling", choices=("mean", "cls", "last"))
    add.add_argument("--max-length", type=int, metavar="TOKENS")
    add.add_argument("--dimension", type=int, metavar="N", help="checked against the model's")
    add.add_argument("--dimensions", type=_whole_numbers, metavar="N,N", help="of Matryoshka")
    add.add_argument("--query-prompt", metavar="TEXT", help="stands before a query")
    add.add_argument("--document-prompt", metavar="TEXT", help="stands before any other text")
    add.add_argument("--license", metavar="NAME")
    add.add_argument("--replace", action="store_true", help="if the name is there already")


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; it must be whole numbers, as 256,128"
        ) from None


def _model_pull(options: argparse.Namespace) -> int:
    from ..models.fetch import pull_model

    settings = read_settings()
    name = options.name or settings.embedding.model
    if Path(name).is_absolute():
        raise ModelNotFoundError(
            f"{name} is a folder, and pull fills {settings.model_folder}; give a model's name"
        )
    folder = pull_model(
        name,
        settings.model_folder,
        offline=settings.offline,
        source=options.source,
        report=say,
    )
    print_result(options, {"path": str(folder)}, [f"ready: {folder}"])
    return DONE


def _model_convert(options: argparse.Namespace) -> int:
    from ..models.convert import convert_model
    from ..models.fetch import pin_files
    from ..models.registry import get_recipe

    settings = read_settings()
    recipe = get_recipe(options.name or settings.embedding.model)
    target = options.out or settings.model_folder / recipe.name
    recipe = pin_files(options.source, recipe, report=say)
    config = convert_model(options.source, target, recipe, options.exporter)
    print_result(
        options,
        {"path": str(target), "fingerprint": config.fingerprint},
        [f"converted and checked: {target} ({config.fingerprint})"],
    )
    return DONE


def _model_add(options: argparse.Namespace) -> int:
    from ..models.foreign import add_model

    folder = read_settings().model_folder
    config = add_model(
        options.name,
        options.source,
        folder,
        _recipe_values(options),
        replace_existing=options.replace,
        report=say,
    )
    path = folder / options.name
    print_result(
        options,
        {"path": str(path), "fingerprint": config.fingerprint, "dimension": config.dimension},
        [
            f"added and checked: {path} ({config.fingerprint})",
            f"to use it, set COGNITIVE_MEMORY_EMBEDDING__MODEL={options.name}",
        ],
    )
    return DONE


def _recipe_values(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of the recipe from its file and the options, which come first."""
    values: dict[str, Any] = {}
    if options.recipe is not None:
        from ..models.registry import read_recipe_file

        values = read_recipe_file(options.recipe)
    given = {name: getattr(options, name) for name in RECIPE_OPTIONS}
    values |= {name: value for name, value in given.items() if value is not None}
    prompts = {"query": options.query_prompt, "document": options.document_prompt}
    prompts = {kind: prompt for kind, prompt in prompts.items() if prompt is not None}
    if prompts:
        listed = values.get("prompts", {})
        # What is no object is refused with the recipe's other fields.
        values["prompts"] = {**listed, **prompts} if isinstance(listed, dict) else listed
    missing = [name for name in ("pooling", "max_length") if name not in values]
    if missing:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise InvalidInputError(f"{flags} must be given, or stand in the file of --recipe")
    return values


def _folder_of(settings: Settings, name: str | None) -> Path:
    """The folder of a model; a path is taken only where a model is."""
    from ..model_folders import holds_model, model_folder
    from ..models.installed import folder_name

    if name is None or Path(name).is_absolute() or holds_model(Path(name)):
        return model_folder(settings, name)
    return settings.model_folder / folder_name(name)


def _model_show(options: argparse.Namespace) -> int:
    from ..core.model_files import CONFIG_FILE
    from ..models.installed import installed_model
    from ..models.registry import get_recipe, load_registry

    settings = read_settings()
    folder = _folder_of(settings, options.name)
    if not (folder / CONFIG_FILE).is_file():
        recipe = get_recipe(options.name or settings.embedding.model)
        document = {"name": recipe.name, "here": False, **_recipe_document(recipe)}
        document["commands"] = [f"cognitive-memory model pull {recipe.name}"]
    else:
        model = installed_model(folder)
        if model.config is None:
            raise ModelNotFoundError(str(model.fault))
        document = _model_document(model, model.config)
        known = load_registry().get(model.config.name)
        document["pinned"] = sorted(known.files) if known is not None else []
    print_result(options, document, list(_shown(document)))
    return DONE


def _recipe_document(recipe: ModelRecipe) -> dict[str, Any]:
    values = asdict(recipe)
    del values["package"], values["files"]
    return {**values, "pinned": sorted(recipe.files)}


def _model_document(model: InstalledModel, config: ModelConfig) -> dict[str, Any]:
    values = asdict(config)
    del values["format"]
    use = f"COGNITIVE_MEMORY_EMBEDDING__MODEL={config.name}"
    if model.name == f"{config.name}-static":
        use += " COGNITIVE_MEMORY_EMBEDDING__PROVIDER=static"
    elif model.name == f"{config.name}-{config.precision}":
        use += f" COGNITIVE_MEMORY_EMBEDDING__PRECISION={config.precision}"
    return {
        "name": model.name,
        "here": True,
        "path": str(model.path),
        "bytes": model.bytes,
        "fingerprint": config.fingerprint,
        **{key: value for key, value in values.items() if key != "name"},
        "commands": [
            f"cognitive-memory model verify {model.name}",
            f"cognitive-memory model remove {model.name}",
            f"{use} cognitive-memory recall ...",
        ],
    }


def _shown(document: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A line for each value that says something."""
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _shown(value, indent + "  ")
        elif isinstance(value, list | tuple) and value:
            yield f"{indent}{key}: {', '.join(map(str, value))}"
        elif isinstance(value, bool):
            yield f"{indent}{key}: {'yes' if value else 'no'}"
        elif value not in (None, {}, [], ()):
            # In quotes where blanks at the end count, as they do in prompts.
            ends_blank = isinstance(value, str) and value != value.strip()
            yield f"{indent}{key}: {repr(value) if ends_blank else value}"


def _model_verify(options: argparse.Namespace) -> int:
    from ..core.model_files import read_model_config
    from ..models.verify import verify_model

    folder = _folder_of(read_settings(), options.name)
    agreement = verify_model(folder, read_model_config(folder))
    document = {"path": str(folder), "texts": 0, "max_error": None}
    line = f"{folder}: every byte as recorded; no golden vectors known"
    if agreement is not None:
        document |= {"texts": agreement.texts, "max_error": agreement.max_error}
        line = (
            f"{folder}: every byte as recorded; {agreement.texts} golden vectors, "
            f"max error {agreement.max_error:.1e}, min cosine {agreement.min_cosine:.7f}"
        )
    print_result(options, document, [line])
    return DONE


def _model_remove(options: argparse.Namespace) -> int:
    from ..models.installed import folder_name, remove_model

    settings = read_settings()
    name = folder_name(options.name)
    stored = None if options.force else _stored_fingerprint(settings)
    freed = remove_model(settings.model_folder, name, in_use_by=stored)
    path = settings.model_folder / name
    print_result(
        options,
        {"path": str(path), "bytes": freed},
        [f"removed: {path} ({freed / 1e6:,.1f} MB)"],
    )
    return DONE


def _stored_fingerprint(settings: Settings) -> str | None:
    """Of the vectors in the configured store, if there are any."""
    from ..qdrant_stores import is_record_in_qdrant
    from ..stores import open_database, open_stores, store_exists

    if is_record_in_qdrant(settings):
        memories, vectors = open_stores(settings)
        with closing(memories), closing(vectors):
            return memories.get_statistics()["fingerprint"]  # type: ignore[no-any-return]
    if not store_exists(settings):
        return None
    from ..storage.sqlite_persistence import SQLitePersistence

    with SQLitePersistence(open_database(settings)) as memories:
        return memories.get_statistics()["fingerprint"]  # type: ignore[no-any-return]


def _model_list(options: argparse.Namespace) -> int:
    from ..models.installed import installed_models
    from ..models.registry import load_registry

    folder = read_settings().model_folder
    known = load_registry()
    models: dict[str, dict[str, Any]] = {
        name: {"here": False, "known": True, "dimension": recipe.dimension}
        for name, recipe in known.items()
    }
    for model in installed_models(folder):
        entry: dict[str, Any] = {"here": True, "known": model.name in known, "bytes": model.bytes}
        if model.config is None:
            entry["fault"] = model.fault
        else:
            entry |= {"precision": model.config.precision, "dimension": model.config.dimension}
            if model.config.name != model.name:
                entry["made_from"] = model.config.name
        models[model.name] = entry
    width = max(map(len, models))
    lines = [f"{name:<{width}}  {_list_line(entry)}" for name, entry in models.items()]
    print_result(options, {"models": models, "folder": str(folder)}, lines)
    return DONE


def _list_line(entry: dict[str, Any]) -> str:
    if "fault" in entry:
        return f"damaged: {entry['fault']}"
    if not entry["here"]:
        return f"not here        {entry['dimension']:>4} dimensions"
    size = f"{entry['bytes'] / 1e6:,.1f} MB"
    line = f"here      {entry['precision']:<4}  {entry['dimension']:>4} dimensions  {size}"
    if entry["known"]:
        return line
    return f"{line}  made from {entry['made_from']}" if "made_from" in entry else f"{line}  added"
