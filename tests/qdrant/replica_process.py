"""What other processes do to a store whose replica is on a server."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from replicas import Pair

from cognitive_memory.storage.replication import Replication
from cognitive_memory.testing import make_memory
from cognitive_memory.testing.examples import unit

NAMES = [f"m{number:02}" for number in range(40)]


def change(path: str, url: str, seed: int, times: int, names: list[str] = NAMES) -> None:
    """Store and delete at random so many times, then end as a process should."""
    rng = random.Random(seed)
    with Pair(Path(path), url, Replication, options={"timeout_seconds": 60}) as pair:
        for _ in range(times):
            change_once(pair, rng, names)


def change_once(pair: Pair, rng: random.Random, names: list[str]) -> None:
    """One transaction."""
    chosen = rng.sample(names, min(len(names), rng.choice([1, 1, 2, 5])))
    if rng.random() < 0.3:
        pair.drop(*chosen)
        return
    rows = [
        np.stack([unit(*(rng.gauss(0, 1) for _ in range(4))) for _ in range(rng.choice([1, 1, 3]))])
        for _ in chosen
    ]
    tags = [tuple(rng.sample("abc", rng.randrange(4))) for _ in chosen]
    memories = [make_memory(name, tags=own) for name, own in zip(chosen, tags, strict=True)]
    pair.put_memories(memories, rows)


def hang(path: str, url: str) -> None:
    """Apply what waits on a server that does not answer for an hour."""
    with Pair(Path(path), url, options={"timeout_seconds": 3600}) as pair:
        pair.drain()
