"""Loading while others write, and of what a loader should not give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from systems import open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import SourceError
from cognitive_memory.core.interfaces import MemoryLoader
from cognitive_memory.core.memory import CognitiveMemory, MemoryConnection
from cognitive_memory.core.similarity import Vector
from cognitive_memory.loaders import MarkdownMemoryLoader
from cognitive_memory.testing import WordLengthProvider, make_memory


class Interrupted(WordLengthProvider):
    """Does something else, once, while it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] | None = None

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """As its parent; what is to happen meanwhile happens first."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return super().encode_batch(texts)


class FixedIds(MemoryLoader):
    """Sources are lists of ids, whatever they are."""

    kind = "ids"

    def __init__(self, **sources: str) -> None:
        self._sources = sources

    def find_sources(self, path: str) -> list[str]:
        return sorted(name for name in self._sources if name.startswith(path))

    def load_from_source(self, source: str, **options: Any) -> list[CognitiveMemory]:
        return [make_memory(each, source_path=source) for each in self._sources[source].split()]

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        return []


def write(path: Path, last: str) -> str:
    path.write_text(f"# Title\n\n## One\n\nfirst\n\n## Two\n\n{last}\n", encoding="utf-8")
    return str(path)


def whole(system: CognitiveMemorySystem) -> bool:
    """Whether each memory has its vector."""
    ids = [memory.id for memory in system.memories.find_memories()]
    return system.vectors.get_vectors(ids).keys() == set(ids)


def test_a_source_deleted_meanwhile_is_stored_whole(tmp_path: Path) -> None:
    provider = Interrupted()
    source = write(tmp_path / "a.md", "second")
    with (
        open_system(tmp_path / "store.db", provider, MarkdownMemoryLoader()) as system,
        open_system(tmp_path / "store.db", None, MarkdownMemoryLoader()) as other,
    ):
        system.load(source)
        before = {memory.id for memory in system.memories.find_memories()}
        write(tmp_path / "a.md", "changed")
        provider.meanwhile = lambda: other.delete_memories_by_source_path(source)
        report = system.load(source)
        assert (report.added, report.updated, report.unchanged) == (3, 0, 0)
        assert {memory.id for memory in system.memories.find_memories()} == before
        assert whole(system)
        assert len(system.connections.get_connections(sorted(before))) == 4


def test_a_source_loaded_by_both_is_there_once(tmp_path: Path) -> None:
    provider = Interrupted()
    source = write(tmp_path / "a.md", "second")
    with (
        open_system(tmp_path / "store.db", provider, MarkdownMemoryLoader()) as system,
        open_system(tmp_path / "store.db", None, MarkdownMemoryLoader()) as other,
    ):
        provider.meanwhile = lambda: other.load(source)
        report = system.load(source)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 3)
        assert len(system.memories.find_memories()) == 3
        assert whole(system)


def test_two_memories_of_a_source_with_one_id_are_refused(tmp_path: Path) -> None:
    with open_system(tmp_path / "store.db", None, FixedIds(a="1 2 1")) as system:
        message = "^a gives the id '1' twice; its loader must derive ids from source and position$"
        with pytest.raises(SourceError, match=message):
            system.load("a")
        with pytest.raises(SourceError, match=message):
            system.load_memories_from_source(system.loaders[0], "a")
        assert system.memories.find_memories() == []


def test_of_many_sources_one_that_gives_an_id_twice_is_left_out(tmp_path: Path) -> None:
    """And all behind it are stored."""
    loader = FixedIds(a1="1", a2="2 3 2", a3="4", a4="2")
    with open_system(tmp_path / "store.db", None, loader) as system:
        report = system.load("a")
        assert (report.sources, report.added) == (3, 3)
        (fault,) = report.faults
        assert fault.startswith("a2 gives the id '2' twice")
        assert sorted(each.id for each in system.memories.find_memories()) == ["1", "2", "4"]
        assert whole(system)


def test_of_two_sources_that_give_one_id_the_second_is_left_out(tmp_path: Path) -> None:
    loader = FixedIds(a1="1 2", a2="3 1", a3="3")
    with open_system(tmp_path / "store.db", None, loader) as system:
        for added in (3, 0):
            report = system.load("a")
            assert (report.sources, report.added) == (2, added)
            (fault,) = report.faults
            assert fault.startswith("a2 gives the id '1' to a memory, and so does a1; its loader")
        stored = {each.id: each.source_path for each in system.memories.find_memories()}
        assert stored == {"1": "a1", "2": "a1", "3": "a3"}
        with pytest.raises(SourceError, match="a2 gives the id '1' to a memory, and so does a1"):
            system.load_memories_from_source(loader, "a")
        # One by one they are two loads, and the later one takes the memory over.
        assert system.load("a2").added == 2
