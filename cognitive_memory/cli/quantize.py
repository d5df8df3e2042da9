"""``model quantize``: a model in a faster precision, if it is good enough."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InvalidInputError
from .common import DONE, add_command, print_result, read_settings, say

if TYPE_CHECKING:
    from ..models.quality import Gate


def add_quantize_command(actions: Any) -> None:
    """``model quantize``."""
    command = add_command(
        actions, "quantize", _model_quantize, "Make a model faster and smaller, within a gate."
    )
    add = command.add_argument
    add("name", nargs="?", help="an fp32 model; default: the configured one")
    add("--precision", choices=("int8", "fp16"), help="of all parts; default: int8")
    add(
        "--map", metavar="MAP", help="parts in precisions: int8,output=fp32,layer.0=fp16, or a file"
    )
    add("--search", action="store_true", help="find the fastest map that passes the gate")
    add(
        "--method",
        choices=("static", "dynamic"),
        default="static",
        help="static: ranges from calibration texts (default); dynamic: of each token",
    )
    add(
        "--texts",
        type=Path,
        metavar="FILE",
        help="to calibrate static ranges: one a line, or .jsonl",
    )
    add("--held", type=Path, metavar="FILE", help=".jsonl of query and text for the gate")
    add("--min-cosine", type=float, metavar="X", help="mean cosine with fp32; default: 0.995")
    add("--min-retention", type=float, metavar="X", help="share of its nDCG@10; default: 0.99")
    add("--out", type=Path, metavar="DIR", help="default: NAME-PRECISION in the models folder")


def _model_quantize(options: argparse.Namespace) -> int:
    from ..model_folders import prepare_teacher
    from ..models.precision import PrecisionMap
    from ..models.precision_search import find_fastest_map
    from ..models.quality import load_calibration_texts, load_held_texts
    from ..models.quantize import Quantizer

    _check_options(options)
    # What the user gives is read first: a fault in it is found before anything takes long.
    calibration = load_calibration_texts(options.texts)
    held = load_held_texts(options.held)
    gate = _gate(options)
    given = PrecisionMap.parse(
        (options.precision or "int8") if options.map is None else options.map
    )
    settings = read_settings()
    source = prepare_teacher(settings, options.name, report=say)
    workshop = Quantizer(source, options.method, calibration, held, say)
    if options.search:
        given = find_fastest_map(workshop.architecture, workshop.try_out, gate, say)
    precision = workshop.precision_of(given)
    target = options.out or settings.model_folder / f"{source.name}-{precision}"
    config = workshop.make(target, given, gate)
    size = sum(record.bytes for record in config.files.values())
    print_result(
        options,
        {
            "path": str(target),
            "fingerprint": config.fingerprint,
            "precision_map": dict(config.precision_map),
            "quality": dict(config.quality),
            "gate": asdict(gate),
        },
        [
            f"quantized and measured: {target} ({config.fingerprint}), {size / 1e6:.0f} MB",
            f"to use it, set {_use(options, source, target, precision)}",
        ],
    )
    return DONE


def _check_options(options: argparse.Namespace) -> None:
    """What would have no effect is refused, not ignored."""
    if options.map is not None and options.search:
        raise InvalidInputError("--map gives the map that --search looks for; use one of them")
    if options.precision is not None and (options.map is not None or options.search):
        raise InvalidInputError(
            "--precision is that of all parts, which --map and --search decide one by one; "
            "use one of them"
        )


def _gate(options: argparse.Namespace) -> Gate:
    from ..models.quality import Gate

    gate = Gate()
    for option, field, value in (
        ("--min-cosine", "mean_cosine", options.min_cosine),
        ("--min-retention", "retention", options.min_retention),
    ):
        if value is None:
            continue
        if not 0 <= value <= 1:
            raise InvalidInputError(f"{option} {value}: it must be between 0 and 1")
        gate = replace(gate, **{field: value})
    return gate


def _use(options: argparse.Namespace, source: Path, target: Path, precision: str) -> str:
    """The settings by which the new model is found."""
    model, kind = "COGNITIVE_MEMORY_EMBEDDING__MODEL", "COGNITIVE_MEMORY_EMBEDDING__PRECISION"
    if options.out is not None:
        return f"{model}={target.resolve()}"
    return f"{model}={source.name} {kind}={precision}" if options.name else f"{kind}={precision}"
