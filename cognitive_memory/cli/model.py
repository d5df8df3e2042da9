"""Commands that bring models here, convert and check them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core.errors import ModelNotFoundError
from .common import DONE, add_command, print_result, read_settings, say


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
    verify = add_command(actions, "verify", _model_verify, "Check a model's bytes and vectors.")
    verify.add_argument("name", nargs="?", help="default: the configured model")
    add_command(actions, "list", _model_list, "Known models, and which of them are here.")


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
    from ..models.registry import get_recipe

    settings = read_settings()
    recipe = get_recipe(options.name or settings.embedding.model)
    target = options.out or settings.model_folder / recipe.name
    config = convert_model(options.source, target, recipe, options.exporter)
    print_result(
        options,
        {"path": str(target), "fingerprint": config.fingerprint},
        [f"converted and checked: {target} ({config.fingerprint})"],
    )
    return DONE


def _model_verify(options: argparse.Namespace) -> int:
    from ..core.model_files import read_model_config
    from ..factory import model_folder
    from ..models.verify import verify_model

    folder = model_folder(read_settings(), options.name)
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


def _model_list(options: argparse.Namespace) -> int:
    from ..factory import holds_model
    from ..models.registry import load_registry

    folder = read_settings().model_folder
    here = {name: holds_model(folder / name) for name in load_registry()}
    lines = [f"{name}  {'here' if present else 'not here'}" for name, present in here.items()]
    print_result(options, {"models": here, "folder": str(folder)}, lines)
    return DONE
