"""The SQLite stores against the contracts, and what only one file can promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cognitive_memory.core.errors import StorageError
from cognitive_memory.core.interfaces import MemoryStorage, VectorStorage
from cognitive_memory.core.memory import CognitiveMemory, MemoryConnection, VectorHit
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_replacement import SQLiteEmbeddingReplacement
from cognitive_memory.storage.sqlite_vectors import SQLiteVectorStorage
from cognitive_memory.testing import (
    ConnectionGraphContract,
    EmbeddingReplacementContract,
    LexicalIndexContract,
    MemoryStorageContract,
    Stores,
    VectorStorageContract,
    make_memory,
)

X, Y = np.eye(2, dtype=np.float32)[:, None]


class TestSQLiteVectors(VectorStorageContract):
    path: Path

    @pytest.fixture
    def open_storage(self, tmp_path: Path) -> Callable[[], VectorStorage]:
        self.path = tmp_path / "store.db"
        return lambda: SQLiteVectorStorage(Database(self.path))

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        with SQLitePersistence(Database(self.path)) as record:
            record.save_memories(memories)


class TestSQLiteMemories(MemoryStorageContract):
    @pytest.fixture
    def open_memories(self, tmp_path: Path) -> Callable[[], MemoryStorage]:
        return lambda: SQLitePersistence(Database(tmp_path / "store.db"))


class TestSQLiteReplacement(EmbeddingReplacementContract):
    @pytest.fixture
    def open_stores(self, tmp_path: Path) -> Callable[[], Stores]:
        def open_stores() -> Stores:
            database = Database(tmp_path / "store.db")
            return Stores(
                SQLitePersistence(database),
                SQLiteVectorStorage(database),
                SQLiteEmbeddingReplacement(database),
            )

        return open_stores


class _OneRecord:
    record: SQLitePersistence

    @pytest.fixture
    def graph(self, tmp_path: Path) -> Iterator[SQLitePersistence]:
        with SQLitePersistence(Database(tmp_path / "store.db")) as self.record:
            yield self.record

    @pytest.fixture
    def lexical(self, graph: SQLitePersistence) -> SQLitePersistence:
        return graph

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        self.record.save_memories(memories)


class TestSQLiteConnections(_OneRecord, ConnectionGraphContract):
    pass


class TestSQLiteWords(_OneRecord, LexicalIndexContract):
    pass


class TestOneFile:
    """Record, vectors, words and edges together."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database(tmp_path / "store.db")
        yield database
        database.close()

    @pytest.fixture
    def record(self, database: Database) -> SQLitePersistence:
        return SQLitePersistence(database)

    @pytest.fixture
    def vectors(self, database: Database) -> SQLiteVectorStorage:
        vectors = SQLiteVectorStorage(database)
        vectors.bind_embedding("test/2", 2)
        return vectors

    def test_deleting_a_memory_takes_all_that_hangs_on_it(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        memories = [make_memory(name) for name in "abc"]
        record.save_memories(memories)
        vectors.store_vectors(memories, [X, np.concatenate([Y, X]), X])
        edge = MemoryConnection("a", "c")
        record.add_connections([MemoryConnection("a", "b"), MemoryConnection("b", "c"), edge])
        assert len(vectors.search_similar(X[0], 10)) == 3
        record.delete_memories(["b"])
        assert [hit.memory_id for hit in vectors.search_similar(X[0], 10)] == ["a", "c"]
        assert vectors.count() == 2
        assert record.get_connections(["a", "b", "c"]) == [edge]
        assert [hit.memory_id for hit in record.search_text("text", 10)] == ["a", "c"]
        assert record.get_statistics()["connections"] == 1

    def test_vectors_of_an_unknown_memory_are_refused(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        record.save_memories([make_memory("a")])
        with pytest.raises(StorageError, match="'b' is not stored; save it before its vectors"):
            vectors.store_vectors([make_memory("a"), make_memory("b")], [X, X])
        assert vectors.count() == 0

    def test_an_unbound_store_takes_no_vectors(
        self, database: Database, record: SQLitePersistence
    ) -> None:
        record.save_memories([make_memory("a")])
        with pytest.raises(StorageError, match="call bind_embedding first"):
            SQLiteVectorStorage(database).store_vectors([make_memory("a")], [X])
        assert SQLiteVectorStorage(database).search_similar(X[0], 1) == []

    def test_a_search_in_a_transaction_sees_what_it_wrote(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        with record.transaction():
            record.save_memories([make_memory("a")])
            vectors.store_vectors([make_memory("a")], [X])
            assert vectors.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]
        assert vectors.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]

    def test_a_search_before_the_first_write_keeps_the_matrix(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        """It holds what is committed, and reading all of it anew would cost more than a search."""
        a, b = make_memory("a"), make_memory("b")
        record.save_memories([a])
        vectors.store_vectors([a], [X])
        vectors.search_similar(X[0], 1)
        matrix = vectors._index._index
        with record.transaction():
            assert vectors.search_similar(X[0], 10) == [VectorHit("a", 1.0, 0)]
            assert vectors._index._index is matrix
            record.save_memories([b])
            vectors.store_vectors([b], [X])
            assert len(vectors.search_similar(X[0], 10)) == 2
            assert vectors._index._index is not matrix
        assert len(vectors.search_similar(X[0], 10)) == 2

    def test_a_rolled_back_vector_is_forgotten(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        a, b = make_memory("a"), make_memory("b")
        record.save_memories([a])
        vectors.store_vectors([a], [Y])

        def fail() -> None:
            with record.transaction():
                record.save_memories([b])
                vectors.store_vectors([a, b], [X, X])
                assert len(vectors.search_similar(X[0], 10)) == 2
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert vectors.search_similar(X[0], 10) == [VectorHit("a", 0.0, 0)]
        # The new vector gets the id of the one that was rolled back.
        record.save_memories([b])
        vectors.store_vectors([b], [Y])
        hits = vectors.search_similar(Y[0], 10)
        assert hits == [VectorHit("a", 1.0, 0), VectorHit("b", 1.0, 0)]

    def test_a_sound_store_has_no_faults(
        self, record: SQLitePersistence, vectors: SQLiteVectorStorage
    ) -> None:
        memories = [make_memory("a"), make_memory("b")]
        record.save_memories(memories)
        vectors.store_vectors(memories, [X, Y])
        assert record.check_integrity() == []
        vectors.delete_vectors(["a"])
        assert record.check_integrity() == ["1 memories have no vector; load or store them again"]
