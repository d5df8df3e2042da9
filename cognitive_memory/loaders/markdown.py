"""Markdown: one memory for each section, found by its own text and by the headings above it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..core.memory import (
    CONCEPT,
    CONTEXT,
    EPISODE,
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from .common import FileLoader, canonical_source, memory_id, read_text, sequential_connections

HIERARCHICAL_STRENGTH = 0.8
"""Of the edge from a section to its subsection: the author says that one belongs to the other."""

UNTITLED = "Untitled"

_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)(.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(
    r" {0,3}(?P<item>(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*)"
    r"(?:(?P<ticks>`{3,})[^`]*|(?P<tildes>~{3,}).*)$"
)
_HTML = re.compile(r" {0,3}<(?:!--|(script|pre|style|textarea)(?=[\s>]|$))", re.IGNORECASE)
_OTHER_BLOCK = re.compile(r"[ \t]*(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)|[ \t]*[>|<]")
_YAML_KEY = re.compile(r"[\w\"'][^:]*:(?:\s|$)")
_YAML_LINE = re.compile(rf"(?:\s|[#\]}}]|-(?:\s|$)|{_YAML_KEY.pattern}).*")
_YAML_TITLE = re.compile(r"^title:[ \t]+([^\s|>&*\[{].*)$", re.MULTILINE)
_YAML_TAGS = re.compile(r"^tags:[ \t]*(\[[^\]\n]*\]|(?:\n[ \t]*-[ \t].*)+)", re.MULTILINE)


class _Heading(NamedTuple):
    start: int
    """Index of its first line."""
    end: int
    """Index of the line after it."""
    depth: int
    title: str


@dataclass(slots=True)
class _Section:
    depth: int
    path: tuple[str, ...]
    position: tuple[str, ...]
    """The path as ids see it: a document's own title is "" there, for it may change."""
    line: int
    text: str
    is_named: bool
    has_subsections: bool = False


class MarkdownMemoryLoader(FileLoader):
    """Markdown files by sections.

    Headings are those of CommonMark. What stands above the first one belongs to the document's
    title section, named by ``title:`` in YAML front matter or by the file; so do sections without
    a level-1 heading above them. Level 0 is for titles (level-1 headings), 1 for sections that
    have subsections, 2 for all others. The position in an id is the path of headings, with an
    occurrence number for paths that are repeated: a new section leaves the ids of others alone.
    """

    kind = "markdown"
    extensions = (".md", ".markdown", ".mdown", ".mkd")

    def load_from_source(self, source: str, **_options: Any) -> list[CognitiveMemory]:
        """The sections of one file, in order."""
        source = canonical_source(source)
        text, modified = read_text(source)
        lines = text.split("\n")
        first, title, tags = _read_front_matter(lines)
        seen: Counter[tuple[str, ...]] = Counter()
        memories = []
        for section in _split_sections(lines, first, title or Path(source).stem.strip()):
            occurrence = seen[section.position]
            seen[section.position] += 1
            identity = memory_id(source, json.dumps([section.position, occurrence]))
            memories.append(_as_memory(section, identity, source, modified, tags))
        return memories

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        """Each section with its subsections, and with the next section."""
        latest: dict[tuple[str, ...], str] = {}
        hierarchy = []
        for memory in memories:
            path = tuple(memory.metadata["heading_path"])
            latest[path] = memory.id
            if parent := latest.get(path[:-1]):
                hierarchy.append(
                    MemoryConnection(
                        parent, memory.id, ConnectionType.HIERARCHICAL, HIERARCHICAL_STRENGTH
                    )
                )
        return hierarchy + sequential_connections(memories)


def _as_memory(
    section: _Section, identity: str, source: str, modified: datetime, tags: tuple[str, ...]
) -> CognitiveMemory:
    level = CONCEPT if section.depth == 1 else CONTEXT if section.has_subsections else EPISODE
    where = " > ".join(section.path)
    return CognitiveMemory(
        id=identity,
        content=f"{where}\n\n{section.text}" if section.text else where,
        hierarchy_level=level,
        memory_type=MemoryType.EPISODIC if level == EPISODE else MemoryType.SEMANTIC,
        tags=tags,
        source_path=source,
        source_type="documentation",
        created_date=modified,
        last_accessed=modified,
        metadata={
            "loader_type": "markdown",
            "title": section.path[-1],
            "heading_path": list(section.path),
            "line": section.line,
        },
    )


