"""A store is embedded anew: while it is used, interrupted anywhere, and taken back."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from processes import unmeasured
from systems import open_system

from cognitive_memory.core import reembedding as module
from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import (
    EmbeddingError,
    FingerprintMismatchError,
    StorageError,
    StoreBusyError,
)
from cognitive_memory.core.interfaces import EmbeddingProvider
from cognitive_memory.core.reembedding import Reembedding
from cognitive_memory.core.similarity import Vector
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_replacement import SQLiteEmbeddingReplacement
from cognitive_memory.testing import WordLengthProvider

OLD = WordLengthProvider(16, name="old")
WORDS = ("it", "was", "only", "after", "Easter", "evening", "festival")


class New(WordLengthProvider):
    """Of another dimension, with several chunks for most texts; ``before`` sees each batch."""

    def __init__(
        self,
        before: Callable[[Sequence[str]], object] | None = None,
        *,
        dimension: int = 5,
        name: str = "new",
    ) -> None:
        super().__init__(dimension, words_per_chunk=3, name=name)
        self._before = before

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        if self._before:
            self._before(texts)
        return super().encode_batch(texts)


class Fails:
    """In place of the ``number``-th batch."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _: Sequence[str]) -> None:
        self.left -= 1
        if self.left == 0:
            raise EmbeddingError("the model failed")


