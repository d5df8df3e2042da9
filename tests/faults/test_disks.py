"""Disks that fill, and files and folders that change under an open store."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from crash_writer import perform
from forks import Forks
from kept import NOBODY, as_nobody, assert_found, assert_kept, assert_kept_in, items, store
from ledger import Operation, State, replay
from seeded import WordHashProvider, install_provider, open_store
from systems import open_system

from cognitive_memory.core.cognitive_system import CognitiveMemorySystem
from cognitive_memory.core.errors import StorageError, StoreFullError, StoreReadOnlyError


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = install_provider(tmp_path)
    monkeypatch.syspath_prepend(found)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "store.db"


# No space


@pytest.fixture(params=[300, 700, 1500])
def small_disk(path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of the store on a file system of so many KB."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(path.parent)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can be mounted by root only")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", str(path.parent)], check=True)


def fill(system: CognitiveMemorySystem, state: State, name: str) -> State:
    """Store until the disk is full."""
    for number in range(1000):
        new = items(f"{name}{number}", words=400)
        try:
            state = store(system, state, *new)
        except StoreFullError:
            with pytest.raises(StoreFullError, match=r"no space left for .*store\.db; free some"):
                store(system, state, *new)
            return state
    pytest.fail("the disk was never full")


def test_on_a_full_disk_nothing_is_lost_and_with_space_it_goes_on(small_disk: Path) -> None:
    ballast = small_disk.parent / "ballast"
    ballast.write_bytes(b"x" * 65_536)
    with open_store(small_disk) as system:
        state = fill(system, store(system, State(), *items("first")), "a")
        state = fill(system, state, "b")
        assert_found(system, state)
    with open_store(small_disk) as system:  # what closing moved out of the log has made room
        state = fill(system, state, "c")
        ballast.unlink()
        state = store(system, state, *items("after"))
        assert_kept_in(system, small_disk, state)
    assert_kept(small_disk, state)


def test_a_file_that_may_not_grow_loses_nothing(path: Path, tmp_path: Path, site: Path) -> None:
    """RLIMIT_FSIZE, which needs no root: writes beyond it fail as those to a broken disk do."""
    journal = tmp_path / "journal"
    for room in (50_000, 300_000, 900_000):
        with Forks(tmp_path, site) as forks:
            values = {"path": str(path), "journal": str(journal), "name": f"f{room}"}
            forks.wait(forks.start("fill", **values, room=room))
        state = replay(journal).state
        assert len(state.items) > 1
        assert_kept(path, state)


# Files and folders that change while the store is open


def open_plainly(path: Path) -> CognitiveMemorySystem:
    """The system of ``open_store`` for a user who cannot see where its provider is installed."""
    return open_system(path, WordHashProvider(), new_id=lambda: uuid4().hex)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path in a folder of the user that ``as_nobody`` stands for."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with open_plainly(folder / "warm-up.db") as system:  # nobody may be unable to import
            perform(system, Operation(kind="store", items=items("warm")))
            system.search("warm")
        if os.geteuid() == 0:
            shutil.chown(folder, NOBODY)
        monkeypatch.chdir(folder)
        yield folder / "store.db"
        folder.chmod(0o755)


@pytest.mark.parametrize(("file", "folder"), [(0o444, 0o755), (0o644, 0o555), (0o444, 0o555)])
def test_permissions_that_go_while_the_store_is_open(own: Path, file: int, folder: int) -> None:
    """What an open handle may still do is the system's to say; what it acknowledges is kept."""
    with as_nobody():
        with open_plainly(own) as system:
            state = store(system, State(), *items("before"))
            own.chmod(file)
            own.parent.chmod(folder)
            for number in range(3):
                with suppress(StoreReadOnlyError):
                    state = store(system, state, *items(f"during{number}"))
            assert_found(system, state)
        with open_plainly(own) as system:
            assert_found(system, state)
            with pytest.raises(StoreReadOnlyError, match=r"cannot be (written|opened for writing)"):
                store(system, state, *items("refused"))
        own.chmod(0o644)
        own.parent.chmod(0o755)
        with open_plainly(own) as system:
            state = store(system, state, *items("after"))
    assert_kept(own, state)


def test_a_folder_that_goes_read_only_before_the_store_is_made(own: Path) -> None:
    own.parent.chmod(0o555)
    with as_nobody():
        with pytest.raises(StoreReadOnlyError, match="cannot be opened for writing"):
            open_plainly(own)
        own.parent.chmod(0o755)
        with open_plainly(own) as system:
            state = store(system, State(), *items("after"))
    assert_kept(own, state)


@pytest.mark.parametrize("gone", [("",), ("", "-wal", "-shm"), ("-wal", "-shm")])
def test_files_deleted_under_an_open_store(path: Path, gone: tuple[str, ...]) -> None:
    """A write is refused, or it is there when the store is opened again."""
    with open_store(path) as system:
        before = store(system, State(), *items("before"))
        for ending in gone:
            Path(f"{path}{ending}").unlink()
        state = before
        with suppress(StorageError):
            state = store(system, before, *items("after"))
    with open_store(path) as system:
        known = {m.metadata["key"] for m in system.memories.find_memories()}
    assert state.items.keys() - before.items.keys() <= known
