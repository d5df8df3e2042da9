"""The command that makes static embeddings from a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core.errors import InvalidInputError, SourceError
from .common import DONE, add_command, print_result, read_settings, say


def add_distill_command(actions: Any) -> None:
    """``model distill``."""
    distill = add_command(
        actions, "distill", _model_distill, "Make static embeddings from a model: fast, not exact."
    )
    distill.add_argument("name", nargs="?", help="of the result; default: that of the model")
    distill.add_argument(
        "--from", dest="source", metavar="MODEL", help="name or folder; default: the configured one"
    )
    distill.add_argument("--dimension", type=int, metavar="N", help="default: 256")
    distill.add_argument(
        "--texts", type=Path, metavar="FILE", help="fit it to these texts, one in each line"
    )
    distill.add_argument("--out", type=Path, metavar="DIR", help="default: in the models folder")


def _model_distill(options: argparse.Namespace) -> int:
    from ..model_folders import prepare_teacher, static_folder
    from ..models.registry import check_model_name
    from ..models.static import distill_model

    settings = read_settings()
    texts = read_texts(options.texts) if options.texts is not None else []
    if options.name is not None:
        check_model_name(options.name)
    teacher = prepare_teacher(settings, options.source, say)
    target = options.out or static_folder(settings, options.name or str(teacher))
    config = distill_model(
        teacher,
        target,
        name=options.name,
        dimension=options.dimension,
        texts=texts,
        report=say,
    )
    print_result(
        options,
        {"path": str(target), "fingerprint": config.fingerprint, "dimension": config.dimension},
        [
            f"distilled: {target} ({config.fingerprint})",
            f"to use it, set COGNITIVE_MEMORY_EMBEDDING__PROVIDER=static{_model_setting(options)}",
        ],
    )
    return DONE


def _model_setting(options: argparse.Namespace) -> str:
    model = options.out or options.name or options.source
    return f" COGNITIVE_MEMORY_EMBEDDING__MODEL={model}" if model else ""


def read_texts(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not blank.

    Raises ``SourceError`` for a file that cannot be read, ``InvalidInputError`` for one without
    text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not UTF-8 (byte {error.start}); convert it, one text in each line"
        ) from None
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise InvalidInputError(f"{path} holds no text; give one in each line")
    return texts
