"""Recall and store in a large store: by default 100,000 memories and 500,000 connections.

    python scripts/benchmark_scale.py [--memories N] [--edges N] [--json FILE]

Texts are pieces of the standard library's documentation put together anew; their vectors are
those of a few thousand real ones, mixed and turned a little, since embedding 100,000 texts would
take minutes and adds nothing to what is measured. They are written through the storage classes.
Queries and the memories stored one by one are real text, embedded by the real model, through the
public API. Beside them the same work is timed in a store of 1,000 memories.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from corpus import paragraphs

from cognitive_memory import Settings, create_system
from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.memory import CognitiveMemory, ConnectionType, MemoryConnection
from cognitive_memory.core.similarity import Vector, normalize

SMALL = 1_000
QUERIES, STORED = 100, 50
BATCH = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=500_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    sizes = [(SMALL, SMALL * options.edges // options.memories), (options.memories, options.edges)]
    report: dict[str, Any] = {}
    for memories, edges in sizes:
        with tempfile.TemporaryDirectory(prefix="benchmark-scale-") as folder:
            report[f"{memories:,} memories, {edges:,} edges"] = measure(
                Path(folder), memories, edges
            )
    for name, figures in report.items():
        print(name)
        for what, value in figures.items():
            print(f"  {what:<34}{value:>9.1f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure(folder: Path, memories: int, edges: int) -> dict[str, float]:
    """Milliseconds, but for the peak memory in MB."""
    rng = random.Random(0)
    texts = paragraphs(4_000)
    # No cache: each query is embedded, as if it were asked for the first time.
    settings = Settings(data_dir=folder, embedding={"cache_bytes": 0})
    with create_system(settings) as system:
        assert isinstance(system, CognitiveMemorySystem)
        fill(system, texts, memories, edges, rng)
    begin = time.perf_counter()
    with create_system(settings) as system:
        system.search("warm up", k=1)
        figures = {"open and first recall, ms": 1000 * (time.perf_counter() - begin)}
        queries = [" ".join(rng.choice(texts).split()[:12]) for _ in range(QUERIES)]
        recall = timed(lambda query: system.retrieve_memories(query, max_results=10), queries)
        stored = timed(
            system.store_experience, [f"Note: {rng.choice(texts)}" for _ in range(STORED)]
        )
        embed = timed(system.embedding_provider.encode, queries)
        after = timed(lambda query: system.retrieve_memories(query, max_results=10), queries)
    for name, seconds in (
        ("recall", recall),
        ("recall after stores", after),
        ("store one", stored),
        ("of it, embedding a query", embed),
    ):
        figures[f"{name}, p50 ms"] = 1000 * float(np.percentile(seconds, 50))
        figures[f"{name}, p95 ms"] = 1000 * float(np.percentile(seconds, 95))
    return figures


def timed(work: Callable[[str], object], inputs: Sequence[str]) -> list[float]:
    seconds = []
    for each in inputs:
        begin = time.perf_counter()
        work(each)
        seconds.append(time.perf_counter() - begin)
    return seconds


def fill(
    system: CognitiveMemorySystem,
    texts: Sequence[str],
    memories: int,
    edges: int,
    rng: random.Random,
) -> None:
    """Write memories and connections, in batches."""
    provider = system.embedding_provider
    real = provider.encode_batch(list(texts[:2_000]))
    system.vectors.bind_embedding(provider.fingerprint, provider.dimension)
    words = [text.split() for text in texts]
    now = datetime.now(UTC)
    for start in range(0, memories, BATCH):
        numbers = range(start, min(start + BATCH, memories))
        batch = [made_up(number, words, now, rng) for number in numbers]
        with system.memories.transaction():
            system.memories.save_memories(batch)
            system.vectors.store_vectors(batch, mixed_vectors(real, start, len(batch)))
    rest = edges - (memories - 1)
    connections = [
        MemoryConnection(f"m{number}", f"m{number + 1}", ConnectionType.SEQUENTIAL, 0.5)
        for number in range(memories - 1)
    ] + [
        MemoryConnection(f"m{one}", f"m{other}", ConnectionType.EXPLICIT, 0.8)
        for one, other in (rng.sample(range(memories), 2) for _ in range(rest))
    ]
    for start in range(0, len(connections), BATCH):
        system.connections.add_connections(connections[start : start + BATCH])
    print(f"filled: {memories:,} memories, {edges:,} edges", file=sys.stderr)


def made_up(
    number: int, words: Sequence[Sequence[str]], now: datetime, rng: random.Random
) -> CognitiveMemory:
    pieces: list[str] = []
    for _ in range(2):
        chosen = rng.choice(words)
        start = rng.randrange(max(1, len(chosen) - 20))
        pieces += chosen[start : start + rng.randint(5, 20)]
    moment = now - timedelta(minutes=number)
    return CognitiveMemory(
        id=f"m{number}", content=" ".join(pieces), created_date=moment, last_accessed=moment
    )


def mixed_vectors(real: Vector, seed: int, count: int) -> list[Vector]:
    generator = np.random.default_rng(seed)
    pairs = real[generator.integers(len(real), size=(2, count))].sum(axis=0)
    noise = 0.03 * generator.standard_normal(pairs.shape, dtype=np.float32)
    return [row[None] for row in normalize(pairs + noise)]


if __name__ == "__main__":
    main()
