"""The command line: parses arguments, calls the system, prints.

Exit codes: 0 done, 1 the operation failed, 2 wrong usage. Results go to standard output,
everything else to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .core.errors import (
    CognitiveMemoryError,
    ConfigurationError,
    InvalidInputError,
    ModelNotFoundError,
    SourceError,
)

if TYPE_CHECKING:
    from datetime import datetime

    from .core.config import Settings
    from .core.interfaces import CognitiveSystem, Progress
    from .core.memory import MemoryFilter

PROGRAM = "cognitive-memory"
DONE, FAILED, USAGE = 0, 1, 2


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
        _discard_output()
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted; what was reported as stored is stored")
        return 130
    except Exception as error:  # noqa: BLE001  the edge: a fault of ours, told in one line
        fault = f"internal error: {type(error).__name__}: {error}; --debug shows where"
        return _fail(fault, options, FAILED)


def _fail(error: object, options: argparse.Namespace, code: int) -> int:
    if options.debug:
        import traceback

        traceback.print_exc()
    from .rendering import visible

    _say(f"error: {visible(' '.join(str(error).split()))}")
    return code


def _say(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Store texts and recall them by meaning and by word."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_store(commands)
    _add_recall(commands)
    _add_load(commands)
    _add_status(commands)
    _add_delete(commands)
    _add_consolidate(commands)
    _add_doctor(commands)
    _add_model(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    # SUPPRESS: the flag counts before and after the command's name.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.set_defaults(run=run)
    return parser


def _add_store(commands: Any) -> None:
    parser = _command(commands, "store", _store, "Store one text, or standard input for '-'.")
    parser.add_argument("text", help="the text, or - to read it from standard input")
    parser.add_argument("-t", "--tag", action="append", help="a tag; may be repeated")
    parser.add_argument("--level", type=int, choices=(0, 1, 2), help="concept, context, episode")
    parser.add_argument("--type", choices=("episodic", "semantic"), help="kind of memory")
    parser.add_argument("--importance", type=float, metavar="0..1", help="how much it matters")


def _store(options: argparse.Namespace) -> int:
    given = {
        "tags": options.tag,
        "hierarchy_level": options.level,
        "memory_type": options.type,
        "importance_score": options.importance,
        "source_type": "cli",
    }
    context = {name: value for name, value in given.items() if value is not None}
    text = _read_standard_input() if options.text == "-" else options.text
    with _system(warm_up=True) as system:
        memory_id = system.store_experience(text, context)
    _print(options, {"id": memory_id}, [f"stored {memory_id}"])
    return DONE


def _read_standard_input() -> str:
    if sys.stdin is None:
        raise InvalidInputError("standard input is closed; give the text as an argument")
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"standard input is not valid UTF-8 at byte {error.start}; convert it to UTF-8"
        ) from None


def _add_recall(commands: Any) -> None:
    parser = _command(commands, "recall", _recall, "Find the memories that answer a question.")
    parser.add_argument("query", help="a question or a few words")
    parser.add_argument("-k", type=_positive, default=5, help="results at most (default: 5)")
    parser.add_argument("-t", "--tag", action="append", help="only with any of these tags")
    parser.add_argument("--source", type=_source, help="only from this file or repository")
    parser.add_argument(
        "--level", type=int, choices=(0, 1, 2), action="append", help="concept, context, episode"
    )
    parser.add_argument("--type", choices=("episodic", "semantic"), help="only of this type")
    parser.add_argument("--since", type=_moment, metavar="TIME", help="only from this time on")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="only before this time")
    parser.add_argument("--full", action="store_true", help="print whole texts, not excerpts")
    parser.add_argument("--explain", action="store_true", help="print the parts of each score")


def _recall(options: argparse.Namespace) -> int:
    from .rendering import render_results, result_to_json

    with _system(warm_up=True) as system:
        groups = system.retrieve_memories(
            options.query, max_results=options.k, filters=_filters(options)
        )
        results = [(group, result) for group, found in groups.items() for result in found]
    document = {
        "query": options.query,
        "results": [result_to_json(group, result) for group, result in results],
    }
    lines = render_results(results, options.query, options.full, options.explain)
    _print(options, document, lines)
    return DONE


def _filters(options: argparse.Namespace) -> MemoryFilter | None:
    from .core.memory import MemoryFilter

    filters = MemoryFilter(
        tags=tuple(options.tag) if options.tag else None,
        source_path=options.source,
        hierarchy_levels=tuple(options.level) if options.level else None,
        memory_types=(options.type,) if options.type else None,
        created_from=options.since,
        created_until=options.until,
    )
    return None if filters == MemoryFilter() else filters


def _moment(text: str) -> datetime:
    from datetime import datetime

    from .core.memory import as_utc

    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"got {text!r}; it must be ISO 8601, as 2026-01-31 or 2026-01-31T12:00"
        ) from None


def _add_load(commands: Any) -> None:
    parser = _command(
        commands,
        "load",
        _load,
        "Load Markdown, text, JSONL conversations and git history; loading again updates.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder or repository")
    parser.add_argument(
        "--kind",
        action="append",
        choices=("markdown", "text", "conversation", "git"),
        help="only sources of this kind; may be repeated",
    )


def _load(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .core.memory import LoadReport
    from .loaders.common import file_mode
    from .rendering import visible

    for path in options.paths:
        if not file_mode(path):
            raise SourceError(f"{path} does not exist; check the path; nothing was loaded")
    report = LoadReport()
    with _system(warm_up=True) as system:
        for path in options.paths:
            with _progress(path) as progress:
                loaded = system.load(path, progress, options.kind)
            for fault in loaded.faults:
                _say(f"skipped {visible(' '.join(fault.split()))}")
            report += loaded
    line = (
        f"{report.sources} sources: {report.added} memories added, {report.updated} updated, "
        f"{report.unchanged} unchanged, {report.deleted} deleted"
    )
    if report.faults:
        line += f", {len(report.faults)} lines or files skipped"
    _print(options, asdict(report), [line])
    return DONE


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(desc=title, unit=" memories", disable=None, file=sys.stderr) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _add_status(commands: Any) -> None:
    _command(commands, "status", _status, "Show what is stored, and where.")


def _status(options: argparse.Namespace) -> int:
    from .rendering import render_status

    with _system() as system:
        stats = system.get_memory_stats()
    _print(options, stats, render_status(stats))
    return DONE


def _add_delete(commands: Any) -> None:
    parser = _command(commands, "delete", _delete, "Delete memories by id, tag or source.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of memories")
    parser.add_argument("-t", "--tag", action="append", help="all with any of these tags")
    parser.add_argument("--source", type=_source, help="all from this file or repository")
    parser.set_defaults(usage=parser)


def _delete(options: argparse.Namespace) -> int:
    if sum(map(bool, (options.ids, options.tag, options.source))) != 1:
        _wrong_usage(options, "give ids, or --tag, or --source")
    with _system() as system:
        unknown = [each for each in options.ids if system.retrieve_memory(each) is None]
        if unknown:
            raise InvalidInputError(f"no memory has the id {unknown[0]}; nothing was deleted")
        if options.ids:
            count = sum(system.delete_memory_by_id(each)["deleted_count"] for each in options.ids)
        elif options.tag:
            count = system.delete_memories_by_tags(options.tag)["deleted_count"]
        else:
            count = system.delete_memories_by_source_path(options.source)["deleted_count"]
    _print(options, {"deleted": count}, [f"{count} memories deleted"])
    return DONE


def _add_consolidate(commands: Any) -> None:
    parser = _command(
        commands,
        "consolidate",
        _consolidate,
        "Sum up groups of related memories in one each, and find connections between memories.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--dry-run", action="store_true", help="show the groups, write nothing")
    either.add_argument("--undo", action="store_true", help="delete what sums up; members stay")


def _consolidate(options: argparse.Namespace) -> int:
    from .rendering import render_consolidation

    with _system() as system:
        if options.undo:
            count = system.undo_consolidation()
            document, lines = {"deleted": count}, [f"{count} consolidated memories deleted"]
        else:
            document = system.consolidate_memories(dry_run=options.dry_run)
            lines = render_consolidation(document)
    _print(options, document, lines)
    return DONE


def _add_doctor(commands: Any) -> None:
    _command(commands, "doctor", _doctor, "Check settings, model and store; 1 if one is unsound.")


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .diagnosis import diagnose

    findings = list(diagnose(_settings()))
    marks = {True: "ok   ", False: "FAULT"}
    lines = [f"{marks[each.sound]}  {each.check}: {each.detail}" for each in findings]
    _print(options, {"findings": [asdict(each) for each in findings]}, lines)
    return DONE if all(each.sound for each in findings) else FAILED


def _add_model(commands: Any) -> None:
    parser = commands.add_parser("model", help="Bring models here, convert and check them.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    pull = _command(actions, "pull", _model_pull, "Fetch, check and convert a model.")
    pull.add_argument("name", nargs="?", help="default: the configured model")
    pull.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take files from DIR")
    convert = _command(actions, "convert", _model_convert, "Convert published files into a model.")
    convert.add_argument("name", nargs="?", help="default: the configured model")
    convert.add_argument("--from", dest="source", type=Path, metavar="DIR", required=True)
    convert.add_argument("--out", type=Path, metavar="DIR", help="default: in the models folder")
    convert.add_argument("--exporter", choices=("builder", "torch"), default="builder")
    verify = _command(actions, "verify", _model_verify, "Check a model's bytes and vectors.")
    verify.add_argument("name", nargs="?", help="default: the configured model")
    _command(actions, "list", _model_list, "Known models, and which of them are here.")


def _model_pull(options: argparse.Namespace) -> int:
    from .models.fetch import pull_model

    settings = _settings()
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
        report=_say,
    )
    _print(options, {"path": str(folder)}, [f"ready: {folder}"])
    return DONE


def _model_convert(options: argparse.Namespace) -> int:
    from .models.convert import convert_model
    from .models.registry import get_recipe

    settings = _settings()
    recipe = get_recipe(options.name or settings.embedding.model)
    target = options.out or settings.model_folder / recipe.name
    config = convert_model(options.source, target, recipe, options.exporter)
    _print(
        options,
        {"path": str(target), "fingerprint": config.fingerprint},
        [f"converted and checked: {target} ({config.fingerprint})"],
    )
    return DONE


def _model_verify(options: argparse.Namespace) -> int:
    from .core.model_files import read_model_config
    from .factory import model_folder
    from .models.verify import verify_model

    folder = model_folder(_settings(), options.name)
    agreement = verify_model(folder, read_model_config(folder))
    document = {"path": str(folder), "texts": 0, "max_error": None}
    line = f"{folder}: every byte as recorded; no golden vectors known"
    if agreement is not None:
        document |= {"texts": agreement.texts, "max_error": agreement.max_error}
        line = (
            f"{folder}: every byte as recorded; {agreement.texts} golden vectors, "
            f"max error {agreement.max_error:.1e}, min cosine {agreement.min_cosine:.7f}"
        )
    _print(options, document, [line])
    return DONE


def _model_list(options: argparse.Namespace) -> int:
    from .factory import holds_model
    from .models.registry import load_registry

    folder = _settings().model_folder
    here = {name: holds_model(folder / name) for name in load_registry()}
    lines = [f"{name}  {'here' if present else 'not here'}" for name, present in here.items()]
    _print(options, {"models": here, "folder": str(folder)}, lines)
    return DONE


def _settings() -> Settings:
    from .core.config import Settings

    return Settings()


def _system(*, warm_up: bool = False) -> CognitiveSystem:
    from .factory import create_system

    return create_system(_settings(), report=_say, warm_up=warm_up)


def _print(options: argparse.Namespace, document: dict[str, Any], lines: Sequence[str]) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=2) if options.json else "\n".join(lines)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise CognitiveMemoryError(
            f"cannot write to standard output: {error.strerror}; the command itself is done"
        ) from None


def _discard_output() -> None:
    """What is buffered cannot be written, and the interpreter must not try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _positive(text: str) -> int:
    from .core.memory import MAX_RESULTS

    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= MAX_RESULTS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; it must be a whole number from 1 to {MAX_RESULTS:,}"
        )
    return value


def _source(text: str) -> str:
    """A path as loaders name it; other spellings of the same file are the same source."""
    from .loaders.common import canonical_source

    try:
        return canonical_source(str(Path(text).expanduser()) if text else "")
    except (RuntimeError, SourceError) as error:
        raise argparse.ArgumentTypeError(f"got {text!r}; {error}") from None


def _wrong_usage(options: argparse.Namespace, message: str) -> NoReturn:
    parser: argparse.ArgumentParser = options.usage
    parser.error(message)


if __name__ == "__main__":
    sys.exit(main())
