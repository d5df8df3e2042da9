"""What front ends call to begin and to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognitive_memory import CognitiveMemoryError, CognitiveMemorySystem, CognitiveSystem
from cognitive_memory.core.errors import (
    ConfigurationError,
    EmbeddingError,
    StorageError,
    StoreFormatError,
)
from cognitive_memory.encoding.onnx_provider import ONNXEmbeddingProvider
from cognitive_memory.main import InitializationError, graceful_shutdown, initialize_system


def test_a_system_from_settings(tmp_path: Path) -> None:
    system = initialize_system()
    try:
        assert isinstance(system, CognitiveSystem)
        assert system.get_memory_stats()["memory_counts"]["total"] == 0
        assert (tmp_path / "data/memories.db").is_file()
    finally:
        assert graceful_shutdown(system) is True


def test_default_is_the_only_profile(tmp_path: Path) -> None:
    graceful_shutdown(initialize_system("default"))
    with pytest.raises(InitializationError) as error:
        initialize_system("production")
    assert str(error.value) == "unknown profile 'production'; known: default"


def test_a_fault_of_settings_keeps_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGNITIVE_MEMORY_EMBEDDING__BATCH_SIZE", "0")
    with pytest.raises(InitializationError) as error:
        initialize_system()
    assert str(error.value) == ("COGNITIVE_MEMORY_EMBEDDING__BATCH_SIZE='0': it must be at least 1")
    assert isinstance(error.value.__cause__, ConfigurationError)
    assert isinstance(error.value, CognitiveMemoryError)


def test_a_fault_of_the_store_keeps_its_message(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = tmp_path / "data/memories.db"
    store.write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(InitializationError, match="is not a readable SQLite database") as error:
        initialize_system()
    assert isinstance(error.value.__cause__, StoreFormatError)
    assert store.read_text(encoding="utf-8") == "no database " * 100


class Stuck(ONNXEmbeddingProvider):
    def close(self) -> None:
        super().close()
        raise EmbeddingError("the runtime does not let go")


def test_a_fault_in_shutting_down_is_an_answer(tmp_path: Path) -> None:
    system = initialize_system()
    assert isinstance(system, CognitiveMemorySystem)
    with system.vectors:
        system.embedding_provider = Stuck(tmp_path)
        assert graceful_shutdown(system) is False


def test_shutting_down_closes_and_may_be_repeated() -> None:
    system = initialize_system()
    assert graceful_shutdown(system) is True
    assert graceful_shutdown(system) is True
    with pytest.raises(StorageError, match="was closed; open the store again"):
        system.get_memory_stats()
