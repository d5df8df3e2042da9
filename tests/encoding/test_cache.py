"""The cache in memory: the same vectors, fewer embeddings, within its bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import unmeasured

from cognitive_memory.core.errors import EmbeddingError, InvalidInputError
from cognitive_memory.core.similarity import Vector
from cognitive_memory.encoding.cache import ENTRY_OVERHEAD, CachedEmbeddingProvider, MemoryCache
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.encoding.texts import check_texts
from cognitive_memory.models.verify import GoldenSet
from cognitive_memory.testing import EmbeddingProviderContract, WordLengthProvider

ROOM_FOR_FIVE = 5 * (16 * 4 + ENTRY_OVERHEAD)


class Counting(WordLengthProvider):
    """Remembers what it embedded, and refuses what the real provider refuses."""

    def __init__(self, name: str = "word-lengths") -> None:
        super().__init__(name=name)
        self.seen: list[str] = []
        self.is_closed = False

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        check_texts(texts)
        if self.is_closed:
            raise EmbeddingError("this provider is closed; create another one")
        self.seen += texts
        return super().encode_batch(texts)

    def encode_query(self, text: str) -> Vector:
        """Unlike a document: a model may prompt it."""
        return -self.encode(text)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def cached(counting: Counting) -> Iterator[CachedEmbeddingProvider]:
    with CachedEmbeddingProvider(counting, memory_bytes=100_000) as provider:
        yield provider


class TestCachedProvider(EmbeddingProviderContract):
    @pytest.fixture
    def provider(self, cached: CachedEmbeddingProvider) -> CachedEmbeddingProvider:
        return cached


def test_each_text_is_embedded_once(counting: Counting, cached: CachedEmbeddingProvider) -> None:
    texts = ["one two", "three", "one two", "three four five"]
    expected = WordLengthProvider().encode_batch(texts)
    for _ in range(2):
        assert np.array_equal(cached.encode_batch(texts), expected)
    assert counting.seen == ["one two", "three", "three four five"]
    statistics = cached.statistics
    assert (statistics.hits, statistics.misses, statistics.entries) == (4, 4, 3)
    assert statistics.hit_rate == 0.5
    assert json.loads(json.dumps(cached.get_model_info()))["cache"]["entries"] == 3


def test_a_query_is_kept_apart_from_a_document(
    counting: Counting, cached: CachedEmbeddingProvider
) -> None:
    expected = WordLengthProvider().encode("same words")
    for _ in range(2):
        assert np.array_equal(cached.encode("same words"), expected)
        assert np.array_equal(cached.encode_query("same words"), -expected)
    assert counting.seen == ["same words", "same words"]


def test_what_a_caller_does_to_a_vector_stays_with_him(cached: CachedEmbeddingProvider) -> None:
    for encode in (cached.encode, cached.encode_query):
        before = encode("one two").copy()
        encode("one two")[:] = 7
        assert np.array_equal(encode("one two"), before)


def test_a_batch_does_not_hold_on_to_the_rows_of_its_caller(
    counting: Counting, cached: CachedEmbeddingProvider
) -> None:
    first = cached.encode_batch(["one two", "three"])
    expected = first.copy()
    first[:] = 7
    second = cached.encode_batch(["three", "one two"])
    assert np.array_equal(second[::-1], expected)
    second[:] = 8
    assert np.array_equal(cached.encode_batch(["one two", "three"]), expected)
    assert len(counting.seen) == 2


def test_a_generator_of_texts_is_cached_too(
    counting: Counting, cached: CachedEmbeddingProvider
) -> None:
    texts = [f"text {number % 7}" for number in range(40)]
    for _ in range(2):
        vectors = np.stack(list(cached.encode_stream(iter(texts), window=5)))
        assert np.array_equal(vectors, WordLengthProvider().encode_batch(texts))
    assert counting.seen == texts[:7]


def test_the_real_provider_gives_the_same_vectors(
    provider: ONNXEmbeddingProvider, golden: GoldenSet
) -> None:
    cached = CachedEmbeddingProvider(provider, memory_bytes=10_000_000)
    texts = [text for text in golden.texts if len(text) < 60]
    first = cached.encode_batch(texts)
    assert np.array_equal(cached.encode_batch(texts[::-1])[::-1], first)
    assert np.abs(first - provider.encode_batch(texts)).max() < 1e-6
    assert cached.fingerprint == provider.fingerprint
    assert cached.statistics.hit_rate == 0.5


def test_it_says_of_itself_what_the_provider_says(cached: CachedEmbeddingProvider) -> None:
    wrapped = WordLengthProvider()
    assert (cached.dimension, cached.fingerprint) == (wrapped.dimension, wrapped.fingerprint)
    cached.encode_batch(["one", "two", "one"])
    info = cached.get_model_info()
    assert json.loads(json.dumps(info)) == info
    assert info["fingerprint"] == wrapped.fingerprint
    assert info["cache"] == {"entries": 2, "bytes": 2 * (64 + ENTRY_OVERHEAD), "hit_rate": 0.0}


def test_without_look_ups_the_hit_rate_is_zero(cached: CachedEmbeddingProvider) -> None:
    cached.encode_batch([])
    statistics = cached.statistics
    assert (statistics.hits, statistics.disk_hits, statistics.misses) == (0, 0, 0)
    assert (statistics.hit_rate, statistics.entries, statistics.bytes) == (0.0, 0, 0)


def test_chunks_and_warming_up_are_those_of_the_provider() -> None:
    class Warming(WordLengthProvider):
        is_warm = False

        def warm_up(self) -> None:
            self.is_warm = True

    wrapped = Warming(words_per_chunk=2)
    with CachedEmbeddingProvider(wrapped, memory_bytes=1000) as cached:
        assert cached.chunk_batch(["one two three"]) == wrapped.chunk_batch(["one two three"])
        cached.warm_up()
    assert wrapped.is_warm


# Faults


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("one text", TypeError, "a sequence of texts is needed, not one text"),
        (["known", "\ud800"], InvalidInputError, "^text 1 is not valid Unicode: a lone surr"),
        (["known", "known", 3], InvalidInputError, "^text 2 is a int; expected a str$"),
        ([b"bytes"], InvalidInputError, "^text 0 is a bytes; expected a str$"),
        (["new", "new", "known", None], InvalidInputError, "^text 3 is a NoneType; expected a str"),
        (["new", "new", "known", "a\udfff"], InvalidInputError, "^text 3 is not valid Unicode"),
    ],
)
def test_faults_are_those_of_the_provider(
    cached: CachedEmbeddingProvider, texts: Any, error: type[Exception], message: str
) -> None:
    cached.encode("known")
    for _ in range(2):
        with pytest.raises(error, match=message):
            cached.encode_batch(texts)
    assert cached.encode_batch(["known", "fine"]).shape == (2, cached.dimension)


@pytest.mark.parametrize("text", [3, None, b"bytes", "\ud800"])
def test_faults_of_a_query_are_those_of_the_provider(
    cached: CachedEmbeddingProvider, text: Any
) -> None:
    with pytest.raises(InvalidInputError, match=r"^text 0 is "):
        cached.encode_query(text)


def test_a_text_that_is_too_long_is_named_by_its_place(model_dir: Any) -> None:
    with CachedEmbeddingProvider(
        ONNXEmbeddingProvider(model_dir, overflow="error"), memory_bytes=100_000
    ) as cached:
        cached.encode_batch(["short", "also short"])
        with pytest.raises(InvalidInputError, match=r"^text 2 has 302 tokens, the limit is 256; "):
            cached.encode_batch(["short", "also short", "river " * 300])


def test_no_texts_are_no_rows(cached: CachedEmbeddingProvider) -> None:
    vectors = cached.encode_batch([])
    assert vectors.shape == (0, cached.dimension)
    assert vectors.dtype == np.float32


def test_a_closed_provider_says_so_and_holds_nothing(
    counting: Counting, cached: CachedEmbeddingProvider
) -> None:
    cached.encode_batch(["one", "two"])
    cached.close()
    cached.close()
    assert counting.is_closed
    texts: list[list[str]] = [["one"], ["new"], []]
    for each in texts:
        with pytest.raises(EmbeddingError, match="this provider is closed; create another one"):
            cached.encode_batch(each)
    with pytest.raises(EmbeddingError, match="this provider is closed"):
        cached.encode_query("one")
    assert (cached.statistics.entries, cached.statistics.bytes) == (0, 0)


def test_what_ends_after_closing_is_not_kept() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(WordLengthProvider):
        def encode_batch(self, texts: Sequence[str]) -> Vector:
            begun.set()
            assert go_on.wait(timeout=30)
            return super().encode_batch(texts)

    cached = CachedEmbeddingProvider(Slow(), memory_bytes=100_000)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(cached.encode, "one")
        assert begun.wait(timeout=30)
        cached.close()
        go_on.set()
        assert np.array_equal(running.result(), WordLengthProvider().encode("one"))
    assert cached.statistics.entries == 0


# Threads, forks and memory


def test_many_threads_share_it(cached: CachedEmbeddingProvider) -> None:
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(300)]
    with ThreadPoolExecutor(16) as threads:
        vectors = np.stack(list(threads.map(cached.encode, texts * 3)))
    assert np.array_equal(vectors, WordLengthProvider().encode_batch(texts * 3))


def test_counts_add_up_in_many_threads(cached: CachedEmbeddingProvider) -> None:
    texts = [f"word {number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        for vectors in threads.map(cached.encode_batch, [texts[:20], texts[10:30], texts] * 30):
            assert vectors.shape[1] == cached.dimension
    statistics = cached.statistics
    assert statistics.hits + statistics.misses == 30 * (20 + 20 + 40)
    assert 40 <= statistics.misses <= 8 * 40
    assert statistics.entries == 40


def test_a_small_cache_stays_right_in_many_threads() -> None:
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(100)]
    expected = WordLengthProvider().encode_batch(texts)
    with (
        CachedEmbeddingProvider(WordLengthProvider(), memory_bytes=ROOM_FOR_FIVE) as cached,
        ThreadPoolExecutor(8) as threads,
    ):
        for vectors in threads.map(cached.encode_batch, [texts] * 50):
            assert np.array_equal(vectors, expected)
        assert 0 < cached.statistics.bytes <= ROOM_FOR_FIVE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_takes_the_cache_along_whatever_other_threads_do() -> None:
    code = """
