"""Ids, canonical paths, strict reading and finding files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.errors import SourceError
from cognitive_memory.loaders import GitHistoryLoader, MarkdownMemoryLoader, TextLoader
from cognitive_memory.loaders.common import canonical_source, find_files, memory_id, read_text

NOBODY = 65534

needs_posix = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="POSIX permissions")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root reads everything, so permissions are tested as another user."""
    user = os.geteuid()
    if user != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def touch(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_memory_id_is_the_start_of_a_sha256() -> None:
    expected = sha256(b"/notes/a.md\x001").hexdigest()[:32]
    assert memory_id("/notes/a.md", "1") == expected == "3c0877f4b8cab0c41d090f9635aa5dbf"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_memory_id_tells_every_source_and_position_apart(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, second = ((source.replace("\0", ""), place) for source, place in (one, other))
    assert (memory_id(*first) == memory_id(*second)) == (first == second)


def test_memory_id_has_an_unambiguous_separator() -> None:
    assert memory_id("/a", "b/c") != memory_id("/a/b", "c") != memory_id("/ab", "/c")


def test_other_spellings_are_the_same_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = touch(tmp_path / "docs" / "a.md")
    (tmp_path / "link.md").symlink_to(file)
    (tmp_path / "linked").symlink_to(tmp_path / "docs")
    monkeypatch.chdir(tmp_path / "docs")
    spellings = ["a.md", "./a.md", "../docs/a.md", "../link.md", "../linked/a.md", str(file)]
    assert {canonical_source(spelling) for spelling in spellings} == {str(file.resolve())}


@pytest.mark.parametrize("path", ["", "a\0b.md"])
def test_what_cannot_be_a_path_is_refused(path: str) -> None:
    with pytest.raises(SourceError, match=r"is not a path; name a file or a folder"):
        canonical_source(path)


@needs_posix
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")
    Path(path).touch()
    with pytest.raises(
        SourceError, match=r"the name of '.*caf\\udce9\.md' is not UTF-8; rename it"
    ):
        MarkdownMemoryLoader().find_sources(str(tmp_path))


def test_reading_gives_text_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthr\xc3\xa9e\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert read_text(str(path)) == ("one\ntwo\nthrée\n", moment)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"caf\xe9 noir",
            (
                "{path} is not UTF-8: byte 0xe9 at offset 3; "
                "convert it, for example with 'iconv -f WINDOWS-1252 -t UTF-8'"
            ),
        ),
        (
            b"\xef\xbb\xbfok\xff",
            (
                "{path} is not UTF-8: byte 0xff at offset 5; "
                "convert it, for example with 'iconv -f WINDOWS-1252 -t UTF-8'"
            ),
        ),
        (
            "# Hi".encode("utf-16"),
            (
                "{path} is not UTF-8: byte 0xff at offset 0; "
                "convert it, for example with 'iconv -f UTF-16 -t UTF-8'"
            ),
        ),
        (
            b"one\r\ntwo\nthr\0ee",
            (
                "{path} holds a NUL character in line 3; remove it, "
                "or convert the file to UTF-8 if it is UTF-16"
            ),
        ),
    ],
)
def test_other_bytes_are_refused_with_their_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read_text(str(path))
    assert str(caught.value) == message.format(path=path)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "{path} does not exist; check the path"),
        (make_loop, "{path} does not exist; check the path"),
        (Path.mkdir, "{path} is a folder, not a file; give the path of a file"),
        pytest.param(
            make_fifo,
            "{path} is a device or pipe, not a file; give the path of a file",
            marks=needs_posix,
        ),
    ],
)
def test_what_is_no_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "a.txt"
    make(path)
    with pytest.raises(SourceError) as caught:
        read_text(str(path))
    assert str(caught.value) == message.format(path=path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can enter, unlike ``tmp_path``."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


@needs_posix
def test_an_unreadable_file_is_refused(open_folder: Path) -> None:
    path = touch(open_folder / "a.md")
    path.chmod(0)
    with unprivileged():
        assert not MarkdownMemoryLoader().validate_source(str(path))
        with pytest.raises(SourceError) as caught:
            read_text(str(path))
    assert str(caught.value) == f"cannot read {path}: Permission denied; check its permissions"


@needs_posix
@pytest.mark.parametrize("start", ["", "closed", "closed/a.md"])
def test_an_unreadable_folder_is_refused(open_folder: Path, start: str) -> None:
    closed = touch(open_folder / "closed" / "a.md").parent
    touch(open_folder / "b.md")
    closed.chmod(0)
    path = open_folder / start
    with unprivileged():
        with pytest.raises(SourceError) as caught:
            MarkdownMemoryLoader().find_sources(str(path))
        assert not MarkdownMemoryLoader().validate_source(str(path))
        assert not GitHistoryLoader().validate_source(str(path))
    closed.chmod(0o700)
    refused = path if start else closed
    assert str(caught.value) == f"cannot read {refused}: Permission denied; check its permissions"


@needs_posix
def test_a_working_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SourceError) as caught:
        canonical_source("a.md")
    assert str(caught.value) == (
        "cannot find a.md: No such file or directory; give an absolute path"
    )


