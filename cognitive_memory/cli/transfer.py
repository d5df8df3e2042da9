"""Commands that bring all memories out of the store, and others into it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from ..core.errors import CognitiveMemoryError, InvalidInputError
from ..core.leftovers import remove_leftovers
from .common import (
    DONE,
    add_command,
    open_system,
    print_result,
    progress_bar,
    read_settings,
    settings_of_store,
    wrong_usage,
)

if TYPE_CHECKING:
    from ..core.memory import ImportReport

STANDARD = "-"

LEFTOVER_SECONDS = 3600.0
"""An unfinished file that was not written to for so long has no writer any more."""


def add_transfer_commands(commands: Any) -> None:
    """``export`` and ``import``."""
    _add_export(commands)
    _add_import(commands)


def _add_export(commands: Any) -> None:
    parser = add_command(
        commands, "export", _export, "Write all memories and connections as JSON Lines."
    )
    parser.add_argument(
        "file", nargs="?", default=STANDARD, metavar="FILE", help="default: standard output"
    )
    parser.add_argument(
        "--vectors", action="store_true", help="with vectors: nothing is embedded on import"
    )
    parser.set_defaults(usage=parser)


def _export(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    if options.json and options.file == STANDARD:
        wrong_usage(options, "--json needs a FILE: standard output holds the export itself")
    settings = read_settings()
    if settings.storage.record == "sqlite":
        # Else a mistyped folder would be exported as a new, empty store.
        _refuse_store(options.file, settings_of_store().store_path)
    with (
        open_system() as system,
        _output(options.file) as output,
        progress_bar("export") as progress,
    ):
        report = system.export_memories(output, vectors=options.vectors, progress=progress)
    if options.file == STANDARD:
        return DONE
    line = f"{report.memories} memories and {report.connections} connections exported"
    if options.vectors:
        line += f", with {report.vectors} vectors"
    print_result(options, asdict(report), [f"{line}: {options.file}"])
    return DONE


def _refuse_store(name: str, store: Path) -> None:
    from ..storage.maintenance import belongs_to

    if name != STANDARD and belongs_to(Path(name), store):
        raise InvalidInputError(f"{name} is the store itself; name another file for the export")


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """What to write to; a file appears under its name when all of it is written."""
    try:
        if name == STANDARD:
            if sys.stdout is None:
                raise OSError("it is closed")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        # A link stays one, and what is no file, as a pipe, cannot be replaced.
        path = Path(os.path.realpath(name))
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        with _replacing(path) as file:
            yield file
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, CognitiveMemoryError):
            raise
        target = "standard output" if name == STANDARD else name
        raise CognitiveMemoryError(
            f"cannot write {target}: {getattr(error, 'strerror', None) or error}; check the path, "
            "its permissions and the space left"
        ) from None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    remove_leftovers(path.parent, f".{escape(path.name)}.{'?' * 32}.part", LEFTOVER_SECONDS)
    scratch = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _add_import(commands: Any) -> None:
    parser = add_command(
        commands, "import", _import, "Take an export, or what another system leaves behind."
    )
    parser.add_argument(
        "file", nargs="?", default=STANDARD, metavar="FILE", help="default: standard input"
    )
    parser.add_argument(
        "--from",
        dest="kind",
        choices=("heimdall", "chroma", "mem0"),
        help="the system that FILE comes from",
    )
    parser.add_argument(
        "--on-conflict",
        choices=("replace", "skip", "error"),
        default="replace",
        help="what becomes of a stored memory of the same id that differs (default: replace)",
    )
    parser.set_defaults(usage=parser)


def _import(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from ..importers import EXPORT, open_source

    if options.kind and options.file == STANDARD:
        wrong_usage(options, f"--from {options.kind} needs a FILE")
    with (
        open_source(options.file, options.kind or EXPORT) as source,
        open_system(warm_up=options.kind is not None) as system,
        progress_bar(options.file) as progress,
    ):
        report = system.import_memories(source, on_conflict=options.on_conflict, progress=progress)
    print_result(options, asdict(report), _lines(report))
    return DONE


def _lines(report: ImportReport) -> list[str]:
    from dataclasses import asdict

    document = asdict(report)
    lines = []
    for title, prefix in (("memories", ""), ("connections", "connections_")):
        added, *others = (
            f"{count} {what}"
            for what in ("added", "updated", "unchanged", "skipped")
            if (count := document[prefix + what]) or what != "skipped"
        )
        lines.append(", ".join([added.replace(" ", f" {title} "), *others]))
    if report.embedded:
        theirs = report.source_fingerprint
        why = f"; the vectors of the file are those of {theirs}" if theirs else ""
        lines.append(f"{report.embedded} memories embedded by the configured model{why}")
    lines += [f"not carried over: {count} {what}" for what, count in report.losses.items()]
    return lines