import os, signal, threading, warnings
import numpy as np
from cognitive_memory.encoding.cache import CachedEmbeddingProvider
from cognitive_memory.testing import WordLengthProvider

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
cached = CachedEmbeddingProvider(WordLengthProvider(), memory_bytes=1_000_000)
expected = cached.encode("one two")
stop = threading.Event()

def use():
    while not stop.is_set():
        cached.encode_batch(["one two"] * 50)

threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
signal.alarm(40)
for _ in range(50):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        before = cached.statistics.misses
        same = np.array_equal(cached.encode("one two"), expected)
        os._exit(0 if same and cached.statistics.misses == before else 3)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("all well")
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=unmeasured(),
    )
    assert (result.stdout, result.stderr, result.returncode) == ("all well\n", "", 0)


@given(
    keys=st.lists(st.binary(min_size=1, max_size=2), max_size=60),
    room=st.integers(min_value=0, max_value=5),
)
def test_memory_holds_the_latest_within_its_bound(keys: list[bytes], room: int) -> None:
    vector = np.ones(8, dtype=np.float32)
    size = vector.nbytes + ENTRY_OVERHEAD
    cache = MemoryCache(room * size)
    model: list[bytes] = []
    for key in keys:
        found = cache.get_many([key])
        assert (key in found) == (key in model)
        cache.put_many({key: vector})
        model = [*(each for each in model if each != key), key][-room:] if room else []
        assert (len(cache), cache.bytes) == (len(model), len(model) * size)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["get", "put"]),
            st.lists(st.tuples(st.binary(max_size=1), st.integers(1, 9)), max_size=5),
        ),
        max_size=40,
    ),
    max_bytes=st.integers(0, 6 * ENTRY_OVERHEAD),
)
def test_vectors_of_any_length_stay_within_the_bound(
    steps: list[tuple[str, list[tuple[bytes, int]]]], max_bytes: int
) -> None:
    cache = MemoryCache(max_bytes)
    model: OrderedDict[bytes, int] = OrderedDict()

    def size() -> int:
        return sum(4 * dimension + ENTRY_OVERHEAD for dimension in model.values())

    for step, pairs in steps:
        if step == "get":
            keys = [key for key, _ in pairs]
            found = cache.get_many(keys)
            assert {key: len(vector) for key, vector in found.items()} == {
                key: model[key] for key in keys if key in model
            }
            for key in dict.fromkeys(keys):
                if key in model:
                    model.move_to_end(key)
        else:
            given_pairs = dict(pairs)
            cache.put_many(
                {key: np.ones(count, dtype=np.float32) for key, count in given_pairs.items()}
            )
            for key, count in given_pairs.items():
                if key not in model and 4 * count + ENTRY_OVERHEAD <= max_bytes:
                    model[key] = count
                    while size() > max_bytes:
                        model.popitem(last=False)
        assert (len(cache), cache.bytes) == (len(model), size())
        assert cache.bytes <= max_bytes


def test_a_row_does_not_keep_its_whole_batch() -> None:
    batch = np.ones((100, 8), dtype=np.float32)
    cache = MemoryCache(100_000)
    cache.put_many({b"key": batch[3]})
    assert cache.get_many([b"key"])[b"key"].base is None
    batch[:] = 0
    assert cache.get_many([b"key"])[b"key"].tolist() == [1] * 8


@pytest.mark.parametrize("dimension", [16, 384])
def test_the_bound_is_one_of_real_bytes(dimension: int) -> None:
    """One put of many times the bound must not take more than the bound on its way either."""
    rows = np.ones((4000, dimension), dtype=np.float32)
    new = {number.to_bytes(16, "big"): row for number, row in enumerate(rows)}
    max_bytes = 4000 * (4 * dimension + ENTRY_OVERHEAD) // 8
    tracemalloc.start()
    try:
        cache = MemoryCache(max_bytes)
        before, _ = tracemalloc.get_traced_memory()
        cache.put_many(new)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cache) == 500
    keys = 500 * sys.getsizeof(bytes(16))
    assert after - before + keys <= 1.1 * max_bytes
    assert peak - before + keys <= 1.3 * max_bytes
