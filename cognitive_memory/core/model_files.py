"""A converted model on disk: what ``model_config.json`` says of it, and whether the bytes agree.

A model folder holds ``NAME.onnx`` (standard operators, for any runtime), ``NAME.ort`` (the same
arithmetic in fused operators, mapped into memory by ONNX Runtime), ``tokenizer/tokenizer.json``
and ``model_config.json``.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from .errors import ConfigurationError, ModelIntegrityError, ModelNotFoundError

CONFIG_FILE = "model_config.json"
TOKENIZER_FILE = "tokenizer/tokenizer.json"
FORMAT = 1

STATIC = "static"
"""The precision of a model that is a table of token vectors, and the provider of such."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that is known of a converted model."""

    name: str
    dimension: int
    max_length: int
    """Tokens in one inference, special tokens included."""
    pooling: str
    precision: str
    opset: int
    converter: str
    onnxruntime: str
    """Version that wrote the ``.ort`` file; an older runtime takes the ``.onnx`` file."""
    source: Mapping[str, str]
    """``weights_sha256`` and ``tokenizer_sha256``, and where they came from."""
    files: Mapping[str, FileRecord]
    architecture: str = "bert"
    """``model_type`` of the published ``config.json``."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What stands before a text: ``query`` before questions, ``document`` before all others."""
    dimensions: tuple[int, ...] = ()
    """Shorter lengths to which a vector may be cut (Matryoshka training), without ``dimension``."""
    parameters_sha256: str | None = None
    """Of the weights as they are computed with, where they are no longer those of the source."""
    precision_map: Mapping[str, str] = field(default_factory=dict)
    """Which part of the model is kept in which precision, where they differ."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """What was measured beside the fp32 model before this one was accepted."""
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """Two models with the same fingerprint give the same vectors.

        It covers what decides the vectors (weights, tokenizer, pooling, length, precision,
        prompts) and not how the graph is laid out, so another converter version keeps a store
        valid.
        """
        parts = [
            self.source["weights_sha256"],
            self.source["tokenizer_sha256"],
            self.pooling,
            str(self.max_length),
            self.precision,
        ]
        # Only where there are any: a store of a model without them keeps its fingerprint.
        parts += [f"{kind}={prompt}" for kind, prompt in sorted(self.prompts.items())]
        parts += [
            digest
            for digest in (self.source.get("architecture_sha256"), self.parameters_sha256)
            if digest is not None
        ]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return f"{self.name}/{self.precision}/{self.dimension}/{digest}"

    def cut_to(self, dimension: int | None) -> ModelConfig:
        """With vectors of that length, ``None`` for all of it.

        Raises ``ConfigurationError`` for a length that the model was not made for.
        """
        lengths = (self.dimension, *self.dimensions)
        if dimension not in (None, *lengths):
            raise ConfigurationError(
                f"COGNITIVE_MEMORY_EMBEDDING__DIMENSION={dimension}: {self.name} gives "
                f"{', '.join(map(str, lengths))} and no other length; set one of them, or none"
            )
        return replace(self, dimension=dimension or self.dimension)

    def write(self, folder: Path) -> None:
        """Write ``model_config.json`` into ``folder``."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def read_model_config(folder: Path) -> ModelConfig:
    """What ``folder`` holds.

    Raises ``ModelNotFoundError`` without a ``model_config.json``, ``ModelIntegrityError`` for one
    that cannot be understood.
    """
    path = folder / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        files = {name: FileRecord(**record) for name, record in values.pop("files").items()}
        values["dimensions"] = tuple(values.get("dimensions", ()))
        config = ModelConfig(**values, files=files)
        config.fingerprint  # noqa: B018  a config without its hashes is no config
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"no model in {folder}; run 'cognitive-memory model pull'"
        ) from None
    except OSError as error:
        raise ModelIntegrityError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelIntegrityError(
            f"{path} is not a model description of format {FORMAT}; "
            "run 'cognitive-memory model pull' to replace it"
        ) from None
    if config.format != FORMAT:
        raise ModelIntegrityError(
            f"{path} has format {config.format}, this version reads {FORMAT}; "
            "run 'cognitive-memory model pull' to replace it"
        )
    return config


def record_file(path: Path) -> FileRecord:
    """The record of a file as it is now."""
    size = path.stat().st_size
    if size == 0:  # nothing can be mapped
        return FileRecord(hashlib.sha256().hexdigest(), 0)
    # Mapped and hashed in one call, which lets go of the interpreter lock once and for all; in
    # pieces, a thread beside busy ones would wait for the lock after each of them.
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return FileRecord(hashlib.sha256(content).hexdigest(), size)


def check_file(path: Path, expected: FileRecord, fix: str) -> None:
    """Raise ``ModelIntegrityError``, ending in ``fix``, unless every byte is as recorded."""
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            raise ModelIntegrityError(
                f"{path} has {size:,} bytes instead of {expected.bytes:,}; {fix}"
            )
        actual = record_file(path)
    except OSError as error:
        raise ModelIntegrityError(f"{path} cannot be read ({error.strerror}); {fix}") from None
    if actual != expected:
        raise ModelIntegrityError(
            f"{path} has SHA-256 {actual.sha256[:12]}… instead of {expected.sha256[:12]}…; {fix}"
        )


def check_model_file(folder: Path, config: ModelConfig, name: str) -> Path:
    """The path of a file of the model, after its bytes were checked.

    Raises ``ModelIntegrityError``.
    """
    fix = f"run 'cognitive-memory model {_replacing_command(config)}' to replace it"
    if name not in config.files:
        raise ModelIntegrityError(f"{folder / CONFIG_FILE} does not list {name}; {fix}")
    check_file(folder / name, config.files[name], fix)
    return folder / name


def _replacing_command(config: ModelConfig) -> str:
    if config.precision == "static":
        return f"distill {config.name}"
    if config.parameters_sha256 is not None:
        return f"quantize {config.name} --precision {config.precision}"
    if config.architecture == "onnx":
        return f"add {config.name} --replace --from PATH"
    return f"pull {config.name}"


class ModelFolder:
    """A converted model whose files are checked before they are given out.

    ``locate`` is called once, at the first use, and may take as long as a download.
    """

    def __init__(self, locate: Callable[[], Path]) -> None:
        self._locate = locate
        self._checks: dict[str, Future[Path]] = {}

    @cached_property
    def path(self) -> Path:
        """The folder."""
        return self._locate()

    @cached_property
    def config(self) -> ModelConfig:
        """What the folder says of itself; raises as ``read_model_config`` does."""
        return read_model_config(self.path)

    @property
    def graph(self) -> str:
        """Name of the portable graph."""
        return f"{self.config.name}.onnx"

    @property
    def runtime_graph(self) -> str:
        """Name of the graph as ONNX Runtime loads it fastest; some models have one graph only."""
        prepared = f"{self.config.name}.ort"
        return prepared if prepared in self.config.files else self.graph

    def begin_check(self, name: str) -> None:
        """Check a file in the background: hashing needs no interpreter lock."""
        if name in self._checks:
            return
        background = ThreadPoolExecutor(1)
        self._checks[name] = background.submit(check_model_file, self.path, self.config, name)
        background.shutdown(wait=False)

    def checked(self, name: str) -> Path:
        """The path of a file, every byte as recorded; raises ``ModelIntegrityError``."""
        check = self._checks.pop(name, None)
        return check.result() if check else check_model_file(self.path, self.config, name)

    def forget_checks(self) -> None:
        """Drop what runs in the background, whose threads do not exist in the child of a fork."""
        self._checks.clear()
