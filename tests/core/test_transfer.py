"""Export and import: nothing is lost, nothing is taken twice, nothing bad is taken at all."""

from __future__ import annotations

import errno
import io
import json
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.consolidation import members_of
from cognitive_memory.core.embedding import embed_texts
from cognitive_memory.core.errors import (
    FingerprintMismatchError,
    InvalidInputError,
    SourceError,
    StorageError,
)
from cognitive_memory.core.interfaces import EmbeddingProvider
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    ImportReport,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.importers.json_lines import JsonLinesSource
from cognitive_memory.retrieval.consolidation import ExtractiveConsolidation
from cognitive_memory.testing import WordLengthProvider, make_memory
from cognitive_memory.testing.examples import NOON
from cognitive_memory.testing.records import FULL

EDGES = (
    MemoryConnection("a", FULL.id, ConnectionType.EXPLICIT, 0.1 + 0.2),
    MemoryConnection("b", "a", ConnectionType.ENTITY, 1.0),
)


class Interrupted(WordLengthProvider):
    """Does something else, once, while it embeds."""

    meanwhile: Callable[[], object] | None = None

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """As its parent; what is to happen meanwhile happens first."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return super().encode_batch(texts)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[CognitiveMemorySystem]:
    """A store with three memories, one of them unusual, and two edges."""
    with open_system(tmp_path / "store.db", WordLengthProvider(words_per_chunk=2)) as system:
        fill(system, [make_memory("a"), make_memory("b", "one two three"), FULL], EDGES)
        yield system


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[CognitiveMemorySystem]:
    with open_system(tmp_path / "other.db", WordLengthProvider(words_per_chunk=2)) as system:
        yield system


def fill(
    system: CognitiveMemorySystem,
    memories: Sequence[CognitiveMemory],
    edges: Sequence[MemoryConnection] = (),
) -> None:
    provider = system.embedding_provider
    with system.memories.transaction():
        system.vectors.bind_embedding(provider.fingerprint, provider.dimension)
        system.memories.save_memories(memories)
        texts = [memory.content for memory in memories]
        system.vectors.store_vectors(memories, embed_texts(provider, texts))
        system.connections.add_connections(edges)


def exported(system: CognitiveMemorySystem, *, vectors: bool = True) -> bytes:
    output = io.BytesIO()
    system.export_memories(output, vectors=vectors)
    return output.getvalue()


def imported(system: CognitiveMemorySystem, lines: bytes, **options: Any) -> ImportReport:
    with JsonLinesSource(io.BytesIO(lines), "dump.jsonl") as source:
        return system.import_memories(source, **options)


def changed(lines: bytes, number: int, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The export with one line (from 1) changed in place by ``change``."""
    every = lines.splitlines(keepends=True)
    record = json.loads(every[number - 1])
    change(record)
    every[number - 1] = json.dumps(record).encode() + b"\n"
    return b"".join(every)


@pytest.mark.parametrize("vectors", [False, True])
def test_everything_comes_back(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem, vectors: bool
) -> None:
    lines = exported(system, vectors=vectors)
    report = imported(empty, lines)
    assert (report.added, report.connections_added) == (3, 2)
    assert report.embedded == (0 if vectors else 3)
    assert empty.memories.find_memories() == system.memories.find_memories()
    ids = ["a", "b", FULL.id]
    assert empty.connections.get_connections(ids) == system.connections.get_connections(ids)
    mine, theirs = (each.vectors.get_vectors(ids) for each in (empty, system))
    assert mine.keys() == theirs.keys() == set(ids)
    for name in ids:
        np.testing.assert_array_equal(mine[name], theirs[name])
    assert len(theirs["b"]) == 2
    assert [hit.memory.id for hit in empty.search("three", k=1)] == ["b"]
    assert exported(empty, vectors=vectors) == lines


