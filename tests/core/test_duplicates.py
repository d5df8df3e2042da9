"""What becomes of texts that nearly repeat others, over the real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import START, open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.duplicates import LOOKED_UP_AT_ONCE, DuplicatePolicy
from cognitive_memory.core.errors import ConfigurationError, EmbeddingError
from cognitive_memory.core.memory import CognitiveMemory, ConnectionType, MemoryConnection
from cognitive_memory.testing import WordLengthProvider, make_memory

TEXT, TWIN = "we dropped redis", "it stopped again"
"""The same word lengths in another order or in other words: the same vector."""
NEAR = "we dropped redis then we dropped redis then we dropped redis and so"
OTHER = "an elephant"

Open = Callable[..., CognitiveMemorySystem]


def open_mode(
    path: Path, mode: str, similarity: float = 0.98, words_per_chunk: int | None = None
) -> CognitiveMemorySystem:
    numbers = count()
    return open_system(
        path,
        WordLengthProvider(words_per_chunk=words_per_chunk),
        duplicates=mode,
        duplicate_similarity=similarity,
        new_id=lambda: f"m{next(numbers):03}",
    )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens systems on one store; all are closed in the end."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(open_mode(tmp_path / "store.db", *arguments))


def get(system: CognitiveMemorySystem, memory_id: str) -> CognitiveMemory:
    memory = system.retrieve_memory(memory_id)
    assert memory is not None
    return memory


def stored(system: CognitiveMemorySystem) -> list[str]:
    found = sorted(memory.id for memory in system.memories.find_memories())
    assert set(found) == set(system.vectors.get_vectors(found)), "each has its vectors"
    return found


def edges(system: CognitiveMemorySystem) -> list[MemoryConnection]:
    return system.connections.get_connections(stored(system))


# keep


def test_by_default_all_are_kept(opened: Open) -> None:
    system = opened("keep")
    assert system.store_experiences([TEXT, TEXT, TWIN]) == ["m000", "m001", "m002"]
    assert stored(system) == ["m000", "m001", "m002"]
    assert edges(system) == []


# link


def test_a_duplicate_is_stored_and_linked(opened: Open) -> None:
    system = opened("link")
    first = system.store_experience(TEXT)
    other = system.store_experience(OTHER)
    twin = system.store_experience(TWIN, {"tags": ["new"]})
    assert stored(system) == [first, other, twin]
    assert edges(system) == [MemoryConnection(twin, first, ConnectionType.DUPLICATE, 1.0)]
    assert get(system, twin).content == TWIN
    assert get(system, first).tags == ()


def test_duplicates_within_one_call_are_linked(opened: Open) -> None:
    system = opened("link")
    assert system.store_experiences([TEXT, OTHER, TWIN]) == ["m000", "m001", "m002"]
    (edge,) = edges(system)
    assert (edge.source_id, edge.target_id) == ("m002", "m000")


def test_the_nearest_is_linked_and_ties_go_to_the_smaller_id(opened: Open) -> None:
    system = opened("link", 0.8)
    system.store_experiences(["we dropped it", "we dropped redis", "we dropped redis"])
    system.store_experience("we dropped cache")
    ends = [(edge.source_id, edge.target_id) for edge in edges(system)]
    assert ("m003", "m001") in ends
    assert ("m002", "m001") in ends


# merge


def test_a_duplicate_is_merged_into_what_is_stored(opened: Open) -> None:
    system = opened("merge")
    first = system.store_experience(
        TEXT, {"tags": ["adr", "b"], "importance_score": 0.5, "who": "Ada", "day": 1}
    )
    again = system.store_experience(
        TWIN, {"tags": ["new", "adr"], "importance_score": 0.25, "who": "Eve", "where": "here"}
    )
    assert again == first
    assert stored(system) == [first]
    assert get(system, first) == make_memory(
        first,
        TEXT,
        tags=("adr", "b", "new"),
        importance_score=0.5,
        access_count=1,
        created_date=START,
        last_accessed=START + timedelta(seconds=1),
        metadata={"who": "Ada", "day": 1, "where": "here"},
    )
    system.store_experience(TEXT, {"importance_score": 0.75})
    assert get(system, first).importance_score == 0.75
    assert get(system, first).access_count == 2


def test_duplicates_within_one_call_are_merged(opened: Open) -> None:
    system = opened("merge")
    texts = [TEXT, OTHER, TWIN, TEXT, OTHER]
    contexts = [{"tags": [str(number)]} for number in range(5)]
    assert system.store_experiences(texts, contexts) == ["m000", "m001", "m000", "m000", "m001"]
    assert stored(system) == ["m000", "m001"]
    assert get(system, "m000").tags == ("0", "2", "3")
    assert get(system, "m000").access_count == 2
    assert get(system, "m001").tags == ("1", "4")
    assert system.search("elephant", k=1)[0].memory.id == "m001"


def test_many_are_merged_across_transactions(opened: Open) -> None:
    system = opened("merge")
    texts = [f"{'x' * (number % 10 + 1)} y" for number in range(3 * LOOKED_UP_AT_ONCE)]
    ids = system.store_experiences(texts)
    assert len(set(ids)) == 10
    assert ids == [ids[number % 10] for number in range(len(texts))]
    assert sum(get(system, each).access_count for each in set(ids)) == len(texts) - 10


def test_what_differs_in_level_or_type_is_kept(opened: Open) -> None:
    system = opened("merge")
    ids = [
        system.store_experience(TEXT),
        system.store_experience(TEXT, {"hierarchy_level": 1}),
        system.store_experience(TEXT, {"memory_type": "semantic"}),
    ]
    assert stored(system) == sorted(ids)
    assert system.store_experience(TWIN, {"hierarchy_level": 1}) == ids[1]


def test_a_memory_of_a_file_takes_nothing_in(opened: Open) -> None:
    """It is replaced when the file changes and deleted with it; what was stored must not go."""
    system = opened("merge")
    system._bind()
    of_file = [make_memory(f"f{number:02}", TEXT, source_path="/a.md") for number in range(20)]
    system.memories.save_memories(of_file)
    system.vectors.store_vectors(of_file, [system._embed([each])[0] for each in of_file])
    mine = system.store_experience(TEXT)
    assert mine == "m000"
    assert system.store_experience(TWIN) == mine, "found behind all of the file"
    assert system.memories.get_memories(["f00"]) == of_file[:1]
    assert len(stored(system)) == 21


@pytest.mark.parametrize("mode", ["link", "merge"])
def test_a_long_text_is_a_duplicate_only_as_a_whole(opened: Open, mode: str) -> None:
    system = opened(mode, 0.98, 3)
    long = f"{TEXT} {OTHER} again"
    first = system.store_experience(long)
    assert len(system.vectors.get_vectors([first])[first]) == 2
    system.store_experience(TEXT)
    system.store_experience(f"{TEXT} so it is")
    system.store_experience(f"{OTHER} again {TEXT}")
    assert len(stored(system)) == 4
    assert edges(system) == []
    again = system.store_experience(f"{TWIN} {OTHER} today")
    if mode == "merge":
        assert again == first
    else:
        (edge,) = edges(system)
        assert (edge.source_id, edge.target_id) == (again, first)


@pytest.mark.parametrize(("similarity", "expected"), [(1.0, 2), (0.95, 2), (0.94, 1), (0.5, 1)])
def test_the_threshold_is_inclusive(opened: Open, similarity: float, expected: int) -> None:
    """One more word of two letters: cosine 4 / sqrt(3 x 6) = 0.9428."""
    system = opened("merge", similarity)
    system.store_experiences([TEXT, TWIN, f"{TEXT} so"])
    assert len(stored(system)) == expected


def test_a_text_is_its_own_duplicate_at_one(opened: Open) -> None:
    system = opened("merge", 1.0)
    texts = [NEAR, OTHER, TEXT, "a bb ccc dddd eeeee ffffff"]
    assert system.store_experiences(texts) == system.store_experiences(texts)


# Together with others


def test_what_another_process_stored_meanwhile_is_found(opened: Open) -> None:
    one, other = opened("merge"), opened("merge")
    assert one.search("anything") == other.search("anything") == []
    first = one.store_experience(TEXT)
    assert other.store_experience(TWIN) == first
    one.delete_memory_by_id(first)
    assert other.store_experience(TEXT, {"tags": ["again"]}) == "m001"
    assert stored(one) == ["m001"]


def test_threads_that_store_the_same_store_it_once(opened: Open) -> None:
    systems = [opened("merge") for _ in range(2)]

    def work(thread: int) -> list[str]:
        return [systems[thread % 2].store_experience(TEXT) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        ids = {memory_id for found in pool.map(work, range(4)) for memory_id in found}
    assert stored(systems[0]) == sorted(ids)
    assert len(ids) == 1
    assert get(systems[1], ids.pop()).access_count == 19


def test_a_failure_leaves_nothing(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    system = opened("merge")
    first = system.store_experience(TEXT)
    before = get(system, first)

    def fail(_: Any) -> None:
        raise EmbeddingError("no")

    monkeypatch.setattr(system.connections, "add_connections", fail)
    with pytest.raises(EmbeddingError):
        system.store_experiences([TWIN, OTHER])
    assert stored(system) == [first]
    assert get(system, first) == before


@pytest.mark.parametrize(
    ("mode", "similarity", "message"),
    [
        ("drop", 0.98, "duplicates='drop': it must be one of keep, link, merge"),
        ("link", 0.0, r"duplicate_similarity=0\.0: it must be above 0, at most 1"),
        ("merge", 1.5, r"duplicate_similarity=1\.5: it must be above 0, at most 1"),
    ],
)
def test_what_it_is_made_with_is_checked(
    opened: Open, mode: str, similarity: float, message: str
) -> None:
    system = opened("keep")
    with pytest.raises(ConfigurationError, match=message):
        DuplicatePolicy(system.memories, system.vectors, system.connections, mode, similarity)


@given(texts=st.lists(st.sampled_from([TEXT, TWIN, NEAR, OTHER, "a", "so it is"]), max_size=12))
def test_however_they_come_merged_texts_are_unlike(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """In one call or in many: as many memories, and each text is found in one like it."""
    folder = tmp_path_factory.mktemp("merged")
    with open_mode(folder / "one.db", "merge") as one:
        at_once = one.store_experiences(texts)
        together = [get(one, memory_id).content for memory_id in at_once]
    with open_mode(folder / "many.db", "merge") as many:
        one_by_one = [many.store_experience(text) for text in texts]
        assert [get(many, memory_id).content for memory_id in one_by_one] == together
        provider = many.embedding_provider
        for text, content in zip(texts, together, strict=True):
            assert provider.encode(text) @ provider.encode(content) >= 0.98 - 1e-6
