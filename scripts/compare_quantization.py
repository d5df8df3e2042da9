"""What other ways to quantize the model give, beside the one that ``model quantize`` takes.

    python scripts/compare_quantization.py [--texts N] [--rounds N] [--only WORDS]

Each form is built from the published weights, calibrated (where it is static) with the package's
own texts, and embeds the same paragraphs on one thread. The columns:

    speed           texts a second of processor time over those of the fp32 form; forms take turns,
                    ratios are taken within a round, and the median is shown
    MB              size of the file that is loaded
    mean, min       cosine with the fp32 form's vectors
    alone           largest difference of a value between a text alone and in a batch
    retention       nDCG@10 on the package's held questions over that of the fp32 form
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from compare_graphs import BUDGET, Batches, Floats, Rows, Runner, batches_of
from corpus import paragraphs
from embedding_report import agreement, aligned
from published_model import published_model
from quantized_forms import FORMS, REFERENCE, Form

from cognitive_memory.encoding.tokenization import TextTokenizer
from cognitive_memory.models.calibration import measure_ranges
from cognitive_memory.models.convert import write_runtime_file
from cognitive_memory.models.precision import PrecisionMap
from cognitive_memory.models.quality import (
    HeldVectors,
    load_calibration_texts,
    load_held_texts,
    ndcg,
)
from cognitive_memory.models.quantized_graph import QuantizedGraph

MAX_LENGTH = 256
ALONE = 64
"""Texts that are embedded one by one, too."""


@dataclass(frozen=True)
class Texts:
    """Token ids of the paragraphs, and of held questions and the passages that answer them."""

    mixed: Rows
    queries: Rows
    passages: Rows


def main() -> None:
    options = parse_options()
    chosen = {name: form for name, form in FORMS.items() if options.only in name}
    chosen = {REFERENCE: FORMS[REFERENCE], **chosen}
    with tempfile.TemporaryDirectory(prefix="compare-quantization-") as folder:
        source = published_model(Path(folder))
        tokens = TextTokenizer(source / "tokenizer.json", MAX_LENGTH)
        paths = write_forms(chosen, source, tokens, Path(folder))
        held = load_held_texts()
        lists = (paragraphs(options.texts), held.queries, held.texts)
        texts = Texts(*(tokens.tokenize(each).rows for each in lists))
        runners = {name: Runner(path) for name, path in paths.items()}
        speeds = measure_speeds(runners, texts.mixed, options.rounds)
        print(table(runners, paths, speeds, texts))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--texts", type=int, default=500, help="paragraphs of mixed length (default: 500)")
    add("--rounds", type=int, default=5, help="(default: 5)")
    add("--only", default="", metavar="WORDS", help="forms whose name holds these words")
    return parser.parse_args()


def write_forms(
    forms: Mapping[str, Form], source: Path, tokens: TextTokenizer, folder: Path
) -> dict[str, Path]:
    """Each as a file: that which maps into memory, or the portable one where casts are done."""
    from safetensors.numpy import load_file

    weights = load_file(source / "model.safetensors")
    config: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    ranges = measure_ranges(weights, config, tokens.tokenize(load_calibration_texts()).rows)
    found = {}
    for number, (name, form) in enumerate(forms.items()):
        if issubclass(form.kind, QuantizedGraph):
            precisions = PrecisionMap.parse(form.parts)
            known = ranges if form.is_static else None
            graph = form.kind(weights, config, "mean", precisions, known).build()
        else:
            graph = form.kind(weights, config, True).build()
        path = folder / f"{number}.onnx"
        onnx.save(graph, path)
        found[name] = path
        if form.parts != "fp16":
            found[name] = path.with_suffix(".ort")
            write_runtime_file(path, found[name])
    return found


def embed(runner: Runner, rows: Rows, batches: Batches | None = None) -> Floats:
    """(n, dim), in the order of ``rows``."""
    planned = batches_of(rows, BUDGET) if batches is None else batches
    vectors = np.concatenate([runner([rows[index] for index in batch]) for batch in planned])
    return vectors[np.argsort(np.concatenate(planned))]


def measure_speeds(runners: Mapping[str, Runner], rows: Rows, rounds: int) -> dict[str, float]:
    """Median of each round's processor seconds of the reference over those of a form."""
    ratios: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    for runner in runners.values():
        embed(runner, rows[:ALONE])
    for number in range(rounds):
        seconds = {}
        first = number % len(names)
        # Each round begins with another: a machine that slows down slows nobody in particular.
        for name in (*names[first:], *names[:first]):
            begin = time.process_time()
            embed(runners[name], rows)
            seconds[name] = time.process_time() - begin
        for name, taken in seconds.items():
            ratios[name].append(seconds[REFERENCE] / taken)
    return {name: statistics.median(found) for name, found in ratios.items()}


def table(
    runners: Mapping[str, Runner],
    paths: Mapping[str, Path],
    speeds: Mapping[str, float],
    texts: Texts,
) -> str:
    """A line for each form."""
    reference = embed(runners[REFERENCE], texts.mixed)
    best = found_by(runners[REFERENCE], texts)
    lines = [["form", "speed", "MB", "mean", "min", "alone", "retention"]]
    for name, runner in runners.items():
        vectors = embed(runner, texts.mixed)
        cosines = agreement(vectors, reference)
        lines.append(
            [
                name,
                f"{speeds[name]:.2f}",
                f"{paths[name].stat().st_size / 1e6:.1f}",
                f"{cosines['mean_cosine']:.4f}",
                f"{cosines['min_cosine']:.4f}",
                f"{alone_error(runner, texts.mixed, vectors):.0e}",
                f"{found_by(runner, texts) / best:.1%}",
            ]
        )
    return aligned(lines)


def alone_error(runner: Runner, rows: Rows, together: Floats) -> float:
    """Largest difference of a value between some texts alone and ``together``."""
    alone = embed(runner, rows[:ALONE], [np.array([place]) for place in range(len(rows[:ALONE]))])
    return float(np.abs(alone - together[:ALONE]).max())


def found_by(runner: Runner, texts: Texts) -> float:
    """nDCG@10 on the held questions."""
    return ndcg(HeldVectors(embed(runner, texts.queries), embed(runner, texts.passages)))


if __name__ == "__main__":
    main()