def test_the_lines_of_an_export(system: CognitiveMemorySystem) -> None:
    output = io.BytesIO()
    report = system.export_memories(output, vectors=True)
    assert (report.memories, report.connections, report.vectors) == (3, 2, 8)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert lines[0] == {
        "format": "cognitive-memory",
        "version": 1,
        "vectors": True,
        "fingerprint": "word-lengths/16",
        "dimension": 16,
    }
    row = np.zeros(16, dtype="<f4")
    row[[2, 4]] = 1 / np.sqrt(np.float32(2))
    assert lines[1]["memory"] == {
        "id": "a",
        "content": "text of a",
        "hierarchy_level": 2,
        "memory_type": "episodic",
        "importance_score": 0.0,
        "tags": [],
        "source_path": None,
        "source_type": "manual_entry",
        "created_date": "2026-01-01T12:00:00.000000Z",
        "last_accessed": "2026-01-01T12:00:00.000000Z",
        "access_count": 0,
        "metadata": {},
    }
    assert lines[1]["vectors"][0] == b64encode(row.tobytes()).decode()
    assert lines[3]["memory"]["last_accessed"] == "9999-12-31T23:59:59.999999Z"
    assert [line["connection"]["source_id"] for line in lines[4:6]] == ["a", "b"]
    assert lines[6:] == [{"end": {"memories": 3, "connections": 2}}]


def test_an_empty_store_comes_back_empty(empty: CognitiveMemorySystem, tmp_path: Path) -> None:
    lines = exported(empty)
    assert [json.loads(line).get("vectors") for line in lines.splitlines()] == [False, None]
    assert imported(empty, lines) == ImportReport()
    assert exported(empty) == lines


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAME = TEXT.filter(str.strip)
MOMENT = st.datetimes(timezones=st.just(UTC))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
MEMORY = st.builds(
    CognitiveMemory,
    id=NAME,
    content=NAME,
    hierarchy_level=st.sampled_from([0, 1, 2]),
    memory_type=st.sampled_from(MemoryType),
    importance_score=st.floats(0, 1),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    source_path=st.none() | TEXT,
    source_type=TEXT,
    created_date=MOMENT,
    last_accessed=MOMENT,
    access_count=st.integers(0, 2**63 - 1),
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
)


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[CognitiveMemory], list[MemoryConnection]]:
    memories = draw(st.lists(MEMORY, max_size=6, unique_by=lambda memory: memory.id))
    if not memories:
        return [], []
    ids = st.sampled_from([memory.id for memory in memories])
    strength = st.floats(0, 1, exclude_min=True)
    edge = st.builds(MemoryConnection, ids, ids, st.sampled_from(ConnectionType), strength)
    unique = st.lists(
        edge, max_size=8, unique_by=lambda e: (e.source_id, e.target_id, e.connection_type)
    )
    return memories, draw(unique)


@settings(max_examples=40)
@given(stores(), st.booleans())
def test_whatever_is_stored_an_import_of_its_export_exports_the_same_bytes(
    contents: tuple[list[CognitiveMemory], list[MemoryConnection]], vectors: bool
) -> None:
    memories, edges = contents
    with (
        tempfile.TemporaryDirectory() as folder,
        open_system(Path(folder) / "one.db") as one,
        open_system(Path(folder) / "two.db") as two,
    ):
        fill(one, memories, edges)
        lines = exported(one, vectors=vectors)
        imported(two, lines)
        assert two.memories.find_memories() == one.memories.find_memories()
        assert exported(two, vectors=vectors) == lines
        assert imported(one, lines).added == 0


