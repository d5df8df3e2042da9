"""Settings: read once from arguments, environment, ``.env`` and defaults, in that order.

Names are ``COGNITIVE_MEMORY_`` plus the field, with ``__`` between levels. Unknown names are
refused, so that a misspelled variable is never silently without effect.

pydantic validates; the reading is our own few lines, because pydantic-settings costs every start
50 ms more and ignores unknown names in the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from .errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

PREFIX = "COGNITIVE_MEMORY_"
DOTENV = ".env"
_SEE_EXAMPLE = "see .env.example for the names"

ALIASES: Mapping[str, str] = {
    "SQLITE_PATH": f"{PREFIX}STORAGE__PATH",
    "SENTENCE_BERT_MODEL": f"{PREFIX}EMBEDDING__MODEL",
    "EMBEDDING_BATCH_SIZE": f"{PREFIX}EMBEDDING__BATCH_SIZE",
}
"""Historic names, read where the name of today is not set."""


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("there is no such user; give an absolute path") from None


UserPath = Annotated[Path, AfterValidator(_expand)]
ModelName = Annotated[
    str, AfterValidator(lambda name: str(_expand(Path(name))) if name.startswith("~") else name)
]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingSettings(_Group):
    """How text becomes vectors."""

    provider: str = Field("onnx", description="onnx, sentence-bert, or an installed entry point")
    model: ModelName = Field(
        "all-MiniLM-L6-v2", description="model name, or a folder of a ready model"
    )
    token_budget: int = Field(512, ge=1, description="tokens in one inference, padding included")
    batch_size: int = Field(32, ge=1, description="texts in one inference, at most")
    workers: int = Field(0, ge=0, description="inferences at once; 0: one for each usable core")
    threads: int = Field(0, ge=0, description="threads on a single text; 0: all usable cores")
    optimization: Literal["none", "basic", "extended", "all"] = Field(
        "all", description="all: prepared graph; others: portable graph, rewritten that far"
    )
    overflow: Literal["truncate", "error", "chunk"] = Field(
        "truncate", description="what becomes of a text beyond the model's length"
    )
    warm_up: bool = Field(False, description="load the model in the background at once")
    cache_bytes: int = Field(
        33_554_432, ge=0, description="embeddings kept in memory, in bytes; 0: none"
    )
    disk_cache_bytes: int = Field(
        0, ge=0, description="embeddings kept on disk between processes, in bytes; 0: none"
    )


class StorageSettings(_Group):
    """Where memories are kept."""

    vectors: str = Field("sqlite", description="sqlite, or an installed entry point")
    path: UserPath | None = Field(None, description="store file; default: memories.db in data_dir")
    busy_timeout_seconds: float = Field(
        10.0, ge=0, le=86_400, description="wait for another writer"
    )


class RetrievalSettings(_Group):
    """How memories are ranked."""

    lexical_weight: float = Field(
        0.5, ge=0, allow_inf_nan=False, description="weight of words beside meaning"
    )
    candidates: int = Field(
        200, ge=1, le=1_000_000, description="memories ranked for each query, at least"
    )
    core_ratio: float = Field(0.75, ge=0, le=1, description="core: this share of the best score")
    max_bridges: int = Field(3, ge=0, description="connected memories shown beyond the ranking")


class Settings(_Group):
    """All settings, frozen.

    Raises ``ConfigurationError`` for an unknown name, or for all invalid values at once.
    """

    data_dir: UserPath | None = Field(None, description="folder of the store; default: user data")
    models_dir: UserPath | None = Field(None, description="folder of models; default: user cache")
    offline: bool = Field(False, description="open no socket at all")
    max_text_bytes: int = Field(1_048_576, ge=1, description="longest text of one memory, UTF-8")
    embedding: EmbeddingSettings = EmbeddingSettings()
    storage: StorageSettings = StorageSettings()
    retrieval: RetrievalSettings = RetrievalSettings()

    def __init__(self, **values: Any) -> None:
        given = _merged(_nested(_read_dotenv(), DOTENV), _nested(os.environ, "the environment"))
        try:
            super().__init__(**_merged(given, values))
        except ValidationError as error:
            faults = (_explain(fault) for fault in error.errors())
            raise ConfigurationError("; ".join(faults)) from None

    @property
    def store_path(self) -> Path:
        """The file that holds the memories."""
        if self.storage.path is not None:
            return self.storage.path
        return (self.data_dir or _user_folder("data")) / "memories.db"

    @property
    def model_folder(self) -> Path:
        """The folder that holds a folder for each model."""
        return self.models_dir or _user_folder("cache") / "models"


def environment_names() -> dict[str, FieldInfo]:
    """Each variable that sets something, with its field."""
    names: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            for inner, inner_field in group.model_fields.items():
                names[f"{PREFIX}{name}__{inner}".upper()] = inner_field
        else:
            names[f"{PREFIX}{name}".upper()] = field
    return names


def _nested(variables: Mapping[str, str | None], origin: str) -> dict[str, Any]:
    """{"COGNITIVE_MEMORY_STORAGE__PATH": "x"} -> {"storage": {"path": "x"}}; empty values skipped.

    Raises ``ConfigurationError`` for a name that begins with our prefix and sets nothing.
    """
    known = environment_names()
    given: dict[str, str] = {}
    for name, value in variables.items():
        if not value:
            continue
        if name.upper() in ALIASES:
            given.setdefault(ALIASES[name.upper()], value)
        elif name.upper() in known:
            given[name.upper()] = value
        elif name.upper().startswith(PREFIX):
            # Without the prefix, which would make any two names look alike.
            endings = [each.removeprefix(PREFIX) for each in known]
            close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), endings, n=1)
            fix = f"did you mean {PREFIX}{close[0]}?" if close else _SEE_EXAMPLE
            raise ConfigurationError(f"unknown setting {name} in {origin}; {fix}")
    values: dict[str, Any] = {}
    for name, value in given.items():
        group, _, inner = name.removeprefix(PREFIX).lower().partition("__")
        if inner:
            values.setdefault(group, {})[inner] = value
        else:
            values[group] = value
    return values


def _merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Both, ``upper`` first; groups are merged name by name."""
    merged = {**lower, **upper}
    for name in lower.keys() & upper.keys():
        if isinstance(lower[name], dict) and isinstance(upper[name], dict):
            merged[name] = {**lower[name], **upper[name]}
    return merged


def _read_dotenv() -> dict[str, str | None]:
    path = Path(DOTENV)
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.absolute()} cannot be read: {error}") from None


def _explain(fault: ErrorDetails) -> str:
    """One line that names the variable, the value and the limit."""
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {place}; {_SEE_EXAMPLE}"
    name = PREFIX + place.replace(".", "__").upper()
    limit = fault["msg"].removeprefix("Value error, ")
    return f"{name}={fault['input']!r}: {limit[:1].lower()}{limit[1:]}"


def _user_folder(kind: str) -> Path:
    from platformdirs import user_cache_path, user_data_path

    return (user_data_path if kind == "data" else user_cache_path)("cognitive_memory", False)
