"""The system as front ends use it: readable vectors, the real store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from systems import START, open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import (
    EmbeddingError,
    FingerprintMismatchError,
    InvalidInputError,
    SourceError,
    StorageError,
)
from cognitive_memory.core.interfaces import MemoryLoader
from cognitive_memory.core.loading import BATCH
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    LoadReport,
    MemoryConnection,
    MemoryFilter,
    MemoryType,
    SearchResult,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.loaders import ConversationLoader
from cognitive_memory.testing import WordLengthProvider, make_memory

LIMIT = 100
"""Bytes of a text that the systems of these tests accept."""


class Provider(WordLengthProvider):
    """Remembers what it embedded, and fails where it is told to."""

    def __init__(self, *, words_per_chunk: int | None = None, name: str = "word-lengths") -> None:
        super().__init__(words_per_chunk=words_per_chunk, name=name)
        self.embedded: list[str] = []
        self.failing: str | None = None

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        if self.failing in texts:
            raise EmbeddingError(f"cannot embed {self.failing}")
        self.embedded += texts
        return super().encode_batch(texts)


@dataclass
class Item:
    """A memory of a source."""

    key: str
    content: str
    day: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


class ListLoader(MemoryLoader):
    """Sources are lists in memory, each item connected with the next."""

    kind = "list"

    def __init__(self, **sources: list[Item]) -> None:
        self.sources = sources

    def find_sources(self, path: str) -> list[str]:
        return sorted(name for name in self.sources if name.startswith(path))

    def load_from_source(self, source: str, **options: Any) -> list[CognitiveMemory]:
        return [
            make_memory(
                f"{source}/{item.key}",
                item.content,
                source_path=source,
                source_type="list",
                created_date=START + timedelta(days=item.day),
                last_accessed=START + timedelta(days=item.day),
                metadata=item.metadata,
            )
            for item in self.sources[source][: options.get("most")]
        ]

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        return [
            MemoryConnection(one.id, other.id, ConnectionType.SEQUENTIAL, 0.5)
            for one, other in pairwise(memories)
        ]

    def get_supported_extensions(self) -> list[str]:
        return [".list"]


class AppendingLoader(ListLoader):
    append_only = True


Open = Callable[..., CognitiveMemorySystem]


def open_limited(
    path: Path, provider: Provider | None = None, *loaders: MemoryLoader, prefix: str = "m"
) -> CognitiveMemorySystem:
    return open_system(path, provider or Provider(), *loaders, prefix=prefix, max_text_bytes=LIMIT)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens systems on one store; all are closed in the end."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            open_limited(tmp_path / "store.db", *arguments, **options)
        )


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def system(opened: Open, provider: Provider) -> CognitiveMemorySystem:
    return opened(provider)


def total(system: CognitiveMemorySystem) -> int:
    stats = system.get_memory_stats()
    assert stats["memory_counts"]["total"] == len(system.memories.find_memories())
    return int(stats["memory_counts"]["total"])


def get(system: CognitiveMemorySystem, memory_id: str) -> CognitiveMemory:
    memory = system.retrieve_memory(memory_id)
    assert memory is not None
    return memory


def ids(results: Sequence[SearchResult]) -> list[str]:
    return [result.memory.id for result in results]


def contents(results: Sequence[SearchResult]) -> list[str]:
    return [result.memory.content for result in results]


# Storing


def test_a_stored_text_is_a_memory(system: CognitiveMemorySystem) -> None:
    assert system.store_experience("we dropped redis") == "m0"
    assert system.retrieve_memory("m0") == CognitiveMemory(
        id="m0", content="we dropped redis", created_date=START, last_accessed=START
    )
    assert system.retrieve_memory("m1") is None


def test_every_key_of_a_context_is_kept(system: CognitiveMemorySystem) -> None:
    context = {
        "hierarchy_level": 1,
        "memory_type": "episodic",
        "importance_score": 0.25,
        "tags": ["adr", "größe", "adr"],
        "source_type": "meeting",
        "created_date": "2020-02-29T12:00:00+02:00",
        "metadata": {"room": "blue"},
        "people": ["Ada", None],
    }
    system.store_experience("we met", context)
    moment = datetime(2020, 2, 29, 10, tzinfo=UTC)
    assert get(system, "m0") == CognitiveMemory(
        id="m0",
        content="we met",
        hierarchy_level=1,
        memory_type=MemoryType.EPISODIC,
        importance_score=0.25,
        tags=("adr", "größe"),
        source_type="meeting",
        created_date=moment,
        last_accessed=moment,
        metadata={"people": ["Ada", None], "room": "blue"},
    )
    assert context["people"] == ["Ada", None]
    assert len(context) == 8


def test_many_texts_keep_their_order(system: CognitiveMemorySystem) -> None:
    texts = [f"text {number}" for number in range(5)]
    contexts = [None, {"tags": ["a"]}, {}, None, {"n": 1}]
    assert system.store_experiences(texts, contexts) == ["m0", "m1", "m2", "m3", "m4"]
    assert [get(system, f"m{number}").content for number in range(5)] == texts
    assert get(system, "m1").tags == ("a",)
    assert get(system, "m4").metadata == {"n": 1}


def test_no_texts_store_nothing(system: CognitiveMemorySystem, provider: Provider) -> None:
    assert system.store_experiences([]) == []
    assert system.store_experiences([], []) == []
    assert total(system) == 0
    assert provider.embedded == []


@pytest.mark.parametrize("text", ["x" * LIMIT, "ü" * (LIMIT // 2), "🦊" * (LIMIT // 4)])
def test_the_limit_counts_bytes(system: CognitiveMemorySystem, text: str) -> None:
    system.store_experience(text)
    assert get(system, "m0").content == text
    with pytest.raises(InvalidInputError, match="text has 101 bytes, the limit is 100; split it"):
        system.store_experience(text + "x")
    assert total(system) == 1


BAD_TEXTS = {
    "": "text is blank",
    " \t\r\n\u3000": "text is blank",
    "a\0b": "text holds a NUL character at position 1; remove it",
    "abc\ud800": r"text is not valid UTF-8 at character 3 \('\\ud800'\)",
    "x" * (LIMIT + 1): "text has 101 bytes, the limit is 100",
}


@pytest.mark.parametrize("text", BAD_TEXTS, ids=ascii)
def test_a_bad_text_in_the_middle_stores_nothing(
    system: CognitiveMemorySystem, provider: Provider, text: str
) -> None:
    with pytest.raises(InvalidInputError, match=BAD_TEXTS[text]):
        system.store_experiences(["before", text, "after"])
    with pytest.raises(InvalidInputError, match=BAD_TEXTS[text]):
        system.store_experience(text)
    assert total(system) == 0
    assert provider.embedded == []


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (["tags"], "context is a list; expected a mapping"),
        ("tags", "context is a str; expected a mapping"),
        ({"hierarchy_level": 3}, "got hierarchy_level 3; it must be 0 .* 1 .* or 2"),
        ({"memory_type": "dream"}, "got memory_type 'dream'; it must be 'episodic' or 'semantic'"),
        ({"importance_score": 1.01}, "got importance_score 1.01; it must be from 0 to 1"),
        ({"tags": "adr"}, "got tags 'adr'; expected a list of words"),
        ({"tags": ["adr", " "]}, "tag is blank"),
        ({"source_type": ""}, "source_type is blank"),
        ({"created_date": "yesterday"}, "got created_date 'yesterday'; expected a datetime or ISO"),
        ({"metadata": ["a"]}, r"got metadata \['a'\]; expected a mapping"),
        ({"score": float("nan")}, "context cannot be kept as JSON: Out of range float"),
    ],
    ids=str,
)
def test_a_bad_context_in_the_middle_stores_nothing(
    system: CognitiveMemorySystem, context: Any, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        system.store_experiences(["a", "b", "c"], [None, context, None])
    assert total(system) == 0


def test_contexts_must_be_as_many_as_texts(system: CognitiveMemorySystem) -> None:
    with pytest.raises(InvalidInputError, match="got 1 contexts for 2 texts"):
        system.store_experiences(["a", "b"], [{}])
    with pytest.raises(InvalidInputError, match="takes a list of texts; got one str"):
        system.store_experiences("ab")
    assert total(system) == 0


def test_batches_are_durable_one_by_one(
    system: CognitiveMemorySystem, provider: Provider, opened: Open
) -> None:
    texts = [f"text {number}" for number in range(BATCH + 10)]
    calls: list[tuple[int, int]] = []
    system.store_experiences(texts, progress=lambda *call: calls.append(call))
    assert calls == [(BATCH, BATCH + 10), (BATCH + 10, BATCH + 10)]
    provider.failing = texts[BATCH]
    with pytest.raises(EmbeddingError, match="cannot embed"):
        system.store_experiences(texts)
    assert total(opened()) == 2 * BATCH + 10


def test_threads_store_and_search_at_once(system: CognitiveMemorySystem) -> None:
    def work(thread: int) -> None:
        for number in range(5):
            memory_id = system.store_experience(f"word{thread}x{number} and more")
            assert ids(system.search(f"word{thread}x{number}", k=1)) == [memory_id]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert total(system) == 20


# Finding


def test_search_finds_by_meaning_and_by_word(system: CognitiveMemorySystem) -> None:
    system.store_experiences(["we go up", "magnificent weather", "an elephant"])
    assert contents(system.search("is it so", k=1)) == ["we go up"]
    assert contents(system.search("elephant", k=1)) == ["an elephant"]
    assert len(system.search("anything")) == 3
    assert system.search("elephant", filters=MemoryFilter(tags=("none",))) == []


def test_an_empty_store_finds_nothing(system: CognitiveMemorySystem) -> None:
    assert system.search("anything") == []
    assert system.retrieve_memories("anything") == {"core": [], "peripheral": [], "bridge": []}


def test_searching_writes_nothing(system: CognitiveMemorySystem) -> None:
    system.store_experience("an elephant")
    before = system.memories.find_memories()
    assert system.search("elephant")[0].memory == before[0]
    assert system.memories.find_memories() == before


@pytest.mark.parametrize("query", BAD_TEXTS, ids=ascii)
def test_bad_queries_are_refused(system: CognitiveMemorySystem, query: str) -> None:
    message = "query" + BAD_TEXTS[query].removeprefix("text")
    with pytest.raises(InvalidInputError, match=message):
        system.search(query)
    with pytest.raises(InvalidInputError, match=message):
        system.retrieve_memories(query)


@pytest.mark.parametrize("k", [-1, 0, 1_000_001, 10**30])
def test_the_number_of_results_has_limits(system: CognitiveMemorySystem, k: int) -> None:
    with pytest.raises(InvalidInputError, match=f"got {k} results to return; ask for 1 to 1,000,0"):
        system.search("anything", k=k)
    with pytest.raises(InvalidInputError, match=f"got {k} results to return; ask for 1 to 1,000,0"):
        system.retrieve_memories("anything", max_results=k)
    assert system.search("anything", k=1) == system.search("anything", k=1_000_000) == []


@pytest.mark.parametrize("search", ["search", "retrieve_memories"])
def test_unknown_filters_are_refused(system: CognitiveMemorySystem, search: str) -> None:
    with pytest.raises(InvalidInputError, match=r"got filters .*; give a MemoryFilter, w"):
        getattr(system, search)("anything", filters={"tag": "a"})


def test_a_long_text_is_found_by_its_end(opened: Open) -> None:
    provider = Provider(words_per_chunk=4)
    system = opened(provider)
    system.store_experiences(["an ox is up at it so we go on extraordinarily", "an elephantine ox"])
    assert provider.embedded[0] == "an ox is up"
    assert system.vectors.count() == 4
    best = system.search("congratulations", k=1)[0]
    assert best.memory.id == "m0"
    assert best.chunk == 2
    assert best.parts["semantic"] == pytest.approx(1 / 5**0.5)
    assert ids(system.search("it so we go")) == ["m0", "m1"]


@pytest.fixture
def recalled(system: CognitiveMemorySystem) -> CognitiveMemorySystem:
    """Five memories, ranked for "elephant" as their ids; m0 is connected with m4."""
    system.store_experiences(
        ["elephant", "elephant it", "elephant it is", "elephant it is up", "we go so far away"],
    )
    system.connections.add_connections([MemoryConnection("m4", "m0", strength=0.5)])
    return system


def test_recall_comes_in_groups(recalled: CognitiveMemorySystem) -> None:
    groups = recalled.retrieve_memories("elephant", max_results=4)
    assert list(groups) == ["core", "peripheral", "bridge"]
    assert ids(groups["core"] + groups["peripheral"]) == ["m0", "m1", "m2", "m3"]
    assert ids(groups["core"])[0] == "m0"
    (bridge,) = groups["bridge"]
    assert bridge.memory.id == "m4"
    assert bridge.explanation == "explicit neighbor of m0"
    assert bridge.parts == {"residual": 0, "connection": 0.5, "direct": 0}
    assert bridge.score == 0.5


@pytest.mark.parametrize("most", [1, 2, 4, 5, 20])
def test_core_and_peripheral_share_the_limit(recalled: CognitiveMemorySystem, most: int) -> None:
    groups = recalled.retrieve_memories("elephant", max_results=most)
    ranked = ids(groups["core"] + groups["peripheral"])
    assert ranked == ["m0", "m1", "m2", "m3", "m4"][:most]
    assert ids(groups["bridge"]) == (["m4"] if most < 5 else [])


def test_types_ask_for_some_groups(recalled: CognitiveMemorySystem) -> None:
    everything = recalled.retrieve_memories("elephant", max_results=4)
    for wanted in (["core"], ["peripheral", "bridge"], ["bridge"]):
        groups = recalled.retrieve_memories("elephant", wanted, 4)
        for name, results in groups.items():
            assert ids(results) == (ids(everything[name]) if name in wanted else [])


def test_unknown_types_are_refused(recalled: CognitiveMemorySystem) -> None:
    with pytest.raises(
        InvalidInputError, match=r"unknown types \['dream'\]; known: core, peripheral, bridge"
    ):
        recalled.retrieve_memories("elephant", ["core", "dream"])


def test_what_is_shown_counts_as_accessed(recalled: CognitiveMemorySystem) -> None:
    recalled.retrieve_memories("elephant", max_results=2)
    accesses = [get(recalled, f"m{number}").access_count for number in range(5)]
    assert accesses == [1, 1, 0, 0, 0]
    assert get(recalled, "m0").last_accessed > START
    assert get(recalled, "m2").last_accessed == START
    recalled.retrieve_memories("elephant", ["bridge"], max_results=2)
    assert get(recalled, "m0").access_count == 1


def test_bridges_meet_the_filter(recalled: CognitiveMemorySystem) -> None:
    some = MemoryFilter(memory_ids=("m0", "m1", "m2"))
    groups = recalled.retrieve_memories("elephant", max_results=2, filters=some)
    assert ids(groups["core"] + groups["peripheral"]) == ["m0", "m1"]
    assert groups["bridge"] == []


def test_tags_find_the_newest_first(system: CognitiveMemorySystem) -> None:
    system.store_experience("old", {"tags": ["a"]})
    system.store_experience("other", {"tags": ["b"]})
    system.store_experience("new", {"tags": ["b", "a"]})
    found = system.get_memories_by_tags(["a", "unknown"])
    assert [memory.content for memory in found] == ["new", "old"]
    assert system.get_memories_by_tags(["unknown"]) == []


@pytest.mark.parametrize("tags", [[], "adr"])
def test_tags_are_a_list(system: CognitiveMemorySystem, tags: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"got tags .*; expected a list of at least one"):
        system.get_memories_by_tags(tags)
    with pytest.raises(InvalidInputError, match=r"got tags .*; expected a list of at least one"):
        system.delete_memories_by_tags(tags)


# Deleting


def test_deleting_by_id(system: CognitiveMemorySystem) -> None:
    system.store_experiences(["an elephant", "an ant"])
    result = system.delete_memory_by_id("m0")
    assert result.pop("processing_time") >= 0
    assert result == {"memory_id": "m0", "deleted_count": 1}
    assert system.delete_memory_by_id("m0")["deleted_count"] == 0
    assert ids(system.search("elephant")) == ["m1"]
    assert system.vectors.count() == 1


def test_deleting_by_tags(system: CognitiveMemorySystem) -> None:
    system.store_experiences(["a", "b", "c"], [{"tags": ["x"]}, {"tags": ["x", "y"]}, None])
    result = system.delete_memories_by_tags(["x", "z"])
    assert result.pop("processing_time") >= 0
    assert result == {"tags": ["x", "z"], "deleted_count": 2}
    assert ids(system.search("c")) == ["m2"]


def test_names_that_no_memory_can_have_are_refused(system: CognitiveMemorySystem) -> None:
    """SQLite would take what stands before the NUL, and delete another memory."""
    system.store_experience("kept", {"tags": ["x"]})
    with pytest.raises(InvalidInputError, match="memory_id holds a NUL character at position 2"):
        system.delete_memory_by_id("m0\0")
    with pytest.raises(InvalidInputError, match="tag holds a NUL character at position 1"):
        system.delete_memories_by_tags(["x\0y"])
    with pytest.raises(InvalidInputError, match="tag is a int; expected a str"):
        system.get_memories_by_tags(cast("list[str]", [7]))
    assert total(system) == 1


def test_deleting_by_source_path(opened: Open) -> None:
    loader = ListLoader(a=[Item("1", "one"), Item("2", "two")], b=[Item("1", "one")])
    system = opened(None, loader)
    system.load("")
    result = system.delete_memories_by_source_path("a")
    assert result.pop("processing_time") >= 0
    assert result == {"source_path": "a", "deleted_count": 2}
    assert ids(system.search("one")) == ["b/1"]
    with pytest.raises(InvalidInputError, match="source_path is not valid UTF-8 at character 0"):
        system.delete_memories_by_source_path("\udcff")


# Loading


@pytest.fixture
def loader() -> ListLoader:
    return ListLoader(
        a=[Item("1", "one"), Item("2", "two"), Item("3", "three")], b=[Item("1", "four")]
    )


@pytest.fixture
def loaded(opened: Open, provider: Provider, loader: ListLoader) -> CognitiveMemorySystem:
    """Both sources are in the store, and the provider has forgotten them."""
    system = opened(provider, loader)
    report = system.load("")
    assert report == LoadReport(sources=2, added=4, connections=2)
    assert sorted(provider.embedded) == ["four", "one", "three", "two"]
    provider.embedded.clear()
    return system


def test_loading_again_changes_nothing(loaded: CognitiveMemorySystem, provider: Provider) -> None:
    before = loaded.memories.find_memories()
    calls: list[tuple[int, int]] = []
    report = loaded.load("", lambda *call: calls.append(call))
    assert report == LoadReport(sources=2, unchanged=4, connections=2)
    assert provider.embedded == []
    assert calls == []
    assert loaded.memories.find_memories() == before


def test_only_what_changed_is_embedded(
    loaded: CognitiveMemorySystem, provider: Provider, loader: ListLoader
) -> None:
    loader.sources["a"] = [Item("1", "one"), Item("3", "three!"), Item("4", "new")]
    calls: list[tuple[int, int]] = []
    report = loaded.load("", lambda *call: calls.append(call))
    assert report == LoadReport(
        sources=2, added=1, updated=1, unchanged=2, deleted=1, connections=2
    )
    assert provider.embedded == ["three!", "new"]
    assert calls == [(2, 2)]
    assert loaded.retrieve_memory("a/2") is None
    assert ids(loaded.search("new", k=1)) == ["a/4"]
    assert loaded.vectors.count() == total(loaded) == 4


def test_changed_metadata_costs_no_embedding(
    loaded: CognitiveMemorySystem, provider: Provider, loader: ListLoader
) -> None:
    loaded.memories.record_access(["a/1"], START + timedelta(days=9))
    loader.sources["a"][0] = Item("1", "one", day=5, metadata={"line": 7})
    report = loaded.load("a")
    assert report == LoadReport(sources=1, updated=1, unchanged=2, connections=2)
    assert provider.embedded == []
    memory = get(loaded, "a/1")
    assert memory.metadata == {"line": 7}
    assert (memory.access_count, memory.created_date) == (1, START)
    assert memory.last_accessed == START + timedelta(days=9)
    assert ids(loaded.search("one", k=1)) == ["a/1"]


def test_a_changed_text_is_new_but_its_use_is_kept(
    loaded: CognitiveMemorySystem, loader: ListLoader
) -> None:
    loaded.memories.record_access(["a/1"], START + timedelta(days=9))
    loader.sources["a"][0] = Item("1", "one more", day=5)
    loaded.load("a")
    memory = get(loaded, "a/1")
    assert (memory.content, memory.access_count) == ("one more", 1)
    assert memory.created_date == START + timedelta(days=5)


def test_a_touched_file_is_unchanged(loaded: CognitiveMemorySystem, loader: ListLoader) -> None:
    for item in loader.sources["a"]:
        item.day = 5
    assert loaded.load("a").unchanged == 3
    assert get(loaded, "a/1").created_date == START


def test_an_emptied_source_holds_nothing(loaded: CognitiveMemorySystem, loader: ListLoader) -> None:
    loader.sources["a"] = []
    assert loaded.load("") == LoadReport(sources=2, unchanged=1, deleted=3)
    assert ids(loaded.search("one")) == ["b/1"]


def edges(system: CognitiveMemorySystem, *memory_ids: str) -> list[str]:
    found = system.connections.get_connections(memory_ids)
    return sorted(f"{edge.source_id} {edge.target_id}" for edge in found)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("132", ["a/1 a/3", "a/3 a/2"]),
        ("321", ["a/2 a/1", "a/3 a/2"]),
        ("13", ["a/1 a/3"]),
        ("1423", ["a/1 a/4", "a/2 a/3", "a/4 a/2"]),
    ],
)
def test_connections_follow_the_order(
    loaded: CognitiveMemorySystem, loader: ListLoader, order: str, expected: list[str]
) -> None:
    texts = {"1": "one", "2": "two", "3": "three", "4": "new"}
    assert edges(loaded, "a/1", "a/2", "a/3") == ["a/1 a/2", "a/2 a/3"]
    loader.sources["a"] = [Item(key, texts[key]) for key in order]
    report = loaded.load("a")
    assert report.connections == len(expected)
    assert edges(loaded, "a/1", "a/2", "a/3") == expected


def test_explicit_connections_outlive_a_load(
    loaded: CognitiveMemorySystem, loader: ListLoader
) -> None:
    loaded.connections.add_connections([MemoryConnection("a/3", "a/1")])
    loader.sources["a"].reverse()
    loaded.load("a")
    assert edges(loaded, "a/1") == ["a/2 a/1", "a/3 a/1"]
    loader.sources["a"][0] = Item("3", "changed")
    loaded.load("a")
    assert edges(loaded, "a/1") == ["a/2 a/1", "a/3 a/1"]


def test_an_appending_source_loses_nothing(opened: Open) -> None:
    loader = AppendingLoader(a=[Item("1", "one"), Item("2", "two")])
    system = opened(None, loader)
    system.load("a")
    loader.sources["a"] = [Item("2", "two"), Item("3", "three")]
    assert system.load("a") == LoadReport(sources=1, added=1, unchanged=1, connections=1)
    assert total(system) == 3
    assert edges(system, "a/2") == ["a/1 a/2", "a/2 a/3"]
    loader.sources["a"] = [Item("2", "two"), Item("4", "four")]
    system.load("a")
    assert edges(system, "a/2") == ["a/1 a/2", "a/2 a/3", "a/2 a/4"]


def test_a_source_changes_as_a_whole_or_not_at_all(
    loaded: CognitiveMemorySystem, provider: Provider, loader: ListLoader
) -> None:
    many = [Item(f"{number:03}", f"text {number}") for number in range(BATCH)]
    loader.sources = {
        "a": [Item("1", "changed"), Item("9", "added")],
        "b": [Item("1", "changed"), *many, Item("999", "bad")],
    }
    provider.failing = "bad"
    with pytest.raises(EmbeddingError, match="cannot embed bad"):
        loaded.load("")
    assert [get(loaded, name).content for name in ("a/1", "a/9", "b/1")] == [
        "changed",
        "added",
        "four",
    ]
    assert loaded.retrieve_memory("a/2") is None
    assert total(loaded) == 3
    assert ids(loaded.search("four", k=1)) == ["b/1"]
    provider.failing = None
    report = loaded.load("")
    assert (report.added, report.updated, report.unchanged) == (BATCH + 1, 1, 2)


def test_a_text_that_cannot_be_kept_is_named_and_nothing_changes(
    loaded: CognitiveMemorySystem, loader: ListLoader
) -> None:
    before = loaded.memories.find_memories()
    loader.sources["b"].append(Item("2", "x" * (LIMIT + 1), metadata={"title": "A Long Story"}))
    with pytest.raises(InvalidInputError, match=r"b: 'A Long Story' has 101 bytes, the limit is"):
        loaded.load("b")
    assert loaded.memories.find_memories() == before


def test_of_many_sources_one_that_cannot_be_taken_is_named_and_left(
    loaded: CognitiveMemorySystem, loader: ListLoader
) -> None:
    kept = loaded.memories.find_memories(MemoryFilter(source_path="b"))
    loader.sources["a"] = []
    loader.sources["b"] = [Item("2", "x" * (LIMIT + 1), metadata={"title": "A Long Story"})]
    report = loaded.load("")
    assert (report.sources, report.deleted) == (1, 3)
    assert [fault[:35] for fault in report.faults] == ["b: 'A Long Story' has 101 bytes, th"]
    assert loaded.memories.find_memories() == kept
    loader.sources["a"] = loader.sources["b"]
    with pytest.raises(InvalidInputError, match="b: 'A Long Story' has 101 bytes"):
        loaded.load("")  # none of them can be taken


def test_nothing_to_load_is_an_error(loaded: CognitiveMemorySystem) -> None:
    with pytest.raises(SourceError, match=r"nothing to load at nowhere; known are \.list"):
        loaded.load("nowhere")
    with pytest.raises(SourceError, match="nothing to load at a;"):
        loaded.load("a", kinds=["git"])
    assert loaded.load("a", kinds=["list", "git"]).unchanged == 3


def test_a_loader_that_the_caller_brings(system: CognitiveMemorySystem, loader: ListLoader) -> None:
    report = system.load_memories_from_source(loader, "a", most=2)
    assert report == LoadReport(sources=1, added=2, connections=1)
    assert get(system, "a/2").content == "two"
    with pytest.raises(SourceError, match="nowhere is not a list source"):
        system.load_memories_from_source(loader, "nowhere")


class FaultyLoader(ListLoader):
    """Skips the items whose text is ``bad``, and says so."""

    def load_from_source(
        self, source: str, on_fault: Callable[[str], None] | None = None, **options: Any
    ) -> list[CognitiveMemory]:
        memories = super().load_from_source(source, **options)
        for memory in memories:
            if memory.content == "bad" and on_fault:
                on_fault(f"{memory.id}: bad; better it")
        return [memory for memory in memories if memory.content != "bad"]


def test_what_a_loader_skipped_is_reported(opened: Open) -> None:
    loader = FaultyLoader(
        a=[Item("1", "one"), Item("2", "bad")], b=[Item("1", "bad"), Item("2", "two")]
    )
    system = opened(None, loader)
    faults = ("a/2: bad; better it", "b/1: bad; better it")
    assert system.load("") == LoadReport(sources=2, added=2, faults=faults)
    assert system.load("") == LoadReport(sources=2, unchanged=2, faults=faults)
    assert system.load_memories_from_source(loader, "b").faults == faults[1:]
    heard: list[str] = []
    report = system.load_memories_from_source(loader, "a", on_fault=heard.append)
    assert (report.faults, tuple(heard)) == ((), faults[:1])


def test_a_conversation_is_loaded_but_for_the_lines_that_are_none(
    opened: Open, provider: Provider, tmp_path: Path
) -> None:
    path = tmp_path / "chat.jsonl"
    good = [{"text": f"word{n}", "speaker": "Ada", "session": n // 2} for n in range(4)]
    lines = [json.dumps(line) for line in good]
    path.write_text("\n".join([*lines[:2], "{}", *lines[2:], ""]), encoding="utf-8")
    system = opened(provider, ConversationLoader())
    faults = (f"{path.resolve()}:3: no field 'text'; give one",)
    report = system.load(path)
    assert report == LoadReport(sources=1, added=4, connections=2, faults=faults)
    assert contents(system.search("word2", k=1)) == ["Ada: word2"]
    assert get(system, ids(system.search("word2", k=1))[0]).metadata["session"] == 1

    with path.open("a", encoding="utf-8") as file:
        file.write('{"text": "word4", "session": 1}\n')
    provider.embedded.clear()
    report = system.load(path)
    assert report == LoadReport(sources=1, added=1, unchanged=4, connections=3, faults=faults)
    assert provider.embedded == ["word4"]

    path.write_text(path.read_text(encoding="utf-8").replace("word0", "changed"), encoding="utf-8")
    report = system.load(path)
    assert report == LoadReport(
        sources=1, added=1, unchanged=4, deleted=1, connections=3, faults=faults
    )

    before = system.memories.find_memories()
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"no line of .* can be taken as a part of a conv"):
        system.load(path)
    assert system.memories.find_memories() == before
    path.write_text("", encoding="utf-8")
    assert system.load(path) == LoadReport(sources=1, deleted=5)


# The whole


def test_statistics_are_json(system: CognitiveMemorySystem) -> None:
    system.store_experiences(
        ["a", "b", "c"], [{"hierarchy_level": 0}, {"hierarchy_level": 1}, None]
    )
    stats = json.loads(json.dumps(system.get_memory_stats()))
    assert stats["memory_counts"] == {
        "total": 3,
        "level_0_concepts": 1,
        "level_1_contexts": 1,
        "level_2_episodes": 1,
    }
    assert stats["storage_stats"]["fingerprint"] == "word-lengths/16"
    assert stats["storage_stats"]["vectors"] == 3


def test_a_closed_system_says_so(system: CognitiveMemorySystem) -> None:
    with system:
        system.store_experience("an elephant")
    system.close()
    with pytest.raises(StorageError, match="was closed; open the store again"):
        system.search("elephant")


def test_another_embedding_is_refused_where_vectors_matter(
    system: CognitiveMemorySystem, opened: Open
) -> None:
    system.store_experiences(["an elephant", "an ant"], [{"tags": ["big"]}, None])
    other = opened(Provider(name="other"), prefix="other")
    message = (
        "holds vectors of word-lengths/16, the configured model gives other/16; "
        "run 'cognitive-memory reembed'"
    )
    with pytest.raises(FingerprintMismatchError, match=message):
        other.store_experience("a bee")
    with pytest.raises(FingerprintMismatchError, match=message):
        other.search("elephant")
    with pytest.raises(FingerprintMismatchError, match=message):
        other.retrieve_memories("elephant")
    assert total(other) == 2
    assert get(other, "m0").content == "an elephant"
    assert [memory.id for memory in other.get_memories_by_tags(["big"])] == ["m0"]
    assert other.delete_memory_by_id("m0")["deleted_count"] == 1
    assert ids(system.search("elephant")) == ["m1"]


WORDS = st.lists(
    st.sampled_from(["red", "blue", "green", "violet", "turquoise"]), min_size=1, max_size=6
)
TAG = st.sampled_from(["one", "two"])


class SystemMachine(RuleBasedStateMachine):
    """The system against a dictionary, across reopening and a second handle."""

    memory_ids = Bundle("memory_ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.generation = 0
        self.model: dict[str, tuple[str, str]] = {}
        self.provider = Provider(words_per_chunk=3)
        self.system = self.open()
        self.other = self.open()

    def open(self) -> CognitiveMemorySystem:
        self.generation += 1
        path = Path(self.folder.name) / "store.db"
        return open_limited(path, self.provider, prefix=f"{self.generation}-")

    @rule(target=memory_ids, words=WORDS, tag=TAG, elsewhere=st.booleans())
    def store(self, words: list[str], tag: str, elsewhere: bool) -> str:
        text = " ".join(words)
        system = self.other if elsewhere else self.system
        memory_id = system.store_experience(text, {"tags": [tag]})
        assert memory_id not in self.model
        self.model[memory_id] = (text, tag)
        return memory_id

    @rule(memory_id=consumes(memory_ids), elsewhere=st.booleans())
    def delete(self, memory_id: str, elsewhere: bool) -> None:
        system = self.other if elsewhere else self.system
        expected = int(self.model.pop(memory_id, None) is not None)
        assert system.delete_memory_by_id(memory_id)["deleted_count"] == expected

    @rule(tag=TAG)
    def delete_tag(self, tag: str) -> None:
        gone = [memory_id for memory_id, (_, its) in self.model.items() if its == tag]
        assert self.system.delete_memories_by_tags([tag])["deleted_count"] == len(gone)
        for memory_id in gone:
            del self.model[memory_id]

    @rule()
    def reopen(self) -> None:
        self.system.close()
        self.system = self.open()

    @rule(words=WORDS, tag=st.none() | TAG)
    def search(self, words: list[str], tag: str | None) -> None:
        filters = None if tag is None else MemoryFilter(tags=(tag,))
        results = self.system.search(" ".join(words), 100, filters)
        query = self.provider.encode(" ".join(words))
        expected = {
            memory_id: text for memory_id, (text, its) in self.model.items() if tag in (None, its)
        }
        assert set(ids(results)) == set(expected)
        assert results == sorted(results, key=lambda result: (-result.score, result.memory.id))
        for result in results:
            text = expected[result.memory.id]
            (spans,) = self.provider.chunk_batch([text])
            rows = self.provider.encode_batch([text[start:end] for start, end in spans])
            assert result.memory.content == text
            assert result.parts["semantic"] == pytest.approx(float((rows @ query).max()), abs=1e-6)
            assert (result.parts["lexical"] > 0) == bool(set(words) & set(text.split()))

    @invariant()
    def the_record_is_the_model(self) -> None:
        for system in (self.system, self.other):
            found = {memory.id: memory.content for memory in system.memories.find_memories()}
            assert found == {memory_id: text for memory_id, (text, _) in self.model.items()}

    def teardown(self) -> None:
        self.system.close()
        self.other.close()
        self.folder.cleanup()


SystemMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestSystemMachine = SystemMachine.TestCase
