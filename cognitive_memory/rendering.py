"""Results as a person reads them, and as programs do."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .core.memory import CognitiveMemory, SearchResult

EXCERPT_LINES = 3
_WORD = re.compile(r"\w{3,}")
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls but for tab and newline, overrides of the writing direction, lone surrogates."""


def result_to_json(group: str, result: SearchResult) -> dict[str, Any]:
    """JSON values; keys are only ever added."""
    memory = result.memory
    return {
        "group": group,
        "score": round(result.score, 6),
        "parts": {name: round(value, 6) for name, value in result.parts.items()},
        "explanation": result.explanation,
        "id": memory.id,
        "content": memory.content,
        "tags": list(memory.tags),
        "hierarchy_level": memory.hierarchy_level,
        "memory_type": str(memory.memory_type),
        "importance_score": memory.importance_score,
        "source_path": memory.source_path,
        "source_type": memory.source_type,
        "created_date": memory.created_date.isoformat(),
        "last_accessed": memory.last_accessed.isoformat(),
        "access_count": memory.access_count,
        "metadata": dict(memory.metadata),
    }


def render_results(
    results: Sequence[tuple[str, SearchResult]],
    query: str,
    full: bool = False,
    explain: bool = False,
) -> list[str]:
    """For each result a heading (rank, score, where from) and an excerpt around the words.

    ``explain`` gives each part of the score a line of its own, with what it comes from.
    """
    if not results:
        return ["nothing found"]
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    lines: list[str] = []
    for rank, (group, result) in enumerate(results, 1):
        memory = result.memory
        lines.append(f"{rank}. {result.score:.2f}  {_origin(memory)}")
        if explain:
            lines.append(f"   {group}  [{memory.id}]")
            lines.extend(f"   {line}" for line in _explanation(result, query))
        else:
            shown = {name: value for name, value in result.parts.items() if abs(value) >= 0.005}
            parts = " + ".join(f"{name} {value:.2f}" for name, value in shown.items())
            lines.append(f"   {group}: {parts or 'no part above zero'}  [{memory.id}]")
            if group == "bridge":  # what it has to do with the rest is why it is shown
                lines.append(f"   {visible(result.explanation)}")
        lines.extend(f"   {line}" for line in _excerpt(memory.content, query, width - 3, full))
        lines.append("")
    return lines[:-1]


def _explanation(result: SearchResult, query: str) -> Iterator[str]:
    """The parts, largest first, and below them their sum."""
    words = {word.lower() for word in _WORD.findall(query)}
    shared = [word for word in _WORD.findall(result.memory.content) if word.lower() in words]
    named = ", ".join(dict.fromkeys(map(str.lower, shared)))
    origins = {
        "semantic": "likeness of meaning (cosine)",
        "lexical": f"shared words: {named or 'by stem, or in tags, date or metadata'}",
        "activation": result.explanation,
        "connection": result.explanation,
        "residual": result.explanation,
        "direct": "likeness to the question, which a bridge does not need",
        "speaker": "said by one whom the question names",
        "importance": f"importance {result.memory.importance_score:g}",
        "recency": f"last shown or stored {result.memory.last_accessed:%Y-%m-%d}",
        "access": f"shown {result.memory.access_count} times",
        "dimensions": "likeness of mood, time and setting",
    }
    for name, value in sorted(result.parts.items(), key=lambda part: -abs(part[1])):
        if value:
            yield visible(f"{name:<11}{value:>6.3f}  {origins.get(name, '')}").rstrip()
    yield f"{'sum':<11}{result.score:>6.3f}"


def render_status(stats: dict[str, Any]) -> list[str]:
    """The counts, and where they are kept."""
    counts, storage = stats["memory_counts"], stats["storage_stats"]
    lines = [
        (
            f"{counts['total']} memories ({counts['level_0_concepts']} concepts, "
            f"{counts['level_1_contexts']} contexts, {counts['level_2_episodes']} episodes), "
            f"{storage['vectors']} vectors, {storage['connections']} connections"
        ),
        (
            f"store      {storage['path']} ({_size(storage['bytes'])}"
            f"schema {storage['schema_version']}{', read-only' if storage['read_only'] else ''})"
        ),
        f"embedding  {storage['fingerprint'] or 'none yet'}",
        f"sources    {storage['sources']}",
    ]
    if replica := storage.get("replica"):
        fault = f"; {replica['fault']}" if replica["fault"] else ""
        lines.append(f"replica    {replica['target']}, {replica['pending']} pending{fault}")
    return lines


def _size(count: int | None) -> str:
    """Where a server does not tell it, nothing."""
    return "" if count is None else f"{count / 1e6:.1f} MB, "


def render_consolidation(report: dict[str, Any]) -> list[str]:
    """The groups of a dry run, each with what would stand for it, and the counts."""
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    lines: list[str] = []
    for rank, group in enumerate(report.get("groups", []), 1):
        tags = "".join(f" #{tag}" for tag in group["tags"])
        lines.append(_one_line(f"{rank}. {len(group['members'])} memories{tags}  [{group['id']}]"))
        for line in group["content"].splitlines():
            lines.extend(f"   {piece}" for piece in textwrap.wrap(visible(line), width - 3))
        lines.append("")
    would = "would be " if report["dry_run"] else ""
    lines.append(
        f"{report['total_episodic']} episodes: {report['consolidated']} {would}consolidated, "
        f"{report['skipped']} were earlier, {report['duplicates']} nearly repeat another; "
        f"{report['connections']} connections found"
    )
    if report["failed"]:
        lines.append(f"{report['failed']} changed meanwhile and were left out; run it again")
    return lines


def visible(text: str) -> str:
    """Text that cannot move the cursor or color the terminal of who reads it."""
    return _HIDDEN.sub("\ufffd", text)


def _origin(memory: CognitiveMemory) -> str:
    day = memory.created_date.astimezone().date().isoformat()
    if memory.source_path is None:
        tags = " ".join(f"#{tag}" for tag in memory.tags)
        return _one_line(f"{day}  {memory.source_type}  {tags}".rstrip())
    title = memory.metadata.get("title")
    name = Path(memory.source_path).name
    return _one_line(f"{day}  {name}{f' > {title}' if title and title != name else ''}")


def _one_line(text: str) -> str:
    return visible(text.replace("\n", " "))


def _excerpt(content: str, query: str, width: int, full: bool) -> Iterator[str]:
    lines = [
        piece
        for line in content.splitlines()
        if line.strip()
        for piece in textwrap.wrap(visible(line), width)
    ]
    if full or len(lines) <= EXCERPT_LINES:
        yield from lines
        return
    words = {word.lower() for word in _WORD.findall(query)}

    def matches(start: int) -> int:
        window = " ".join(lines[start : start + EXCERPT_LINES]).lower()
        return sum(word in window for word in words)

    best = max(range(len(lines) - EXCERPT_LINES + 1), key=lambda start: (matches(start), -start))
    yield from lines[best : best + EXCERPT_LINES]
    yield f"({len(lines) - EXCERPT_LINES} more lines; --full shows them)"
