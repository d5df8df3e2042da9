"""Markdown by sections."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cognitive_memory.core.memory import (
    CognitiveMemory,
    ConnectionType,
    MemoryConnection,
    MemoryType,
)
from cognitive_memory.loaders import MarkdownMemoryLoader

LOADER = MarkdownMemoryLoader()

GUIDE = """\
Badges.

# Guide
Read me.

## Install
Use pip.

### Linux
apt

## Use
"""


def load(path: Path, text: str) -> list[CognitiveMemory]:
    path.write_bytes(text.encode())
    return LOADER.load_from_source(str(path))


def paths(memories: list[CognitiveMemory]) -> list[str]:
    return [" > ".join(memory.metadata["heading_path"]) for memory in memories]


def edges(memories: list[CognitiveMemory], kind: ConnectionType) -> list[tuple[str, str]]:
    title = {memory.id: memory.metadata["title"] for memory in memories}
    return [
        (title[edge.source_id], title[edge.target_id])
        for edge in LOADER.extract_connections(memories)
        if edge.connection_type is kind
    ]


def test_a_section_is_a_memory_with_its_own_text(tmp_path: Path) -> None:
    memories = load(tmp_path / "readme.md", GUIDE)
    assert [memory.content for memory in memories] == [
        "readme\n\nBadges.",
        "Guide\n\nRead me.",
        "Guide > Install\n\nUse pip.",
        "Guide > Install > Linux\n\napt",
        "Guide > Use",
    ]
    assert [memory.metadata["line"] for memory in memories] == [1, 3, 6, 9, 12]
    assert [memory.hierarchy_level for memory in memories] == [0, 0, 1, 2, 2]
    assert [memory.memory_type for memory in memories] == [
        *[MemoryType.SEMANTIC] * 3,
        *[MemoryType.EPISODIC] * 2,
    ]


def test_the_fields_of_a_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("# T\n\n## U\ntext\n", encoding="utf-8")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    memory = LOADER.load_from_source(str(path), max_commits=None, force_full_load=True)[1]
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert memory.created_date == memory.last_accessed == moment
    assert (memory.source_type, memory.source_path) == ("documentation", str(path.resolve()))
    assert memory.tags == ()
    assert memory.metadata == {
        "loader_type": "markdown",
        "title": "U",
        "heading_path": ["T", "U"],
        "line": 3,
    }


def test_sections_are_connected_with_subsections_and_successors(tmp_path: Path) -> None:
    memories = load(tmp_path / "readme.md", GUIDE)
    assert edges(memories, ConnectionType.HIERARCHICAL) == [
        ("Guide", "Install"),
        ("Install", "Linux"),
        ("Guide", "Use"),
    ]
    assert edges(memories, ConnectionType.SEQUENTIAL) == [
        ("readme", "Guide"),
        ("Guide", "Install"),
        ("Install", "Linux"),
        ("Linux", "Use"),
    ]
    guide, install = memories[1].id, memories[2].id
    found = LOADER.extract_connections(memories)
    assert MemoryConnection(guide, install, ConnectionType.HIERARCHICAL, 0.8) in found
    assert MemoryConnection(guide, install, ConnectionType.SEQUENTIAL, 0.5) in found


def test_repeated_paths_keep_their_own_subsections(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.md", "# A\n## X\none\n# A\n## X\ntwo\n")
    assert paths(memories) == ["A", "A > X", "A", "A > X"]
    ids = [memory.id for memory in memories]
    assert len(set(ids)) == 4
    hierarchy = [
        (ids.index(edge.source_id), ids.index(edge.target_id))
        for edge in LOADER.extract_connections(memories)
        if edge.connection_type is ConnectionType.HIERARCHICAL
    ]
    assert hierarchy == [(0, 1), (2, 3)]


def test_without_a_top_heading_the_file_names_the_document(tmp_path: Path) -> None:
    memories = load(tmp_path / "CHANGELOG.md", "## 2.0\nnew\n\n## 1.0\nold\n")
    assert paths(memories) == ["CHANGELOG", "CHANGELOG > 2.0", "CHANGELOG > 1.0"]
    assert memories[0].content == "CHANGELOG"
    assert [memory.hierarchy_level for memory in memories] == [0, 2, 2]
    assert len(edges(memories, ConnectionType.HIERARCHICAL)) == 2


def test_skipped_levels_hang_on_the_nearest_heading_above(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.md", "# A\n#### D\n## B\n### C\n")
    assert paths(memories) == ["A", "A > D", "A > B", "A > B > C"]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("# One ##\n###### Six ###   \n", ["One", "Six"]),
        ("   # Indented\n", ["Indented"]),
        ("# C#\n## F# #\n", ["C#", "F#"]),
        ("#\tTab\n", ["Tab"]),
        ("One\n===\ntext\n\nTwo\n---\n", ["One", "Two"]),
        ("One\n  of two lines\n=\n", ["One of two lines"]),
        ("# One\r\n\r\nTwo\r\n---\r\n", ["One", "Two"]),
        ("<!-- toc -->\nOne\n===\n", ["a", "One"]),
    ],
)
def test_headings(tmp_path: Path, text: str, titles: list[str]) -> None:
    memories = load(tmp_path / "a.md", text)
    assert [memory.metadata["title"] for memory in memories] == titles


@pytest.mark.parametrize(
    "text",
    [
        "#hashtag",
        "####### seven",
        "    # code",
        "\t# code",
        "\\# escaped",
        "text\n\n---\n\nmore",
        "- item\n---\nmore",
        "1. item\nlazy\n---",
        "- item\n\n  its second paragraph\n---",
        "> quote\n---",
        "| a |\n---",
        "<div>\ntext\n---",
        "***\n---",
        "    code\n---",
        "```\n# comment\n```",
        "```sh\n# comment\n~~~\n# comment\n``\n# comment\n```",
        "  ~~~~ `x` ~~\n# comment\n~~~\n# comment\n  ~~~~~\nafter",
        "- ```sh\n  # comment\n  ```\n  after",
        "1. - ~~~\n     # comment\n\n# comment\n     ~~~",
        "```\n# never closed",
        "<!--\n# comment\n\n# comment\n-->",
        "<pre class='x'>\n\n# comment\n</pre>",
    ],
)
def test_what_is_no_heading_is_text(tmp_path: Path, text: str) -> None:
    (memory,) = load(tmp_path / "a.md", text + "\n")
    assert memory.content == f"a\n\n{text}"


@pytest.mark.parametrize(
    "text",
    [
        "```\n# x\n```\n# After\n",
        "``` not`a fence\n# After\n",
        "~~~\n~~~\n# After\n",
        "- ```sh\n  # x\n  ```\n# After\n",
        "10. ```sh\n    # x\n    ```\n# After\n",
        "- ```inline```\n# After\n",
        "<!-- # x -->\n# After\n",
        "<script>\n# x\n</SCRIPT>\n# After\n",
        "- item\n---\n# After\n",
    ],
)
def test_headings_count_again_after_a_block(tmp_path: Path, text: str) -> None:
    assert paths(load(tmp_path / "a.md", text)) == ["a", "After"]


def test_text_keeps_its_shape(tmp_path: Path) -> None:
    text = "    indented code\n\n\n```py\n\ndef f():\n\n    pass\n```\nlast  "
    (memory,) = load(tmp_path / "a.md", f"# A\n \n\n{text}\n\t\n\n")
    assert memory.content == f"A\n\n{text}"


@pytest.mark.parametrize("text", ["", "\n \n\t", "#\n", "##\n\n", "\ufeff", "---\ntitle: x\n---\n"])
def test_blank_files_hold_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path / "a.md", text) == []


def test_a_heading_without_words_is_untitled(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.md", "# A\n##\ntext\n##\n##\n### B\n")
    assert paths(memories) == ["A", "A > Untitled", "A > Untitled", "A > Untitled > B"]
    assert memories[0].metadata["line"] == 1


@pytest.mark.parametrize(
    ("block", "title", "tags"),
    [
        ("title: My Notes\ntags: [a, 'b c', a]", "My Notes", ("a", "b c")),
        (
            'date: 2026-01-01\ntitle: "Quoted: yes"\ntags:\n  - x\n  - "y"',
            "Quoted: yes",
            ("x", "y"),
        ),
        ("# comment\ntitle: >\n  folded\ntags: word\nnested:\n  title: no", "a", ()),
        ("tags:\n- x\n- y\ntitle: T", "T", ("x", "y")),
        ("title:\ntags: []", "a", ()),
    ],
)
def test_front_matter_names_the_document(
    tmp_path: Path, block: str, title: str, tags: tuple[str, ...]
) -> None:
    memories = load(tmp_path / "a.md", f"---\n{block}\n---\n\n## B\ntext\n")
    assert paths(memories) == [title, f"{title} > B"]
    assert [memory.tags for memory in memories] == [tags, tags]
    assert [memory.content for memory in memories] == [title, f"{title} > B\n\ntext"]


@pytest.mark.parametrize(
    "text",
    [
        "---\nprose between rules\n\n---\nmore",
        "---\n\n---",
        "---\n- list\n\n---",
        "---\ntitle: never closed",
        "\n---\ntitle: not on top\n\n---",
    ],
)
def test_rules_on_top_are_not_front_matter(tmp_path: Path, text: str) -> None:
    (memory,) = load(tmp_path / "a.md", text)
    assert memory.content == "a\n\n" + text.strip("\n")


def test_a_new_section_leaves_the_ids_of_others(tmp_path: Path) -> None:
    before = load(tmp_path / "readme.md", GUIDE)
    edited = GUIDE.replace("## Install", "## Why\nBecause.\n\n## Install").replace("apt", "dnf")
    after = load(tmp_path / "readme.md", edited)
    assert [memory.id for memory in after if memory.metadata["title"] != "Why"] == [
        memory.id for memory in before
    ]


def test_a_new_title_or_introduction_leaves_the_ids_of_sections(tmp_path: Path) -> None:
    plain = load(tmp_path / "a.md", "## B\ntext\n")
    titled = load(tmp_path / "a.md", "---\ntitle: T\n---\nIntroduction.\n## B\ntext\n")
    assert [memory.id for memory in titled] == [memory.id for memory in plain]


def test_headings_that_look_like_paths_are_kept_apart(tmp_path: Path) -> None:
    memories = load(tmp_path / "a.md", "# A > B\n# A\n## B\n")
    assert len({memory.id for memory in memories}) == 3


MARKDOWN_LINES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.sampled_from(
        [
            "",
            "# A",
            "## B",
            "### B ##",
            "#",
            "word",
            "  word",
            "- item",
            "> quote",
            "===",
            "---",
            "```",
            "~~~~",
            "    # code",
            "<!-- x",
            "-->",
            "<pre>",
            "</pre>",
            "\t",
            "***",
        ]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(MARKDOWN_LINES, max_size=30))
def test_any_text_is_kept(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    text = "\n".join(lines)
    assume(not text.removeprefix("\ufeff").startswith("---"))
    path = tmp_path_factory.getbasetemp() / "any.md"
    memories = load(path, text)
    everything = "\n\n".join(memory.content for memory in memories)
    for line in re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")):
        is_underline = set(line.strip()) in ({"="}, {"-"})
        in_title = line.strip().strip("#").strip() in everything
        assert line in everything or is_underline or in_title
    assert all(memory.content.strip() for memory in memories)
    assert len({memory.id for memory in memories}) == len(memories)
    assert LOADER.load_from_source(str(path)) == memories


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from("ABC"), st.sampled_from(["", "text"])),
        min_size=1,
        max_size=15,
    )
)
def test_nested_headings_give_the_tree_they_describe(
    tmp_path_factory: pytest.TempPathFactory, headings: list[tuple[int, str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "Tree.md"
    text = "".join(f"{'#' * depth} {title}\n{body}\n" for depth, title, body in headings)
    memories = load(path, text)
    tree = headings if headings[0][0] == 1 else [(1, "Tree", ""), *headings]
    parents = [
        max((j for j in range(i) if tree[j][0] < depth and covers(tree, j, i)), default=-1)
        for i, (depth, _, _) in enumerate(tree)
    ]
    assert [memory.metadata["title"] for memory in memories] == [title for _, title, _ in tree]
    index = {memory.id: place for place, memory in enumerate(memories)}
    assert [
        (index[edge.source_id], index[edge.target_id])
        for edge in LOADER.extract_connections(memories)
        if edge.connection_type is ConnectionType.HIERARCHICAL
    ] == [(parent, place) for place, parent in enumerate(parents) if parent >= 0]
    assert [memory.hierarchy_level for memory in memories] == [
        0 if depth == 1 else 1 if place in parents else 2
        for place, (depth, _, _) in enumerate(tree)
    ]


def covers(tree: list[tuple[int, str, str]], above: int, below: int) -> bool:
    """Whether no heading between them ends the section of the one above."""
    return all(depth > tree[above][0] for depth, _, _ in tree[above + 1 : below + 1])
