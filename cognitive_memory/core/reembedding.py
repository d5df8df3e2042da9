"""Embedding a store anew with another model, while the old vectors go on serving."""

from __future__ import annotations

from dataclasses import dataclass

from .embedding import embed_texts
from .errors import StorageError
from .interfaces import Closing, EmbeddingProvider, EmbeddingReplacement, MemoryStorage, Progress
from .loading import BATCH
from .memory import CognitiveMemory


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What was done, in memories; ``embedded`` of them now, the others had been earlier.

    ``previous`` names the embedding to which ``Reembedding.roll_back`` goes back.
    """

    fingerprint: str
    previous: str | None
    memories: int
    embedded: int


class Reembedding(Closing):
    """Replaces the embedding of a store by that of ``provider``; closes both in the end.

    Each batch is durable once it is done, and a run takes up what an earlier one has left.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        memories: MemoryStorage,
        replacement: EmbeddingReplacement,
    ) -> None:
        self._provider = provider
        self._memories = memories
        self._replacement = replacement

    def run(self, progress: Progress | None = None) -> ReembedReport:
        """Embed what has no vectors of this provider, then let them serve.

        Memories that others store meanwhile are embedded, too. The old vectors are kept, so that
        going back costs nothing, until ``discard``. ``progress`` ends at its total.
        """
        target, replacement = self._provider.fingerprint, self._replacement
        replacement.begin(target, self._provider.dimension)
        earlier, total = replacement.count(target)
        embedded = 0

        def advance(number: int) -> None:
            nonlocal embedded, total
            embedded += number
            total = max(total, earlier + embedded)
            if progress:
                progress(earlier + embedded, total)

        serves = False
        while not serves:
            batch = self._embed_batch(target)
            advance(len(batch))
            while len(batch) == BATCH:
                batch = self._embed_batch(target, batch[-1].id)
                advance(len(batch))
            # Writers wait while the last few are embedded: a busy one would always be ahead.
            with self._memories.transaction():
                advance(len(self._embed_batch(target)))
                serves = replacement.serve(target)
        if progress:
            progress(total, total)
        memories = replacement.count(target)[1]
        return ReembedReport(target, replacement.previous(), memories, embedded)

    def _embed_batch(self, target: str, after: str | None = None) -> list[CognitiveMemory]:
        """Memories that have had no vectors and are embedded now; none where all have some."""
        batch = self._replacement.find_missing(target, BATCH, after)
        if batch:
            vectors = embed_texts(self._provider, [memory.content for memory in batch])
            self._replacement.add_vectors(target, batch, vectors)
        return batch

    def roll_back(self) -> str:
        """Let the embedding that served before serve again; its fingerprint.

        Raises ``StorageError`` when none is kept, or memories were stored since.
        """
        previous = self._replacement.previous()
        if previous is None:
            raise StorageError(
                f"no embedding that served before {self._replacement.serving()} is kept; set "
                "COGNITIVE_MEMORY_EMBEDDING__MODEL to another model and run "
                "'cognitive-memory reembed'"
            )
        if not self._replacement.serve(previous):
            held, total = self._replacement.count(previous)
            raise StorageError(
                f"{total - held} of {total} memories have no vectors of {previous}; set "
                f"COGNITIVE_MEMORY_EMBEDDING__MODEL={previous.partition('/')[0]} and run "
                "'cognitive-memory reembed', which embeds only these"
            )
        return previous

    def discard(self) -> int:
        """Delete the vectors of all embeddings but the one that serves; their number."""
        return self._replacement.discard()

    def close(self) -> None:
        """Close the store and the provider."""
        try:
            self._memories.close()
        finally:
            self._provider.close()
