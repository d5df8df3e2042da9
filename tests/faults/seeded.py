"""Memories whose every part follows from a few values, so that any process knows what must be kept.

And the system to keep them in, made by ``create_system`` as front ends make it, with a provider
that needs no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.config import Settings
from cognitive_memory.core.memory import CognitiveMemory
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.factory import create_system
from cognitive_memory.providers import PROVIDER_GROUP
from cognitive_memory.testing import WordLengthProvider, make_memory

DIMENSION = 256
WORDS_PER_CHUNK = 12
THEME_WORDS = 9
"""Of 11 words, so that memories of one theme are alike enough to be consolidated."""
BUSY_SECONDS = 120.0
"""What no writer waits for, however loaded the machine is."""

_BIRTH = datetime.fromisoformat("2026-01-01T12:00:00+00:00")


class WordHashProvider(WordLengthProvider):
    """Vectors that count words by their CRC-32, whose two halves name two axes for each word.

    So different texts, even of ten words in common, are never taken for duplicates.
    """

    def __init__(self) -> None:
        super().__init__(DIMENSION, WORDS_PER_CHUNK, name="word-hashes")

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows."""
        counts = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(counts, texts, strict=True):
            for word in text.split() or [""]:
                code = crc32(word.encode())
                row[code % self.dimension] += 1
                row[(code >> 16) % self.dimension] += 1
        return normalize(counts)


def make_provider(_: Settings) -> WordHashProvider:
    """What the entry point names."""
    return WordHashProvider()


def install_provider(folder: Path) -> Path:
    """A folder for the module path, by which ``create_system`` finds the provider."""
    record = folder / "site" / "word_hashes-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: word-hashes\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(
        f"[{PROVIDER_GROUP}]\nword-hashes = {__name__}:make_provider\n"
    )
    return record.parent


def open_store(path: Path, duplicates: str = "merge") -> CognitiveMemorySystem:
    """The system over one store file; needs ``install_provider`` on the module path."""
    settings = Settings(
        data_dir=path.parent,
        embedding={"provider": "word-hashes", "cache_bytes": 0},
        storage={"path": path, "duplicates": duplicates, "busy_timeout_seconds": BUSY_SECONDS},
    )
    system = create_system(settings)
    assert isinstance(system, CognitiveMemorySystem)
    return system


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What decides a memory. ``key`` is a word of its own: its writer, ``n``, and a number."""

    key: str
    version: int = 0
    words: int = 8
    theme: int | None = None
    source: str | None = None
    gains: tuple[str, ...] = ()
    """What duplicates brought: each a tag and a key of the metadata."""
    memory_id: str | None = None
    """None: the system gives one."""

    @property
    def content(self) -> str:
        """``"w1n4 5f0c21aa …"``: the key, the words of the theme, and words of this version."""
        themed = (
            [] if self.theme is None else [f"theme{self.theme}x{i}" for i in range(THEME_WORDS)]
        )
        own = [self.word(number) for number in range(max(1, self.words - 1 - len(themed)))]
        return " ".join([self.key, *themed, *own])

    def word(self, number: int) -> str:
        """A word that no other item and no other version has."""
        text = f"{self.key}.{self.version}.{number}"
        return "q" + blake2b(text.encode(), digest_size=5).hexdigest()

    @property
    def last_word(self) -> str:
        """The last of the content."""
        return self.content.rpartition(" ")[2]

    @property
    def own_tag(self) -> str:
        """A tag that no other item has."""
        return f"tag-{self.key}"

    @property
    def shared_tag(self) -> str:
        """A tag of some items of the same writer."""
        return f"{self.key.partition('n')[0]}-{crc32(self.key.encode()) % 4}"

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags, in order."""
        return (self.own_tag, self.shared_tag, *self.gains)

    @property
    def metadata(self) -> dict[str, Any]:
        """All metadata, in order."""
        return {"key": self.key, "version": self.version, **dict.fromkeys(self.gains, True)}

    @property
    def created(self) -> datetime:
        """A second of its own."""
        return _BIRTH + timedelta(seconds=crc32(self.key.encode()) % 10_000_000)

    @property
    def context(self) -> dict[str, Any]:
        """For ``store_experience``."""
        return {**self.metadata, "tags": list(self.tags), "created_date": self.created}

    def memory(self, memory_id: str) -> CognitiveMemory:
        """As it must be stored."""
        return make_memory(
            memory_id,
            self.content,
            tags=self.tags,
            metadata=self.metadata,
            source_path=self.source,
            source_type="manual_entry" if self.source is None else "items",
            created_date=self.created,
            last_accessed=self.created,
        )


def chunks_of(content: str) -> list[str]:
    """The texts whose vectors must be stored, in order."""
    (spans,) = WordHashProvider().chunk_batch([content])
    return [content[start:end] for start, end in spans]


def item_from(values: dict[str, Any]) -> Item:
    """The inverse of ``asdict`` after a journey through JSON."""
    return Item(**{**values, "gains": tuple(values["gains"])})


def to_json(value: Any) -> str:
    """One line for a dataclass."""
    return json.dumps(asdict(value))
