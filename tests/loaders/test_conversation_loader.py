"""Conversations by lines of JSON."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.core.errors import SourceError
from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.loaders import ConversationLoader
from cognitive_memory.loaders.conversation import MAX_DEPTH

LOADER = ConversationLoader()

MODIFIED = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def load(path: Path, *lines: Any) -> list[CognitiveMemory]:
    """The memories of these lines, strings as they stand and all else as JSON; no fault."""
    faults: list[str] = []
    memories = load_bytes(path, as_text(*lines).encode(), faults)
    assert faults == []
    return memories


def as_text(*lines: Any) -> str:
    written = (each if isinstance(each, str) else json.dumps(each) for each in lines)
    return "".join(f"{each}\n" for each in written)


def load_bytes(path: Path, content: bytes, faults: list[str]) -> list[CognitiveMemory]:
    path.write_bytes(content)
    os.utime(path, (MODIFIED.timestamp(), MODIFIED.timestamp()))
    return LOADER.load_from_source(str(path), on_fault=faults.append, unknown_option=1)


def ids(memories: list[CognitiveMemory]) -> list[str]:
    return [memory.id for memory in memories]


def contents(memories: list[CognitiveMemory]) -> list[str]:
    return [memory.content for memory in memories]


def test_a_line_is_a_memory(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    moment = "2023-05-08T13:56:00+02:00"
    (memory,) = load(
        path, {"speaker": "Ada", "text": "Hi!\n Bye.", "datetime": moment, "session": 1}
    )
    assert memory.content == "Ada: Hi!\n Bye."
    assert memory.created_date == datetime(2023, 5, 8, 11, 56, tzinfo=UTC)
    assert memory.last_accessed == memory.created_date
    assert (memory.hierarchy_level, memory.memory_type) == (2, MemoryType.EPISODIC)
    assert (memory.source_type, memory.source_path) == ("conversation", str(path.resolve()))
    assert memory.metadata == {
        "loader_type": "conversation",
        "title": "chat.jsonl",
        "line": 1,
        "speaker": "Ada",
        "datetime": moment,
        "session": 1,
    }


def test_only_a_text_is_needed(tmp_path: Path) -> None:
    (memory,) = load(tmp_path / "a.jsonl", {"text": " just this "})
    assert memory.content == " just this "
    assert memory.created_date == MODIFIED
    assert memory.metadata == {"loader_type": "conversation", "title": "a.jsonl", "line": 1}


def test_other_fields_are_kept_with_their_types(tmp_path: Path) -> None:
    fields = {
        "turn": "D1:1",
        "count": 3,
        "ratio": 0.1,
        "big": 2**70,
        "flag": False,
        "nothing": None,
        "nested": {"größe": [1, "x", {}], "": []},
        "nul": "a\0b",
        "loader_type": "theirs",
        "title": ["theirs", "too"],
        "line": "D1",
        "source_path": "/elsewhere",
        "id": "7",
    }
    (memory,) = load(tmp_path / "a.jsonl", {"text": "x", **fields})
    assert memory.metadata == fields
    assert [type(value) for value in memory.metadata.values()] == [
        type(fields[name]) for name in memory.metadata
    ]
    assert memory.source_path == str((tmp_path / "a.jsonl").resolve())


@pytest.mark.parametrize("speaker", [None, "", " \t"])
def test_without_a_speaker_the_text_stands_alone(tmp_path: Path, speaker: str | None) -> None:
    (memory,) = load(tmp_path / "a.jsonl", {"speaker": speaker, "text": "x"})
    assert memory.content == "x"
    assert memory.metadata.get("speaker") == speaker


def test_fields_that_are_null_are_not_given(tmp_path: Path) -> None:
    nulls = {"speaker": None, "session": None, "datetime": None}
    path = tmp_path / "a.jsonl"
    assert load(path, {"text": "x", **nulls}) == load(path, {"text": "x"})


def test_any_way_to_write_a_file(tmp_path: Path) -> None:
    expected = load(tmp_path / "a.jsonl", {"text": "Größe \u2028 🦊"}, {"text": "日本語\u0085"})
    plain = '{"text": "Größe \u2028 🦊"}\n  {"text" :"日本語\u0085"}\t'
    spellings = [plain, "\ufeff" + plain, plain.replace("\n", "\r\n"), plain + "\n\n"]
    for text in spellings:
        assert load(tmp_path / "a.jsonl", text) == expected


def test_blank_lines_are_counted_and_nothing_else(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.jsonl", "", {"text": "one"}, " \t", "", {"text": "two"})
    assert [memory.metadata["line"] for memory in memories] == [2, 5]
    assert ids(memories) == ids(load(tmp_path / "a.jsonl", {"text": "one"}, {"text": "two"}))


@pytest.mark.parametrize("content", [b"", b"\n\r\n \t\n", b"\xef\xbb\xbf"])
def test_blank_files_hold_nothing(tmp_path: Path, content: bytes) -> None:
    faults: list[str] = []
    assert load_bytes(tmp_path / "a.jsonl", content, faults) == []
    assert faults == []


# Time


def test_a_naive_time_is_local(tmp_path: Path) -> None:
    (memory,) = load(tmp_path / "a.jsonl", {"text": "x", "datetime": "2023-05-08T13:56:00"})
    assert memory.created_date == datetime(2023, 5, 8, 13, 56).astimezone(UTC)
    assert memory.metadata["datetime"] == "2023-05-08T13:56:00"


def test_lines_without_a_time_have_that_of_their_session_or_the_line_before(
    tmp_path: Path,
) -> None:
    memories = load(
        tmp_path / "a.jsonl",
        {"text": "a"},
        {"text": "b", "session": 1, "datetime": "2001-01-01T00:00Z"},
        {"text": "c", "session": 2, "datetime": "2002-01-01T00:00Z"},
        {"text": "d", "session": 1},
        {"text": "e", "session": 2},
        {"text": "f", "session": 3},
        {"text": "g", "session": 1, "datetime": "2005-01-01T00:00Z"},
        {"text": "h", "session": 1},
        {"text": "i"},
    )
    years = [memory.created_date.year for memory in memories]
    assert years == [2023, 2001, 2002, 2001, 2002, 2002, 2005, 2005, 2023]
    assert memories[0].created_date == MODIFIED


# Ids

CHAT = [
    {"text": text, "speaker": speaker, "session": session}
    for session in (1, 2)
    for speaker, text in [("Ada", "Hi!"), ("Bob", "Hi!"), ("Ada", "Thanks!"), ("Ada", "Thanks!")]
]


def test_the_same_words_are_as_many_memories(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.jsonl", *CHAT)
    assert len(set(ids(memories))) == len(memories) == 8
    (elsewhere, *_) = load(tmp_path / "b.jsonl", *CHAT)
    assert elsewhere.id not in ids(memories)


def test_appending_leaves_what_is_there(tmp_path: Path) -> None:
    before = load(tmp_path / "a.jsonl", *CHAT)
    after = load(tmp_path / "a.jsonl", *CHAT, *CHAT, {"text": "more"})
    assert after[:8] == before
    assert len(set(ids(after))) == 17


@pytest.mark.parametrize("place", range(8))
def test_an_edit_replaces_one(tmp_path: Path, place: int) -> None:
    before = load(tmp_path / "a.jsonl", *CHAT)
    edited = [*CHAT[:place], {**CHAT[place], "text": "edited"}, *CHAT[place + 1 :]]
    after = load(tmp_path / "a.jsonl", *edited)
    (gone,) = set(ids(before)) - set(ids(after))
    assert before[ids(before).index(gone)].content == before[place].content
    assert set(ids(after)) - set(ids(before)) == {after[place].id}
    kept = {memory.id: memory.content for memory in before}
    assert all(kept.get(each.id, each.content) == each.content for each in after)


def test_deleting_and_inserting_leave_the_ids_of_others(tmp_path: Path) -> None:
    lines = [{"text": str(number), "session": number // 5} for number in range(20)]
    before = ids(load(tmp_path / "a.jsonl", *lines))
    assert ids(load(tmp_path / "a.jsonl", *lines[7:])) == before[7:]
    assert ids(load(tmp_path / "a.jsonl", *lines[:3], *lines[4:])) == before[:3] + before[4:]
    after = ids(load(tmp_path / "a.jsonl", *lines[:3], {"text": "new"}, *lines[3:]))
    assert after[:3] + after[4:] == before


def test_annotations_change_under_an_id_and_times_do_not(tmp_path: Path) -> None:
    first = {"text": "x", "datetime": "2023-01-01T00:00Z", "turn": 1}
    (before,) = load(tmp_path / "a.jsonl", first)
    (annotated,) = load(tmp_path / "a.jsonl", {**first, "turn": 2, "mood": "fine"})
    (corrected,) = load(tmp_path / "a.jsonl", {**first, "datetime": "2023-01-02T00:00Z"})
    assert annotated.id == before.id
    assert corrected.id != before.id


@pytest.mark.parametrize(
    "other",
    [
        {"text": "b"},
        {"text": "Ada: a", "speaker": None},
        {"speaker": "Bob"},
        {"session": 2},
        {"session": "1"},
        {"conversation": "x"},
    ],
)
def test_what_makes_another_line(tmp_path: Path, other: dict[str, Any]) -> None:
    line = {"text": "a", "speaker": "Ada", "session": 1}
    one, two = load(tmp_path / "a.jsonl", line, {**line, **other})
    again, _ = load(tmp_path / "a.jsonl", {**line, **other}, line)
    assert one.id != two.id == again.id


# Connections


def edges(memories: list[CognitiveMemory]) -> list[str]:
    texts = {memory.id: memory.content for memory in memories}
    return [
        f"{texts[edge.source_id]} {texts[edge.target_id]}"
        for edge in LOADER.extract_connections(memories)
    ]


def test_without_sessions_the_file_is_one(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.jsonl", *({"text": text} for text in "abc"))
    one, two, three = ids(memories)
    assert LOADER.extract_connections(memories) == [
        MemoryConnection(one, two, ConnectionType.SEQUENTIAL, 0.7),
        MemoryConnection(two, three, ConnectionType.SEQUENTIAL, 0.7),
    ]
    assert LOADER.extract_connections([]) == []


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        ([1, 1, 2, 2], ["a b", "c d"]),
        ([1, 2, 1, 2], ["a c", "b d"]),
        ([1, 2, 3, 4], []),
        ([1, "1", 1, "1"], ["a c", "b d"]),
        ([None, 1, 1, None], ["a d", "b c"]),
    ],
)
def test_sessions_are_not_connected(
    tmp_path: Path, sessions: list[Any], expected: list[str]
) -> None:
    lines = [{"text": text, "session": each} for text, each in zip("abcd", sessions, strict=True)]
    assert edges(load(tmp_path / "a.jsonl", *lines)) == expected


def test_sessions_are_counted_anew_in_each_conversation(tmp_path: Path) -> None:
    memories = load(
        tmp_path / "a.jsonl",
        {"text": "a", "conversation": "x", "session": 1},
        {"text": "b", "conversation": "x", "session": 1},
        {"text": "c", "conversation": "y", "session": 1},
        {"text": "d", "conversation": "y", "session": 1},
    )
    assert edges(memories) == ["a b", "c d"]


# Faults

FAULTS = {
    "{": "not JSON: Expecting property name enclosed in double quotes at character 1; write one",
    '{"text": "a"} x': "not JSON: Extra data at character 14; write one JSON object in a line",
    "Ada: hello": "not JSON: Expecting value at character 0; write one JSON object in a line",
    '{"text": "a\0b"}': "not JSON: Invalid control character at at character 11; write one JSON",
    '["text"]': """'["text"]' is no object; write {"text": "…"}""",
    "null": """'null' is no object; write {"text": "…"}""",
    '"' + "x" * 99 + '"': """'"xxxxxxxxxxxxxxxxxxx' is no object; write {"text": "…"}""",
    "{}": "no field 'text'; give one",
    '{"content": "a"}': "no field 'text'; give one",
    '{"text": null}': "text is a NoneType; expected a str",
    '{"text": 3}': "text is a int; expected a str",
    '{"text": ""}': "text is blank; give at least one visible character",
    r'{"text": " \n\u3000"}': "text is blank; give at least one visible character",
    r'{"text": "a\u0000b"}': "text holds a NUL character at position 1; remove it",
    r'{"text": "a\ud800"}': r"'\ud800' is half a character; write it as UTF-8",
    r'{"text": "a", "x": ["\udfff"]}': r"'\udfff' is half a character; write it as UTF-8",
    r'{"text": "a", "\ud83e": 1}': r"'\ud83e' is half a character; write it as UTF-8",
    '{"text": "a", "speaker": 3}': "speaker is a int; expected a str",
    r'{"text": "a", "speaker": "\u0000"}': "speaker holds a NUL character at position 0; remove it",
    '{"text": "a", "session": [1]}': "session is a list; expected a string or a number",
    '{"text": "a", "session": true}': "session is a bool; expected a string or a number",
    '{"text": "a", "datetime": "yesterday"}': "got datetime 'yesterday'; expected ISO 8601, as 20",
    '{"text": "a", "datetime": ""}': "got datetime ''; expected ISO 8601, as 2026-01-31T12:00:00Z",
    '{"text": "a", "datetime": 1700000000}': "got datetime 1700000000; expected ISO 8601, as 2026",
    '{"text": "a", "datetime": "0001-01-01T00:00+14:00"}': "got datetime '0001-01-01T00:00+14:00'",
    '{"text": "a", "x": NaN}': "not JSON that can be kept: the number NaN is not finite",
    '{"text": "a", "x": -Infinity}': "not JSON that can be kept: the number -Infinity is not",
    '{"text": "a", "x": 1e999}': "not JSON that can be kept: the number 1e999 is not finite",
    '{"text": "a", "x": ' + "9" * 5000 + "}": "not JSON that can be kept: Exceeds the limit (4300",
    '{"text": "a", "x": ' + "[" * 100_000: "not JSON that can be kept: maximum recursion depth",
    '{"text": "a", "x": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}": (
        "nested deeper than 100 levels; flatten it"
    ),
}


@pytest.mark.parametrize("line", FAULTS, ids=lambda line: ascii(line[:40]))
def test_a_line_that_cannot_be_taken_is_named_and_skipped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    good = [{"text": "before", "session": 1}, {"text": "after", "session": 1}]
    faults: list[str] = []
    text = as_text(good[0], "", line, good[1])
    memories = load_bytes(path, text.encode(), faults)
    assert contents(memories) == ["before", "after"]
    assert edges(memories) == ["before after"]
    assert ids(memories) == ids(load(path, *good))
    (fault,) = faults
    assert fault.startswith(f"{path.resolve()}:3: {FAULTS[line]}")

    path.write_text(as_text("", line, "{}"), encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(path), on_fault=faults.append)
    start = f"no line of {path.resolve()} can be taken as a part of a conversation; "
    assert str(caught.value).startswith(f"{start}{path.resolve()}:2: {FAULTS[line]}")
    assert len(faults) == 1, "what is raised is not told twice"


def test_nesting_up_to_the_limit_is_kept(tmp_path: Path) -> None:
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    (memory,) = load(tmp_path / "a.jsonl", f'{{"text": "a", "x": {deep}}}')
    assert memory.metadata["x"] == json.loads(deep)


def test_faults_are_logged_where_nobody_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{}\n', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert contents(LOADER.load_from_source(str(path))) == ["a"]
    (record,) = caplog.records
    assert record.name == "cognitive_memory.loaders.conversation"
    assert record.getMessage() == f"skipped {path.resolve()}:2: no field 'text'; give one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path} does not exist; check the path"),
        (b'{"text": "caf\xe9"}', "{path} is not UTF-8: byte 0xe9 at offset 13; convert it"),
        ('{"text": "a"}'.encode("utf-16"), "{path} is not UTF-8: byte 0xff at offset 0; convert"),
        ('{"text": "a"}'.encode("utf-16-le"), "no line of {path} can be taken as a part of"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(path))
    assert str(caught.value).startswith(message.format(path=path.resolve()))


def test_its_files_are_found(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.JSONL", "c.json"):
        (tmp_path / name).write_text('{"text": "Hi!"}', encoding="utf-8")
    found = [str((tmp_path / name).resolve()) for name in ("a.jsonl", "b.JSONL")]
    assert LOADER.find_sources(str(tmp_path)) == found
    assert LOADER.get_supported_extensions() == [".jsonl"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
LINES = st.one_of(
    st.text(max_size=20).map(lambda text: text.replace("\n", "")),
    JSON.map(json.dumps),
    st.dictionaries(
        st.sampled_from(["text", "speaker", "session", "datetime", "conversation", "other"]),
        JSON | st.sampled_from(["a", "b", "2023-01-01", "\0", "\ud800"]),
    ).map(json.dumps),
    st.sampled_from(["", '{"text": "a"}', '{"text": "b", "session": 1}']),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=10))
def test_every_line_is_kept_or_named(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    text = "\n".join(lines).encode(errors="replace").decode().replace("\r", " ")
    faults: list[str] = []
    memories = load_bytes(path, f'{text}\n{{"text": "last"}}'.encode(), faults)
    filled = {
        number
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1)
        if line.strip()
    }
    named = {int(fault.removeprefix(f"{path.resolve()}:").partition(":")[0]) for fault in faults}
    kept = {memory.metadata["line"] for memory in memories[:-1]}
    assert kept | named == filled
    assert not kept & named
    assert len(set(ids(memories))) == len(memories)
    assert all(memory.content.strip() for memory in memories)
    assert LOADER.load_from_source(str(path), on_fault=lambda fault: None) == memories


def test_a_folder_gives_only_files_that_begin_as_a_conversation(tmp_path: Path) -> None:
    (tmp_path / "talk.jsonl").write_text('not JSON\n{"text": "Hi!"}\n', encoding="utf-8")
    (tmp_path / "data.jsonl").write_text('{"question": "Hi?"}\n[1]\n\n', encoding="utf-8")
    (tmp_path / "deep.jsonl").write_text("[" * 5_000 + "\n", encoding="utf-8")
    (tmp_path / "vast.jsonl").write_text('{"text": "' + "a" * 70_000 + '"}', encoding="utf-8")
    (tmp_path / "image.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n")
    loader = ConversationLoader()
    found = [str(tmp_path / name) for name in ("talk.jsonl", "vast.jsonl")]
    assert loader.find_sources(str(tmp_path)) == found
    # Who names a file means it, and is told what is wrong with it.
    assert loader.find_sources(str(tmp_path / "data.jsonl")) == [str(tmp_path / "data.jsonl")]
