"""What every command needs: settings, a system, printing, and the types of arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.errors import CognitiveMemoryError, SourceError, StorageError

if TYPE_CHECKING:
    from datetime import datetime

    from ..core.config import Settings
    from ..core.interfaces import CognitiveSystem, Progress

PROGRAM = "cognitive-memory"
DONE, FAILED, USAGE = 0, 1, 2


def say(line: str) -> None:
    """Print a line for a person, to standard error."""
    print(f"{PROGRAM}: {line}", file=sys.stderr)


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """A command with the options that all have; ``run`` returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # SUPPRESS: the flag counts before and after the command's name.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.set_defaults(run=run)
    return parser


def read_settings() -> Settings:
    """Settings as this process has them."""
    from ..core.config import Settings

    return Settings()


def settings_of_store() -> Settings:
    """Settings as this process has them; raises ``StorageError`` where there is no store yet."""
    settings = read_settings()
    check_store(settings)
    return settings


def check_store(settings: Settings) -> None:
    """Raise ``StorageError`` where there is no file of the store."""
    from ..stores import store_exists

    if not store_exists(settings):
        raise StorageError(
            f"{settings.store_path} does not exist; the first store creates it: check "
            "COGNITIVE_MEMORY_DATA_DIR"
        )


def open_system(*, warm_up: bool = False, create: bool = True) -> CognitiveSystem:
    """A system whose owner closes it; ``create`` says whether a store is made if there is none.

    Raises ``StorageError`` where there is none and none is made.
    """
    from ..factory import create_system

    settings = read_settings()
    if not create and settings.storage.record == "sqlite":
        # Else a mistyped folder would be taken for a store in which nothing is found.
        check_store(settings)
    return create_system(settings, report=say, warm_up=warm_up)


def print_result(
    options: argparse.Namespace, document: dict[str, Any], lines: Sequence[str]
) -> None:
    """Print the document as JSON if asked for, else the lines."""
    text = json.dumps(document, ensure_ascii=False, indent=2) if options.json else "\n".join(lines)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise CognitiveMemoryError(
            f"cannot write to standard output: {error.strerror}; the command itself is done"
        ) from None


def discard_output() -> None:
    """What is buffered cannot be written, and the interpreter must not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(desc=title, unit=" memories", disable=None, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def positive(text: str) -> int:
    """From an argument: how many results."""
    from ..core.memory import MAX_RESULTS

    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MAX_RESULTS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; it must be a whole number from 1 to {MAX_RESULTS:,}"
        )
    return value


def source_path(text: str) -> str:
    """A path as loaders name it; other spellings of the same file are the same source."""
    from ..loaders.common import canonical_source

    try:
        return canonical_source(str(Path(text).expanduser()) if text else "")
    except (RuntimeError, SourceError) as error:
        raise argparse.ArgumentTypeError(f"got {text!r}; {error}") from None


def moment(text: str) -> datetime:
    """From an argument: an aware time."""
    from datetime import datetime

    from ..core.memory import as_utc

    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"got {text!r}; it must be ISO 8601, as 2026-01-31 or 2026-01-31T12:00"
        ) from None


def wrong_usage(options: argparse.Namespace, message: str) -> NoReturn:
    """End with the usage of the command and exit code 2."""
    parser: argparse.ArgumentParser = options.usage
    parser.error(message)
