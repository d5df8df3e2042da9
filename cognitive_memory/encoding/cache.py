"""A content-addressed cache of embeddings: the same text is embedded once.

Vectors are kept under a digest of the role (document or query) and the text, for one fingerprint.
In memory the least recently used go first; on disk, where wanted, the least recently written.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.embedding import checked_rows
from ..core.errors import InvalidInputError
from ..core.interfaces import EmbeddingProvider, Span
from ..core.similarity import Vector
from .forking import ForkSafeLock

if TYPE_CHECKING:
    from .disk_cache import DiskCache

ENTRY_OVERHEAD = 300
"""Bytes that an entry takes beside its vector: the key, the array object, its place."""

DOCUMENT, QUERY = b"d", b"q"


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Texts looked up since the provider was made, and what is held."""

    hits: int
    disk_hits: int
    misses: int
    entries: int
    bytes: int

    @property
    def hit_rate(self) -> float:
        """Share of look-ups that embedded nothing, 0 when there were none."""
        total = self.hits + self.disk_hits + self.misses
        return (self.hits + self.disk_hits) / total if total else 0.0


class MemoryCache:
    """Vectors by key, least recently used out first, within ``max_bytes``. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Vector] = OrderedDict()
        self._lock = ForkSafeLock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that are here."""
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
            return found

    def put_many(self, entries: dict[bytes, Vector]) -> None:
        """Keep (dim,) vectors; they are copied, so that a row does not hold its whole batch."""
        with self._lock:
            for key, vector in entries.items():
                size = vector.nbytes + ENTRY_OVERHEAD
                if key in self._entries or size > self._max_bytes:
                    continue
                self._entries[key] = vector.copy()
                self.bytes += size
                while self.bytes > self._max_bytes:
                    _, dropped = self._entries.popitem(last=False)
                    self.bytes -= dropped.nbytes + ENTRY_OVERHEAD

    def close(self) -> None:
        """Forget everything, and keep nothing from now on."""
        with self._lock:
            self._max_bytes = self.bytes = 0
            self._entries.clear()


class CachedEmbeddingProvider(EmbeddingProvider):
    """Any provider behind a cache in memory and, if given, one on disk.

    The vectors are the wrapped provider's own. Texts that stand in a batch twice are embedded
    once.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        memory_bytes: int,
        disk: DiskCache | None = None,
        variant: str = "",
    ) -> None:
        """``variant`` sets apart on disk what one fingerprint embeds in several ways."""
        self.provider = provider
        self._memory = MemoryCache(memory_bytes)
        self._disk = disk
        self._variant = variant
        self._counts_lock = ForkSafeLock()
        self._hits = self._disk_hits = self._misses = 0

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of a vector."""
        return self.provider.dimension

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The wrapped provider's: a cache changes nothing about the vectors."""
        return self.provider.fingerprint

    @property
    def statistics(self) -> CacheStatistics:
        """Look-ups and size."""
        with self._counts_lock:
            return CacheStatistics(
                self._hits, self._disk_hits, self._misses, len(self._memory), self._memory.bytes
            )

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """(n, dim) float32, unit rows, in the order of ``texts``; raises as the provider does."""
        if isinstance(texts, str) or not _are_strings(texts):
            return self.provider.encode_batch(texts)  # which says what is wrong with that
        keys = [_key(DOCUMENT, text) for text in texts]
        found = self._look_up(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing or not keys:
            try:
                rows = self.provider.encode_batch(list(missing.values()))
                checked_rows(self.provider, rows, len(missing))
            except InvalidInputError:
                return self.provider.encode_batch(texts)  # names the text by its place in these
            self._keep(new := dict(zip(missing, rows, strict=True)))
            found |= new
        vectors = np.empty((len(keys), self.dimension), dtype=np.float32)
        for index, key in enumerate(keys):
            vectors[index] = found[key]
        return vectors

    def encode_query(self, text: str) -> Vector:
        """(dim,) float32; queries and documents are cached apart, as models may prompt them."""
        if not _are_strings([text]):
            return self.provider.encode_query(text)
        key = _key(QUERY, text)
        found = self._look_up([key])
        if key not in found:
            found = {key: self.provider.encode_query(text)}
            self._keep(found)
        return found[key].copy()

    def chunk_batch(self, texts: Sequence[str]) -> list[list[Span]]:
        """As the wrapped provider cuts them."""
        return self.provider.chunk_batch(texts)

    def warm_up(self) -> None:
        """Get the wrapped provider ready."""
        self.provider.warm_up()

    def get_model_info(self) -> dict[str, Any]:
        """JSON values of the model, with the state of the cache."""
        statistics = self.statistics
        return {
            **self.provider.get_model_info(),
            "cache": {
                "entries": statistics.entries,
                "bytes": statistics.bytes,
                "hit_rate": round(statistics.hit_rate, 4),
            },
        }

    def close(self) -> None:
        """Close the provider and the cache on disk, and forget what is in memory."""
        self.provider.close()
        self._memory.close()
        if self._disk is not None:
            self._disk.close()

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        found = self._memory.get_many(keys)
        in_memory = sum(key in found for key in keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing and self._disk is not None:
            on_disk = self._disk.get_many(self.fingerprint + self._variant, missing, self.dimension)
            self._memory.put_many(on_disk)
            found |= on_disk
        with self._counts_lock:
            self._hits += in_memory
            self._disk_hits += sum(key in found for key in keys) - in_memory
            self._misses += sum(key not in found for key in keys)
        return found

    def _keep(self, entries: dict[bytes, Vector]) -> None:
        self._memory.put_many(entries)
        if self._disk is not None:
            self._disk.put_many(self.fingerprint + self._variant, entries)


def _are_strings(texts: Sequence[object]) -> bool:
    return all(isinstance(text, str) for text in texts)


def _key(role: bytes, text: str) -> bytes:
    # surrogatepass: a text that the provider will refuse still needs a key to get there.
    content = text.encode(errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=16, person=role).digest()
