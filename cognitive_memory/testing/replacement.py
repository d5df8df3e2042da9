"""What every ``EmbeddingReplacement`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from ..core.errors import (
    DimensionMismatchError,
    FingerprintMismatchError,
    InvalidInputError,
    StorageError,
)
from ..core.interfaces import EmbeddingReplacement, MemoryStorage, VectorStorage
from ..core.memory import CognitiveMemory, VectorHit
from ..core.similarity import Vector
from .examples import make_memory

OLD, NEW, THIRD = "old/2", "new/3", "third/3"
X, Y = np.eye(2, dtype=np.float32)[:, None]
"""(1, 2): the rows of one chunk for the old embedding."""

A, B, C = np.eye(3, dtype=np.float32)[:, None]
"""(1, 3): the rows of one chunk for the new ones."""


class Stores(NamedTuple):
    """What one handle on a store has."""

    memories: MemoryStorage
    vectors: VectorStorage
    replacement: EmbeddingReplacement

    def put(self, *ids: str, rows: Vector = X) -> list[CognitiveMemory]:
        """Store memories with these (chunks, dim) vectors of the embedding that serves."""
        memories = [make_memory(memory_id) for memory_id in ids]
        with self.memories.transaction():
            self.memories.save_memories(memories)
            self.vectors.store_vectors(memories, [rows] * len(memories))
        return memories

    def missing(self, fingerprint: str, limit: int = 9, after: str | None = None) -> str:
        """Their ids, one letter each."""
        found = self.replacement.find_missing(fingerprint, limit, after)
        return "".join(memory.id for memory in found)


OpenStores = Callable[[], Stores]


class EmbeddingReplacementContract:
    """Define the fixture ``open_stores``: each call opens another handle on one, new store."""

    @pytest.fixture
    def opened(self, open_stores: OpenStores) -> Iterator[OpenStores]:
        """Opens handles that are closed in the end."""
        with ExitStack() as stack:

            def opened() -> Stores:
                stores = open_stores()
                stack.enter_context(stores.memories)
                stack.enter_context(stores.vectors)
                return stores

            yield opened

    @pytest.fixture
    def stores(self, opened: OpenStores) -> Stores:
        """The old embedding serves, and the new one is known; there are no memories."""
        stores = opened()
        stores.vectors.bind_embedding(OLD, 2)
        stores.replacement.begin(NEW, 3)
        return stores

    def add(self, stores: Stores, memories: Sequence[CognitiveMemory], rows: Vector = A) -> None:
        """Vectors of the new embedding for these memories."""
        stores.replacement.add_vectors(NEW, memories, [rows] * len(memories))

    def test_a_new_store_has_no_embedding(self, opened: OpenStores) -> None:
        stores = opened()
        assert stores.replacement.serving() is None
        assert stores.replacement.previous() is None
        stores.replacement.begin(NEW, 3)
        assert stores.replacement.serving() is None

    def test_an_unknown_embedding_is_refused(self, stores: Stores) -> None:
        replacement = stores.replacement
        for call in (
            lambda: replacement.count(THIRD),
            lambda: replacement.find_missing(THIRD, 1),
            lambda: replacement.add_vectors(THIRD, [], []),
            lambda: replacement.serve(THIRD),
        ):
            with pytest.raises(StorageError, match="third/3 is not an embedding of this store"):
                call()
        assert replacement.serving() == OLD

    def test_the_old_serves_until_the_switch(self, stores: Stores, opened: OpenStores) -> None:
        other = opened()
        memories = stores.put("a", "b")
        expected = [VectorHit("a", 1.0, 0), VectorHit("b", 1.0, 0)]
        self.add(stores, memories)
        for each in (stores, other):
            each.vectors.check_embedding(OLD)
            assert each.vectors.search_similar(X[0], 9) == expected
            assert each.vectors.count() == 2
            assert each.replacement.serving() == OLD
            assert each.replacement.previous() is None

    def test_the_new_serves_from_the_switch_on(self, stores: Stores, opened: OpenStores) -> None:
        other = opened()
        (memory,) = stores.put("a", rows=Y)
        assert other.vectors.search_similar(Y[0], 9) == [VectorHit("a", 1.0, 0)]
        self.add(stores, [memory], B)
        assert stores.replacement.serve(NEW)
        for each in (stores, other):
            assert each.vectors.search_similar(B[0], 9) == [VectorHit("a", 1.0, 0)]
            assert each.replacement.serving() == NEW
            assert each.replacement.previous() == OLD
            assert each.vectors.count() == 1
            np.testing.assert_array_equal(each.vectors.get_vectors(["a"])["a"], B)
            with pytest.raises(FingerprintMismatchError, match="holds vectors of new/3"):
                each.vectors.check_embedding(OLD)
            with pytest.raises(FingerprintMismatchError, match="holds vectors of new/3"):
                each.vectors.bind_embedding(OLD, 2)

    def test_an_incomplete_one_does_not_serve(self, stores: Stores) -> None:
        memories = stores.put("a", "b")
        self.add(stores, memories[:1])
        assert not stores.replacement.serve(NEW)
        assert stores.replacement.serving() == OLD
        assert stores.replacement.previous() is None
        assert len(stores.vectors.search_similar(X[0], 9)) == 2
        self.add(stores, memories[1:])
        assert stores.replacement.serve(NEW)

    def test_what_is_missing_is_found_in_the_order_of_storing(self, stores: Stores) -> None:
        memories = stores.put(*"cabed")
        assert stores.missing(NEW) == "cabed"
        assert stores.missing(NEW, 2) == "ca"
        assert stores.missing(NEW, 2, "a") == "be"
        assert stores.missing(NEW, 9, "d") == ""
        assert stores.missing(NEW, 0) == ""
        self.add(stores, memories[1:3])
        assert stores.missing(NEW) == "ced"
        assert stores.missing(NEW, 9, "a") == "ed"
        assert stores.replacement.count(NEW) == (2, 5)
        assert stores.missing(OLD) == ""
        assert stores.replacement.count(OLD) == (5, 5)

    def test_after_a_memory_that_is_gone_all_are_looked_at(self, stores: Stores) -> None:
        stores.put(*"abc")
        stores.memories.delete_memories(["b"])
        assert stores.missing(NEW, 9, "b") == "ac"

    def test_what_changed_meanwhile_is_still_missing(self, stores: Stores) -> None:
        read = stores.put(*"abc")
        stores.memories.delete_memories(["a"])
        changed = replace(read[1], content="another text")
        stores.memories.save_memories([changed])
        stores.vectors.store_vectors([changed], [Y])
        self.add(stores, read)
        assert stores.missing(NEW) == "b"
        assert stores.replacement.count(NEW) == (1, 2)
        self.add(stores, [changed])
        assert stores.replacement.serve(NEW)

    def test_a_text_that_changes_later_is_missing_again(self, stores: Stores) -> None:
        memories = stores.put("a", "b")
        self.add(stores, memories)
        changed = replace(memories[0], content="another text")
        stores.memories.save_memories([changed])
        assert stores.missing(NEW) == "a"
        stores.memories.save_memories([replace(memories[1], importance_score=0.9)])
        assert stores.missing(NEW) == "a"

    def test_what_is_there_is_kept(self, stores: Stores) -> None:
        """Two processes at once: the slower one does not do the work of the other again."""
        memories = stores.put("a", "b")
        self.add(stores, memories[:1], A)
        self.add(stores, memories, B)
        stores.replacement.serve(NEW)
        found = stores.vectors.get_vectors(["a", "b"])
        np.testing.assert_array_equal(found["a"], A)
        np.testing.assert_array_equal(found["b"], B)

    def test_a_memory_has_several_chunks(self, stores: Stores) -> None:
        (memory,) = stores.put("a", rows=np.concatenate([X, Y]))
        self.add(stores, [memory], np.concatenate([A, B, C]))
        assert stores.replacement.count(NEW) == (1, 1)
        assert stores.vectors.count() == 2
        stores.replacement.serve(NEW)
        assert stores.vectors.count() == 3
        assert stores.vectors.search_similar(C[0], 9) == [VectorHit("a", 1.0, 2)]

    def test_wrong_vectors_are_refused(self, stores: Stores) -> None:
        memories = stores.put("a", "b")
        with pytest.raises(DimensionMismatchError, match="3 dimensions"):
            stores.replacement.add_vectors(NEW, memories, [A, X])
        for bad in (np.full_like(A, np.nan), np.full_like(A, np.inf), 0 * A, 2 * A):
            with pytest.raises(InvalidInputError):
                stores.replacement.add_vectors(NEW, memories, [A, bad])
        with pytest.raises(InvalidInputError, match="'a' twice"):
            self.add(stores, [memories[0], memories[0]])
        with pytest.raises(InvalidInputError, match="got 1 arrays of vectors for 2 memories"):
            stores.replacement.add_vectors(NEW, memories, [A])
        assert stores.missing(NEW) == "ab"

    def test_the_dimension_of_what_is_held_stays(self, stores: Stores) -> None:
        memories = stores.put("a", "b")
        self.add(stores, memories[:1])
        stores.replacement.begin(NEW, 2)
        with pytest.raises(DimensionMismatchError, match="3 dimensions"):
            stores.replacement.add_vectors(NEW, memories[1:], [X])
        self.add(stores, memories[1:], B)
        assert stores.replacement.serve(NEW)
        assert stores.vectors.search_similar(B[0], 1) == [VectorHit("b", 1.0, 0)]

    def test_going_back_and_forth(self, stores: Stores) -> None:
        self.add(stores, stores.put("a"))
        for now, before, row in ((NEW, OLD, A), (OLD, NEW, X), (NEW, OLD, A)):
            assert stores.replacement.serve(now)
            assert stores.replacement.serving() == now
            assert stores.replacement.previous() == before
            assert stores.vectors.search_similar(row[0], 9) == [VectorHit("a", 1.0, 0)]

    def test_what_was_stored_since_keeps_from_going_back(self, stores: Stores) -> None:
        self.add(stores, stores.put("a"))
        stores.replacement.serve(NEW)
        stores.vectors.bind_embedding(NEW, 3)
        later = stores.put("b", rows=B)
        assert not stores.replacement.serve(OLD)
        assert stores.missing(OLD) == "b"
        stores.replacement.add_vectors(OLD, later, [Y])
        assert stores.replacement.serve(OLD)
        assert stores.vectors.search_similar(Y[0], 1) == [VectorHit("b", 1.0, 0)]

    def test_what_serves_already_stays(self, stores: Stores) -> None:
        stores.put("a")
        assert stores.replacement.serve(OLD)
        assert stores.replacement.serving() == OLD
        assert stores.replacement.previous() is None

    def test_an_embedding_that_never_served_is_not_the_previous_one(self, stores: Stores) -> None:
        memories = stores.put("a")
        self.add(stores, memories)
        stores.replacement.begin(THIRD, 3)
        stores.replacement.add_vectors(THIRD, memories, [C])
        assert stores.replacement.previous() is None
        stores.replacement.serve(THIRD)
        assert stores.replacement.previous() == OLD

    def test_an_empty_store_takes_another_at_once(self, stores: Stores) -> None:
        assert stores.replacement.count(NEW) == (0, 0)
        assert stores.replacement.serve(NEW)
        assert stores.replacement.serving() == NEW
        assert stores.replacement.previous() is None  # of which there are no vectors
        stores.vectors.bind_embedding(NEW, 3)

    def test_what_is_discarded_is_gone(self, stores: Stores) -> None:
        self.add(stores, stores.put("a", "b", rows=np.concatenate([X, Y])))
        stores.replacement.serve(NEW)
        assert stores.replacement.discard() == 4
        assert stores.replacement.previous() is None
        assert stores.vectors.search_similar(A[0], 1) == [VectorHit("a", 1.0, 0)]
        with pytest.raises(StorageError, match="old/2 is not an embedding of this store"):
            stores.replacement.serve(OLD)
        assert stores.replacement.discard() == 0
        stores.replacement.begin(OLD, 2)
        assert stores.missing(OLD) == "ab"

    def test_one_that_begins_after_a_discard_is_not_the_previous_one(self, stores: Stores) -> None:
        memories = stores.put("a")
        self.add(stores, memories)
        stores.replacement.serve(NEW)
        stores.replacement.serve(OLD)
        stores.replacement.discard()
        stores.replacement.begin(THIRD, 3)
        stores.replacement.add_vectors(THIRD, memories, [C])
        assert stores.replacement.previous() is None
        assert stores.replacement.serve(THIRD)
        assert stores.vectors.search_similar(C[0], 1) == [VectorHit("a", 1.0, 0)]

    def test_a_deleted_memory_takes_all_its_vectors(self, stores: Stores) -> None:
        self.add(stores, stores.put("a", "b"))
        stores.memories.delete_memories(["a"])
        assert stores.replacement.count(NEW) == (1, 1)
        stores.replacement.serve(NEW)
        assert stores.vectors.search_similar(A[0], 9) == [VectorHit("b", 1.0, 0)]
        assert stores.replacement.count(OLD) == (1, 1)

    def test_what_was_made_outlives_the_handle(self, stores: Stores, opened: OpenStores) -> None:
        memories = stores.put("a", "b")
        self.add(stores, memories[:1])
        stores.vectors.close()
        stores.memories.close()
        other = opened()
        assert other.replacement.count(NEW) == (1, 2)
        assert other.missing(NEW) == "b"
        self.add(other, memories[1:])
        assert other.replacement.serve(NEW)
        assert opened().replacement.serving() == NEW
        assert opened().replacement.previous() == OLD

    def test_a_transaction_that_fails_leaves_nothing(self, stores: Stores) -> None:
        memories = stores.put("a")

        def fail() -> None:
            with stores.memories.transaction():
                self.add(stores, memories)
                assert stores.replacement.serve(NEW)
                assert stores.vectors.search_similar(A[0], 1) == [VectorHit("a", 1.0, 0)]
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert stores.replacement.serving() == OLD
        assert stores.missing(NEW) == "a"
        assert stores.vectors.search_similar(X[0], 1) == [VectorHit("a", 1.0, 0)]
