"""Settings: where values come from, and that none is misspelled, unread or undocumented."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import MISSING, FrozenInstanceError, asdict
from pathlib import Path
from typing import Any

import platformdirs
import pytest

import cognitive_memory
from cognitive_memory.core.config import (
    ALIASES,
    PREFIX,
    EmbeddingSettings,
    Settings,
    environment_names,
)
from cognitive_memory.core.errors import ConfigurationError
from cognitive_memory.core.memory import ConnectionType
from cognitive_memory.retrieval.activation import FACTORS, SpreadingActivation
from cognitive_memory.retrieval.hybrid import HybridRetrieval
from cognitive_memory.retrieval.own_parts import Weights

PACKAGE = Path(cognitive_memory.__file__).parent
EXAMPLE = PACKAGE.parent / ".env.example"
MODEL = f"{PREFIX}EMBEDDING__MODEL"
BATCH_SIZE = f"{PREFIX}EMBEDDING__BATCH_SIZE"
GROUPS = ("embedding", "storage", "retrieval", "qdrant")


@pytest.fixture(autouse=True)
def no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The isolation of all tests sets them; here the defaults are looked at."""
    for name in ("DATA_DIR", "MODELS_DIR"):
        monkeypatch.delenv(f"{PREFIX}{name}", raising=False)


def write_dotenv(text: str | bytes) -> None:
    Path(".env").write_bytes(text.encode() if isinstance(text, str) else text)


