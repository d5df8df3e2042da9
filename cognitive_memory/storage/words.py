"""What of a memory can be found by its words, and which words of a query are looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import PurePath
from typing import Any

from ..core.memory import CognitiveMemory, as_utc
from .filters import from_microseconds

MAX_QUERY_WORDS = 256
"""Further words of a query are ignored."""

MAX_CONTEXT_CHARACTERS = 4096
"""Of a memory's metadata; what is longer is data, not description."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORD = re.compile(r"[\w\u0300-\u0331]+")
"""Letters and digits, and the combining marks that FTS5 takes as part of a word."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]+"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no space between words."""
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about am an and are as at be been but by can could did do does for from had has have he "
        "her hers him his how i if in into is it its me my of on or our ours she should so than "
        "that the their them then there these they this those to us was we were what when where "
        "which who whom whose why will with would you your yours"
    )
)


def query_words(query: str) -> list[str]:
    """The words to look up, each once; stop words only if there are no others.

    >>> query_words('Why did "we" drop Redis? NOT (a OR')
    ['drop', 'Redis', 'NOT']
    """
    words: dict[str, str] = {}
    for word in _words_of(query):
        # As written: FTS5 folds case by its own table, in which some scripts have none.
        words.setdefault(word.lower(), word)
    telling = [word for key, word in words.items() if key not in _STOP_WORDS]
    return (telling or list(words.values()))[:MAX_QUERY_WORDS]


def _words_of(text: str) -> Iterator[str]:
    for word in _WORD.findall(text):
        runs = _UNSPACED.findall(word)
        if runs:
            for run in runs:
                yield from _pairs(run)
            yield from filter(None, _UNSPACED.split(word))
        else:
            yield word


def _pairs(run: str) -> list[str]:
    """``"abc" -> ["ab", "bc"]``: what stands for words where no space does."""
    return [run[start : start + 2] for start in range(len(run) - 1)] or [run]


def context_words(memory: CognitiveMemory) -> str:
    """Words by which a memory is found beside those of its text.

    The day it is from (UTC), its tags, its file, the texts in its metadata, and each two
    neighboring characters of scripts that put no space between words (FTS5 takes a whole run of
    those, and what stands beside it, as one word).
    """
    return _context(
        memory.content,
        as_utc(memory.created_date),
        memory.tags,
        memory.source_path,
        dict(memory.metadata),
    )


def context_of_row(
    content: str, metadata: str, created_us: int, source_path: str | None, tags: str
) -> str:
    """The same from a row of ``memories``, where metadata and tags are JSON."""
    moment = from_microseconds(created_us)
    return _context(content, moment, json.loads(tags), source_path, json.loads(metadata))


def _context(
    content: str,
    moment: datetime,
    tags: Iterable[str],
    source_path: str | None,
    metadata: dict[str, Any],
) -> str:
    described = " ".join(_texts_in(metadata))[:MAX_CONTEXT_CHARACTERS]
    file = PurePath(source_path).name if source_path else ""
    context = " ".join(filter(None, [_day(moment), *tags, described, file]))
    return " ".join([context, *_words_within(f"{content} {context}")])


def _words_within(text: str) -> Iterator[str]:
    """``"Redisの設定 ok" -> "の設", "設定", "Redis", "定"``: each last character begins no pair."""
    if _UNSPACED.search(text):
        for word in filter(_UNSPACED.search, _WORD.findall(text)):
            yield from _words_of(word)
            yield from (run[-1] for run in _UNSPACED.findall(word))


def phrase(word: str) -> str:
    """``word`` as FTS5 takes it literally; one character of an unspaced script begins a word."""
    return f'"{word}"*' if len(word) == 1 and _UNSPACED.match(word) else f'"{word}"'


def _day(moment: datetime) -> str:
    """``2026-05-08 -> "2026 May 8 Friday"``; ``strftime`` would ask the locale."""
    name = _DAYS[moment.weekday()]
    return f"{moment.year} {_MONTHS[moment.month - 1]} {moment.day} {name}"


def _texts_in(metadata: Any) -> Iterator[str]:
    waiting = [metadata]  # not by recursion: JSON may be nested deeper than Python calls
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += reversed(value.values())
        elif isinstance(value, list | tuple):
            waiting += reversed(value)
