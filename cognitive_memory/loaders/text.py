"""Plain text: a memory is one long paragraph, or some short ones that follow each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ..core.memory import CognitiveMemory, MemoryConnection
from .common import FileLoader, canonical_source, memory_id, read_text, sequential_connections

TARGET_LENGTH = 1000
"""Characters up to which short paragraphs are joined; a longer paragraph stands alone, whole."""

_JOIN = "\n\n"


class _Passage(NamedTuple):
    line: int
    text: str


class TextLoader(FileLoader):
    """Text files by paragraphs.

    The position in an id is the hash of the passage's own text, with an occurrence number for
    passages that are repeated. Ordinals would give every passage after an edit the id of its
    neighbor, and each would be embedded again; this way an unchanged passage keeps its id and
    its vector wherever it moves, and a changed one is a new memory in place of the old.
    """

    kind = "text"
    extensions = (".txt", ".text")

    def load_from_source(self, source: str, **_options: Any) -> list[CognitiveMemory]:
        """The passages of one file, in order."""
        source = canonical_source(source)
        text, modified = read_text(source)
        seen: Counter[str] = Counter()
        memories = []
        for passage in _join_short(_split_paragraphs(text)):
            digest = _digest(passage.text)
            position = f"{digest}:{seen[digest]}"
            seen[digest] += 1
            memories.append(
                CognitiveMemory(
                    id=memory_id(source, position),
                    content=passage.text,
                    source_path=source,
                    source_type="text",
                    created_date=modified,
                    last_accessed=modified,
                    metadata={
                        "loader_type": self.kind,
                        "title": Path(source).name,
                        "line": passage.line,
                    },
                )
            )
        return memories

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        """Each passage with the next."""
        return sequential_connections(memories)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _split_paragraphs(text: str) -> Iterator[_Passage]:
    r"""``"a\nb\n\nc" -> (1, "a\nb"), (4, "c")``."""
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            lines.append(line)
        elif lines:
            yield _Passage(number - len(lines), "\n".join(lines))
            lines = []


def _join_short(paragraphs: Iterator[_Passage]) -> Iterator[_Passage]:
    """Join neighbors up to ``TARGET_LENGTH``.

    Past a quarter of it, a paragraph ends the passage if its hash says so, as one in three does.
    Were it the length alone, a paragraph inserted early would shift the seams of all that follow;
    seams that the text itself sets are met again a few paragraphs after an edit.
    """
    line, joined = 0, ""
    for paragraph in paragraphs:
        if joined and len(joined) + len(_JOIN) + len(paragraph.text) > TARGET_LENGTH:
            yield _Passage(line, joined)
            joined = ""
        if joined:
            joined += _JOIN + paragraph.text
        else:
            line, joined = paragraph
        if len(joined) > TARGET_LENGTH // 4 and int(_digest(paragraph.text), 16) % 3 == 0:
            yield _Passage(line, joined)
            joined = ""
    if joined:
        yield _Passage(line, joined)
