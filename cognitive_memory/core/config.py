"""Settings: read once from arguments, environment, ``.env`` and defaults, in that order.

Names are ``COGNITIVE_MEMORY_`` plus the field, with ``__`` between levels. Unknown names are
refused, so that a misspelled variable is never silently without effect.

Frozen dataclasses with a reader for each field do it: importing pydantic takes as long as importing
NumPy and ONNX Runtime together, at every start, and pydantic-settings half as long again.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import ConfigurationError
from .setting_readers import (
    Reader,
    choice,
    flag,
    identifier,
    model_name,
    path,
    real,
    text,
    web_address,
    whole,
)

PREFIX = "COGNITIVE_MEMORY_"
DOTENV = ".env"
_SEE_EXAMPLE = "see .env.example for the names"

ALIASES: Mapping[str, str] = {
    "SQLITE_PATH": f"{PREFIX}STORAGE__PATH",
    "SENTENCE_BERT_MODEL": f"{PREFIX}EMBEDDING__MODEL",
    "EMBEDDING_BATCH_SIZE": f"{PREFIX}EMBEDDING__BATCH_SIZE",
    "EMBEDDING_DEVICE": f"{PREFIX}EMBEDDING__DEVICE",
    "QDRANT_URL": f"{PREFIX}QDRANT__URL",
    "QDRANT_API_KEY": f"{PREFIX}QDRANT__API_KEY",
}
"""Historic names, read where the name of today is not set."""


def setting(default: Any, read: Reader, description: str, *, secret: bool = False) -> Any:
    """A field that ``read`` makes of what was given; a secret one is never shown."""
    metadata = {"read": read, "description": description}
    return field(default=default, metadata=metadata, repr=not secret)


class _Group:
    """Fields filled from keywords, each by its reader; all faults are told at once."""

    def __init__(self, **values: Any) -> None:
        faults = self._fill(values, "")
        if faults:
            raise ConfigurationError("; ".join(faults))

    def _fill(self, values: Mapping[str, Any], place: str) -> list[str]:
        own = fields(self)  # type: ignore[arg-type]
        faults = [
            f"unknown setting {place}{name}; {_SEE_EXAMPLE}"
            for name in values
            if name not in {each.name for each in own}
        ]
        for each in own:
            value = values.get(each.name, each.default)
            if "group" in each.metadata:
                value, inner = each.metadata["group"]._made_of(value, f"{each.name}.")
                faults += inner
            elif each.name in values and not (value is None and each.default is None):
                try:
                    value = each.metadata["read"](value)
                except ValueError as error:
                    variable = f"{PREFIX}{place}{each.name}".replace(".", "__").upper()
                    shown = repr(value) if each.repr else "***"
                    faults.append(f"{variable}={shown}: {error}")
            object.__setattr__(self, each.name, value)
        return faults

    @classmethod
    def _made_of(cls, value: Any, place: str) -> tuple[Any, list[str]]:
        if isinstance(value, cls):
            return value, []
        made = object.__new__(cls)
        if value is not None and not isinstance(value, Mapping):
            return made, [f"{place[:-1]}={value!r}: it must be a mapping or {cls.__name__}"]
        return made, made._fill(value or {}, place)


@dataclass(frozen=True, init=False)
class EmbeddingSettings(_Group):
    """How text becomes vectors."""

    provider: str = setting(
        "onnx", text, "onnx, sentence-bert, openvino, static, or an installed entry point"
    )
    model: str = setting("all-MiniLM-L6-v2", model_name, "model name, or a folder of a ready model")
    precision: str | None = setting(
        None, choice("fp32", "fp16", "bf16", "int8"), "default: fp32, or what a given folder holds"
    )
    device: str = setting(
        "auto",
        choice("auto", "cpu", "cuda", "tensorrt", "coreml", "openvino"),
        "what computes; only auto may choose",
    )
    device_memory_mb: int = setting(0, whole(0), "most memory on cuda or tensorrt, 0: no limit")
    dimension: int | None = setting(
        None, whole(1), "shorter vectors, of a length the model is trained for"
    )
    token_budget: int = setting(512, whole(1), "tokens in one inference, padding included")
    batch_size: int = setting(32, whole(1), "texts in one inference, at most")
    workers: int = setting(0, whole(0), "inferences at once; 0: one for each usable core")
    threads: int = setting(0, whole(0), "threads on a single text; 0: all usable cores")
    optimization: str = setting(
        "all",
        choice("none", "basic", "extended", "all"),
        "all: prepared graph; others: portable graph, rewritten that far",
    )
    overflow: str = setting(
        "truncate",
        choice("truncate", "error", "chunk"),
        "what becomes of a text beyond the model's length",
    )
    warm_up: bool = setting(False, flag, "load the model in the background at once")
    cache_bytes: int = setting(33_554_432, whole(0), "embeddings kept in memory, 0: none")
    disk_cache_bytes: int = setting(0, whole(0), "embeddings kept on disk, 0: none")


@dataclass(frozen=True, init=False)
class StorageSettings(_Group):
    """Where memories are kept."""

    record: str = setting(
        "sqlite",
        choice("sqlite", "qdrant"),
        "sqlite: a file; qdrant: all in Qdrant, shared by many processes",
    )
    vectors: str = setting("sqlite", text, "sqlite, qdrant, or an installed entry point")
    path: Path | None = setting(None, path, "store file; default: memories.db in data_dir")
    synchronous: str = setting(
        "full",
        choice("full", "normal"),
        "full: a stored memory survives a power cut; normal: only a crash",
    )
    busy_timeout_seconds: float = setting(10.0, real(0, 86_400), "wait for another writer")
    duplicates: str = setting(
        "keep", choice("keep", "link", "merge"), "what becomes of a text that is stored already"
    )
    duplicate_similarity: float = setting(0.98, real(0.5, 1), "a duplicate from this cosine on")


@dataclass(frozen=True, init=False)
class RetrievalSettings(_Group):
    """How memories are ranked; a weight is the most that its part adds to a score.

    But for activation, which its weight multiplies.
    """

    semantic_weight: float = setting(1.0, real(0, 1_000), "of meaning: the cosine")
    lexical_weight: float = setting(0.5, real(0, 1_000), "of shared words")
    activation_weight: float = setting(1.0, real(0, 1_000), "of what connected memories pass on")
    speaker_weight: float = setting(
        0.3, real(0, 1_000), "of a speaker or author whom the query names"
    )
    importance_weight: float = setting(0.05, real(0, 1_000), "of the importance given to a memory")
    recency_weight: float = setting(0.0, real(0, 1_000), "of memories stored or shown lately")
    access_weight: float = setting(0.0, real(0, 1_000), "of memories shown often")
    dimensions_weight: float = setting(0.0, real(0, 1_000), "of a like mood, time and setting")
    episodic_half_life_days: float = setting(
        30.0, real(0.001, 1_000_000), "recency of what happened"
    )
    semantic_half_life_days: float = setting(365.0, real(0.001, 1_000_000), "recency of what holds")
    activation_hops: int = setting(2, whole(0, 10), "edges that activation travels")
    activation_decay: float = setting(1.0, real(0, 1), "share that each hop passes on")
    associative_weight: float = setting(0.0, real(0, 1), "of edges found by similarity")
    entity_weight: float = setting(0.0, real(0, 1), "of edges found by shared names")
    candidates: int = setting(200, whole(1, 1_000_000), "memories found by each search, at least")
    core_ratio: float = setting(0.75, real(0, 1), "core: this share of the best score")
    max_bridges: int = setting(3, whole(0), "connected memories shown beyond the ranking")


@dataclass(frozen=True, init=False)
class QdrantSettings(_Group):
    """A server or cluster of Qdrant; what is not set is left to the server.

    How a collection is kept (shards, replicas, HNSW, quantization) applies when it is made.
    """

    url: str | None = setting(None, web_address, "server; without one, path")
    path: Path | None = setting(None, path, "folder of the client's local mode, without a server")
    api_key: str | None = setting(None, text, "key of the server", secret=True)
    collection: str = setting("memories", identifier, "first part of the collections' names")
    project: str = setting("default", identifier, "tenant: its memories are seen by it alone")
    timeout_seconds: int = setting(10, whole(1, 3_600), "wait for an answer")
    prefer_grpc: bool = setting(False, flag, "speak gRPC instead of HTTP")
    grpc_port: int = setting(6334, whole(1, 65_535), "port of gRPC")
    flush_seconds: float = setting(
        2.0, real(0, 3_600), "wait at the end of a process for what was not sent yet"
    )
    batch_size: int = setting(256, whole(1, 10_000), "points in one request, at most")
    shard_number: int | None = setting(None, whole(1), "shards of a collection")
    replication_factor: int | None = setting(None, whole(1), "copies of each shard")
    write_consistency_factor: int | None = setting(
        None, whole(1), "copies that must confirm a write"
    )
    on_disk: bool = setting(False, flag, "keep vectors and payload on disk, not in memory")
    quantization: str = setting(
        "none", choice("none", "scalar", "binary", "product"), "compressed vectors to search by"
    )
    hnsw_m: int | None = setting(None, whole(0, 10_000), "edges of a node of the HNSW graph")
    hnsw_ef_construct: int | None = setting(None, whole(4, 100_000), "breadth of building it")
    search_ef: int | None = setting(None, whole(1, 100_000), "breadth of searching it")
    search_exact: bool = setting(False, flag, "compare with every vector instead")


def _group(kind: type[_Group]) -> Any:
    return field(default=None, metadata={"group": kind})


@dataclass(frozen=True, init=False)
class Settings(_Group):
    """All settings, frozen; a group is given as a mapping or as its object.

    Raises ``ConfigurationError`` for an unknown name, or for all invalid values at once.
    """

    data_dir: Path | None = setting(None, path, "folder of the store; default: user data")
    models_dir: Path | None = setting(None, path, "folder of models; default: user cache")
    offline: bool = setting(False, flag, "open no socket at all")
    max_text_bytes: int = setting(1_048_576, whole(1), "longest text of one memory, UTF-8")
    embedding: EmbeddingSettings = _group(EmbeddingSettings)
    storage: StorageSettings = _group(StorageSettings)
    retrieval: RetrievalSettings = _group(RetrievalSettings)
    qdrant: QdrantSettings = _group(QdrantSettings)

    def __init__(self, **values: Any) -> None:
        given = _merged(_nested(_read_dotenv(), DOTENV), _nested(os.environ, "the environment"))
        super().__init__(**_merged(given, values))

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


def environment_names() -> dict[str, Field[Any]]:
    """Each variable that sets something, with its field."""
    names: dict[str, Field[Any]] = {}
    for outer in fields(Settings):
        group = outer.metadata.get("group")
        if group is None:
            names[f"{PREFIX}{outer.name}".upper()] = outer
        else:
            for inner in fields(group):
                names[f"{PREFIX}{outer.name}__{inner.name}".upper()] = inner
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
    try:
        if not path.is_file():
            return {}
        from dotenv import dotenv_values

        return dotenv_values(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.absolute()} cannot be read: {error}") from None


def _user_folder(kind: str) -> Path:
    from platformdirs import user_cache_path, user_data_path

    return (user_data_path if kind == "data" else user_cache_path)("cognitive_memory", False)
