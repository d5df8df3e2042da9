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
    results: Sequence[tuple[str, SearchResult]], query: str, full: bool = False
) -> list[str]:
    """For each result a heading (rank, score, where from) and an excerpt around the words."""
    if not results:
        return ["nothing found"]
    width = max(40, min(shutil.get_terminal_size().columns, 100))
    lines: list[str] = []
    for rank, (group, result) in enumerate(results, 1):
        memory = result.memory
        parts = " + ".join(f"{name} {value:.2f}" for name, value in result.parts.items() if value)
        lines.append(f"{rank}. {result.score:.2f}  {_origin(memory)}")
        lines.append(f"   {group}: {parts or 'no part above zero'}  [{memory.id}]")
        if result.explanation:
            lines.append(f"   {visible(result.explanation)}")
        lines.extend(f"   {line}" for line in _excerpt(memory.content, query, width - 3, full))
        lines.append("")
    return lines[:-1]


def render_status(stats: dict[str, Any]) -> list[str]:
    """The counts, and where they are kept."""
    counts, storage = stats["memory_counts"], stats["storage_stats"]
    return [
        (
            f"{counts['total']} memories ({counts['level_0_concepts']} concepts, "
            f"{counts['level_1_contexts']} contexts, {counts['level_2_episodes']} episodes), "
            f"{storage['vectors']} vectors, {storage['connections']} connections"
        ),
        (
            f"store      {storage['path']} ({storage['bytes'] / 1e6:.1f} MB, "
            f"schema {storage['schema_version']}{', read-only' if storage['read_only'] else ''})"
        ),
        f"embedding  {storage['fingerprint'] or 'none yet'}",
        f"sources    {storage['sources']}",
    ]


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
