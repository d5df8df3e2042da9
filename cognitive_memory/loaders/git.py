"""Git history: one memory for each commit, with its message and the files it touched."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from ..core.errors import InvalidInputError, SourceError
from ..core.interfaces import MemoryLoader
from ..core.memory import CognitiveMemory, MemoryConnection
from .common import canonical_source, file_mode, memory_id, sequential_connections

SHOWN_FILES = 20
"""Files that a memory's content lists."""

KEPT_FILES = 100
"""Files that a memory's metadata lists."""

SHORT_HASH = 7
"""Digits of the hash in the content: fixed, while git's own choice grows with the repository."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = ("%H", "%at", "%an", "%ae", "%B")
_COUNTS = re.compile(r"\n?(\d+|-)\t(\d+|-)\t(.+)", re.DOTALL)
_SETTINGS = ("core.quotePath=false", "log.showSignature=false", "log.showRoot=true")


@dataclass(slots=True)
class _Commit:
    hash: str
    seconds: str
    author: str
    email: str
    message: str
    files: list[tuple[str, str, str]] = field(default_factory=list)
    """Lines added, lines removed ("-" for both in a binary file), path."""


class GitHistoryLoader(MemoryLoader):
    """The commits that lead to HEAD: the newest ``max_commits`` of them, or all (``None``)."""

    kind = "git"
    append_only = True

    def __init__(self, max_commits: int | None = 1000) -> None:
        self.max_commits = _checked_limit(max_commits)

    def find_sources(self, path: str) -> list[str]:
        """The root of the working tree or bare repository, if ``path`` is one."""
        root = _repository_root(path)
        return [root] if root else []

    def validate_source(self, path: str) -> bool:
        """Whether ``path`` itself is the root of a repository; never raises."""
        try:
            return _repository_root(path) is not None
        except SourceError:
            return False

    def load_from_source(self, source: str, **options: Any) -> list[CognitiveMemory]:
        """The commits, oldest first; the option ``max_commits`` replaces the loader's own."""
        limit = _checked_limit(options.get("max_commits", self.max_commits))
        root = _repository_root(source)
        if root is None:
            raise SourceError(
                f"{source} is not the root of a git repository; give the folder that holds '.git'"
            )
        return [_as_memory(commit, root) for commit in _parse(_run_log(root, limit))]

    def extract_connections(self, memories: Sequence[CognitiveMemory]) -> list[MemoryConnection]:
        """Each commit with the next."""
        return sequential_connections(memories)


def _checked_limit(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise InvalidInputError(
        f"max_commits is {value!r}; give a whole number from 1, or None for all commits"
    )


def _repository_root(path: str) -> str | None:
    """``"repo"`` and ``"repo/.git" -> "/home/me/repo"``; a folder further down -> ``None``."""
    root = Path(canonical_source(path))
    if root.name == ".git":
        root = root.parent
    if file_mode(str(root / ".git")):
        return str(root)
    is_bare = S_ISREG(file_mode(str(root / "HEAD"))) and all(
        S_ISDIR(file_mode(str(root / name))) for name in ("objects", "refs")
    )
    return str(root) if is_bare else None


def _run_log(root: str, limit: int | None) -> str:
    command = ["git", "--no-pager", "-C", root]
    for setting in _SETTINGS:
        command += ["-c", setting]
    command += ["log", "-z", "--reverse", "--numstat", "--no-renames", "--no-color"]
    command += ["--no-ext-diff", "--no-textconv", "--encoding=UTF-8"]
    command += ["--format=" + "".join(f"{name}%x00" for name in _FIELDS)]
    if limit is not None:
        command.append(f"--max-count={limit}")
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(root),
            check=False,
        )
    except OSError as error:
        raise SourceError(
            f"cannot run git to read {root}: {error.strerror}; install git and put it on PATH"
        ) from error
    if result.returncode:
        message = result.stderr.decode(errors="replace")
        if "does not have any commits yet" in message:
            return ""
        raise _failure(root, message)
    return result.stdout.decode(errors="replace")


def _environment(root: str) -> Mapping[str, str]:
    """Ours, but only ``root`` says which repository is read, also when a git hook runs us."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_CONFIG", "GIT_EXEC_PATH"))
    }
    ceiling = str(Path(root).parent)
    return inherited | {
        "LC_ALL": "C",
        "GIT_CEILING_DIRECTORIES": ceiling,
        "GIT_TERMINAL_PROMPT": "0",
    }


def _failure(root: str, message: str) -> SourceError:
    reason = next((line for line in message.splitlines() if line.strip()), "no reason given")
    fix = f"check it with 'git -C {root} fsck'"
    if "dubious ownership" in reason:
        fix = f"if you trust it, run 'git config --global --add safe.directory {root}'"
    return SourceError(f"git cannot read the history of {root}: {reason}; {fix}")


def _parse(output: str) -> Iterator[_Commit]:
    """Tokens end in NUL, which occurs in no field: five for a commit, then one for each file."""
    commit: _Commit | None = None
    tokens = iter(output.split("\0"))
    for token in tokens:
        if not token:
            continue
        if commit is not None and (counts := _COUNTS.fullmatch(token)):
            commit.files.append((counts[1], counts[2], counts[3]))
            continue
        if commit is not None:
            yield commit
        seconds, author, email, message = islice(tokens, len(_FIELDS) - 1)
        commit = _Commit(token, seconds, author, email, message)
    if commit is not None:
        yield commit


def _as_memory(commit: _Commit, root: str) -> CognitiveMemory:
    created = _author_date(commit.seconds)
    message = commit.message.strip("\n") if commit.message.strip() else "(no message)"
    author = commit.author or commit.email or "unknown"
    head = f"commit {commit.hash[:SHORT_HASH]} by {author} on {created:%Y-%m-%d}"
    return CognitiveMemory(
        id=memory_id(root, commit.hash),
        content="\n\n".join([head, message, *_file_lines(commit.files)]),
        source_path=root,
        source_type="git_commit",
        created_date=created,
        last_accessed=created,
        metadata={
            "loader_type": "git_commit",
            "title": message.strip().splitlines()[0],
            "commit_hash": commit.hash,
            "author_name": commit.author,
            "author_email": commit.email,
            "timestamp": created.isoformat(),
            "affected_files": [path for _, _, path in commit.files[:KEPT_FILES]],
        },
    )


def _author_date(seconds: str) -> datetime:
    """The epoch, as git itself shows it, for a date that is damaged or beyond year 9999."""
    try:
        return _EPOCH + timedelta(seconds=int(seconds))
    except (ValueError, OverflowError):
        return _EPOCH


def _file_lines(files: Sequence[tuple[str, str, str]]) -> list[str]:
    r"""No paragraph, or one: ``["src/a.py (+3 -1)\nlogo.png (binary)"]``."""
    lines = [
        f"{path} (binary)" if added == "-" else f"{path} (+{added} -{removed})"
        for added, removed, path in files[:SHOWN_FILES]
    ]
    if len(files) > SHOWN_FILES:
        lines.append(f"… and {len(files) - SHOWN_FILES} more")
    return ["\n".join(lines)] if lines else []