class Once:
    """Does something with the first batch."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def __call__(self, _: Sequence[str]) -> None:
        action, self._action = self._action, None
        if action:
            action()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memories.db"


@pytest.fixture
def old(path: Path) -> Iterator[CognitiveMemorySystem]:
    """A handle with the old model."""
    with open_system(path, OLD) as system:
        yield system


def fill(system: CognitiveMemorySystem, count: int = 18) -> list[str]:
    chance = random.Random(3)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 9))) for _ in range(count)]
    return system.store_experiences(texts, [{"tags": [text.split()[0]]} for text in texts])


def reembedding(path: Path, provider: EmbeddingProvider) -> Reembedding:
    database = Database(path, 60)  # writers at full speed leave few gaps
    record = SQLitePersistence(database)
    return Reembedding(provider, record, SQLiteEmbeddingReplacement(database))


def reembed(path: Path, provider: EmbeddingProvider, *progress: Any) -> module.ReembedReport:
    with reembedding(path, provider) as opened:
        return opened.run(*progress)


def everything(path: Path) -> dict[str, list[Any]]:
    """What a store holds, without the numbers of its rows."""
    queries = {
        "memories": "SELECT id, content, metadata, created_us, context FROM memories ORDER BY pk",
        "tags": "SELECT id, position, tag FROM tags JOIN memories ON pk = memory_pk ORDER BY 1, 2",
        "vectors": "SELECT id, fingerprint, chunk, vector FROM vectors JOIN embeddings "
        "USING (embedding) JOIN memories ON pk = memory_pk ORDER BY 1, 2, 3",
        "embeddings": "SELECT fingerprint, dimension FROM embeddings ORDER BY 1",
        "serving": "SELECT name, fingerprint FROM properties JOIN embeddings "
        "ON embedding = CAST(value AS INTEGER) AND name LIKE '%embedding' ORDER BY 1",
    }
    with SQLitePersistence(Database(path)) as record:
        assert record.check_integrity() == []
    with closing(sqlite3.connect(path)) as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}


def answers(path: Path, provider: EmbeddingProvider) -> list[list[tuple[str, float, int | None]]]:
    with open_system(path, provider) as system:
        return [
            [(each.memory.id, each.score, each.chunk) for each in system.search(query)]
            for query in ("it was", "only after Easter", "the festival in the evening")
        ]


@pytest.fixture
def uninterrupted(tmp_path: Path) -> Path:
    """The same memories, embedded anew in one go."""
    path = tmp_path / "uninterrupted.db"
    with open_system(path, OLD) as system:
        fill(system)
    reembed(path, New())
    return path


# The way it goes


def test_the_old_serves_until_the_new_is_complete(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    expected = answers(path, OLD)
    seen = []
    report = reembed(path, New(lambda _: seen.append(answers(path, OLD))))
    assert report == module.ReembedReport("new/5", "old/16", 18, 18)
    assert seen == [expected] * 5  # batches of four
    with open_system(path, New()) as new:
        ranked = answers(path, New())
        assert ranked != expected
        assert len(ranked[0]) == 10
        assert new.search("only after Easter")[0].parts["semantic"] == pytest.approx(1, abs=0.2)
        assert new.vectors.count() > 18  # several chunks each
        assert new.get_memory_stats()["storage_stats"]["fingerprint"] == "new/5"


def test_the_new_store_is_as_if_it_had_been_stored_so(
    path: Path, old: CognitiveMemorySystem, tmp_path: Path
) -> None:
    fill(old)
    reembed(path, New())
    with open_system(tmp_path / "other.db", New()) as other:
        fill(other)
    assert answers(path, New()) == answers(tmp_path / "other.db", New())


def test_handles_of_the_old_model_are_refused(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    old.search("it was")
    reembed(path, New())
    before = everything(path)
    message = "holds vectors of new/5, the configured model gives old/16; run 'cognitive-memory re"
    for call in (
        lambda: old.search("it was"),
        lambda: old.retrieve_memories("it was"),
        lambda: old.store_experience("a text"),
        lambda: old.store_experiences(["one", "two"]),
        old.consolidate_memories,
    ):
        with pytest.raises(FingerprintMismatchError, match=message):
            call()
    assert everything(path) == before


def test_what_others_do_meanwhile_is_not_lost(path: Path, old: CognitiveMemorySystem) -> None:
    ids = fill(old)
    stored: list[str] = []

    def meddle() -> None:
        first, second, third = old.memories.get_memories([ids[0], ids[1], ids[10]])
        old.delete_memory_by_id(first.id)
        old.delete_memory_by_id(ids[17])
        for memory in (second, third):
            changed = replace(memory, content="a changed text of its own")
            with old.memories.transaction():
                old.memories.save_memories([changed])
                old.vectors.store_vectors([changed], [OLD.encode_batch([changed.content])])
        stored.extend(old.store_experiences(["seven dwarfs", "nobody else"] * 3))

    report = reembed(path, New(Once(meddle)))
    assert report.memories == 22
    with open_system(path, New()) as new:
        found = new.vectors.get_vectors([*ids, *stored])
        assert set(found) == {*ids, *stored} - {ids[0], ids[17]}
        for memory in new.memories.find_memories():
            cuts = New().chunk_batch([memory.content])[0]
            rows = New().encode_batch([memory.content[start:end] for start, end in cuts])
            np.testing.assert_array_equal(found[memory.id], rows)
    everything(path)


def test_progress_only_grows_and_ends_at_its_total(path: Path, old: CognitiveMemorySystem) -> None:
    ids = fill(old)
    for meddle in (
        lambda: None,
        lambda: old.delete_memories_by_tags(["it"]),
        lambda: old.store_experiences(["a text"] * 9),
    ):
        calls: list[tuple[int, int]] = []
        reembed(path, New(Once(meddle)), lambda *call, calls=calls: calls.append(call))
        assert calls == sorted(calls)
        assert all(0 <= done <= total for done, total in calls)
        assert calls[-1][0] == calls[-1][1]
        assert len(calls) > len(ids) // 4
        with reembedding(path, OLD) as opened:
            opened.run()
            opened.discard()


def test_an_empty_store_takes_the_new_model(path: Path, old: CognitiveMemorySystem) -> None:
    assert reembed(path, New()) == module.ReembedReport("new/5", None, 0, 0)
    old.store_experience("a text")  # as any store without vectors takes any model
    with pytest.raises(FingerprintMismatchError), open_system(path, New()) as new:
        new.store_experience("a text")


def test_the_model_that_serves_already_has_nothing_to_do(
    path: Path, old: CognitiveMemorySystem
) -> None:
    fill(old)
    before = everything(path)
    assert reembed(path, OLD) == module.ReembedReport("old/16", None, 18, 0)
    assert everything(path) == before
    expected = answers(path, OLD)
    reembed(path, New())
    after = everything(path)
    failing = New(Fails(1))
    assert reembed(path, failing) == module.ReembedReport("new/5", "old/16", 18, 0)
    assert everything(path) == after
    # And back: nothing is embedded, for all of it is there.
    assert reembed(path, OLD) == module.ReembedReport("old/16", "new/5", 18, 0)
    assert answers(path, OLD) == expected


def test_memories_without_vectors_get_theirs(path: Path, old: CognitiveMemorySystem) -> None:
    ids = fill(old)
    expected = answers(path, OLD)
    old.vectors.delete_vectors(ids[:3])
    assert reembed(path, OLD).embedded == 3
    assert answers(path, OLD) == expected


# Interrupted


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_run_that_failed_is_taken_up_and_gives_the_same_store(
    path: Path, old: CognitiveMemorySystem, uninterrupted: Path, number: int
) -> None:
    fill(old)
    expected = answers(path, OLD)
    with pytest.raises(EmbeddingError, match="the model failed"):
        reembed(path, New(Fails(number)))
    assert answers(path, OLD) == expected
    report = reembed(path, New())
    assert report.embedded == 18 - 4 * (number - 1)
    assert everything(path) == everything(uninterrupted)
    assert answers(path, New()) == answers(uninterrupted, New())


def test_a_run_that_fails_again_and_again_gets_there(
    path: Path, old: CognitiveMemorySystem, uninterrupted: Path
) -> None:
    fill(old)
    failures = 0
    while True:
        try:
            reembed(path, New(Fails(2)))  # one batch each time
        except EmbeddingError:
            failures += 1
        else:
            break
    assert failures == 4
    assert everything(path) == everything(uninterrupted)


REEMBED = """
import sys
from pathlib import Path
from cognitive_memory.core import reembedding
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.sqlite_replacement import SQLiteEmbeddingReplacement
from cognitive_memory.testing import WordLengthProvider

