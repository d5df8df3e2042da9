"""Write-ahead logs that a crash or a disk has torn, altered or taken away."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from crash_writer import checkpoint, perform
from kept import assert_kept, copy_files, items, store
from ledger import Operation, State, differences, store_faults
from seeded import Item, install_provider, open_store

WAL_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install_provider(tmp_path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "store.db"


@pytest.fixture
def torn(path: Path, tmp_path: Path) -> tuple[Path, list[State]]:
    """A store as a crash leaves it: a part in the file, the rest in its log; all its states."""
    with open_store(path) as system:
        states = [store(system, State(), *items("a", "b", "c"))]
        with open_store(path):  # a second handle, so that what the first does stays in the log
            checkpoint(path)
            for operation in (
                Operation(kind="store", items=items("d", "e", words=200)),
                Operation(kind="merge", items=(Item(key="an0", words=30, gains=("gain",)),)),
                Operation(kind="delete tag", removed=("bn0",), name="tag-bn0"),
                Operation(kind="store", items=items("f")),
                Operation(kind="delete tag", removed=("dn0",), name="tag-dn0"),
                Operation(kind="store", items=items("g", words=400)),
            ):
                states.append(states[-1].after(operation, perform(system, operation)))
            copy = copy_files(path, tmp_path / "torn")
    return copy, states


def cuts(size: int, crashes: int) -> list[int]:
    """Lengths of a log cut in its header, and at each kind of place in its frames.

    All kinds and, spread evenly over them, as many frames as there are crashes asked for.
    """
    frames = range(WAL_HEADER, size, FRAME_HEADER + PAGE)
    places = [start + part for start in frames for part in (0, 1, 12, 24, 25, 2000, 4119)]
    step = max(1, 2 * len(places) // crashes)
    step += step % 7 == 0  # else all cuts would be of one kind
    return sorted({0, 16, *places[::step], size - 1, size})


def survivors(path: Path, states: list[State]) -> list[int]:
    """Numbers of the states that the store is in, which can be but one."""
    every = {key: item for state in states for key, item in state.items.items()}
    with open_store(path) as system:
        found = [
            number
            for number, state in enumerate(states)
            if differences(
                system,
                State(state.items, state.edges, every | state.gone),
                every,
            )[0]
            == []
        ]
        assert store_faults(system, path) == []
    return found


def test_a_log_cut_anywhere_leaves_a_state_that_was_acknowledged(
    torn: tuple[Path, list[State]], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    path, states = torn
    content = Path(f"{path}-wal").read_bytes()
    reached: list[int] = []
    for cut in cuts(len(content), pytestconfig.getoption("crashes")):
        copy = copy_files(path, tmp_path / f"cut{cut}")
        os.truncate(f"{copy}-wal", cut)
        (number,) = survivors(copy, states)
        reached.append(number)
        with open_store(copy) as system:
            after = store(system, states[number], *items("after"))
        assert_kept(copy, after)
    assert reached == sorted(reached)
    assert (reached[0], reached[-1]) == (0, len(states) - 1)


def test_an_altered_log_leaves_a_state_that_was_acknowledged(
    torn: tuple[Path, list[State]], tmp_path: Path
) -> None:
    path, states = torn
    rng = random.Random(7)
    for number in range(15):
        copy = copy_files(path, tmp_path / f"altered{number}")
        content = bytearray(Path(f"{copy}-wal").read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        Path(f"{copy}-wal").write_bytes(content)
        assert len(survivors(copy, states)) == 1


def test_without_its_log_the_store_is_as_it_was_when_the_log_was_begun(
    torn: tuple[Path, list[State]],
) -> None:
    path, states = torn
    Path(f"{path}-wal").unlink()
    assert survivors(path, states) == [0]


def test_a_log_of_random_bytes_is_ignored(torn: tuple[Path, list[State]]) -> None:
    path, states = torn
    Path(f"{path}-wal").write_bytes(random.Random(1).randbytes(50_000))
    assert survivors(path, states) == [0]
