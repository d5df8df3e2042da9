"""The command line: parses arguments, calls the system, prints.

Exit codes: 0 done, 1 the operation failed, 2 wrong usage. Results go to standard output,
everything else to standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from ..core.errors import CognitiveMemoryError, ConfigurationError
from .common import FAILED, PROGRAM, USAGE, discard_output, say
from .memories import add_memory_commands
from .model import add_model_command
from .transfer import add_transfer_commands
from .upkeep import add_upkeep_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except ConfigurationError as error:
        return _fail(error, options, USAGE)
    except CognitiveMemoryError as error:
        return _fail(error, options, FAILED)
    except BrokenPipeError:
        discard_output()
        return FAILED
    except KeyboardInterrupt:
        say("interrupted; what was reported as stored is stored")
        return 130
    except Exception as error:  # noqa: BLE001  the edge: a fault of ours, told in one line
        fault = f"internal error: {type(error).__name__}: {error}; --debug shows where"
        return _fail(fault, options, FAILED)


def _fail(error: object, options: argparse.Namespace, code: int) -> int:
    if options.debug:
        import traceback

        traceback.print_exc()
    from ..rendering import visible

    say(f"error: {visible(' '.join(str(error).split()))}")
    return code


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Store texts and recall them by meaning and by word."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_memory_commands(commands)
    add_transfer_commands(commands)
    add_upkeep_commands(commands)
    add_model_command(commands)
    return parser