def refusal(**values: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        Settings(**values)
    return str(error.value)


def test_argument_environment_dotenv_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().embedding.model == "all-MiniLM-L6-v2"
    write_dotenv(f"{MODEL}=from-file\n{BATCH_SIZE}=7\n")
    assert Settings().embedding.model == "from-file"
    monkeypatch.setenv(MODEL, "from-environment")
    assert Settings().embedding.model == "from-environment"
    settings = Settings(embedding={"model": "from-argument"})
    assert settings.embedding.model == "from-argument"
    assert settings.embedding.batch_size == 7, "other fields of the group keep their source"


@pytest.mark.parametrize(
    ("alias", "value", "read"),
    [
        ("SQLITE_PATH", "/x/store.db", lambda settings: str(settings.storage.path)),
        ("SENTENCE_BERT_MODEL", "other", lambda settings: settings.embedding.model),
        ("EMBEDDING_BATCH_SIZE", "5", lambda settings: str(settings.embedding.batch_size)),
        ("EMBEDDING_DEVICE", "cuda", lambda settings: settings.embedding.device),
        ("QDRANT_URL", "https://q:6333", lambda settings: settings.qdrant.url),
        ("QDRANT_API_KEY", "secret", lambda settings: settings.qdrant.api_key),
    ],
)
def test_historic_names(alias: str, value: str, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dotenv(f"{alias}={value}\n")
    assert read(Settings()) == value
    write_dotenv("")
    monkeypatch.setenv(alias, value)
    assert read(Settings()) == value


def test_every_historic_name_is_tested_and_means_a_setting() -> None:
    assert set(ALIASES) == {
        "SQLITE_PATH",
        "SENTENCE_BERT_MODEL",
        "EMBEDDING_BATCH_SIZE",
        "EMBEDDING_DEVICE",
        "QDRANT_URL",
        "QDRANT_API_KEY",
    }
    assert set(ALIASES.values()) <= set(environment_names())


@pytest.mark.parametrize("first", ["SENTENCE_BERT_MODEL", MODEL])
def test_the_name_of_today_wins_over_the_historic_one(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {"SENTENCE_BERT_MODEL": "historic", MODEL: "today"}
    order = sorted(lines, key=lambda name: name != first)
    write_dotenv("".join(f"{name}={lines[name]}\n" for name in order))
    assert Settings().embedding.model == "today"
    monkeypatch.setenv("SENTENCE_BERT_MODEL", "historic in the environment")
    assert Settings().embedding.model == "historic in the environment"


@pytest.mark.parametrize("origin", ["the environment", ".env"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("COGNITIVE_MEMORY_EMBEDDING__MODLE", f"did you mean {MODEL}?"),
        ("COGNITIVE_MEMORY_DATADIR", "did you mean COGNITIVE_MEMORY_DATA_DIR?"),
        ("cognitive_memory_embeding__model", f"did you mean {MODEL}?"),
        ("COGNITIVE_MEMORY_X", "see .env.example for the names"),
    ],
)
def test_unknown_names_are_refused(
    origin: str, name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if origin == ".env":
        write_dotenv(f"{name}=1\n")
    else:
        monkeypatch.setenv(name, "1")
    assert refusal() == f"unknown setting {name} in {origin}; {hint}"


def test_unknown_arguments_are_refused() -> None:
    assert refusal(modle="x") == "unknown setting modle; see .env.example for the names"
    assert "unknown setting embedding.modle" in refusal(embedding={"modle": "x"})


def test_names_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    write_dotenv("DATABASE_URL=postgres://x\nexport EMBEDDING_MODEL=y\nMODEL=z\n# comment\nBARE\n")
    monkeypatch.setenv("EMBEDDING__MODEL", "not ours")
    assert Settings().embedding == EmbeddingSettings()


def test_names_ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("cognitive_memory_Embedding__Model", "lower")
    write_dotenv("sentence_bert_model=other\nCognitive_Memory_Offline=yes\n")
    assert Settings().embedding.model == "lower"
    assert Settings().offline is True


def test_empty_values_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL, "")
    monkeypatch.setenv("SQLITE_PATH", "")
    write_dotenv(f"{MODEL}=from-file\n{PREFIX}DATA_DIR=\n")
    assert Settings().embedding.model == "from-file"
    assert Settings().storage.path is None
    assert Settings().data_dir is None


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("EMBEDDING__BATCH_SIZE", "0", "at least 1"),
        ("EMBEDDING__BATCH_SIZE", "many", "whole number"),
        ("EMBEDDING__TOKEN_BUDGET", "-1", "at least 1"),
        ("EMBEDDING__WORKERS", "-1", "at least 0"),
        ("EMBEDDING__PRECISION", "int4", "one of fp32, fp16, bf16, int8"),
        ("EMBEDDING__DEVICE", "gpu", "one of auto, cpu, cuda, tensorrt, coreml, openvino"),
        ("EMBEDDING__DEVICE_MEMORY_MB", "-1", "at least 0"),
        ("EMBEDDING__DIMENSION", "0", "at least 1"),
        ("EMBEDDING__MODEL", "~no-such-user/m", "there is no such user"),
        ("OFFLINE", "perhaps", "true or false"),
        ("MAX_TEXT_BYTES", "0", "at least 1"),
        ("DATA_DIR", "~no-such-user/x", "there is no such user"),
        ("STORAGE__BUSY_TIMEOUT_SECONDS", "-0.5", "at least 0"),
        ("STORAGE__BUSY_TIMEOUT_SECONDS", "inf", "finite number"),
        ("STORAGE__BUSY_TIMEOUT_SECONDS", "nan", "finite number"),
        ("RETRIEVAL__LEXICAL_WEIGHT", "inf", "finite number"),
        ("RETRIEVAL__SPEAKER_WEIGHT", "-0.1", "at least 0"),
        ("RETRIEVAL__EPISODIC_HALF_LIFE_DAYS", "0", "at least 0.001"),
        ("RETRIEVAL__ACTIVATION_HOPS", "2.5", "whole number"),
        ("RETRIEVAL__ACTIVATION_HOPS", "11", "at most 10"),
        ("RETRIEVAL__ACTIVATION_DECAY", "1.01", "at most 1"),
        ("RETRIEVAL__ENTITY_WEIGHT", "2", "at most 1"),
        ("RETRIEVAL__CANDIDATES", "99999999999999999999", "at most 1,000,000"),
        ("RETRIEVAL__CORE_RATIO", "1.5", "at most 1"),
        ("RETRIEVAL__MAX_BRIDGES", "-1", "at least 0"),
        ("QDRANT__URL", "localhost:6333", "like https://host:6333"),
        ("QDRANT__URL", "https://", "like https://host:6333"),
        ("QDRANT__COLLECTION", "a/b", "1 to 100 letters"),
        ("QDRANT__PROJECT", "x" * 101, "1 to 100 letters"),
        ("QDRANT__TIMEOUT_SECONDS", "0", "at least 1"),
        ("QDRANT__GRPC_PORT", "65536", "at most 65,535"),
        ("QDRANT__QUANTIZATION", "turbo", "one of none, scalar, binary, product"),
    ],
)
def test_an_invalid_value_is_named_with_its_variable_and_limit(
    name: str, value: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    message = refusal()
    assert message.startswith(f"{PREFIX}{name}={value!r}: ")
    assert limit in message


def test_all_faults_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BATCH_SIZE, "0")
    write_dotenv(f"{PREFIX}OFFLINE=perhaps\n")
    message = refusal(retrieval={"candidates": 0})
    assert "\n" not in message
    assert [part.partition("=")[0] for part in message.split("; ")] == [
        f"{PREFIX}OFFLINE",
        BATCH_SIZE,
        f"{PREFIX}RETRIEVAL__CANDIDATES",
    ]


def test_a_secret_is_never_shown() -> None:
    settings = Settings(qdrant={"api_key": "secret"})
    assert settings.qdrant.api_key == "secret"
    assert "secret" not in repr(settings)
    message = refusal(qdrant={"api_key": ("secret",)})
    assert message == "COGNITIVE_MEMORY_QDRANT__API_KEY=***: it must be a word"


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.offline = True  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        settings.embedding.model = "x"  # type: ignore[misc]


def test_dotenv_that_is_not_utf8() -> None:
    write_dotenv(b"COGNITIVE_MEMORY_DATA_DIR=/caf\xe9\n")
    message = refusal()
    assert str(Path(".env").absolute()) in message
    assert "cannot be read" in message
    assert "utf-8" in message


def test_a_folder_named_dotenv_is_no_file_of_settings() -> None:
    Path(".env").mkdir()
    assert Settings().data_dir is None


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SQLITE_PATH", "~/store.db")
    monkeypatch.setenv(MODEL, "~/model")
    write_dotenv(f"{PREFIX}MODELS_DIR=~/models\n")
    settings = Settings(data_dir="~/data")
    assert settings.store_path == tmp_path / "store.db"
    assert settings.embedding.model == str(tmp_path / "model")
    assert settings.model_folder == tmp_path / "models"
    assert settings.data_dir == tmp_path / "data"


def test_a_model_name_is_kept_as_it_was_given() -> None:
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "./model", "folder//model"):
        assert Settings(embedding={"model": name}).embedding.model == name


