"""Conversations as JSONL: one memory for each line, which is a JSON object with a ``text``."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..core.errors import InvalidInputError, SourceError
from ..core.experience import check_text
from ..core.memory import CognitiveMemory, MemoryConnection, as_utc
from .common import (
    FileLoader,
    canonical_source,
    memory_id,
    read_text,
    refuse_unreadable,
    sequential_connections,
)

MAX_DEPTH = 100
"""Levels of nesting in one line: what every JSON writer can give back without a deep stack."""

_LOG = logging.getLogger(__name__)


class _Turn(NamedTuple):
    line: int
    fields: Mapping[str, Any]
    """The line's own, as they are, without those that are null and mean nothing."""
    moment: datetime | None
    """Aware UTC."""


SNIFFED = 65_536
"""Bytes at the beginning of a file that tell whether it is a conversation."""

TURN_STRENGTH = 0.7
"""Of the edge from a turn to the next: it mostly answers the one before it."""


class ConversationLoader(FileLoader):
    """JSONL files by lines: ``{"text": "Hi!", "speaker": "Ada", "session": 1}``.

    ``text`` is needed. ``speaker`` stands before it in the content; ``datetime`` (ISO 8601, local
    time where it names no zone) is when it was said; ``session`` (a string or number), within
    ``conversation`` if there is one, says which lines belong together. All fields but ``text`` are
    kept in the metadata under their own names, beside ``loader_type``, ``line`` and ``title``,
    which a line's own fields of these names replace. A line without ``datetime`` has that of the
    line before it in its session, else of the line before it, else of the file.

    The position in an id is the hash of what was said, by whom, when and in which session, with
    an occurrence number for what was said again. Ordinals would keep the id of an edited line, but
    where a message is deleted or the oldest are cut off, every later one would take the id of
    another, with its connections and counts, and be embedded again. What is appended follows all
    occurrences, so it renumbers none. Fields that only annotate a line can change under its id;
    a corrected ``datetime`` cannot, for a stored memory keeps the date it had.
    """

    kind = "conversation"
    extensions = (".jsonl",)

    def find_sources(self, path: str) -> list[str]:
        """``path`` itself if it is such a file; below a folder, those that begin as one does.

        Folders hold much JSONL that nobody said, and one such file must not stop the rest.
        """
        found = super().find_sources(path)
        if found == [canonical_source(path)]:
            return found
        return [source for source in found if _begins_as_conversation(source)]

    def load_from_source(
        self, source: str, on_fault: Callable[[str], None] | None = None, **_options: Any
    ) -> list[CognitiveMemory]:
        """The lines of one file, in order; a blank one is none.

        A line that cannot be taken is skipped and told to ``on_fault``, else logged. Raises
        ``SourceError`` when there are lines and all of them are such.
        """
        source = canonical_source(source)
        text, modified = read_text(source, allow_nul=True)
        faults: list[str] = []
        turns = list(_read_turns(text, source, faults.append))
        if faults and not turns:
            raise SourceError(
                f"no line of {source} can be taken as a part of a conversation; {faults[0]}"
            )
        for fault in faults:
            (on_fault or _log)(fault)
        return list(_as_memories(turns, source, modified))

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        """Each line with the next of its session, also where sessions alternate."""
        sessions: dict[str, list[CognitiveMemory]] = {}
        for memory in memories:
            sessions.setdefault(_session(memory.metadata), []).append(memory)
        return [
            edge
            for turns in sessions.values()
            for edge in sequential_connections(turns, TURN_STRENGTH)
        ]


def _begins_as_conversation(source: str) -> bool:
    """Whether one of the first lines holds a text."""
    try:
        with Path(source).open("rb") as file:
            lines = file.read(SNIFFED).splitlines()
    except OSError as error:
        refuse_unreadable(source, error)
    for line in lines:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            if line is lines[-1] and b'"text"' in line:  # cut off, where it is long
                return True
            continue
        if isinstance(fields, dict) and isinstance(fields.get("text"), str):
            return True
    return False


def _log(fault: str) -> None:
    _LOG.warning("skipped %s", fault)


def _read_turns(text: str, source: str, on_fault: Callable[[str], None]) -> Iterator[_Turn]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = _parse(line)
            yield _Turn(number, fields, _moment(fields))
        except InvalidInputError as error:
            on_fault(f"{source}:{number}: {error}")


def _parse(line: str) -> Mapping[str, Any]:
    """The fields of a line, checked but for ``datetime``; raises ``InvalidInputError``."""
    try:
        given = json.loads(line, parse_constant=_refuse_number, parse_float=_finite)
        json.dumps(given, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"not JSON: {error.msg} at character {error.pos}; write one JSON object in a line"
        ) from None
    except UnicodeEncodeError as error:
        found = error.object[error.start]
        raise InvalidInputError(f"{found!a} is half a character; write it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"not JSON that can be kept: {error}") from None
    if not isinstance(given, dict):
        raise InvalidInputError(f'{line.strip()[:20]!r} is no object; write {{"text": "…"}}')
    if _is_deep(given):
        raise InvalidInputError(f"nested deeper than {MAX_DEPTH} levels; flatten it")
    if "text" not in given:
        raise InvalidInputError("no field 'text'; give one")
    check_text(given["text"], sys.maxsize)
    fields = {
        name: value
        for name, value in given.items()
        if value is not None or name not in ("speaker", "session", "datetime")
    }
    if not _is_blank(fields.get("speaker", "")):
        check_text(fields["speaker"], sys.maxsize, "speaker")
    if isinstance(session := fields.get("session", ""), bool | list | dict):
        raise InvalidInputError(
            f"session is a {type(session).__name__}; expected a string or a number"
        )
    return fields


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"the number {text} is not finite")


def _finite(text: str) -> float:
    """``"1e999"`` is JSON, and would come back as ``Infinity``, which is not."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _refuse_number(text)
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [each for each in level if isinstance(each, dict | list)]
        if not nested:
            return False
        level = [
            inner
            for each in nested
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return True


def _moment(fields: Mapping[str, Any]) -> datetime | None:
    if "datetime" not in fields:
        return None
    given = fields["datetime"]
    try:
        return as_utc(datetime.fromisoformat(given))
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(
            f"got datetime {given!r:.60}; expected ISO 8601, as 2026-01-31T12:00:00Z"
        ) from None


def _session(fields: Mapping[str, Any]) -> str:
    return json.dumps([fields.get("conversation"), fields.get("session")])


def _position(fields: Mapping[str, Any]) -> str:
    said = [fields.get("datetime"), fields.get("speaker"), fields["text"]]
    return sha256(json.dumps([_session(fields), *said]).encode()).hexdigest()


def _as_memories(
    turns: Sequence[_Turn], source: str, modified: datetime
) -> Iterator[CognitiveMemory]:
    seen: Counter[str] = Counter()
    latest: dict[str, datetime] = {}
    previous = modified
    for line, fields, moment in turns:
        session, position = _session(fields), _position(fields)
        previous = latest[session] = moment or latest.get(session, previous)
        speaker = fields.get("speaker", "")
        yield CognitiveMemory(
            id=memory_id(source, f"{position}:{seen[position]}"),
            content=fields["text"] if _is_blank(speaker) else f"{speaker}: {fields['text']}",
            source_path=source,
            source_type="conversation",
            created_date=previous,
            last_accessed=previous,
            metadata={
                "loader_type": ConversationLoader.kind,
                "title": Path(source).name,
                "line": line,
                **{name: value for name, value in fields.items() if name != "text"},
            },
        )
        seen[position] += 1
