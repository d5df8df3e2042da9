"""Loading while others write: what was compared before embedding is compared again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.similarity import Vector
from cognitive_memory.loaders import MarkdownMemoryLoader
from cognitive_memory.retrieval.activation import SpreadingActivation
from cognitive_memory.retrieval.bridges import ResidualBridges
from cognitive_memory.retrieval.hybrid import HybridRetrieval
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import WordLengthProvider


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


def open_system(path: Path, provider: WordLengthProvider) -> CognitiveMemorySystem:
    database = Database(path)
    record, vectors = SQLitePersistence(database), SQLiteVectorStorage(database)
    retrieval = HybridRetrieval(
        provider,
        record,
        vectors,
        record,
        SpreadingActivation(record),
        ResidualBridges(vectors, record),
    )
    return CognitiveMemorySystem(
        provider, record, vectors, record, retrieval, [MarkdownMemoryLoader()]
    )


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
        open_system(tmp_path / "store.db", provider) as system,
        open_system(tmp_path / "store.db", WordLengthProvider()) as other,
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
        open_system(tmp_path / "store.db", provider) as system,
        open_system(tmp_path / "store.db", WordLengthProvider()) as other,
    ):
        provider.meanwhile = lambda: other.load(source)
        report = system.load(source)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 3)
        assert len(system.memories.find_memories()) == 3
        assert whole(system)