def test_where_things_are_by_default(tmp_path: Path) -> None:
    data = platformdirs.user_data_path("cognitive_memory", False)
    cache = platformdirs.user_cache_path("cognitive_memory", False)
    assert Settings().store_path == data / "memories.db"
    assert Settings().model_folder == cache / "models"
    assert Settings(data_dir=tmp_path).store_path == tmp_path / "memories.db"
    assert Settings(data_dir=tmp_path, storage={"path": "s.db"}).store_path == Path("s.db")
    assert Settings(models_dir=tmp_path).model_folder == tmp_path


def test_reading_settings_makes_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "d", models_dir=tmp_path / "m")
    assert (settings.store_path, settings.model_folder) == (
        tmp_path / "d/memories.db",
        tmp_path / "m",
    )
    assert list(tmp_path.iterdir()) == []


# --- that settings are true ---


def names_read_by_the_package() -> set[str]:
    """Attributes that code outside of config.py reads, as ``embedding.batch_size`` or ``offline``.

    Inside config.py only the properties of ``Settings`` count: they are what others read.
    """
    read: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
        is_config = path.name == "config.py"
        groups = names_of_groups(tree)
        for node in ast.walk(tree):
            if is_config and not (isinstance(node, ast.FunctionDef) and node.decorator_list):
                continue
            for inner in ast.walk(node) if is_config else [node]:
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Load):
                    owner = inner.value
                    name = owner.id if isinstance(owner, ast.Name) else ""
                    group = owner.attr if isinstance(owner, ast.Attribute) else groups.get(name, "")
                    if name == ("self" if is_config else "settings") or group in GROUPS:
                        read.add(f"{group}.{inner.attr}" if group else inner.attr)
    return read


def names_of_groups(tree: ast.AST) -> dict[str, str]:
    """``given = settings.retrieval`` makes ``given`` a name of the group ``retrieval``."""
    return {
        node.targets[0].id: node.value.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in GROUPS
    }


def test_every_setting_is_read_by_something() -> None:
    read = names_read_by_the_package()
    assert "retrieval" in read
    settings = {
        name.removeprefix(PREFIX).lower().replace("__", ".") for name in environment_names()
    }
    assert sorted(settings - read) == []


def test_defaults_of_retrieval_are_the_same_in_settings_and_code() -> None:
    """A ranking that is put together by hand is that of the settings."""
    weights = {
        f"{name}_weight".replace("days_weight", "days"): value
        for name, value in asdict(Weights()).items()
    }
    activation = {
        f"activation_{name}": value for name, value in keyword_defaults(SpreadingActivation).items()
    }
    found = {
        f"{kind}_weight": FACTORS.get(kind, (0.0, 0.0))[0]
        for kind in (ConnectionType.ASSOCIATIVE, ConnectionType.ENTITY)
    }
    in_code = {**keyword_defaults(HybridRetrieval), **weights, **activation, **found}
    for name, value in asdict(Settings().retrieval).items():
        assert (name, in_code[name]) == (name, value)


def keyword_defaults(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def example_lines() -> dict[str, str]:
    shown = re.findall(rf"^# ({PREFIX}\w+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.M)
    assert len(dict(shown)) == len(shown), "a setting is shown twice"
    return dict(shown)


def test_the_example_shows_every_setting_and_no_other() -> None:
    assert sorted(example_lines()) == sorted(environment_names())


def test_the_example_shows_the_defaults() -> None:
    for name, field in environment_names().items():
        assert field.default is not MISSING
        shown = example_lines()[name]
        default = str(field.default)
        expected = {"None": "", "False": "false", "True": "true"}.get(default, default)
        assert (name, shown) == (name, expected)


def test_the_example_can_be_used_as_it_is_and_uncommented() -> None:
    default = Settings()
    text = EXAMPLE.read_text(encoding="utf-8")
    write_dotenv(text)
    assert Settings() == default
    write_dotenv(re.sub(rf"^# ({PREFIX})", r"\1", text, flags=re.M))
    assert Settings() == default


def test_the_example_explains_each_setting_and_names_the_historic_ones() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f"# {PREFIX}"):
            assert lines[number - 1].startswith("# "), line
            assert PREFIX not in lines[number - 1], line
    for alias, name in ALIASES.items():
        place = next(i for i, line in enumerate(lines) if line.startswith(f"# {name}="))
        assert alias in lines[place - 1]


def test_every_setting_describes_itself() -> None:
    assert [
        name for name, field in environment_names().items() if not field.metadata["description"]
    ] == []
