"""Plain text by paragraphs."""

from __future__ import annotations

import os
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.loaders import TextLoader
from cognitive_memory.loaders.text import TARGET_LENGTH

LOADER = TextLoader()


def load(path: Path, text: str) -> list[CognitiveMemory]:
    path.write_bytes(text.encode())
    return LOADER.load_from_source(str(path))


def words(generator: random.Random, count: int) -> str:
    return " ".join(str(generator.randrange(10**6)) for _ in range(count))


def test_short_paragraphs_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("\n\none\nmore of one\n \t\n\n\ntwo\n", encoding="utf-8")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    (memory,) = LOADER.load_from_source(str(path), unknown_option=1)
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert memory.content == "one\nmore of one\n\ntwo"
    assert memory.created_date == memory.last_accessed == moment
    assert (memory.hierarchy_level, memory.memory_type) == (2, MemoryType.EPISODIC)
    assert (memory.source_type, memory.source_path) == ("text", str(path.resolve()))
    assert memory.metadata == {"loader_type": "text", "title": "diary.txt", "line": 3}


def test_long_paragraphs_stand_alone_and_whole(tmp_path: Path) -> None:
    long = "x" * (TARGET_LENGTH + 500)
    memories = load(tmp_path / "a.txt", f"before\n\n{long}\n\nafter")
    assert [memory.content for memory in memories] == ["before", long, "after"]
    assert [memory.metadata["line"] for memory in memories] == [1, 3, 5]


def test_joined_paragraphs_stay_within_the_target(tmp_path: Path) -> None:
    generator = random.Random(1)
    text = "\n\n".join(words(generator, 20) for _ in range(100))
    lengths = [len(memory.content) for memory in load(tmp_path / "a.txt", text)]
    assert max(lengths) <= TARGET_LENGTH
    assert min(lengths[:-1]) > TARGET_LENGTH // 4


@pytest.mark.parametrize("text", ["", "\n\n", " \t\r\n\x0c\n", "\ufeff"])
def test_blank_files_hold_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path / "a.txt", text) == []


def test_passages_are_connected_in_order(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.txt", "\n\n".join(letter * 900 for letter in "abc"))
    one, two, three = (memory.id for memory in memories)
    assert LOADER.extract_connections(memories) == [
        MemoryConnection(one, two, ConnectionType.SEQUENTIAL, 0.5),
        MemoryConnection(two, three, ConnectionType.SEQUENTIAL, 0.5),
    ]
    assert LOADER.extract_connections([]) == []


@pytest.mark.parametrize("edit", ["insert", "change", "delete"])
@pytest.mark.parametrize("place", [0, 10, 100])
def test_an_edit_leaves_the_ids_of_other_passages(tmp_path: Path, edit: str, place: int) -> None:
    generator = random.Random(2)
    paragraphs = [words(generator, 30) for _ in range(200)]
    before = load(tmp_path / "a.txt", "\n\n".join(paragraphs))
    paragraphs[place : place + (edit != "insert")] = [] if edit == "delete" else ["news\nand more"]
    after = load(tmp_path / "a.txt", "\n\n".join(paragraphs))
    kept = {memory.id for memory in before} & {memory.id for memory in after}
    assert len(before) > 40
    assert len(after) - len(kept) <= 4


def test_repeated_passages_are_kept_apart(tmp_path: Path) -> None:
    text = "\n\n".join(["x" * TARGET_LENGTH] * 3)
    memories = load(tmp_path / "a.txt", text)
    assert len({memory.id for memory in memories}) == len(memories) == 3


def test_the_same_text_in_two_files_is_two_memories(tmp_path: Path) -> None:
    (one,) = load(tmp_path / "a.txt", "same")
    (two,) = load(tmp_path / "b.txt", "same")
    assert one.id != two.id


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.sampled_from(["", "a", "line", "\t", "y" * 600]),
        )
    )
)
def test_any_text_is_kept(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    text = "\n".join(lines)
    path = tmp_path_factory.getbasetemp() / "any.txt"
    memories = load(path, text)
    contents = [memory.content for memory in memories]
    for line in re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")):
        if line.strip():
            assert any(line in content.split("\n") for content in contents)
    assert all(content.strip() for content in contents)
    assert len({memory.id for memory in memories}) == len(memories)
    assert LOADER.load_from_source(str(path)) == memories
