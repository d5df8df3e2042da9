"""Git history, from repositories made by git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognitive_memory.core.errors import InvalidInputError, SourceError
from cognitive_memory.core.memory import ConnectionType, MemoryConnection, MemoryType
from cognitive_memory.loaders import GitHistoryLoader

LOADER = GitHistoryLoader()

DATE = "1700000000 +0200"


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the person who runs the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


class Repository:
    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", *options)

    def git(self, *arguments: str, given: bytes = b"", date: str = DATE) -> str:
        identity = {
            "GIT_AUTHOR_NAME": "Ann Author",
            "GIT_AUTHOR_EMAIL": "ann@example.org",
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_NAME": "Carl Committer",
            "GIT_COMMITTER_EMAIL": "carl@example.org",
            "GIT_COMMITTER_DATE": date,
        }
        command = ["git", "-C", str(self.root), *arguments]
        environment = os.environ | identity
        done = subprocess.run(
            command, input=given, capture_output=True, env=environment, check=True
        )
        return done.stdout.decode().strip()

    def commit(self, message: str, files: dict[str, str | bytes] | None = None) -> str:
        for name, content in (files or {}).items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", message)
        return self.git("rev-parse", "HEAD")

    def raw_commit(self, header: bytes, message: bytes) -> str:
        """A commit as bytes, which git would not write itself."""
        tree = self.git("write-tree").encode()
        commit = b"tree " + tree + b"\n" + header + b"\n\n" + message
        name = self.git("hash-object", "-w", "--literally", "-t", "commit", "--stdin", given=commit)
        self.git("update-ref", "refs/heads/main", name)
        return name


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


def test_a_commit_is_a_memory(repository: Repository) -> None:
    name = repository.commit(
        "Drop Redis\n\nThe hit rate was 3%.\n\n- really", {"src/a.py": "1\n2\n", "b.png": b"\0\1"}
    )
    (memory,) = LOADER.load_from_source(str(repository.root), refresh=True, time_window="3m")
    assert memory.content == (
        f"commit {name[:7]} by Ann Author on 2023-11-14\n\n"
        "Drop Redis\n\nThe hit rate was 3%.\n\n- really\n\n"
        "b.png (binary)\nsrc/a.py (+2 -0)"
    )
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert memory.created_date == memory.last_accessed == moment
    assert (memory.hierarchy_level, memory.memory_type) == (2, MemoryType.EPISODIC)
    assert (memory.source_type, memory.source_path) == ("git_commit", str(repository.root))
    assert memory.metadata == {
        "loader_type": "git_commit",
        "title": "Drop Redis",
        "commit_hash": name,
        "author_name": "Ann Author",
        "author_email": "ann@example.org",
        "timestamp": "2023-11-14T22:13:20+00:00",
        "affected_files": ["b.png", "src/a.py"],
    }


def test_commits_come_oldest_first_and_are_connected(repository: Repository) -> None:
    names = [repository.commit(message, {"a": message}) for message in ("one", "two", "three")]
    memories = LOADER.load_from_source(str(repository.root))
    assert [memory.metadata["commit_hash"] for memory in memories] == names
    one, two, three = (memory.id for memory in memories)
    assert LOADER.extract_connections(memories) == [
        MemoryConnection(one, two, ConnectionType.SEQUENTIAL, 0.5),
        MemoryConnection(two, three, ConnectionType.SEQUENTIAL, 0.5),
    ]


def test_loading_again_gives_the_same_and_new_commits_add(repository: Repository) -> None:
    repository.commit("one", {"a": "1"})
    before = LOADER.load_from_source(str(repository.root))
    assert LOADER.load_from_source(f"{repository.root}/../repo/.git") == before
    repository.commit("two", {"a": "2"})
    assert LOADER.load_from_source(str(repository.root))[:1] == before


@pytest.mark.parametrize(
    ("loader", "options", "expected"),
    [
        (GitHistoryLoader(), {}, ["one", "two", "three"]),
        (GitHistoryLoader(2), {}, ["two", "three"]),
        (GitHistoryLoader(2), {"max_commits": 1}, ["three"]),
        (GitHistoryLoader(2), {"max_commits": None}, ["one", "two", "three"]),
        (GitHistoryLoader(max_commits=None), {}, ["one", "two", "three"]),
    ],
)
def test_the_newest_commits_are_kept(
    repository: Repository, loader: GitHistoryLoader, options: dict[str, Any], expected: list[str]
) -> None:
    for message in ("one", "two", "three"):
        repository.commit(message)
    memories = loader.load_from_source(str(repository.root), **options)
    assert [memory.metadata["title"] for memory in memories] == expected
    assert loader.append_only


@pytest.mark.parametrize("limit", [0, -1, True, "10", 1.5])
def test_other_limits_are_refused(repository: Repository, limit: Any) -> None:
    message = f"max_commits is {limit!r}; give a whole number from 1, or None for all commits"
    with pytest.raises(InvalidInputError) as caught:
        GitHistoryLoader(limit)
    assert str(caught.value) == message
    with pytest.raises(InvalidInputError) as caught:
        LOADER.load_from_source(str(repository.root), max_commits=limit)
    assert str(caught.value) == message


def test_many_files_are_counted(repository: Repository) -> None:
    repository.commit("bulk", {f"f{number:03}": "x\n" for number in range(123)})
    (memory,) = LOADER.load_from_source(str(repository.root))
    lines = memory.content.split("\n")
    assert lines[4:6] == ["f000 (+1 -0)", "f001 (+1 -0)"]
    assert lines[23:] == ["f019 (+1 -0)", "… and 103 more"]
    assert len(memory.metadata["affected_files"]) == 100


def test_odd_file_names_and_renames(repository: Repository) -> None:
    names = ["spåce \t.txt", "line\nbreak", "1\t2\tx", "\x1e", "0" * 40]
    repository.commit("names", dict.fromkeys(names, "x\n"))
    repository.git("mv", "spåce \t.txt", "renamed")
    repository.commit("rename")
    created, renamed = LOADER.load_from_source(str(repository.root))
    assert sorted(created.metadata["affected_files"]) == sorted(names)
    assert renamed.metadata["affected_files"] == ["renamed", "spåce \t.txt"]
    assert renamed.content.endswith("renamed (+1 -0)\nspåce \t.txt (+0 -1)")


def test_merges_are_commits_too(repository: Repository) -> None:
    repository.commit("base", {"a": "1"})
    repository.git("switch", "--quiet", "--create", "side")
    repository.commit("side", {"b": "1"})
    repository.git("switch", "--quiet", "main")
    repository.commit("main", {"c": "1"})
    repository.git("merge", "--quiet", "--no-edit", "side")
    memories = LOADER.load_from_source(str(repository.root))
    assert len(memories) == 4
    assert memories[-1].content.endswith("\n\nMerge branch 'side'")
    assert memories[-1].metadata["affected_files"] == []


def test_an_empty_message_is_named(repository: Repository) -> None:
    name = repository.commit("", {"a": "1\n"})
    (memory,) = LOADER.load_from_source(str(repository.root))
    assert memory.metadata["title"] == "(no message)"
    assert memory.content == (
        f"commit {name[:7]} by Ann Author on 2023-11-14\n\n(no message)\n\na (+1 -0)"
    )


@pytest.mark.parametrize(
    ("author", "expected", "year"),
    [
        (b"A <a@x> 99999999999999 +0000", "A", 1970),
        (b"A <a@x> 9999999999999999999999 +0000", "A", 1970),
        (b"A <a@x>", "A", 1970),
        (b" <a@x> 1700000000 +0000", "a@x", 2023),
        (b" <> 1700000000 +0000", "unknown", 2023),
        (b"J\xe9r\xf4me <j@x> 1700000000 +0000", "J\ufffdr\ufffdme", 2023),
    ],
)
def test_damaged_authors_and_dates(
    repository: Repository, author: bytes, expected: str, year: int
) -> None:
    header = b"author " + author + b"\ncommitter C <c@x> 1700000000 +0000"
    repository.raw_commit(header, b"message\n")
    (memory,) = LOADER.load_from_source(str(repository.root))
    assert memory.created_date.year == year
    assert f" by {expected} on {year}-" in memory.content


def test_messages_of_other_encodings(repository: Repository) -> None:
    people = b"author A <a@x> 1700000000 +0000\ncommitter C <c@x> 1700000000 +0000"
    repository.raw_commit(people + b"\nencoding ISO-8859-1", b"caf\xe9\n")
    (declared,) = LOADER.load_from_source(str(repository.root))
    repository.raw_commit(people, b"caf\xe9\n")
    (undeclared,) = LOADER.load_from_source(str(repository.root))
    assert declared.metadata["title"] == "café"
    assert undeclared.metadata["title"] == "caf\ufffd"


def test_settings_of_the_repository_change_nothing(repository: Repository) -> None:
    repository.commit("one", {"å": "1\n"})
    before = LOADER.load_from_source(str(repository.root))
    for name, value in {
        "log.showRoot": "false",
        "log.showSignature": "true",
        "color.ui": "always",
        "core.quotePath": "true",
        "core.pager": "false",
        "i18n.logOutputEncoding": "ISO-8859-1",
        "diff.external": "false",
        "log.date": "relative",
        "core.abbrev": "20",
        "format.pretty": "oneline",
    }.items():
        repository.git("config", name, value)
    assert LOADER.load_from_source(str(repository.root)) == before


def test_a_repository_without_commits_holds_nothing(repository: Repository) -> None:
    assert LOADER.find_sources(str(repository.root)) == [str(repository.root)]
    assert LOADER.load_from_source(str(repository.root)) == []
    assert LOADER.extract_connections([]) == []


def test_only_a_root_is_a_source(tmp_path: Path, repository: Repository) -> None:
    repository.commit("one", {"sub/a": "1"})
    bare = Repository(tmp_path / "bare.git", "--bare")
    tree = tmp_path / "tree"
    repository.git("worktree", "add", "--quiet", str(tree))
    (tmp_path / "link").symlink_to(repository.root)
    for path in (repository.root, bare.root, tree):
        assert LOADER.find_sources(str(path)) == [str(path)]
        assert LOADER.validate_source(str(path))
    assert LOADER.find_sources(str(tmp_path / "link")) == [str(repository.root)]
    for path in (tmp_path, repository.root / "sub", repository.root / "sub/a", tmp_path / "none"):
        assert LOADER.find_sources(str(path)) == []
        assert not LOADER.validate_source(str(path))
    assert LOADER.get_supported_extensions() == []


def test_bare_repositories_and_worktrees_are_read(tmp_path: Path, repository: Repository) -> None:
    repository.commit("one", {"a": "1"})
    repository.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    for path in ("tree", "bare.git"):
        (memory,) = LOADER.load_from_source(str(tmp_path / path))
        assert memory.metadata["title"] == "one"


def test_the_variables_of_a_git_hook_do_not_mislead(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("mine", {"a": "1"})
    other = Repository(tmp_path / "other")
    other.commit("other", {"a": "1"})
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    (memory,) = LOADER.load_from_source(str(repository.root))
    assert memory.metadata["title"] == "mine"


def test_a_folder_that_is_no_root_is_refused(repository: Repository) -> None:
    folder = repository.root / "sub"
    folder.mkdir()
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(folder))
    assert str(caught.value) == (
        f"{folder} is not the root of a git repository; give the folder that holds '.git'"
    )


def break_head(root: Path) -> None:
    (root / ".git" / "HEAD").write_text("garbage\n", encoding="utf-8")


def break_objects(root: Path) -> None:
    for path in (root / ".git" / "objects").glob("??/*"):
        path.chmod(0o644)
        path.write_bytes(b"garbage")


def empty_git_folder(root: Path) -> None:
    (root / ".git").rename(root / "git")
    (root / ".git").mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_head, "fatal: not a git repository"),
        (break_objects, "error: inflate: data stream error"),
        (empty_git_folder, "fatal: not a git repository"),
    ],
)
def test_a_damaged_repository_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    outer = Repository(tmp_path / "outer")
    outer.commit("never to be taken for the history of the inner one")
    inner = Repository(outer.root / "inner")
    inner.commit("one", {"a": "1"})
    damage(inner.root)
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(inner.root))
    message = str(caught.value)
    assert message.startswith(f"git cannot read the history of {inner.root}: {reason}")
    assert message.endswith(f"; check it with 'git -C {inner.root} fsck'")
    assert "\n" not in message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs chown")
def test_a_repository_of_someone_else_is_refused_with_the_fix(repository: Repository) -> None:
    repository.commit("one")
    root = repository.root
    for path in (root, root / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(root))
    assert str(caught.value) == (
        f"git cannot read the history of {root}: "
        f"fatal: detected dubious ownership in repository at '{root}'; "
        f"if you trust it, run 'git config --global --add safe.directory {root}'"
    )


def test_without_git_the_error_says_so(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("one")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError) as caught:
        LOADER.load_from_source(str(repository.root))
    assert str(caught.value) == (
        f"cannot run git to read {repository.root}: No such file or directory; "
        "install git and put it on PATH"
    )


def import_stream(messages: list[str]) -> bytes:
    commits = []
    for number, message in enumerate(messages):
        data = message.encode()
        commits.append(
            b"commit refs/heads/main\ncommitter A <a@x> %d +0000\n" % (1_700_000_000 + number)
            + b"data %d\n%s\nM 644 inline f\ndata %d\n%s\n"
            % (len(data), data, len(str(number)), str(number).encode())
        )
    return b"".join(commits)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.sampled_from(["", "\n", "1\t2\tx", "\n3\t4\ty", "\x1e\x1f", "commit " + "0" * 40]),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_any_message_is_kept(tmp_path_factory: pytest.TempPathFactory, messages: list[str]) -> None:
    repository = Repository(tmp_path_factory.mktemp("any") / "repo")
    repository.git("fast-import", "--quiet", given=import_stream(messages))
    memories = LOADER.load_from_source(str(repository.root))
    assert len({memory.id for memory in memories}) == len(memories) == len(messages)
    for memory, message in zip(memories, messages, strict=True):
        assert (message.strip("\n") if message.strip() else "(no message)") in memory.content
        assert memory.metadata["affected_files"] == ["f"]
    assert LOADER.load_from_source(str(repository.root)) == memories
