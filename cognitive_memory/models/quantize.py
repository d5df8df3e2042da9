"""From a converted fp32 model to one in a faster precision, if it passes the gate.

The weights are read back from the portable graph, so nothing has to be fetched again. The folder
is written beside its final place, measured there, and moved only when it is good enough.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..core.errors import ConversionError, InvalidInputError, ModelIntegrityError
from ..core.interfaces import Report
from ..core.model_files import TOKENIZER_FILE, ModelConfig, check_model_file, record_file
from ..core.model_files import read_model_config as read_config
from ..encoding.onnx_provider import ONNXEmbeddingProvider
from ..encoding.texts import check_texts
from ..encoding.tokenization import TextTokenizer
from .architecture import Architecture, read_architecture
from .convert import ARCHITECTURE_FILE, check_replaceable, replacing, write_runtime_file
from .precision import EMBEDDINGS, PrecisionMap
from .quality import (
    Gate,
    HeldTexts,
    HeldVectors,
    Quality,
    as_record,
    compare,
    embed_held,
    load_calibration_texts,
    load_held_texts,
)
from .verify import cuts_expected

if TYPE_CHECKING:
    import onnx

    from .calibration import ChannelRange

METHODS = ("static", "dynamic")


def prepare_quantized(
    source: Path, target: Path, precision: str, report: Report | None = None
) -> ModelConfig:
    """Make ``target`` from the fp32 folder ``source``, all of it in ``precision``.

    Raises as ``quantize_model`` does.
    """
    return quantize_model(source, target, PrecisionMap({"default": precision}), report=report)


def quantize_model(
    source: Path,
    target: Path,
    precisions: PrecisionMap,
    *,
    method: str = "static",
    calibration: Sequence[str] | None = None,
    held: HeldTexts | None = None,
    gate: Gate | None = None,
    report: Report | None = None,
) -> ModelConfig:
    """Write the model folder ``target``, replacing it, and give its description.

    ``method`` says how what goes into an 8-bit product is quantized: ``static`` by ranges measured
    on ``calibration`` texts, ``dynamic`` by each token's own. Raises ``ModelNotFoundError`` and
    ``ModelIntegrityError`` for ``source``, ``InvalidInputError`` for a map or texts that do not
    fit, and ``ConversionError`` for a model that was not built here or a result below ``gate``
    (by default mean cosine 0.995, retention 99%); ``target`` is then as it was.
    """
    workshop = Quantizer(source, method, calibration, held, report or (lambda _: None))
    return workshop.make(target, precisions, gate or Gate())


class Quantizer:
    """One fp32 model, and what is known of it once calibration and reference have been measured.

    Raises as ``quantize_model`` does.
    """

    def __init__(
        self,
        source: Path,
        method: str = "static",
        calibration: Sequence[str] | None = None,
        held: HeldTexts | None = None,
        report: Report = lambda _: None,
    ) -> None:
        if method not in METHODS:
            raise InvalidInputError(f"got method {method!r}; known: {', '.join(METHODS)}")
        self.source = source
        self.config = read_config(source)
        self.layout = self._read_layout()
        self.architecture: Architecture = read_architecture(self.layout)
        self.method = method
        self.report = report
        self.held = held or load_held_texts()
        self._calibration = calibration
        self._weights: Mapping[str, Any] | None = None
        self._ranges: Mapping[str, ChannelRange] | None = None
        self._reference: HeldVectors | None = None

    def make(self, target: Path, precisions: PrecisionMap, gate: Gate) -> ModelConfig:
        """See ``quantize_model``."""
        title = f"{self.config.name} in {self.precision_of(precisions)}"
        if target.resolve() == self.source.resolve():
            raise InvalidInputError(f"{target} is the fp32 model itself; give another folder")
        check_replaceable(target, self.source.name)
        with replacing(target) as folder:
            config = self.write(folder, precisions)
            quality = self.measure(folder)
            self.report(f"{title}: {quality}")
            gate.check(quality, title)
            config = replace(config, quality=as_record(quality))
            config.write(folder)
        return config

    def precision_of(self, precisions: PrecisionMap) -> str:
        """What a model by this map is called: by the fewest bits that any part of it has."""
        precisions.check_layers(self.architecture.layers)
        kept = dict(precisions.parts(self.architecture)).values()
        precision = next((each for each in ("int8", "fp16") if each in kept), None)
        if precision is None:
            raise InvalidInputError("the precision map keeps everything in fp32: nothing to do")
        return precision

    def write(self, folder: Path, precisions: PrecisionMap) -> ModelConfig:
        """All files of the model, with a description that says nothing of its quality yet."""
        import onnx

        from .quantized_graph import parameters_digest

        precision = self.precision_of(precisions)
        model = self.build(precisions)
        name = self.config.name
        onnx.save(model, folder / f"{name}.onnx")
        names = [f"{name}.onnx", TOKENIZER_FILE, ARCHITECTURE_FILE]
        if "fp16" not in dict(precisions.parts(self.architecture)).values():
            write_runtime_file(folder / f"{name}.onnx", folder / f"{name}.ort")
            names.append(f"{name}.ort")
        # Else none: in a prepared file the casts would be done, and it twice as large.
        (folder / TOKENIZER_FILE).parent.mkdir(exist_ok=True)
        for copied in (TOKENIZER_FILE, ARCHITECTURE_FILE):
            shutil.copyfile(self.source / copied, folder / copied)
        config = replace(
            self.config,
            precision=precision,
            converter=f"{self.config.converter}, quantizer 1 ({self.method})",
            files={each: record_file(folder / each) for each in names},
            parameters_sha256=parameters_digest(model),
            precision_map=precisions.given,
        )
        config.write(folder)
        return config

    def build(self, precisions: PrecisionMap) -> onnx.ModelProto:
        """The graph with its parts in these precisions."""
        from .quantized_graph import QuantizedGraph

        weights = self._load_weights()
        parts = precisions.parts(self.architecture)
        multiplies = any(kept == "int8" for part, kept in parts if part != EMBEDDINGS)
        ranges = self._load_ranges() if multiplies and self.method == "static" else None
        return QuantizedGraph(weights, self.layout, self.config.pooling, precisions, ranges).build()

    def measure(self, folder: Path) -> Quality:
        """How near the model in ``folder`` is to the fp32 one on the held texts."""
        if self._reference is None:
            self._reference = _embed(self.source, self.held)
        return compare(_embed(folder, self.held), self._reference)

    def try_out(self, precisions: PrecisionMap) -> Quality:
        """The quality of a model that is not kept."""
        with TemporaryDirectory(prefix="quantize-") as folder:
            self.write(Path(folder), precisions)
            return self.measure(Path(folder))

    def _read_layout(self) -> dict[str, Any]:
        if self.config.precision != "fp32":
            raise ConversionError(
                f"{self.source} is in {self.config.precision}; only an fp32 model can be quantized"
            )
        if ARCHITECTURE_FILE not in self.config.files:
            raise ConversionError(
                f"{self.source} has no {ARCHITECTURE_FILE}, so its graph cannot be written anew: "
                "it was added as an ONNX file, or converted by an earlier version "
                f"(then run 'cognitive-memory model remove --force {self.config.name}' and pull it)"
            )
        path = check_model_file(self.source, self.config, ARCHITECTURE_FILE)
        layout: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return layout

    def _load_weights(self) -> Mapping[str, Any]:
        if self._weights is None:
            import onnx
            from google.protobuf.message import (  # type: ignore[import-untyped, unused-ignore]
                DecodeError,
            )

            from .encoder_graph import stored_weights

            path = check_model_file(self.source, self.config, f"{self.config.name}.onnx")
            try:
                self._weights = stored_weights(onnx.load(path), self.layout)
            except DecodeError as error:
                raise ModelIntegrityError(f"{path} is no ONNX file: {error}") from None
        return self._weights

    def _load_ranges(self) -> Mapping[str, ChannelRange]:
        if self._ranges is None:
            from .calibration import measure_ranges

            texts = self._calibration
            texts = load_calibration_texts() if texts is None else list(texts)
            self.report(f"calibrating {self.config.name} with {len(texts):,} texts")
            path = check_model_file(self.source, self.config, TOKENIZER_FILE)
            check_texts(texts)
            prompt = self.config.prompts.get("document", "")
            rows = TextTokenizer(path, self.config.max_length).tokenize(
                [prompt + text for text in texts]
            )
            self._ranges = measure_ranges(self._load_weights(), self.layout, rows.rows)
        return self._ranges


def _embed(folder: Path, held: HeldTexts) -> HeldVectors:
    with ONNXEmbeddingProvider(folder) as provider, cuts_expected():
        return embed_held(provider, held)
