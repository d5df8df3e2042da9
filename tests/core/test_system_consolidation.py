"""Consolidating and taking it back, over the real store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from systems import open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import (
    ConfigurationError,
    FingerprintMismatchError,
    InvalidInputError,
    StoreReadOnlyError,
)
from cognitive_memory.core.interfaces import ConsolidationPlanner
from cognitive_memory.core.memory import (
    FOUND_TYPES,
    CognitiveMemory,
    ConnectionType,
    ConsolidationPlan,
    MemoryConnection,
    MemoryFilter,
    MemoryType,
)
from cognitive_memory.core.similarity import Vector
from cognitive_memory.loaders import ConversationLoader
from cognitive_memory.retrieval.consolidation import ExtractiveConsolidation
from cognitive_memory.testing import WordLengthProvider

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CACHE = ("we dropped redis", "it stopped again", "so another cache")
"""Three texts with the same word lengths, and so the same vector."""
OTHERS = ("an elephant", "green tree", "i")

Open = Callable[..., CognitiveMemorySystem]


class Planner(ConsolidationPlanner):
    """Plans as it should, and then lets something happen."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def plan(
        self, memories: Sequence[CognitiveMemory], vectors: Mapping[str, Vector]
    ) -> ConsolidationPlan:
        made = ExtractiveConsolidation().plan(memories, vectors)
        self._then()
        return made


def open_planning(
    path: Path,
    planner: ConsolidationPlanner | None = None,
    name: str = "word-lengths",
    prefix: str = "m",
) -> CognitiveMemorySystem:
    return open_system(
        path,
        WordLengthProvider(name=name),
        ConversationLoader(),
        prefix=prefix,
        consolidation=planner or ExtractiveConsolidation(),
        clock=lambda: NOON,
    )


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens systems on one store; all are closed in the end."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(
            open_planning(tmp_path / "store.db", *arguments, **options)
        )


@pytest.fixture
def system(opened: Open) -> CognitiveMemorySystem:
    """Holds three related texts and three others."""
    system = opened()
    system.store_experiences([*CACHE, *OTHERS])
    return system


State = tuple[list[CognitiveMemory], list[MemoryConnection], list[str]]


def state(system: CognitiveMemorySystem) -> State:
    """All that is stored, and which of it has vectors."""
    memories = system.memories.find_memories()
    ids = [memory.id for memory in memories]
    return memories, system.connections.get_connections(ids), list(system.vectors.get_vectors(ids))


def consolidated(system: CognitiveMemorySystem) -> list[CognitiveMemory]:
    made = system.memories.find_memories(MemoryFilter(hierarchy_levels=(1,)))
    assert all(memory.metadata["consolidated"] is True for memory in made)
    return made


def found_edges(system: CognitiveMemorySystem) -> list[MemoryConnection]:
    return [edge for edge in state(system)[1] if edge.connection_type in FOUND_TYPES]


COUNTS = {
    "total_episodic": 6,
    "consolidated": 3,
    "failed": 0,
    "skipped": 0,
    "connections": 3,
    "duplicates": 3,
    "dry_run": False,
}


def test_a_group_is_stood_for_by_one_memory(system: CognitiveMemorySystem) -> None:
    before = state(system)[0]
    assert system.consolidate_memories() == COUNTS
    (made,) = consolidated(system)
    assert made.content == "we dropped redis\n\n- it stopped again\n- so another cache"
    assert made.memory_type == MemoryType.SEMANTIC
    assert made.metadata["members"] == ["m0", "m1", "m2"]
    memories, edges, with_vectors = state(system)
    assert [memory for memory in memories if memory != made] == before
    assert made.id in with_vectors
    own = [edge for edge in edges if made.id in (edge.source_id, edge.target_id)]
    assert [(edge.source_id, edge.target_id) for edge in own] == [
        (made.id, member) for member in ("m0", "m1", "m2")
    ]
    assert {edge.connection_type for edge in own} == {ConnectionType.HIERARCHICAL}
    assert {edge.connection_type for edge in found_edges(system)} == {ConnectionType.ASSOCIATIVE}
    assert len(found_edges(system)) == 3
    assert made in [result.memory for result in system.search("redis", k=3)]


def test_a_second_run_changes_nothing(system: CognitiveMemorySystem, opened: Open) -> None:
    system.consolidate_memories()
    before = state(system)
    again = system.consolidate_memories()
    assert again == COUNTS | {"consolidated": 0, "skipped": 3}
    assert opened().consolidate_memories() == again
    assert state(system) == before