reembedding.BATCH = 1
database = Database(Path(sys.argv[1]))
provider = WordLengthProvider(5, words_per_chunk=3, name="new")
replacement = SQLiteEmbeddingReplacement(database)
print("ready", flush=True)
reembedding.Reembedding(provider, SQLitePersistence(database), replacement).run(
    lambda done, total: print(done, total, flush=True)
)
"""

KILLS = int(os.environ.get("KILLS", "6"))
"""At least so often, the test below kills the process, at random."""


def test_a_run_that_is_killed_again_and_again_gives_the_same_store(
    path: Path, old: CognitiveMemorySystem, tmp_path: Path
) -> None:
    chance = random.Random(4)
    count = 3 * KILLS
    ids = fill(old, count)
    with open_system(tmp_path / "whole.db", OLD) as whole:
        fill(whole, count)
    reembed(tmp_path / "whole.db", New())
    kills = 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", REEMBED, str(path)], stdout=subprocess.PIPE, env=unmeasured()
        )
        assert process.stdout is not None
        for _ in range(chance.randint(1, 4)):
            process.stdout.readline()
        process.kill()
        process.stdout.close()
        if process.wait() == 0:
            break
        kills += 1
        try:
            assert len(old.search("only after")) == 10
        except FingerprintMismatchError:  # killed after the switch, or it finished
            break
    reembed(path, New())
    assert kills >= KILLS // 2
    assert everything(path) == everything(tmp_path / "whole.db")
    assert answers(path, New()) == answers(tmp_path / "whole.db", New())
    assert len(ids) == count


# Many at once


def test_no_memory_is_stored_under_the_old_model_after_the_switch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers go on until they are refused; each memory that they stored has its vectors."""
    monkeypatch.setattr(module, "BATCH", 512)  # or three writers would always be ahead
    with open_system(path, OLD) as system:
        fill(system)
    barrier = Barrier(4)

    def write(prefix: str) -> list[str]:
        with open_system(path, OLD, prefix=prefix) as writer:
            stored = writer.store_experiences(["the first text"])
            barrier.wait()
            while True:
                try:
                    stored += writer.store_experiences([f"text of {prefix}", "and another"])
                except FingerprintMismatchError:
                    return stored

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, prefix) for prefix in "abc"]
        barrier.wait()
        report = reembed(path, New())
        stored = [memory_id for writer in writers for memory_id in writer.result()]
    with open_system(path, New()) as new:
        held = {memory.id for memory in new.memories.find_memories()}
        assert held == {*stored, *(f"m{number}" for number in range(18))}
        assert set(new.vectors.get_vectors(list(held))) == held
    assert report.memories == len(held)
    everything(path)


def test_a_writer_that_is_always_ahead_waits_in_the_end(
    path: Path, old: CognitiveMemorySystem
) -> None:
    """It stores a memory whenever one is embedded."""
    fill(old)
    old.memories.database.execute("PRAGMA busy_timeout = 1")  # type: ignore[attr-defined]
    outcomes: list[str] = []

    def write(_: Sequence[str]) -> None:
        assert len(outcomes) < 99
        try:
            outcomes.append(old.store_experience("one more"))
        except StoreBusyError:
            outcomes.append("has to wait")

    report = reembed(path, New(write))
    assert report.memories == 17 + len(outcomes)
    assert outcomes[-1] == "has to wait"
    everything(path)


