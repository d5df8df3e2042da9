"""Eight processes write and eight read one store at once: no error, nothing lost, nothing late.

``make crash`` does it for a minute. The times are shown, not judged. On a machine with fewer cores
than readers a reader that asks without pause measures how processes share a core, with or without
writers. So readers ask at a steady pace, as people and agents do, four times a second each; the
quiet times are those of the same eight readers at the same pace before the writers begin, which
write without pause.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from crowd import QUERIES_PER_SECOND, Acknowledged, found_by, item_of
from forks import Forks
from ledger import store_faults
from seeded import WordHashProvider, chunks_of, install_provider, open_store

WRITERS = READERS = 8
KEPT_FROM_THE_START = 1000
SAMPLE = 100


def fill(path: Path, folder: Path) -> None:
    keys = [f"basen{number}" for number in range(KEPT_FROM_THE_START)]
    items = [item_of(key) for key in keys]
    with open_store(path, "keep") as system:
        system.store_experiences([i.content for i in items], [i.context for i in items])
    lines = "".join(f"kept {key}\n" for key in keys)
    (folder / "base.acknowledged").write_text(lines)


def read(forks: Forks, path: Path, folder: Path, seconds: float, seed: int) -> list[float]:
    """Seconds of each search of all readers."""
    names = [f"r{seed + number}" for number in range(READERS)]
    readers = [
        forks.start("look", path=str(path), folder=str(folder), name=name, seconds=seconds, seed=n)
        for n, name in enumerate(names, seed)
    ]
    for pid in readers:
        forks.wait(pid)
    return [t for name in names for t in json.loads((folder / f"{name}.seconds").read_text())]


def figure(name: str, took: list[float]) -> str:
    p50, p95 = np.percentile(took, [50, 95]) * 1000
    return f"{name} p50 {p50:.1f} ms, p95 {p95:.1f} ms ({len(took)} searches)"


def test_writers_and_readers_at_once_lose_nothing_and_see_all_that_was_acknowledged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    seconds = pytestconfig.getoption("seconds")
    path, site = tmp_path / "store.db", install_provider(tmp_path)
    monkeypatch.syspath_prepend(site)
    fill(path, tmp_path)
    with Forks(tmp_path, site) as forks:
        quiet = read(forks, path, tmp_path, seconds, 0)
        writers = [
            forks.start("put", path=str(path), folder=str(tmp_path), name=f"c{number}")
            for number in range(WRITERS)
        ]
        busy = read(forks, path, tmp_path, seconds, READERS)
        (tmp_path / "stop").touch()
        for pid in writers:
            forks.wait(pid)
    acknowledged = Acknowledged(tmp_path)
    acknowledged.refresh()
    stored = len(acknowledged.kept) + len(acknowledged.gone) - KEPT_FROM_THE_START
    assert_all_kept(path, acknowledged)
    ratio = np.percentile(busy, 95) / np.percentile(quiet, 95)
    writes = stored + len(acknowledged.gone)
    record_property(
        "figure",
        f"concurrency: {WRITERS} writers, {READERS} readers of {QUERIES_PER_SECOND} searches/s: "
        f"0 errors, 0 lost of {writes} acknowledged writes",
    )
    record_property(
        "figure",
        f"concurrency: {figure('quiet', quiet)}; {figure('with writers', busy)}; "
        f"p95 ratio {ratio:.2f}",
    )


def assert_all_kept(path: Path, acknowledged: Acknowledged) -> None:
    """All that was acknowledged is there and whole, and nothing else."""
    with open_store(path, "keep") as system:
        memories = {memory.metadata["key"]: memory for memory in system.memories.find_memories()}
        assert memories.keys() == acknowledged.kept.keys()
        vectors = system.vectors.get_vectors([memory.id for memory in memories.values()])
        for key, memory in memories.items():
            item = item_of(key)
            assert memory == item.memory(memory.id)
            rows = WordHashProvider().encode_batch(chunks_of(item.content))
            np.testing.assert_array_equal(vectors[memory.id], rows)
        for key in list(memories)[:: max(1, len(memories) // SAMPLE)]:
            assert all(key in keys for keys in found_by(system, item_of(key)).values()), key
        for key in acknowledged.gone[-SAMPLE:]:
            assert not any(key in keys for keys in found_by(system, item_of(key)).values()), key
        assert store_faults(system, path) == []