def test_a_dry_run_lists_the_groups_and_writes_nothing(system: CognitiveMemorySystem) -> None:
    before = state(system)
    report = system.consolidate_memories(dry_run=True)
    (group,) = report.pop("groups")
    assert report == COUNTS | {"dry_run": True}
    assert state(system) == before
    system.consolidate_memories()
    (made,) = consolidated(system)
    assert group == {
        "id": made.id,
        "content": made.content,
        "tags": [],
        "consolidated": True,
        "representative": "m0",
        "members": ["m0", "m1", "m2"],
    }
    assert json.loads(json.dumps(group)) == group


def test_a_dry_run_reads_a_store_that_cannot_be_written(
    system: CognitiveMemorySystem, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = opened()
    monkeypatch.setattr(reader.memories.database, "read_only", True)  # type: ignore[attr-defined]
    assert reader.consolidate_memories(dry_run=True)["consolidated"] == 3
    with pytest.raises(StoreReadOnlyError):
        reader.consolidate_memories()


def test_undoing_leaves_the_members(system: CognitiveMemorySystem) -> None:
    before = state(system)[0]
    system.consolidate_memories()
    made = consolidated(system)
    assert system.undo_consolidation() == 1
    assert state(system)[0] == before
    assert found_edges(system) == state(system)[1]
    assert system.vectors.count() == len(before)
    assert system.undo_consolidation() == 0
    assert system.consolidate_memories() == COUNTS
    assert consolidated(system) == made


def test_undoing_one(system: CognitiveMemorySystem) -> None:
    system.store_experiences(["kiwi pear", "pear plum", "plum kiwi"])
    assert system.consolidate_memories()["consolidated"] == 6
    one, other = consolidated(system)
    assert system.undo_consolidation(one.id) == 1
    assert consolidated(system) == [other]
    with pytest.raises(InvalidInputError, match=f"no consolidated memory has the id '{one.id}'"):
        system.undo_consolidation(one.id)


def test_other_memories_are_not_undone(system: CognitiveMemorySystem) -> None:
    context = {"hierarchy_level": 1, "consolidated": True, "members": ["m0", "m1"]}
    mine = system.store_experience("mine", {**context, "source_type": "consolidation"})
    with pytest.raises(InvalidInputError, match=f"no consolidated memory has the id '{mine}'"):
        system.undo_consolidation(mine)
    assert system.undo_consolidation() == 0
    assert system.retrieve_memory(mine) is not None


@pytest.mark.parametrize("texts", [[], ["only one"], [*OTHERS]])
def test_without_related_memories_nothing_is_made(opened: Open, texts: list[str]) -> None:
    system = opened()
    system.store_experiences(texts)
    report = system.consolidate_memories()
    assert report["total_episodic"] == len(texts)
    assert {report[key] for key in ("consolidated", "failed", "skipped", "duplicates")} == {0}
    assert len(state(system)[0]) == len(texts)


# Edges


def test_found_edges_are_found_anew_and_others_stay(system: CognitiveMemorySystem) -> None:
    drawn = [
        MemoryConnection("m0", "m3", ConnectionType.EXPLICIT, 0.5),
        MemoryConnection("m3", "m4", ConnectionType.SEQUENTIAL, 0.5),
        MemoryConnection("m4", "m5", ConnectionType.HIERARCHICAL, 0.5),
    ]
    stale = [
        MemoryConnection("m3", "m4", ConnectionType.ASSOCIATIVE, 0.9),
        MemoryConnection("m5", "m3", ConnectionType.ENTITY, 0.9),
        MemoryConnection("m0", "m1", ConnectionType.ASSOCIATIVE, 0.7),
    ]
    system.connections.add_connections([*drawn, *stale])
    system.consolidate_memories()
    edges = state(system)[1]
    assert set(drawn) <= set(edges)
    assert not set(stale) & set(edges)
    assert MemoryConnection("m0", "m1", ConnectionType.ASSOCIATIVE, 1.0) in edges


def test_edges_by_names_are_found(system: CognitiveMemorySystem) -> None:
    system.store_experiences(["see core/index.py here", "in core/index.py"])
    system.consolidate_memories()
    (edge,) = [edge for edge in found_edges(system) if edge.connection_type == "entity"]
    assert edge == MemoryConnection("m6", "m7", ConnectionType.ENTITY, 1.0)


# Members that change


def test_what_quotes_a_deleted_memory_goes_with_it(system: CognitiveMemorySystem) -> None:
    system.store_experience("we dropped cache", {"tags": ["x"]})
    system.consolidate_memories()
    (made,) = consolidated(system)
    assert len(made.metadata["members"]) == 4
    assert system.delete_memory_by_id("m1")["deleted_count"] == 1
    assert consolidated(system) == []
    assert made.id not in state(system)[2]
    assert system.consolidate_memories()["consolidated"] == 3
    assert system.delete_memories_by_tags(["x"])["deleted_count"] == 1
    assert consolidated(system) == []
    assert len(state(system)[0]) == 5


def test_deleting_others_leaves_it(system: CognitiveMemorySystem) -> None:
    system.consolidate_memories()
    made = consolidated(system)
    system.delete_memory_by_id("m5")
    assert consolidated(system) == made
    assert system.delete_memory_by_id(made[0].id)["deleted_count"] == 1
    assert len(state(system)[0]) == 5


def write_conversation(path: Path, *texts: str) -> None:
    lines = [json.dumps({"text": text, "session": 1}) for text in texts]
    path.write_text("\n".join(lines), encoding="utf-8")


def test_loading_again_keeps_it_while_its_members_stay(opened: Open, tmp_path: Path) -> None:
    system = opened()
    file = tmp_path / "chat.jsonl"
    write_conversation(file, *CACHE)
    system.load(file)
    assert system.consolidate_memories()["consolidated"] == 3
    before = state(system)
    assert len(found_edges(system)) == 3
    assert system.load(file).unchanged == 3
    assert state(system) == before
    write_conversation(file, *CACHE, "an elephant")
    assert system.load(file).added == 1
    assert consolidated(system) == [
        memory for memory in before[0] if memory.metadata.get("consolidated")
    ]
    assert len(found_edges(system)) == 3, "loading draws its own edges only"
    write_conversation(file, *CACHE[:2])
    assert system.load(file).deleted == 2
    assert consolidated(system) == []


# Together with others


def test_members_that_others_change_meanwhile_are_left_out(opened: Open) -> None:
    other = opened()
    other.store_experiences([*CACHE, "a b c", "d e f", "g h i"])
    system = opened(Planner(lambda: other.delete_memory_by_id("m4")), prefix="n")
    report = system.consolidate_memories()
    assert (report["consolidated"], report["failed"]) == (3, 3)
    (made,) = consolidated(system)
    assert made.metadata["members"] == ["m0", "m1", "m2"]
    ends = {end for edge in state(system)[1] for end in (edge.source_id, edge.target_id)}
    assert "m4" not in ends


def test_two_that_consolidate_at_once_make_one(opened: Open) -> None:
    other = opened()
    other.store_experiences(CACHE)
    system = opened(Planner(lambda: other.consolidate_memories()))
    assert system.consolidate_memories()["failed"] == 3
    assert len(consolidated(system)) == 1


def test_what_others_store_meanwhile_is_left_alone(opened: Open) -> None:
    other = opened(prefix="new")
    other.store_experiences(CACHE)
    system = opened(Planner(lambda: other.store_experience("so another cache")))
    assert system.consolidate_memories()["failed"] == 0
    assert consolidated(system)[0].metadata["members"] == ["new0", "new1", "new2"]
    assert system.retrieve_memory("new3") is not None


def test_a_failure_leaves_everything_as_it_was(
    system: CognitiveMemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(system)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(system.connections, "add_connections", fail)
    with pytest.raises(ZeroDivisionError):
        system.consolidate_memories()
    assert state(system) == before


def test_vectors_of_another_embedding_are_refused(
    system: CognitiveMemorySystem, opened: Open
) -> None:
    for dry_run in (True, False):
        with pytest.raises(FingerprintMismatchError):
            opened(name="other").consolidate_memories(dry_run=dry_run)


def test_a_system_made_without_a_planner_says_so(system: CognitiveMemorySystem) -> None:
    bare = CognitiveMemorySystem(
        system.embedding_provider,
        system.memories,
        system.vectors,
        system.connections,
        system.retrieval,
    )
    with pytest.raises(ConfigurationError, match="without a ConsolidationPlanner; give it one"):
        bare.consolidate_memories()
    system.consolidate_memories()
    assert bare.undo_consolidation() == 1