def test_two_at_once_with_the_same_model(
    path: Path, old: CognitiveMemorySystem, uninterrupted: Path
) -> None:
    fill(old)
    barrier = Barrier(2)
    providers = [New(Once(barrier.wait)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for report in pool.map(lambda provider: reembed(path, provider), providers):
            assert report.fingerprint == "new/5"
            assert report.memories == 18
    assert everything(path) == everything(uninterrupted)
    assert answers(path, New()) == answers(uninterrupted, New())


def test_two_at_once_with_different_models(path: Path, old: CognitiveMemorySystem) -> None:
    """Both are made whole; the one that is ready last serves."""
    fill(old)
    barrier = Barrier(2)
    providers = [New(Once(barrier.wait), name=name) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda provider: reembed(path, provider), providers))
    names = {each.fingerprint: New(name=each.fingerprint.partition("/")[0]) for each in providers}
    with reembedding(path, OLD) as opened:
        second = opened.roll_back()
        first = opened.roll_back()
        assert {first, second} == set(names)
    assert len(answers(path, names[first])[0]) == 10
    assert [name for name, _ in everything(path)["embeddings"]] == ["old/16", "one/5", "two/5"]


def test_a_discard_meanwhile_ends_it_with_a_message(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)

    def discard() -> None:
        with reembedding(path, OLD) as other:
            other.discard()

    with pytest.raises(StorageError, match=r"new/5 is not .* discarded meanwhile; run 'cogn"):
        reembed(path, New(Once(discard)))
    assert len(old.search("it was")) == 10
    reembed(path, New())
    everything(path)


def test_a_search_amid_the_switch_is_refused(path: Path) -> None:
    """Of a model with the same dimension, whose vectors would be compared with the others."""

    class Switching(WordLengthProvider):
        def encode_query(self, text: str) -> Vector:
            reembed(path, New(dimension=16))
            return super().encode_query(text)

    for search in ("search", "retrieve_memories"):
        path.unlink(missing_ok=True)
        with open_system(path, Switching(16, name="old")) as system:
            fill(system)
            with pytest.raises(FingerprintMismatchError, match="holds vectors of new/16"):
                getattr(system, search)("it was")


# Back again


def test_back_at_once(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    expected = answers(path, OLD)
    reembed(path, New())
    with reembedding(path, New()) as opened:
        assert opened.roll_back() == "old/16"
        assert answers(path, OLD) == expected
        assert len(old.search("it was")) == 10
        assert opened.roll_back() == "new/5"
        assert opened.roll_back() == "old/16"
    assert old.store_experience("a text")
    # What was stored since is all that is to do.
    assert reembed(path, New()).embedded == 1


def test_back_after_new_memories(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    reembed(path, New())
    with open_system(path, New(), prefix="n") as new:
        new.store_experiences(["a new text", "another new text"])
    message = (
        "^2 of 20 memories have no vectors of old/16; set COGNITIVE_MEMORY_EMBEDDING__MODEL=old "
        "and run 'cognitive-memory reembed', which embeds only these$"
    )
    with reembedding(path, New()) as opened, pytest.raises(StorageError, match=message):
        opened.roll_back()
    assert len(answers(path, New())[0]) == 10
    assert reembed(path, OLD) == module.ReembedReport("old/16", "new/5", 20, 2)
    assert old.search("a new text")[0].memory.id == "n0"


def test_there_is_no_way_back_from_the_first(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    assert_no_way_back(path, "old/16")


@pytest.mark.parametrize("enough", [8, 18])
def test_an_unfinished_run_is_not_what_was_before(
    path: Path, old: CognitiveMemorySystem, enough: int
) -> None:
    """Not even one that has embedded all, and was interrupted before the switch."""
    fill(old)

    def interrupt(done: int, _: int) -> None:
        if done == enough:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed(path, New(), interrupt)
    assert_no_way_back(path, "old/16")
    assert len(old.search("it was")) == 10
    assert reembed(path, New()).embedded == 18 - enough


def assert_no_way_back(path: Path, serving: str) -> None:
    message = f"no embedding that served before {serving} is kept; set COGNITIVE_MEMORY_EMBEDDING_"
    with reembedding(path, New()) as opened, pytest.raises(StorageError, match=message):
        opened.roll_back()


def test_what_is_discarded_is_embedded_again(path: Path, old: CognitiveMemorySystem) -> None:
    fill(old)
    expected = answers(path, OLD)
    reembed(path, New())
    with reembedding(path, New()) as opened:
        assert opened.discard() == 18
        assert opened.discard() == 0
    assert_no_way_back(path, "new/5")
    assert reembed(path, OLD) == module.ReembedReport("old/16", "new/5", 18, 18)
    assert answers(path, OLD) == expected


# At size


def steps(path: Path, count: int) -> int:
    """What SQLite does, in thousands of its steps, to embed ``count`` memories anew."""
    with open_system(path, OLD) as system:
        system.store_experiences(["a text"] * count)
    database = Database(path)
    done = 0

    def step() -> int:
        nonlocal done
        done += 1
        return 0

    with Reembedding(
        New(), SQLitePersistence(database), SQLiteEmbeddingReplacement(database)
    ) as opened:
        database._connection.set_progress_handler(step, 1000)
        opened.run()
    return done


def test_four_times_as_many_take_four_times_as_long(tmp_path: Path) -> None:
    assert steps(tmp_path / "large.db", 2000) < 5 * steps(tmp_path / "small.db", 500)