def test_finding_passes_over_what_is_not_the_users_text(tmp_path: Path) -> None:
    kept = [
        touch(tmp_path / name)
        for name in ["B.MD", "a.md", "sub/deep/c.Markdown", "venv-notes/d.md"]
    ]
    for name in [
        ".hidden.md",
        ".obsidian/x.md",
        "node_modules/pkg/README.md",
        "sub/__pycache__/x.md",
        "env/lib/x.md",
        "a.txt",
        "md",
        "folder.md/x.txt",
    ]:
        touch(tmp_path / name)
    touch(tmp_path / "env" / "pyvenv.cfg")
    (tmp_path / "broken.md").symlink_to(tmp_path / "nowhere.md")
    found = find_files(str(tmp_path), (".md", ".markdown"))
    assert found == sorted(str(path.resolve()) for path in kept)


@pytest.mark.parametrize("name", [".heimdall/docs", ".hidden", "node_modules"])
def test_a_folder_named_by_the_user_is_searched_whatever_its_name(
    tmp_path: Path, name: str
) -> None:
    file = touch(tmp_path / name / "a.md")
    assert find_files(str(tmp_path / name), (".md",)) == [str(file.resolve())]


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    inside = touch(tmp_path / "notes" / "sub" / "a.md")
    outside = touch(tmp_path / "elsewhere" / "b.md")
    touch(tmp_path / "sibling.md")
    notes = tmp_path / "notes"
    (notes / "self").symlink_to(notes)
    (notes / "up").symlink_to(tmp_path)
    (notes / "sub" / "again").symlink_to(notes / "sub")
    (notes / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (notes / "same.md").symlink_to(inside)
    assert find_files(str(notes), (".md",)) == sorted([str(inside), str(outside)])


def test_one_file_belongs_to_one_loader(tmp_path: Path) -> None:
    text = touch(tmp_path / "readme.txt")
    (tmp_path / "readme.md").symlink_to(text)
    assert MarkdownMemoryLoader().find_sources(str(tmp_path)) == []
    assert TextLoader().find_sources(str(tmp_path)) == [str(text.resolve())]


def test_file_loaders_know_their_files(tmp_path: Path) -> None:
    loader = MarkdownMemoryLoader()
    file = touch(tmp_path / "a.MD")
    other = touch(tmp_path / "a.txt")
    assert loader.find_sources(str(file)) == [str(file.resolve())]
    assert loader.find_sources(str(other)) == []
    assert loader.find_sources(str(tmp_path / "missing.md")) == []
    assert loader.find_sources(str(tmp_path)) == [str(file.resolve())]
    assert loader.get_supported_extensions() == [".md", ".markdown", ".mdown", ".mkd"]
    assert TextLoader().get_supported_extensions() == [".txt", ".text"]


def test_validating_never_raises_and_asks_for_the_path_itself(tmp_path: Path) -> None:
    loader = MarkdownMemoryLoader()
    file = touch(tmp_path / "a.md")
    assert loader.validate_source(str(file))
    for path in [str(tmp_path), str(tmp_path / "missing.md"), "", "a\0.md", f"{file}/below.md"]:
        assert not loader.validate_source(path)
        assert not GitHistoryLoader().validate_source(path)


@pytest.mark.parametrize("loader", [MarkdownMemoryLoader(), TextLoader()])
def test_load_errors_name_the_file(
    tmp_path: Path, loader: MarkdownMemoryLoader | TextLoader
) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(SourceError, match=re.escape(f"{missing} does not exist; check the path")):
        loader.load_from_source(str(missing))
