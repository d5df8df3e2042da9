"""Where the configured model lies, and how it comes there: pulled, quantized or distilled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from .core.config import Settings
from .core.errors import ModelIntegrityError
from .core.model_files import CONFIG_FILE, STATIC, read_model_config

if TYPE_CHECKING:
    from .core.interfaces import Report

STORED_PRECISIONS = ("fp16", "int8")
"""Each has a folder of its own; bf16 is a way to compute the fp32 model."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def model_folder(settings: Settings, model: str | None = None) -> Path:
    """Where a model, by default the configured one in its precision, is or will be.

    A folder that was named is taken as it is, a name is looked up in the models folder. Raises
    ``InvalidInputError`` for what is neither.
    """
    given = Path(model or settings.embedding.model)
    if given.is_absolute() or holds_model(given):
        return given
    name = _folder_name(str(given))
    precision = settings.embedding.precision
    is_stored_apart = model is None and precision in STORED_PRECISIONS
    return settings.model_folder / (f"{name}-{precision}" if is_stored_apart else name)


def _folder_name(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name  # nearly always: the registry need not be read at every start
    from .models.installed import folder_name

    return folder_name(name)


def holds_model(folder: Path) -> bool:
    """Whether a model is there; raises ``ModelIntegrityError`` where nobody may look."""
    try:
        return (folder / CONFIG_FILE).is_file()
    except OSError as error:
        raise ModelIntegrityError(
            f"{folder} cannot be read: {error.strerror}; check its permissions, "
            "or set COGNITIVE_MEMORY_MODELS_DIR"
        ) from None


def prepare_model(settings: Settings, report: Report | None = None) -> Path:
    """The folder of the configured model, pulled (and quantized) first if it is not there."""
    folder = model_folder(settings)
    if holds_model(folder) or Path(settings.embedding.model).is_absolute():
        return folder
    from .models.fetch import pull_model

    name = _folder_name(settings.embedding.model)
    published = pull_model(name, settings.model_folder, offline=settings.offline, report=report)
    precision = settings.embedding.precision
    if precision not in STORED_PRECISIONS:
        return published
    from .models.quantize import prepare_quantized

    prepare_quantized(published, folder, precision, report=report)
    return folder


def prepare_teacher(
    settings: Settings, model: str | None = None, report: Report | None = None
) -> Path:
    """The fp32 folder of a model, by default the configured one, pulled first if need be."""
    name = model or settings.embedding.model
    folder = model_folder(settings, name)
    if holds_model(folder) or Path(name).is_absolute():
        return folder
    from .models.fetch import pull_model

    return pull_model(folder.name, settings.model_folder, offline=settings.offline, report=report)


def static_folder(settings: Settings, model: str | None = None) -> Path:
    """Where the static embeddings of a model, by default the configured one, are or will be.

    A folder that holds static embeddings is taken as it is.
    """
    given = Path(model or settings.embedding.model)
    if holds_model(given) and read_model_config(given).precision == STATIC:
        return given
    folder = model_folder(settings, str(given))
    return folder.with_name(f"{folder.name}-{STATIC}")


def prepare_static(settings: Settings, report: Report | None = None) -> Path:
    """The folder of the configured model's static embeddings, distilled first if need be."""
    folder = static_folder(settings)
    if not holds_model(folder):
        from .models.static import distill_model

        distill_model(prepare_teacher(settings, report=report), folder, report=report)
    return folder