def test_more_than_a_batch_comes_back(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    many = [make_memory(f"{number:05}") for number in range(2_500)]
    edges = [MemoryConnection(one.id, "a") for one in many]
    fill(system, many, edges)
    seen: list[tuple[int, int]] = []
    lines = exported(system)
    with JsonLinesSource(io.BytesIO(lines), "dump") as source:
        report = empty.import_memories(source, progress=lambda *each: seen.append(each))
    assert (report.added, report.connections_added) == (2_503, 2_502)
    assert seen == [(2_048, 2_503), (2_503, 2_503)]
    assert exported(empty) == lines


def test_an_export_is_one_state(system: CognitiveMemorySystem, tmp_path: Path) -> None:
    before = exported(system)

    class Meddling(io.BytesIO):
        """Another process writes while the first line is written."""

        def write(self, line: Any) -> int:
            if not self.tell():
                with open_system(tmp_path / "store.db", system.embedding_provider) as other:
                    other.delete_memory_by_id("a")
                    fill(other, [make_memory("c")], [MemoryConnection("c", "b")])
            return super().write(line)

    output = Meddling()
    system.export_memories(output, vectors=True)
    assert output.getvalue() == before
    assert system.retrieve_memory("a") is None


def test_metadata_that_json_cannot_hold_is_named(system: CognitiveMemorySystem) -> None:
    system.memories.save_memories([make_memory("odd", metadata={"n": float("nan")})])
    with pytest.raises(StorageError, match="memory 'odd' cannot be written as JSON"):
        exported(system)


def test_importing_again_changes_nothing(system: CognitiveMemorySystem) -> None:
    lines = exported(system)
    report = imported(system, lines)
    assert (report.added, report.updated, report.unchanged, report.embedded) == (0, 0, 3, 0)
    assert (report.connections_added, report.connections_unchanged) == (0, 2)
    assert exported(system) == lines


def alter(system: CognitiveMemorySystem) -> None:
    """Another text, another tag, another strength, a memory less and a memory more."""
    fill(
        system,
        [make_memory("a", "another thing", access_count=9), replace(FULL, tags=("other",))],
        [replace(EDGES[0], strength=0.5)],
    )
    system.delete_memory_by_id("b")
    fill(system, [make_memory("c")], [MemoryConnection("a", "c")])


def test_replacing_restores_what_differs_and_keeps_what_is_not_in_the_file(
    system: CognitiveMemorySystem,
) -> None:
    lines = exported(system, vectors=False)
    alter(system)
    report = imported(system, lines)
    assert (report.added, report.updated, report.unchanged, report.skipped) == (1, 2, 0, 0)
    assert report.embedded == 2, "only other texts need other vectors"
    assert (report.connections_added, report.connections_updated) == (1, 1)
    assert system.retrieve_memory("c") == make_memory("c")
    assert MemoryConnection("a", "c") in system.connections.get_connections(["c"])
    system.delete_memory_by_id("c")
    assert exported(system, vectors=False) == lines


def test_skipping_adds_what_is_missing_and_leaves_the_rest(
    system: CognitiveMemorySystem,
) -> None:
    lines = exported(system)
    alter(system)
    report = imported(system, lines, on_conflict="skip")
    assert (report.added, report.updated, report.unchanged, report.skipped) == (1, 0, 0, 2)
    assert (report.connections_added, report.connections_skipped) == (1, 1)
    (a, full) = system.memories.get_memories(["a", FULL.id])
    assert (a.content, a.access_count, full.tags) == ("another thing", 9, ("other",))


def test_a_conflict_can_be_refused_before_anything_is_written(
    system: CognitiveMemorySystem,
) -> None:
    lines = exported(system)
    imported(system, lines, on_conflict="error")
    alter(system)
    before = exported(system)
    with pytest.raises(InvalidInputError, match="memory 'a' is stored already and differs"):
        imported(system, lines, on_conflict="error")
    assert exported(system) == before


def test_an_unknown_policy_is_refused(system: CognitiveMemorySystem) -> None:
    with pytest.raises(InvalidInputError, match="'merge'; it must be one of replace, skip, error"):
        imported(system, exported(system), on_conflict="merge")


def test_vectors_of_another_embedding_are_not_taken(
    system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    other = WordLengthProvider(dimension=8)
    with open_system(tmp_path / "small.db", other) as small:
        report = imported(small, exported(system))
        assert (report.embedded, report.source_fingerprint) == (3, "word-lengths/16")
        assert small.vectors.get_vectors(["a"])["a"].shape == (1, 8)


def test_vectors_of_the_same_embedding_are_not_made_again(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    turned = b64encode(normalize(np.arange(16, dtype="<f4")).astype("<f4").tobytes()).decode()
    lines = changed(exported(system), 2, lambda record: record.update(vectors=[turned]))
    assert imported(empty, lines).embedded == 0
    assert empty.vectors.get_vectors(["a"])["a"][0, 15] == pytest.approx(15 / np.sqrt(1240))


def test_a_memory_whose_vectors_are_missing_is_embedded(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    system.vectors.delete_vectors(["a"])
    assert imported(empty, exported(system)).embedded == 1
    assert empty.vectors.get_vectors(["a"]).keys() == {"a"}


def test_a_store_of_another_embedding_is_refused(
    system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    lines = exported(system)
    with (
        open_system(tmp_path / "store.db", WordLengthProvider(dimension=8)) as other,
        pytest.raises(FingerprintMismatchError),
    ):
        imported(other, lines)


def test_what_others_store_meanwhile_is_seen(system: CognitiveMemorySystem, tmp_path: Path) -> None:
    lines = exported(system, vectors=False)
    provider = Interrupted()
    path = tmp_path / "third.db"
    with open_system(path, provider) as third, open_system(path, WordLengthProvider()) as other:
        provider.meanwhile = lambda: fill(other, [make_memory("a"), make_memory("b", "else")])
        report = imported(third, lines)
        assert (report.added, report.updated, report.unchanged) == (1, 1, 1)
        assert exported(third, vectors=False) == lines


def test_what_others_delete_meanwhile_is_stored_whole(
    system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    lines = exported(system, vectors=False)
    provider = Interrupted()
    path = tmp_path / "third.db"
    with open_system(path, provider) as third, open_system(path, WordLengthProvider()) as other:
        imported(other, lines)
        alter(other)
        provider.meanwhile = lambda: other.delete_memory_by_id(FULL.id)
        assert imported(third, lines).embedded == 3
        assert third.vectors.get_vectors(["a", "b", FULL.id]).keys() == {"a", "b", FULL.id}


def test_an_interrupted_import_is_completed_by_the_next(
    system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    class Failing(WordLengthProvider):
        """Embeds one batch and no more."""

        calls = 0

        def encode_batch(self, texts: Sequence[str]) -> Vector:
            self.calls += 1
            if self.calls > 1:
                raise ZeroDivisionError
            return super().encode_batch(texts)

    fill(system, [make_memory(f"{number:04}") for number in range(1_000)])
    lines = exported(system, vectors=False)
    with open_system(tmp_path / "third.db", Failing()) as third:
        with pytest.raises(ZeroDivisionError):
            imported(third, lines)
        assert len(third.memories.find_memories()) == 512
    with open_system(tmp_path / "third.db") as third:
        report = imported(third, lines, on_conflict="error")
        assert (report.added, report.unchanged) == (491, 512)
        assert exported(third, vectors=False) == lines


def consolidating(path: Path, provider: EmbeddingProvider | None = None) -> CognitiveMemorySystem:
    return open_system(path, provider, consolidation=ExtractiveConsolidation())


@pytest.fixture
def consolidated(tmp_path: Path) -> Iterator[CognitiveMemorySystem]:
    """Five episodes alike, and the one memory that stands for them."""
    with consolidating(tmp_path / "episodes.db") as system:
        texts = [f"dropped Redis cache number{n} yesterday because of cost" for n in range(5)]
        for hour, text in enumerate(texts):
            system.store_experience(text, {"created_date": NOON + timedelta(hours=hour)})
        assert system.consolidate_memories()["consolidated"] > 0
        yield system


def made(system: CognitiveMemorySystem) -> list[CognitiveMemory]:
    return [memory for memory in system.memories.find_memories() if members_of(memory)]


def test_what_stands_for_a_memory_goes_when_an_import_changes_that(
    consolidated: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    (group,) = made(consolidated)
    member = members_of(group)[0]
    fill(empty, [make_memory(member, "something else happened")])
    assert imported(consolidated, exported(empty, vectors=False)).updated == 1
    assert made(consolidated) == []


def test_what_stands_for_memories_comes_back_with_them(
    consolidated: CognitiveMemorySystem,
) -> None:
    lines = exported(consolidated)
    (group,) = made(consolidated)
    last = sorted(members_of(group))[-1]
    fill(consolidated, [make_memory(last, "something else happened")])
    imported(consolidated, lines)
    assert made(consolidated) == [group]
    assert exported(consolidated) == lines


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of a record: ``put("memory", "id", value="x")``."""

    def change(record: dict[str, Any]) -> None:
        for name in path[:-1]:
            record = record[name]
        record[path[-1]] = value

    return change


def base64(*values: float) -> str:
    return b64encode(np.array(values, dtype="<f4").tobytes()).decode()


UNIT = [1.0, *[0.0] * 15]
FAULTS: dict[str, tuple[int, Callable[[dict[str, Any]], object], str]] = {
    "a newer version": (1, put("version", value=2), "version 2 of the format, this one reads 1"),
    "no version": (1, lambda r: r.pop("version"), "version None of the format"),
    "an unknown header field": (1, put("x", value=1), "header has an unknown field 'x'"),
    "vectors without a fingerprint": (1, put("fingerprint", value=None), "fingerprint None"),
    "no vectors but a fingerprint": (1, put("vectors", value=False), "got vectors False"),
    "no dimension": (1, put("dimension", value=0), "got dimension 0"),
    "a dimension that is a text": (1, put("dimension", value="16"), "got '16'; expected a whole"),
    "a missing field": (2, lambda r: r["memory"].pop("tags"), "memory lacks field 'tags'"),
    "an unknown field": (2, put("memory", "color", value=1), "memory has an unknown field 'color'"),
    "another key": (2, put("color", value=1), "got ['color'] beside a memory"),
    "an id that is a number": (2, put("memory", "id", value=7), "id: got 7"),
    "a blank id": (2, put("memory", "id", value=" "), "id: is blank"),
    "an id used before": (3, put("memory", "id", value="a"), "repeats the id 'a' of line 2"),
    "blank content": (2, put("memory", "content", value=" \n"), "content is blank"),
    "content with NUL": (2, put("memory", "content", value="a\0"), "content: got 'a\\x00'"),
    "half a character": (2, put("memory", "content", value="\ud800"), "not UTF-8"),
    "half a character inside": (2, put("memory", "metadata", "a", value="\ud800"), "not UTF-8"),
    "a level beyond": (2, put("memory", "hierarchy_level", value=3), "hierarchy_level: got 3"),
    "a level that is true": (2, put("memory", "hierarchy_level", value=True), "got True"),
    "an unknown type": (
        2,
        put("memory", "memory_type", value="dream"),
        "known: episodic, semantic",
    ),
    "a type that is a list": (2, put("memory", "memory_type", value=[]), "memory_type: got []"),
    "too important": (2, put("memory", "importance_score", value=1.5), "must be from 0 to 1"),
    "infinitely important": (2, put("memory", "importance_score", value=float("inf")), "not JSON"),
    "tags in one text": (2, put("memory", "tags", value="a"), "tags: got 'a'; expected a list"),
    "a tag that is a number": (2, put("memory", "tags", value=[1]), "tags: got 1"),
    "a naive time": (2, put("memory", "created_date", value="2026-01-01"), "with its offset"),
    "no time": (2, put("memory", "last_accessed", value=0), "last_accessed: got 0"),
    "a time before time": (
        2,
        put("memory", "created_date", value="0001-01-01T00:00:00+14:00"),
        "created_date: got '0001",
    ),
    "a negative count": (2, put("memory", "access_count", value=-1), "access_count: got -1"),
    "a count beyond 64 bits": (2, put("memory", "access_count", value=2**63), "access_count"),
    "metadata in a list": (2, put("memory", "metadata", value=[]), "metadata: got []"),
    "a memory that is a text": (2, put("memory", value="a"), "memory is 'a'; expected an object"),
    "a short vector": (2, put("vectors", value=[base64(1)]), "a vector has 4 bytes; 16 dim"),
    "NaN in a vector": (
        2,
        put("vectors", value=[base64(float("nan"), *UNIT[1:])]),
        "a vector has length nan, expected 1",
    ),
    "a vector of zeros": (2, put("vectors", value=[base64(*[0] * 16)]), "has length 0, expected 1"),
    "a huge vector": (2, put("vectors", value=[base64(*[3e38] * 16)]), "length inf, expected 1"),
    "a vector that is no base64": (2, put("vectors", value=["?"]), "a vector is not base64"),
    "a vector of numbers": (2, put("vectors", value=[UNIT]), "a vector is not base64"),
    "no chunk": (2, put("vectors", value=[]), "a list of at least one"),
    "a dangling connection": (
        5,
        put("connection", "target_id", value="gone"),
        "connects memory 'gone', which the file does not hold",
    ),
    "an unknown connection": (
        5,
        put("connection", "connection_type", value="friend"),
        "connection_type: got 'friend'; known: sequential",
    ),
    "strength 0": (5, put("connection", "strength", value=0), "strength: got 0"),
    "strength beyond 1": (5, put("connection", "strength", value=1.1), "strength: got 1.1"),
    "a connection twice": (
        6,
        put(
            "connection",
            value={
                "source_id": "a",
                "target_id": FULL.id,
                "connection_type": "explicit",
                "strength": 1.0,
            },
        ),
        "repeats the connection of line 5",
    ),
    "too few memories": (7, put("end", "memories", value=4), "names 4 memories and 2 connections"),
    "too many connections": (7, put("end", "connections", value=1), "the file holds 3 and 2"),
    "an end without counts": (7, put("end", value={}), "end lacks field"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_line_and_nothing_is_written(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem, fault: str
) -> None:
    number, change, message = FAULTS[fault]
    with pytest.raises(InvalidInputError) as caught:
        imported(empty, changed(exported(system), number, change))
    assert str(caught.value).startswith(f"dump.jsonl:{number}: ")
    assert message in str(caught.value)
    assert empty.memories.find_memories() == []


RAW_FAULTS: dict[str, tuple[int, bytes, str]] = {
    "no JSON": (3, b"{broken\n", "not JSON"),
    "a list": (3, b"[]\n", "a JSON list; expected an object"),
    "an empty object": (3, b"{}\n", "got a line that holds '' here"),
    "a line of another kind": (3, b'{"note": 1}\n', "got a line that holds 'note' here"),
    "a blank line": (3, b"\n", "not JSON"),
    "Latin-1": (3, b'{"memory": "gr\xf6\xdfe"}\n', "not UTF-8"),
    "NaN": (3, b'{"memory": NaN}\n', "not JSON: NaN is no number"),
    "a number beyond floats": (3, b'{"memory": 1e999}\n', "not JSON: 1e999 is no number"),
    "endless digits": (3, b'{"memory": ' + b"1" * 5_000 + b"}\n", "not JSON"),
    "endless depth": (3, b"[" * 100_000 + b"\n", "not JSON"),
    "a second header": (3, b'{"format": "cognitive-memory"}\n', "holds 'format' here"),
    "a memory after connections": (6, b'{"memory": {}}\n', "got a line that holds 'memory' here"),
    "a line after the end": (8, b"{}\n", "stands after the end"),
}


@pytest.mark.parametrize("fault", RAW_FAULTS)
def test_a_line_that_is_astray_is_named(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem, fault: str
) -> None:
    number, raw, message = RAW_FAULTS[fault]
    lines = exported(system).splitlines(keepends=True)
    lines[number - 1 : number] = [raw]
    with pytest.raises(InvalidInputError) as caught:
        imported(empty, b"".join(lines))
    assert str(caught.value).startswith(f"dump.jsonl:{number}: ")
    assert message in str(caught.value)
    assert empty.memories.find_memories() == []


def test_a_text_beyond_the_limit_of_this_store_is_refused(
    system: CognitiveMemorySystem, tmp_path: Path
) -> None:
    with (
        open_system(tmp_path / "small.db", max_text_bytes=10) as small,
        pytest.raises(InvalidInputError, match=r"jsonl:3: content has 13 bytes, the limit is 10"),
    ):
        imported(small, exported(system))


def test_wherever_an_export_is_cut_off_it_is_refused(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    lines = exported(system)
    header = lines.index(b"\n") + 1
    for length in [*range(header, len(lines) - 1, 37), *range(len(lines) - 30, len(lines) - 1)]:
        with pytest.raises(InvalidInputError, match=r"^dump\.jsonl:\d: .*cut off"):
            imported(empty, lines[:length])
    assert empty.memories.find_memories() == []
    assert imported(empty, lines[:-1]).added == 3, "only the last line's end is missing"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "it is empty"),
        (b"\x1f\x8b\x08", "decompress it first"),
        (b"SQLite format 3\0", "add --from heimdall"),
        (b"SQLite format 3\0" + bytes(52) + b"CMEM", "COGNITIVE_MEMORY_STORAGE__PATH"),
        (b'{"results": []}', "add --from mem0"),
        (b"[]\n", "add --from mem0"),
        (b"# Notes\n", "export again"),
        (b"\xff" * 200_000, "export again"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_hint(
    empty: CognitiveMemorySystem, raw: bytes, message: str
) -> None:
    with pytest.raises(SourceError, match=r"^dump\.jsonl is not an export") as caught:
        imported(empty, raw)
    assert message in str(caught.value)


def test_what_can_be_read_once_is_read_once(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    class Pipe(io.BytesIO):
        """Bytes that cannot be gone back to."""

        def seekable(self) -> bool:
            return False

        def seek(self, *place: int) -> int:
            raise io.UnsupportedOperation

    lines = exported(system)
    with JsonLinesSource(Pipe(lines), "pipe") as source:
        assert empty.import_memories(source).added == 3
    assert exported(empty) == lines


def test_what_cannot_be_copied_is_told() -> None:
    class Broken(io.BytesIO):
        """A pipe that ends in an error."""

        def seekable(self) -> bool:
            return False

        def read(self, _: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    file = Broken()
    with pytest.raises(SourceError, match=r"cannot copy pipe to a temporary file: Input/output er"):
        JsonLinesSource(file, "pipe")
    assert file.closed


def test_a_time_with_an_offset_is_the_same_time(
    system: CognitiveMemorySystem, empty: CognitiveMemorySystem
) -> None:
    shifted = put("memory", "created_date", value="2026-01-01T14:30:00.5+02:00")
    imported(empty, changed(exported(system), 2, shifted))
    found = empty.retrieve_memory("a")
    assert found is not None
    assert found.created_date == datetime(2026, 1, 1, 12, 30, 0, 500_000, tzinfo=UTC)
