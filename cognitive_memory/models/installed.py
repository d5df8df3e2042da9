"""The models in the models folder: which there are, what they are, and taking one away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import ModelError, ModelIntegrityError, ModelNotFoundError
from ..core.leftovers import FOLDER_SUFFIX
from ..core.model_files import CONFIG_FILE, ModelConfig, read_model_config
from .registry import check_model_name, find_recipe


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A folder that holds a model's description."""

    path: Path
    config: ModelConfig | None
    """``None`` if the description cannot be understood."""
    fault: str | None
    bytes: int
    """Size of the whole folder."""

    @property
    def name(self) -> str:
        """Name of the folder, which has the precision at its end if that is not fp32."""
        return self.path.name


def folder_name(name: str) -> str:
    """The name of a model's folder: a name as it is, a known repository by its model's name.

    Raises ``InvalidInputError`` for anything that could lead elsewhere.
    """
    recipe = find_recipe(name)
    return recipe.name if recipe is not None else check_model_name(name)


def installed_models(models_dir: Path) -> list[InstalledModel]:
    """What ``models_dir`` holds, by name; a damaged description is a fault of its model.

    Raises ``ModelIntegrityError`` where nobody may look.
    """
    try:
        paths = sorted(models_dir.iterdir()) if models_dir.is_dir() else []
        return [
            installed_model(path)
            for path in paths
            if not path.name.startswith(".") and (path / CONFIG_FILE).is_file()
        ]
    except OSError as error:
        raise ModelIntegrityError(
            f"{error.filename or models_dir} cannot be read: {error.strerror}; check its "
            "permissions, or set COGNITIVE_MEMORY_MODELS_DIR"
        ) from None


def installed_model(path: Path) -> InstalledModel:
    """What is in the folder ``path``; raises ``ModelNotFoundError`` without a description."""
    size = sum(_sizes(path))
    try:
        return InstalledModel(path, read_model_config(path), None, size)
    except ModelIntegrityError as error:
        return InstalledModel(path, None, str(error), size)


def remove_model(models_dir: Path, name: str, *, in_use_by: str | None = None) -> int:
    """Remove the folder of a model and return its size in bytes.

    ``in_use_by``: fingerprint of the vectors that a store holds; the model that makes these is
    kept, and one that cannot say what it makes, too. Raises ``ModelNotFoundError`` and
    ``ModelIntegrityError``.
    """
    path = models_dir / folder_name(name)
    if not (path / CONFIG_FILE).is_file():
        raise ModelNotFoundError(f"no model in {path}; see 'cognitive-memory model list'")
    model = installed_model(path)
    if in_use_by is not None:
        if model.config is None:
            raise ModelIntegrityError(f"{model.fault}; or give --force to remove it")
        if in_use_by in _fingerprints(model.config):
            raise ModelError(
                f"the store holds vectors of {in_use_by}, which need {name} for every query; run "
                "'cognitive-memory reembed' with another model first, or give --force"
            )
    _take_away(path)
    return model.bytes


def _fingerprints(config: ModelConfig) -> set[str]:
    """Of all vectors that come of a model: also cut shorter, or computed in bfloat16."""
    precisions = ("fp32", "bf16") if config.precision == "fp32" else (config.precision,)
    return {
        replace(config, precision=precision, dimension=length).fingerprint
        for precision in precisions
        for length in (config.dimension, *config.dimensions)
    }


def _take_away(path: Path) -> None:
    try:
        if path.is_symlink():
            path.unlink()
            return
        # Out of the way first: a removal that is cut short leaves no half of a model.
        retired = Path(tempfile.mkdtemp(FOLDER_SUFFIX, f".{path.name}-", path.parent))
        path.rename(retired / path.name)
        shutil.rmtree(retired)
    except OSError as error:
        raise ModelIntegrityError(f"{path} cannot be removed: {error.strerror}") from None


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.stat().st_size
