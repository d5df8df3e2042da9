"""Results as people read them: safe for a terminal, and showing what was asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import CognitiveMemory, MemoryType, SearchResult
from cognitive_memory.rendering import (
    EXCERPT_LINES,
    render_consolidation,
    render_results,
    render_status,
    result_to_json,
    visible,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = NOON.astimezone().date().isoformat()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def result(content: str = "A text.", explanation: str = "", **fields: Any) -> SearchResult:
    memory = CognitiveMemory(
        **{"id": "m1", "content": content, "created_date": NOON, "last_accessed": NOON, **fields}
    )
    return SearchResult(memory, 0.75, {"semantic": 0.5, "lexical": 0.25}, 0, explanation)


def rendered(found: SearchResult, query: str = "", full: bool = False) -> list[str]:
    return render_results([("core", found)], query, full)


def test_nothing_found() -> None:
    assert render_results([], "anything") == ["nothing found"]


def test_a_score_explained() -> None:
    one = SearchResult(
        result("Redis is fast.", importance_score=1.0).memory,
        0.9,
        {"semantic": 0.4, "lexical": 0.25, "activation": 0.2, "importance": 0.05, "recency": 0.0},
        explanation="activated by m7, a sequential neighbor",
    )
    assert render_results([("core", one)], "is Redis gone?", explain=True)[1:] == [
        "   core  [m1]",
        "   semantic    0.400  likeness of meaning (cosine)",
        "   lexical     0.250  shared words: redis",
        "   activation  0.200  activated by m7, a sequential neighbor",
        "   importance  0.050  importance 1",
        "   sum         0.900",
        "   Redis is fast.",
    ]


def test_a_result_and_the_next() -> None:
    one = result(tags=("adr", "cache"), source_type="cli")
    two = SearchResult(
        result("Other.", source_path="/notes/a.md", metadata={"title": "Alps"}).memory,
        -0.125,
        {"semantic": -0.125, "lexical": 0.0},
        explanation="sequential neighbor of m1",
    )
    assert render_results([("core", one), ("bridge", two)], "text") == [
        f"1. 0.75  {DAY}  cli  #adr #cache",
        "   core: semantic 0.50 + lexical 0.25  [m1]",
        "   A text.",
        "",
        f"2. -0.12  {DAY}  a.md > Alps",
        "   bridge: semantic -0.12  [m1]",
        "   sequential neighbor of m1",
        "   Other.",
    ]


def test_a_title_that_is_the_file_name_is_not_repeated() -> None:
    found = result(source_path="/notes/diary.txt", metadata={"title": "diary.txt"})
    assert rendered(found)[0] == f"1. 0.75  {DAY}  diary.txt"


def test_parts_that_are_all_zero() -> None:
    found = SearchResult(result().memory, 0.0, {"semantic": 0.0})
    assert rendered(found)[1] == "   core: no part above zero  [m1]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\ufffd[31mred\ufffd[0m"),
        ("\x9b31m", "\ufffd31m"),
        ("bell\a back\b nul\0 del\x7f", "bell\ufffd back\ufffd nul\ufffd del\ufffd"),
        ("over\rwritten", "over\ufffdwritten"),
        ("\u202egnp.exe\u202c \u2066x\u2069", "\ufffdgnp.exe\ufffd \ufffdx\ufffd"),
        ("caf\udce9", "caf\ufffd"),
        ("tab\tline\n", "tab\tline\n"),
        (
            "👩\u200d💻 پی\u200cدر שלום 中文 e\u0301",
            "👩\u200d💻 پی\u200cدر שלום 中文 e\u0301",
        ),
    ],
)
def test_controls_are_shown_and_letters_left_alone(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_no_text_can_control_the_terminal(text: str) -> None:
    found = result(
        text,
        explanation=text,
        tags=(text,),
        source_type=text,
    )
    filed = result(text, source_path=f"/{text}", metadata={"title": text})
    for lines in (rendered(found, text), rendered(filed, text, full=True)):
        shown = "\n".join(lines)
        plain = shown.replace("\n", "").replace("\t", "")
        assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in plain)
        shown.encode()
        assert lines[0].startswith("1. 0.75  ")
        assert lines[1].startswith("   core: ")


def test_a_tag_or_title_cannot_pass_for_another_line() -> None:
    assert rendered(result(tags=("a\n2. 0.99  fake",)))[0].endswith("  #a 2. 0.99  fake")
    titled = result(source_path="/a.md", metadata={"title": "a\nb"})
    assert rendered(titled)[0].endswith("  a.md > a b")


def test_line_ends_of_any_system_are_line_ends() -> None:
    assert rendered(result("one\r\ntwo\rthree"))[2:] == ["   one", "   two", "   three"]


def test_the_excerpt_is_where_the_words_are() -> None:
    lines = [f"Line number {number}." for number in range(30)]
    lines[17] = "Here the Zebra drinks."
    found = result("\n\n".join(lines))
    excerpt = rendered(found, "where does a zebra drink?")[2:]
    assert "   Here the Zebra drinks." in excerpt[:EXCERPT_LINES]
    assert excerpt[EXCERPT_LINES] == "   (27 more lines; --full shows them)"
    assert len(excerpt) == EXCERPT_LINES + 1


def test_the_excerpt_prefers_more_words_and_then_the_beginning() -> None:
    lines = ["zebra", *["-"] * 5, "zebra and giraffe", *["-"] * 5, "giraffe, zebra"]
    found = result("\n".join(lines))
    assert "   zebra and giraffe" in rendered(found, "giraffe zebra")
    assert rendered(found, "zebra")[2] == "   zebra"
    assert rendered(found, "no such word")[2] == "   zebra"
    assert rendered(found, "?!")[2] == "   zebra"


def test_a_short_text_is_shown_whole() -> None:
    assert rendered(result("one\n\ntwo\nthree\n"))[2:] == ["   one", "   two", "   three"]


def test_full_shows_every_line() -> None:
    content = "\n".join(f"line {number}" for number in range(20))
    assert rendered(result(content), full=True)[2:] == [f"   {x}" for x in content.splitlines()]


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("10", 40), ("400", 100)])
def test_wide_text_is_wrapped(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = " ".join(["word"] * 100) + "\n" + "x" * 250
    lines = rendered(result(text), full=True)[2:]
    assert max(map(len, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")


def test_json_holds_the_memory_as_it_is() -> None:
    found = result(
        "\x1b[31m text",
        memory_type=MemoryType.SEMANTIC,
        hierarchy_level=0,
        tags=("a",),
        source_path="/a.md",
        source_type="documentation",
        importance_score=0.5,
        access_count=2,
        metadata={"line": 3},
        explanation="why",
    )
    document = result_to_json("bridge", found)
    assert json.loads(json.dumps(document)) == document
    assert document == {
        "group": "bridge",
        "score": 0.75,
        "parts": {"semantic": 0.5, "lexical": 0.25},
        "explanation": "why",
        "id": "m1",
        "content": "\x1b[31m text",
        "tags": ["a"],
        "hierarchy_level": 0,
        "memory_type": "semantic",
        "importance_score": 0.5,
        "source_path": "/a.md",
        "source_type": "documentation",
        "created_date": "2026-03-01T12:00:00+00:00",
        "last_accessed": "2026-03-01T12:00:00+00:00",
        "access_count": 2,
        "metadata": {"line": 3},
    }


def test_status() -> None:
    stats: dict[str, Any] = {
        "memory_counts": {
            "total": 6,
            "level_0_concepts": 1,
            "level_1_contexts": 2,
            "level_2_episodes": 3,
        },
        "storage_stats": {
            "path": "/data/memories.db",
            "bytes": 1_250_000,
            "schema_version": 1,
            "fingerprint": "model/fp32/384/00",
            "read_only": False,
            "vectors": 7,
            "connections": 4,
            "sources": 2,
        },
    }
    assert render_status(stats) == [
        "6 memories (1 concepts, 2 contexts, 3 episodes), 7 vectors, 4 connections",
        "store      /data/memories.db (1.2 MB, schema 1)",
        "embedding  model/fp32/384/00",
        "sources    2",
    ]
    stats["storage_stats"] |= {"read_only": True, "fingerprint": None}
    assert render_status(stats)[1:3] == [
        "store      /data/memories.db (1.2 MB, schema 1, read-only)",
        "embedding  none yet",
    ]


COUNTS = {
    "total_episodic": 9,
    "consolidated": 3,
    "failed": 0,
    "skipped": 2,
    "connections": 7,
    "duplicates": 1,
    "dry_run": False,
}


def test_a_consolidation_in_one_line() -> None:
    line = (
        "9 episodes: 3 consolidated, 2 were earlier, 1 nearly repeat another; 7 connections found"
    )
    assert render_consolidation(COUNTS) == [line]
    assert render_consolidation(COUNTS | {"failed": 3}) == [
        line,
        "3 changed meanwhile and were left out; run it again",
    ]


def test_a_dry_run_shows_the_groups() -> None:
    group = {
        "id": "consolidated-1",
        "content": "It rained\x1b[31m.\n\n- " + "It rained again. " * 5,
        "tags": ["weather", "a\nb"],
        "members": ["a", "b", "c"],
    }
    lines = render_consolidation(COUNTS | {"dry_run": True, "groups": [group]})
    assert lines == [
        "1. 3 memories #weather #a b  [consolidated-1]",
        "   It rained\ufffd[31m.",
        "   - It rained again. It rained again. It rained again. It",
        "   rained again. It rained again.",
        "",
        (
            "9 episodes: 3 would be consolidated, 2 were earlier, 1 nearly repeat another; "
            "7 connections found"
        ),
    ]
