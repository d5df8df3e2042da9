"""Commands that look after the store: checks, copies, and another embedding."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import StoreFormatError
from .common import (
    DONE,
    FAILED,
    add_command,
    print_result,
    progress_bar,
    read_settings,
    say,
    settings_of_store,
)

if TYPE_CHECKING:
    from ..storage.database import Database


def add_upkeep_commands(commands: Any) -> None:
    """``doctor``, ``backup``, ``restore``, ``vacuum`` and ``reembed``."""
    _add_doctor(commands)
    backup = add_command(
        commands, "backup", _backup, "Copy the store into a file, while it is used."
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="replaced if it is there")
    restore = add_command(
        commands, "restore", _restore, "Make the store what it was when FILE was backed up."
    )
    restore.add_argument("file", type=Path, metavar="FILE", help="what 'backup' wrote")
    add_command(commands, "vacuum", _vacuum, "Give back the space of what was deleted.")
    _add_reembed(commands)


def _add_doctor(commands: Any) -> None:
    parser = add_command(
        commands, "doctor", _doctor, "Check settings, model and store; 1 if one is unsound."
    )
    parser.add_argument(
        "--repair", action="store_true", help="send to a derived index what it lacks"
    )


def _doctor(options: argparse.Namespace) -> int:
    from ..diagnosis import diagnose

    findings = list(diagnose(read_settings(), repair=options.repair))
    marks = {True: "ok   ", False: "FAULT"}
    lines = [f"{marks[each.sound]}  {each.check}: {each.detail}" for each in findings]
    print_result(options, {"findings": [asdict(each) for each in findings]}, lines)
    return DONE if all(each.sound for each in findings) else FAILED


def _existing_database() -> closing[Database]:
    from ..stores import open_database

    return closing(open_database(settings_of_store()))


def _backup(options: argparse.Namespace) -> int:
    from ..storage.maintenance import back_up

    with _existing_database() as database:
        size = back_up(database, options.file)
    print_result(
        options,
        {"path": str(options.file), "bytes": size},
        [f"{options.file}: {size / 1e6:.1f} MB, checked"],
    )
    return DONE


def _restore(options: argparse.Namespace) -> int:
    from ..storage.maintenance import restore
    from ..stores import open_database

    settings = read_settings()
    try:
        database = open_database(settings)
    except StoreFormatError as error:
        raise StoreFormatError(
            f"{error}; to restore a backup in its place, move it away first, with its -wal and -shm"
        ) from None
    with closing(database):
        restore(database, options.file)
    path = str(settings.store_path)
    print_result(options, {"path": path}, [f"{path} is as {options.file} has it"])
    return DONE


def _vacuum(options: argparse.Namespace) -> int:
    from ..storage.maintenance import vacuum

    with _existing_database() as database:
        before, after = vacuum(database)
    print_result(
        options,
        {"bytes_before": before, "bytes_after": after},
        [f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after"],
    )
    return DONE


def _add_reembed(commands: Any) -> None:
    parser = add_command(
        commands,
        "reembed",
        _reembed,
        "Embed all memories with the configured model; the old vectors serve until it is done. "
        "What was interrupted goes on where it was.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--rollback", action="store_true", help="let the embedding of before serve again"
    )
    either.add_argument(
        "--discard", action="store_true", help="delete the vectors that do not serve"
    )


def _reembed(options: argparse.Namespace) -> int:
    from ..factory import create_reembedding

    with create_reembedding(settings_of_store(), say) as reembedding:
        if options.rollback:
            fingerprint = reembedding.roll_back()
            document: dict[str, Any] = {"fingerprint": fingerprint}
            model = fingerprint.partition("/")[0]
            lines = [f"{fingerprint} serves again; set COGNITIVE_MEMORY_EMBEDDING__MODEL={model}"]
        elif options.discard:
            count = reembedding.discard()
            document, lines = {"deleted": count}, [f"{count} vectors deleted"]
        else:
            with progress_bar("reembed") as progress:
                report = reembedding.run(progress)
            document = asdict(report)
            counts = f"{report.embedded} of {report.memories} memories embedded now"
            lines = [f"{report.fingerprint} serves; {counts}"]
            if report.previous:
                lines.append(
                    f"{report.previous} is kept: --rollback goes back, --discard frees its space"
                )
    print_result(options, document, lines)
    return DONE
