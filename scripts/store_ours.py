"""The embedded store, as ``benchmark_stores.py`` measures it: through its public classes.

Imports of the package lie inside the methods, since they are timed apart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import numpy as np
from store_interface import Store, Vectors

if TYPE_CHECKING:
    from cognitive_memory.core.memory import CognitiveMemory

SAVED_AT_ONCE = 5_000
WORDS_EACH = 20
VOCABULARY = 20_000


class Ours(Store):
    """The embedded store as the settings make it: vectors for memories that were saved before."""

    requires = (
        "cognitive_memory.stores",
        "cognitive_memory.storage.sqlite_persistence",
        "cognitive_memory.storage.sqlite_vectors",
    )
    packages = ("cognitive-memory-onnx", "numpy")

    def create(self) -> None:
        self.open()
        self.vectors.bind_embedding("benchmark", self.setup.dimension)
        for first in range(0, self.setup.size, SAVED_AT_ONCE):
            count = min(SAVED_AT_ONCE, self.setup.size - first)
            self.memories.save_memories(memories(first, count))

    def open(self) -> None:
        from cognitive_memory.core.config import Settings
        from cognitive_memory.stores import open_stores

        path = self.folder / "memories.db"
        settings = Settings(data_dir=self.folder, storage={"path": path, "vectors": "sqlite"})
        self.memories, self.vectors = open_stores(settings)

    def hold(self, first: int, rows: Vectors) -> Any:
        return memories(first, len(rows)), list(rows[:, None])

    def insert(self, held: Any) -> None:
        self.vectors.store_vectors(*held)

    def finish(self) -> None:
        """Nothing is left to do: what ``insert`` has stored is durable."""

    def search(self, query: Vectors, k: int) -> Any:
        return self.vectors.search_similar(query, k)

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        return self.vectors.search_similar_batch(queries, k)

    def numbers(self, found: Any) -> list[int]:
        return [int(hit.memory_id[1:]) for hit in found]

    def close(self) -> None:
        self.vectors.close()
        self.memories.close()


class OursWithMemories(Ours):
    """The same, but memories, their words and their vectors are stored together."""

    is_searched = False

    def create(self) -> None:
        self.open()
        self.vectors.bind_embedding("benchmark", self.setup.dimension)

    def insert(self, held: Any) -> None:
        with self.memories.transaction():
            self.memories.save_memories(held[0])
            self.vectors.store_vectors(*held)


class IndexAlone(Store):
    """The matrix behind the embedded store, without a record: its snapshot is the file."""

    requires = ("cognitive_memory.storage.snapshot",)
    packages = ("cognitive-memory-onnx", "numpy")

    def create(self) -> None:
        from cognitive_memory.storage.exact_index import ExactIndex

        self.index = ExactIndex(self.setup.dimension)

    def open(self) -> None:
        from cognitive_memory.storage.snapshot import open_snapshot

        snapshot = open_snapshot(self.folder / "index", {}, self.setup.dimension)
        assert snapshot is not None
        self.index = snapshot.index

    def insert(self, held: Any) -> None:
        first, rows = held
        owners = np.arange(first, first + len(rows))
        self.index.append(1 + owners, owners, np.zeros(len(rows), dtype=np.int32), rows)

    def finish(self) -> None:
        from cognitive_memory.storage.snapshot import write_snapshot

        write_snapshot(self.index, self.folder / "index", {}, 0)

    def search(self, query: Vectors, k: int) -> Any:
        return self.index.search(query, k)

    def search_batch(self, queries: Vectors, k: int) -> Sequence[Any]:
        return self.index.search_batch(queries, k)

    def numbers(self, found: Any) -> list[int]:
        return [owner for owner, _, _ in found]

    def close(self) -> None:
        del self.index


def memories(first: int, count: int) -> list[CognitiveMemory]:
    """Memories ``m<first>``, ...: words that do not exist, as often as real ones (Zipf's law)."""
    from cognitive_memory.core.memory import CognitiveMemory

    rng = random.Random(first)
    words, weights = _vocabulary()
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        CognitiveMemory(
            id=f"m{number}",
            content=" ".join(rng.choices(words, cum_weights=weights, k=WORDS_EACH)),
            created_date=moment,
            last_accessed=moment,
        )
        for number in range(first, first + count)
    ]


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    """Words such as "bofi" and "gadobe", and the running sum of their frequencies."""
    syllables = [f"{one}{other}" for one, other in product("bdfgklmnprst", "aeiou")]
    words = ["".join(parts) for size in (1, 2, 3) for parts in product(syllables, repeat=size)]
    return words[:VOCABULARY], list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
