"""Commands that put memories in, find them and take them out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidInputError, SourceError
from .common import (
    DONE,
    add_command,
    moment,
    open_system,
    positive,
    print_result,
    progress_bar,
    say,
    source_path,
    wrong_usage,
)

if TYPE_CHECKING:
    from ..core.memory import MemoryFilter


def add_memory_commands(commands: Any) -> None:
    """``store``, ``recall``, ``load``, ``status``, ``delete`` and ``consolidate``."""
    _add_store(commands)
    _add_recall(commands)
    _add_load(commands)
    _add_status(commands)
    _add_delete(commands)
    _add_consolidate(commands)


def _add_store(commands: Any) -> None:
    parser = add_command(commands, "store", _store, "Store one text, or standard input for '-'.")
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
    with open_system(warm_up=True) as system:
        memory_id = system.store_experience(text, context)
    print_result(options, {"id": memory_id}, [f"stored {memory_id}"])
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
    parser = add_command(commands, "recall", _recall, "Find the memories that answer a question.")
    parser.add_argument("query", help="a question or a few words")
    parser.add_argument("-k", type=positive, default=5, help="results at most (default: 5)")
    parser.add_argument("-t", "--tag", action="append", help="only with any of these tags")
    parser.add_argument("--source", type=source_path, help="only from this file or repository")
    parser.add_argument(
        "--level", type=int, choices=(0, 1, 2), action="append", help="concept, context, episode"
    )
    parser.add_argument("--type", choices=("episodic", "semantic"), help="only of this type")
    parser.add_argument("--since", type=moment, metavar="TIME", help="only from this time on")
    parser.add_argument("--until", type=moment, metavar="TIME", help="only before this time")
    parser.add_argument("--full", action="store_true", help="print whole texts, not excerpts")
    parser.add_argument("--explain", action="store_true", help="print the parts of each score")


def _recall(options: argparse.Namespace) -> int:
    from ..rendering import render_results, result_to_json

    with open_system(warm_up=True, create=False) as system:
        groups = system.retrieve_memories(
            options.query, max_results=options.k, filters=_filters(options)
        )
        results = [(group, result) for group, found in groups.items() for result in found]
        notices = system.notices()
    if not results and options.source and Path(options.source).is_dir():
        notices.append(
            f"nothing found from {options.source}, a folder: --source takes a file, or a "
            "repository whose history was loaded"
        )
    for notice in notices:
        say(notice)
    document = {
        "query": options.query,
        "notices": notices,
        "results": [result_to_json(group, result) for group, result in results],
    }
    lines = render_results(results, options.query, options.full, options.explain)
    print_result(options, document, lines)
    return DONE


def _filters(options: argparse.Namespace) -> MemoryFilter | None:
    from ..core.memory import MemoryFilter

    filters = MemoryFilter(
        tags=tuple(options.tag) if options.tag else None,
        source_path=options.source,
        hierarchy_levels=tuple(options.level) if options.level else None,
        memory_types=(options.type,) if options.type else None,
        created_from=options.since,
        created_until=options.until,
    )
    return None if filters == MemoryFilter() else filters


def _add_load(commands: Any) -> None:
    parser = add_command(
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

    from ..core.memory import LoadReport
    from ..loaders.common import file_mode
    from ..rendering import visible

    for path in options.paths:
        if not file_mode(path):
            raise SourceError(f"{path} does not exist; check the path; nothing was loaded")
    report = LoadReport()
    with open_system(warm_up=True) as system:
        for path in options.paths:
            with progress_bar(path) as progress:
                loaded = system.load(path, progress, options.kind)
            for fault in loaded.faults:
                say(f"skipped {visible(' '.join(fault.split()))}")
            report += loaded
    line = (
        f"{report.sources} sources: {report.added} memories added, {report.updated} updated, "
        f"{report.unchanged} unchanged, {report.deleted} deleted"
    )
    if report.faults:
        line += f", {len(report.faults)} lines or files skipped"
    print_result(options, asdict(report), [line])
    return DONE


def _add_status(commands: Any) -> None:
    add_command(commands, "status", _status, "Show what is stored, and where.")


def _status(options: argparse.Namespace) -> int:
    from ..rendering import render_status

    with open_system(create=False) as system:
        stats = system.get_memory_stats()
    print_result(options, stats, render_status(stats))
    return DONE


def _add_delete(commands: Any) -> None:
    parser = add_command(commands, "delete", _delete, "Delete memories by id, tag or source.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids of memories")
    parser.add_argument("-t", "--tag", action="append", help="all with any of these tags")
    parser.add_argument("--source", type=source_path, help="all from this file or repository")
    parser.set_defaults(usage=parser)


def _delete(options: argparse.Namespace) -> int:
    if sum(map(bool, (options.ids, options.tag, options.source))) != 1:
        wrong_usage(options, "give ids, or --tag, or --source")
    with open_system(create=False) as system:
        unknown = [each for each in options.ids if system.retrieve_memory(each) is None]
        if unknown:
            raise InvalidInputError(f"no memory has the id {unknown[0]}; nothing was deleted")
        if options.ids:
            count = sum(system.delete_memory_by_id(each)["deleted_count"] for each in options.ids)
        elif options.tag:
            count = system.delete_memories_by_tags(options.tag)["deleted_count"]
        else:
            count = system.delete_memories_by_source_path(options.source)["deleted_count"]
            if not count and Path(options.source).is_dir():
                raise InvalidInputError(
                    f"no memory is from {options.source}, a folder; name a file or repository "
                    "that was loaded from it; nothing was deleted"
                )
    print_result(options, {"deleted": count}, [f"{count} memories deleted"])
    return DONE


def _add_consolidate(commands: Any) -> None:
    parser = add_command(
        commands,
        "consolidate",
        _consolidate,
        "Sum up groups of related memories in one each, and find connections between memories.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--dry-run", action="store_true", help="show the groups, write nothing")
    either.add_argument("--undo", action="store_true", help="delete what sums up; members stay")


def _consolidate(options: argparse.Namespace) -> int:
    from ..rendering import render_consolidation

    with open_system(create=False) as system:
        if options.undo:
            count = system.undo_consolidation()
            document, lines = {"deleted": count}, [f"{count} consolidated memories deleted"]
        else:
            document = system.consolidate_memories(dry_run=options.dry_run)
            lines = render_consolidation(document)
    print_result(options, document, lines)
    return DONE
