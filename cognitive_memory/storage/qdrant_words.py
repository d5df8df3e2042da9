"""The stems by which a memory is found in Qdrant: those of SQLite's FTS5, made by it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from ..core.errors import StorageError
from ..core.memory import CognitiveMemory
from .words import context_words, phrase

TOKENIZE = "porter unicode61 remove_diacritics 2"
"""As in the migrations of the SQLite record."""

_WORD = re.compile(r'"([^"]+)"(\*?)')

Group = Sequence[frozenset[str]]
"""Ways to meet one part of an expression; of each, all stems must be there."""


class Stemmer:
    """Texts to stems, through a full-text table in memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_closed = False
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.executescript(
            f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = '{TOKENIZE}');"
            "CREATE VIRTUAL TABLE stems USING fts5vocab ('words', 'instance');"
        )

    def stems_of(self, memories: Sequence[CognitiveMemory]) -> list[list[str]]:
        """For each memory the stems of its text and of what else describes it, each once, sorted.

        ``"字*"`` stands for any word that begins so, in scripts without spaces between words.
        """
        texts = [f"{memory.content}\n{context_words(memory)}" for memory in memories]
        return [sorted(stems | _beginnings(stems)) for stems in self.split(texts)]

    def split(self, texts: Sequence[str]) -> list[set[str]]:
        """The stems of each text; raises ``StorageError`` once it is closed."""
        stems: list[set[str]] = [set() for _ in texts]
        with self._lock:
            if self._is_closed:
                raise StorageError("this store is closed; open another")
            self._database.executemany(
                "INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts)
            )
            for text, stem in self._database.execute("SELECT DISTINCT doc, term FROM stems"):
                stems[text].add(stem)
            self._database.execute("INSERT INTO words (words) VALUES ('delete-all')")
        return stems

    def parse(self, expressions: Sequence[str]) -> list[Expression]:
        """What must be there for each of these, as ``rank_by_words`` writes them.

        >>> Stemmer().parse(['("apples" OR "pie") AND "the"'])[0].groups
        [[frozenset({'appl'}), frozenset({'pie'})], [frozenset({'the'})]]
        """
        found = [
            [_WORD.findall(part) for part in expression.split(" AND ")]
            for expression in expressions
        ]
        words = [word for parts in found for part in parts for word, _ in part]
        stems = iter(self.split(words))
        return [
            Expression(
                [
                    [
                        frozenset(_beginnings(own) if begins else own)
                        for _, begins in part
                        if (own := next(stems))
                    ]
                    for part in parts
                ]
            )
            for parts in found
        ]

    def close(self) -> None:
        """Closing twice is allowed."""
        with self._lock:
            self._is_closed = True
            self._database.close()


@dataclass(frozen=True, slots=True)
class Expression:
    """Groups, all of which must be met, each in one of its ways."""

    groups: Sequence[Group]

    @property
    def is_possible(self) -> bool:
        """Whether any memory can meet it: a word of marks only has no stem."""
        return all(self.groups)

    def is_met(self, stems: Collection[str]) -> bool:
        """By a memory with these stems."""
        held = set(stems)
        return all(any(way <= held for way in group) for group in self.groups)

    def condition(self) -> Any:
        """The same as a filter."""
        from qdrant_client import models

        return models.Filter(
            must=[models.Filter(should=[_all_of(way) for way in group]) for group in self.groups]
        )


def _all_of(stems: frozenset[str]) -> Any:
    from qdrant_client import models

    conditions: list[Any] = [
        models.FieldCondition(key="stems", match=models.MatchValue(value=stem))
        for stem in sorted(stems)
    ]
    return conditions[0] if len(conditions) == 1 else models.Filter(must=conditions)


def _beginnings(stems: Collection[str]) -> set[str]:
    """``{"設定", "cat"} -> {"設*"}``: what a single character of such a script is looked up by."""
    return {f"{stem[0]}*" for stem in stems if phrase(stem[0]).endswith("*")}