def _split_sections(lines: Sequence[str], first: int, title: str) -> list[_Section]:
    """The sections from line index ``first`` on, under a title section where one is needed."""
    headings = list(_find_headings(lines, first))
    top = headings[0].start if headings else len(lines)
    if _trim(lines[first:top]) or (headings and headings[0].depth > 1):
        start = next((i for i in range(first, top) if lines[i].strip()), first)
        headings.insert(0, _Heading(start, start, 1, ""))
    end = _Heading(len(lines), len(lines), 1, "")
    sections: list[_Section] = []
    above: list[_Section] = []
    for heading, following in pairwise([*headings, end]):
        while above and above[-1].depth >= heading.depth:
            above.pop()
        path, position = (above[-1].path, above[-1].position) if above else ((), ())
        is_title = heading.start == heading.end
        shown = (title if is_title else heading.title) or UNTITLED
        text = _trim(lines[heading.end : following.start])
        section = _Section(
            heading.depth,
            (*path, shown),
            (*position, "" if is_title else shown),
            heading.start + 1,
            text,
            bool(heading.title),
        )
        if section.text or section.is_named:
            for ancestor in above:
                ancestor.has_subsections = True
        above.append(section)
        sections.append(section)
    return [each for each in sections if each.text or each.is_named or each.has_subsections]


def _trim(lines: Sequence[str]) -> str:
    """The lines as one text, without blank ones at either end."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""


def _find_headings(lines: Sequence[str], first: int) -> Iterator[_Heading]:
    """The headings outside of fenced code, HTML comments and preformatted HTML."""
    closing: re.Pattern[str] | None = None
    paragraph = 0
    for index in range(first, len(lines)):
        line = lines[index]
        if closing:
            closing = None if closing.search(line) else closing
        elif opened := _open_raw_block(line):
            closing, rest = opened
            closing = None if closing.search(rest) else closing
            paragraph = 0
        elif atx := _ATX.match(line):
            yield _Heading(index, index + 1, len(atx[1]), _atx_title(atx[2]))
            paragraph = 0
        elif paragraph > 0 and (underline := _UNDERLINE.match(line)):
            title = " ".join(part.strip() for part in lines[index - paragraph : index])
            yield _Heading(index - paragraph, index + 1, 1 if "=" in underline[1] else 2, title)
            paragraph = 0
        else:
            paragraph = _count_paragraph(paragraph, line)


def _open_raw_block(line: str) -> tuple[re.Pattern[str], str] | None:
    """What ends the block that ``line`` opens, and the rest of the line, where it may end."""
    if fence := _FENCE.match(line):
        mark = fence["ticks"] or fence["tildes"]
        indent = r"[ \t]*" if fence["item"] else " {0,3}"
        return re.compile(rf"^{indent}{mark[0]}{{{len(mark)},}}[ \t]*$"), ""
    if html := _HTML.match(line):
        ending = r"</(?:script|pre|style|textarea)>" if html[1] else "-->"
        return re.compile(ending, re.IGNORECASE), line[html.end() :]
    return None


def _atx_title(text: str) -> str:
    """``" Install ##" -> "Install"``, ``" C#" -> "C#"``."""
    text = text.strip()
    open_end = text.rstrip("#")
    if not open_end or open_end[-1] in " \t":
        text = open_end.strip()
    return text


def _count_paragraph(count: int, line: str) -> int:
    """Lines of the paragraph that ``line`` ends, which an underline would make a heading.

    0 between blocks; -1 inside a list, quote, table or HTML block, up to the next blank line.
    A paragraph begins at the margin: an indented one belongs to a list or is code.
    """
    marks = line.replace(" ", "").replace("\t", "")
    is_rule = len(marks) >= 3 and set(marks) in ({"-"}, {"*"}, {"_"})
    if is_rule or not line.strip():
        return 0
    if count < 0 or _OTHER_BLOCK.match(line):
        return -1
    return 0 if count == 0 and line[0] in " \t" else count + 1


def _read_front_matter(lines: Sequence[str]) -> tuple[int, str, tuple[str, ...]]:
    """Number of lines of the YAML block on top, and its title and tags where they are plain."""
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    block = [line for line in lines[1:end] if line.strip()]
    is_mapping = all(map(_YAML_LINE.fullmatch, block)) and any(map(_YAML_KEY.match, block))
    if lines[0].rstrip() != "---" or not is_mapping:
        return 0, "", ()
    text = "\n".join(block)
    title, tags = _YAML_TITLE.search(text), _YAML_TAGS.search(text)
    items = re.split(r",|\n[ \t]*-", tags[1].strip("[]")) if tags else []
    plain = [item.strip().strip("\"'").strip() for item in items]
    return (
        end + 1,
        title[1].strip().strip("\"'").strip() if title else "",
        tuple(dict.fromkeys(filter(None, plain))),
    )
