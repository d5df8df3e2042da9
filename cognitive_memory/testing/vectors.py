"""What every ``VectorStorage`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from ..core.errors import (
    DimensionMismatchError,
    FingerprintMismatchError,
    InvalidInputError,
)
from ..core.interfaces import VectorStorage
from ..core.memory import CognitiveMemory, MemoryFilter, VectorHit
from ..core.similarity import Vector, normalize
from .examples import FILTER_CASES, FILTERED_MEMORIES, make_memory, unit

FINGERPRINT = "contract/4"
X, Y, Z, W = np.eye(4, dtype=np.float32)
HALF = unit(1, 1, 1, 1)
"""Its cosine with each axis is 0.5, exactly."""

OpenStorage = Callable[[], VectorStorage]


def _ids(hits: Sequence[VectorHit]) -> list[str]:
    return [hit.memory_id for hit in hits]


class VectorStorageContract:
    """Define the fixture ``open_storage``: each call opens another handle on one, new store.

    Where the record lies elsewhere, override ``save_memories``. Where a store serves one handle
    at a time, set ``shares_store`` to false.
    """

    shares_store = True

    many = 2_000
    """Memories at once: more than the store is asked for in one request or statement."""

    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Put memories into the record; called before their vectors are stored."""

    def put(self, storage: VectorStorage, **vectors: Vector) -> None:
        """Store one vector for each id, or a row for each chunk."""
        memories = [make_memory(memory_id) for memory_id in vectors]
        self.put_memories(storage, memories, list(vectors.values()))

    def put_memories(
        self,
        storage: VectorStorage,
        memories: Sequence[CognitiveMemory],
        vectors: Sequence[Vector],
    ) -> None:
        """Save the memories, then store their vectors."""
        self.save_memories(memories)
        storage.store_vectors(memories, [np.atleast_2d(array) for array in vectors])

    @pytest.fixture
    def opened(self, open_storage: OpenStorage) -> Iterator[OpenStorage]:
        """Opens handles that are closed in the end."""
        with ExitStack() as stack:
            yield lambda: stack.enter_context(open_storage())

    @pytest.fixture
    def storage(self, opened: OpenStorage) -> VectorStorage:
        """An empty store for four dimensions."""
        storage = opened()
        storage.bind_embedding(FINGERPRINT, 4)
        return storage

    # Ranking

    def test_the_best_come_first(self, storage: VectorStorage) -> None:
        self.put(storage, near=HALF, far=Y, same=X, opposite=-X)
        hits = storage.search_similar(X, 10)
        assert _ids(hits) == ["same", "near", "far", "opposite"]
        assert [hit.score for hit in hits] == pytest.approx([1, 0.5, 0, -1])
        assert {hit.chunk for hit in hits} == {0}

    def test_negative_cosines_are_found(self, storage: VectorStorage) -> None:
        self.put(storage, a=-X, b=-HALF)
        assert storage.search_similar(X, 2) == [VectorHit("b", -0.5, 0), VectorHit("a", -1.0, 0)]

    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_k_is_the_most_that_comes_back(self, storage: VectorStorage, k: int) -> None:
        self.put(storage, a=X, b=HALF, c=Y)
        assert _ids(storage.search_similar(X, k)) == ["a", "b", "c"][:k]

    def test_ties_are_broken_by_id(self, storage: VectorStorage) -> None:
        self.put(storage, d=Y, b=X, e=X, best=HALF, a=X, c=X)
        query = unit(1, 0.5, 0.5, 0.5)
        order = ["best", "a", "b", "c", "e", "d"]
        for k in range(1, 7):
            assert _ids(storage.search_similar(query, k)) == order[:k]

    def test_identical_vectors_tie_wherever_they_lie(self, opened: OpenStorage) -> None:
        """A matrix product may round a row differently at another place."""
        storage = opened()
        storage.bind_embedding("contract/64", 64)
        generator = np.random.default_rng(1)
        rows = normalize(generator.standard_normal((300, 64)).astype(np.float32))
        twins = generator.choice(300, 40, replace=False)
        rows[twins] = rows[twins[0]]
        names = [f"{number:03}" for number in generator.permutation(300)]
        self.put(storage, **dict(zip(names, rows, strict=True)))
        query = normalize(rows[twins[0]] + 0.1 * rows[0])
        expected = sorted(names[twin] for twin in twins)
        for k in (1, 2, 7, 20, 39, 40):
            hits = storage.search_similar(query, k)
            assert _ids(hits) == expected[:k]
            assert len({hit.score for hit in hits}) == 1

    def test_scores_stay_within_one(self, opened: OpenStorage) -> None:
        storage = opened()
        storage.bind_embedding("contract/64", 64)
        generator = np.random.default_rng(2)
        rows = normalize(generator.standard_normal((50, 64)).astype(np.float32))
        self.put(storage, **{f"{number:02}": row for number, row in enumerate(rows)})
        for row in rows:
            best = storage.search_similar(row, 1)[0].score
            worst = storage.search_similar(-row, 50)[-1].score
            assert best == pytest.approx(1)
            assert best <= 1
            assert worst == pytest.approx(-1)
            assert worst >= -1

    # Empties

    @pytest.mark.parametrize("k", [0, 1])
    def test_an_empty_store_finds_nothing(self, storage: VectorStorage, k: int) -> None:
        assert storage.search_similar(X, k) == []
        assert storage.count() == 0

    def test_k_of_zero_finds_nothing(self, storage: VectorStorage) -> None:
        self.put(storage, a=X)
        assert storage.search_similar(X, 0) == []

    def test_nothing_to_store_or_delete_is_no_error(self, storage: VectorStorage) -> None:
        storage.store_vectors([], [])
        assert storage.delete_vectors([]) == 0
        assert storage.count() == 0

    # Thresholds

    def test_min_score_is_inclusive(self, storage: VectorStorage) -> None:
        self.put(storage, same=X, near=HALF, far=Y, opposite=-X)
        for min_score, found in [(-1, 4), (0, 3), (0.5, 2), (0.50001, 1), (1, 1), (1.00001, 0)]:
            hits = storage.search_similar(X, 10, min_score=min_score)
            assert _ids(hits) == ["same", "near", "far", "opposite"][:found]

    def test_min_score_and_k_both_hold(self, storage: VectorStorage) -> None:
        self.put(storage, a=X, b=HALF, c=Y)
        assert _ids(storage.search_similar(X, 1, min_score=0.5)) == ["a"]

    # Chunks

    def test_a_memory_is_found_once_by_its_best_chunk(self, storage: VectorStorage) -> None:
        self.put(storage, many=np.stack([Y, HALF, X, Z]), one=HALF)
        assert storage.search_similar(X, 10) == [
            VectorHit("many", 1.0, 2),
            VectorHit("one", 0.5, 0),
        ]
        assert storage.search_similar(Y, 1) == [VectorHit("many", 1.0, 0)]

    def test_among_equal_chunks_the_first_is_named(self, storage: VectorStorage) -> None:
        self.put(storage, a=np.stack([Y, X, X, X]))
        assert storage.search_similar(X, 1) == [VectorHit("a", 1.0, 1)]

    def test_k_counts_memories_not_chunks(self, storage: VectorStorage) -> None:
        self.put(storage, a=np.stack([X] * 50), b=np.stack([X] * 50), c=HALF, d=Y)
        assert _ids(storage.search_similar(X, 3)) == ["a", "b", "c"]

    def test_count_counts_chunks(self, storage: VectorStorage) -> None:
        self.put(storage, a=np.stack([X, Y]), b=Z)
        assert storage.count() == 3

    # Reading

    def test_vectors_come_back_as_they_were_stored(self, storage: VectorStorage) -> None:
        many = np.stack([Y, HALF, X])
        self.put(storage, many=many, one=-HALF)
        found = storage.get_vectors(["one", "unknown", "many", "one"])
        assert list(found) == ["one", "many"]
        for memory_id, expected in (("one", -HALF[None]), ("many", many)):
            assert found[memory_id].dtype == np.float32
            assert found[memory_id].shape == expected.shape
            assert np.array_equal(found[memory_id], expected)

    def test_vectors_that_are_not_there_are_absent(self, storage: VectorStorage) -> None:
        assert storage.get_vectors([]) == {}
        assert storage.get_vectors(["a"]) == {}
        self.put(storage, a=X, b=Y)
        storage.delete_vectors(["a"])
        assert list(storage.get_vectors(["a", "b"])) == ["b"]

    def test_vectors_of_many_memories(self, storage: VectorStorage) -> None:
        rows = {f"{n:05}": (X, Y, Z, W, HALF)[n % 5] for n in range(self.many)}
        self.put(storage, **rows)
        names = list(rows)[::-1]
        found = storage.get_vectors(names)
        assert list(found) == names
        expected = np.stack([rows[name] for name in names])
        assert np.array_equal(np.concatenate(list(found.values())), expected)
        assert storage.delete_vectors(names) == self.many
        assert storage.count() == 0

    def test_what_was_read_can_be_changed(self, storage: VectorStorage) -> None:
        self.put(storage, a=X)
        storage.get_vectors(["a"])["a"][0] = Y
        assert np.array_equal(storage.get_vectors(["a"])["a"], X[None])

    # Writing

    def test_storing_again_replaces_all_chunks(self, storage: VectorStorage) -> None:
        self.put(storage, a=np.stack([X, Y, Z]), b=HALF)
        assert _ids(storage.search_similar(X, 1)) == ["a"]
        self.put(storage, a=W)
        assert storage.count() == 2
        assert storage.search_similar(X, 10) == [VectorHit("b", 0.5, 0), VectorHit("a", 0.0, 0)]
        assert storage.search_similar(W, 1) == [VectorHit("a", 1.0, 0)]

    def test_deleted_vectors_are_not_found(self, storage: VectorStorage) -> None:
        self.put(storage, a=np.stack([X, Y]), b=X, c=HALF)
        assert _ids(storage.search_similar(X, 10)) == ["a", "b", "c"]
        assert storage.delete_vectors(["a", "c"]) == 2
        assert _ids(storage.search_similar(X, 10)) == ["b"]
        assert storage.count() == 1

    def test_deleting_what_is_not_there_counts_nothing(self, storage: VectorStorage) -> None:
        self.put(storage, a=X)
        assert storage.delete_vectors(["unknown"]) == 0
        assert storage.delete_vectors(["a", "unknown"]) == 1
        assert storage.delete_vectors(["a"]) == 0

    def test_deleted_vectors_can_be_stored_again(self, storage: VectorStorage) -> None:
        self.put(storage, a=X)
        storage.delete_vectors(["a"])
        self.put(storage, a=Y)
        assert storage.search_similar(Y, 10) == [VectorHit("a", 1.0, 0)]

    @pytest.mark.parametrize(
        "memory_id", ["größe", "日本語", "🦊", "a b/c?d=1&e", "o'clock", '"', "%", "a" * 500, "123"]
    )
    def test_any_text_is_an_id(self, storage: VectorStorage, memory_id: str) -> None:
        self.put(storage, **{memory_id: X, "other": Y})
        assert _ids(storage.search_similar(X, 1)) == [memory_id]
        assert storage.delete_vectors([memory_id]) == 1
        assert _ids(storage.search_similar(X, 10)) == ["other"]

    # Filters

    @pytest.mark.parametrize("case", FILTER_CASES)
    def test_filters(self, storage: VectorStorage, case: str) -> None:
        self.put_memories(storage, FILTERED_MEMORIES, [X, Y, HALF, -X])
        filters, expected = FILTER_CASES[case]
        hits = storage.search_similar(X, 10, filters)
        order = ["concept", "episode", "context", "loose"]
        assert _ids(hits) == [memory_id for memory_id in order if memory_id in expected]
        assert _ids(storage.search_similar(X, 1, filters)) == _ids(hits)[:1]

    def test_a_rare_match_is_found_behind_many(self, storage: VectorStorage) -> None:
        common = [make_memory(f"{number:03}") for number in range(200)]
        rare = make_memory("rare", tags=("rare",))
        self.put_memories(storage, [*common, rare], [X] * 200 + [-X])
        assert storage.search_similar(X, 1, MemoryFilter(tags=("unknown",))) == []
        hits = storage.search_similar(X, 1, MemoryFilter(tags=("rare",)))
        assert hits == [VectorHit("rare", -1.0, 0)]

    # What is refused

    @pytest.mark.parametrize("dimension", [3, 5])
    def test_another_dimension_is_refused(self, storage: VectorStorage, dimension: int) -> None:
        wrong = np.eye(dimension, dtype=np.float32)[:1]
        with pytest.raises(DimensionMismatchError, match=str(dimension)):
            self.put(storage, a=X, b=wrong)
        assert storage.count() == 0
        self.put(storage, a=X)
        with pytest.raises(DimensionMismatchError, match=str(dimension)):
            storage.search_similar(wrong[0], 1)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_refused(self, storage: VectorStorage, value: float) -> None:
        bad = np.array([1, 0, 0, value], dtype=np.float32)
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            self.put(storage, a=X, b=bad)
        assert storage.count() == 0
        self.put(storage, a=X)
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            storage.search_similar(bad, 1)

    @pytest.mark.parametrize("length", [0.0, 0.5, 2.0])
    def test_what_is_not_of_unit_length_is_refused(
        self, storage: VectorStorage, length: float
    ) -> None:
        with pytest.raises(InvalidInputError, match=f"length {length:g}"):
            self.put(storage, a=X, b=length * Y)
        assert storage.count() == 0
        self.put(storage, a=X)
        with pytest.raises(InvalidInputError, match=f"length {length:g}"):
            storage.search_similar(length * X, 1)

    def test_a_memory_given_twice_is_refused(self, storage: VectorStorage) -> None:
        memory = make_memory("a")
        self.put_memories(storage, [memory], [X])
        with pytest.raises(InvalidInputError, match="'a' twice"):
            storage.store_vectors([memory, memory], [Y[None], Y[None]])
        assert storage.search_similar(X, 1) == [VectorHit("a", 1.0, 0)]

    @pytest.mark.parametrize("rows", [0, 1, 3])
    def test_one_array_of_vectors_for_each_memory(self, storage: VectorStorage, rows: int) -> None:
        memories = [make_memory("a"), make_memory("b")]
        self.put_memories(storage, memories, [X, Y])
        with pytest.raises(InvalidInputError, match=f"got {rows} arrays of vectors for 2 memories"):
            storage.store_vectors(memories, [Z[None]] * rows)
        assert storage.search_similar(X, 1) == [VectorHit("a", 1.0, 0)]
        assert storage.count() == 2

    def test_a_batch_of_queries_is_answered_one_by_one(self, storage: VectorStorage) -> None:
        self.put(storage, a=X, b=Y, c=-X)
        queries = np.stack([X, Y, -X])
        filters = MemoryFilter(memory_ids=("a", "c"))
        for arguments in ((2,), (5, filters), (3, None, 0.5), (0,)):
            alone = [storage.search_similar(query, *arguments) for query in queries]
            assert storage.search_similar_batch(queries, *arguments) == alone
        assert storage.search_similar_batch(queries[:0], 2) == []

    def test_another_embedding_is_refused(self, storage: VectorStorage) -> None:
        self.put(storage, a=X)
        with pytest.raises(FingerprintMismatchError) as caught:
            storage.bind_embedding("another/4", 4)
        assert FINGERPRINT in str(caught.value)
        assert "another/4" in str(caught.value)
        storage.bind_embedding(FINGERPRINT, 4)
        assert _ids(storage.search_similar(X, 1)) == ["a"]

    # One store, many handles and threads

    def test_reopening_keeps_everything(self, opened: OpenStorage) -> None:
        first = opened()
        first.bind_embedding(FINGERPRINT, 4)
        self.put(first, a=np.stack([Y, X]), b=HALF, c=X, d=X)
        self.put(first, d=-X)
        first.delete_vectors(["c"])
        before = first.search_similar(X, 10)
        first.close()
        second = opened()
        with pytest.raises(FingerprintMismatchError, match=FINGERPRINT):
            second.bind_embedding("another/4", 4)
        second.bind_embedding(FINGERPRINT, 4)
        assert second.search_similar(X, 10) == before
        assert _ids(before) == ["a", "b", "d"]
        assert second.count() == 4

    def test_closing_twice_is_allowed(self, storage: VectorStorage, opened: OpenStorage) -> None:
        self.put(storage, a=X)
        storage.close()
        storage.close()
        assert _ids(opened().search_similar(X, 1)) == ["a"]

    def test_another_handle_sees_every_change(
        self, storage: VectorStorage, opened: OpenStorage
    ) -> None:
        if not self.shares_store:
            pytest.skip("this store serves one handle at a time")
        other = opened()
        other.bind_embedding(FINGERPRINT, 4)
        assert other.search_similar(X, 10) == []
        self.put(storage, a=X, b=HALF)
        assert _ids(other.search_similar(X, 10)) == ["a", "b"]
        storage.delete_vectors(["a"])
        assert _ids(other.search_similar(X, 10)) == ["b"]
        self.put(storage, b=Y, c=X)
        assert other.search_similar(X, 10) == [VectorHit("c", 1.0, 0), VectorHit("b", 0.0, 0)]
        self.put(other, d=X)
        other.delete_vectors(["b"])
        assert _ids(storage.search_similar(X, 10)) == ["c", "d"]

    def test_threads_search_while_one_writes(self, storage: VectorStorage) -> None:
        self.put(storage, kept=HALF)

        def search(_: int) -> list[VectorHit]:
            return storage.search_similar(X, 100)

        with ThreadPoolExecutor(4) as pool:
            searches = pool.map(search, range(120))
            for number in range(30):
                self.put(storage, **{f"{number:02}": np.stack([X, Y])})
                if number % 3 == 0:
                    storage.delete_vectors([f"{number:02}"])
            for hits in searches:
                assert "kept" in _ids(hits)
                assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.memory_id))
                assert len(set(_ids(hits))) == len(hits)
        left = [f"{number:02}" for number in range(30) if number % 3]
        assert _ids(storage.search_similar(X, 100)) == [*left, "kept"]
