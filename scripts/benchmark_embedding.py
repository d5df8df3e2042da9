"""The provider and its peers side by side in one run, on equal weights, texts and threads.

    python -m pip install -r requirements/bench.txt
    python scripts/benchmark_embedding.py [--quick] [--threads N] [--json FILE] [--plot FILE.png]

Each engine lives in a process of its own, has the same threads and works while the others wait.
They take turns, measurement by measurement, for several rounds; figures are medians over the
rounds, ratios are taken within a round, so that whatever slows the machine meets all alike.

The share of the machine's peak: model FLOPs of the real tokens, neither padding nor what is cut
off, per second, over the best that NumPy's sgemm reached on as many threads in the same round,
where it is measured before each engine's turn. For a text of L tokens, with hidden size h and
intermediate size i:

    FLOPs = layers * (2 * (4 h^2 + 2 h i) * L + 4 h * L^2)

that is two for each weight of the matrix products and token, and the two products of attention;
embeddings, normalization and activations are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from embedding_peers import ENGINES, OURS, TORCH, Setup
from embedding_report import (
    agreement,
    busy_warning,
    headline_lines,
    headlines,
    plot,
    summary,
    tables,
)
from embedding_rounds import Bench, EngineError, Plan
from embedding_texts import MIXED, choose_texts, describe_texts
from machine import ForeignLoad, environment
from published_model import published_model

from cognitive_memory.core.resources import usable_cores

FULL = Plan(
    rounds=5,
    single_calls=40,
    calls={1: 100, 8: 25, 32: 8},
    idle_seconds=2.0,
    sgemm_repeats=5,
    is_short_measured=True,
)
QUICK = replace(FULL, rounds=1, single_calls=5, calls={1: 10, 8: 3, 32: 2}, trial_texts=32)


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = parse_options()
    plan = QUICK if options.quick else replace(FULL, rounds=options.rounds)
    with tempfile.TemporaryDirectory(prefix="benchmark-embedding-") as folder:
        scratch = Path(folder)
        model_dir = options.model_dir or published_model(scratch)
        try:
            report = measure(options, plan, model_dir, scratch)
        except EngineError as error:
            sys.exit(str(error))
    print(tables(report), end="\n\n")
    for reason in report["skipped"].values():
        print(f"skipped {reason}")
    report["headlines"] = headlines(report)
    print(headline_lines(report["headlines"], report))
    if warning := busy_warning(report):
        print(warning)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="100 texts and one round: does it work?")
    add("--texts", type=int, default=1000, help="paragraphs of mixed length")
    add("--rounds", type=int, default=FULL.rounds)
    add("--threads", type=int, default=usable_cores(), help="of each engine; default: all cores")
    add("--engines", default=",".join(ENGINES), help="names, separated by commas")
    add("--model-dir", type=Path, metavar="DIR", help="the published files; default: fetched")
    add(
        *("--python", "-p"),
        action="append",
        default=[],
        metavar="ENGINE=PYTHON",
        help="an interpreter of its own for an engine whose requirements clash with the others'",
    )
    add("--memory", action="store_true", help="peak memory of 100,000 texts (takes minutes)")
    add("--threads-test", action="store_true", help="32 threads that call encode at once")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--plot", type=Path, metavar="FILE", help="draw them here (needs matplotlib)")
    options = parser.parse_args()
    options.engines = list(dict.fromkeys([OURS, *options.engines.split(",")]))
    if unknown := set(options.engines) - set(ENGINES):
        parser.error(f"unknown engine {', '.join(unknown)}; known: {', '.join(ENGINES)}")
    options.python = dict(item.partition("=")[::2] for item in options.python)
    if unknown := set(options.python) - set(ENGINES):
        parser.error(f"--python {', '.join(unknown)}: expected one of {', '.join(ENGINES)}")
    if options.quick:
        options.texts = 100
    return options


def measure(
    options: argparse.Namespace, plan: Plan, model_dir: Path, scratch: Path
) -> dict[str, Any]:
    """The whole report, without its headlines."""
    limit = read_json(model_dir / "sentence_bert_config.json")["max_seq_length"]
    texts, lengths = choose_texts(options.texts, model_dir / "tokenizer.json", limit)
    (scratch / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    bench = Bench({}, options.python, scratch / "texts.json", scratch, plan, progress)
    skipped: dict[str, str] = {}
    common = Setup("", options.threads, model_dir=str(model_dir), max_length=limit)
    ready = prepare(bench, options.engines, skipped, common)
    load = ForeignLoad()
    records = bench.run(ready, skipped.__setitem__)
    foreign_cores = load.cores()
    if OURS not in records:
        raise EngineError(skipped[OURS])
    flops = model_flops(lengths[MIXED], read_json(model_dir / "config.json"))
    rounds = zip(*(record.sgemm_gflops for record in records.values()), strict=True)
    peaks = [max(measured) for measured in rounds]
    gflops = statistics.median(peaks)
    report = {
        "threads": options.threads,
        "rounds": plan.rounds,
        "environment": environment(foreign_cores),
        "texts": describe_texts(lengths),
        "sgemm": {
            "gflops": gflops,
            "ceiling_texts_per_second": options.texts * gflops * 1e9 / flops,
        },
        "mixed_flops": flops,
        "engines": {
            name: summary(record, lengths, flops, peaks) for name, record in records.items()
        },
        "skipped": skipped,
    }
    if TORCH in records:
        reference = np.load(bench.vectors(TORCH))
        for name, found in report["engines"].items():
            found["agreement"] = agreement(np.load(bench.vectors(name)), reference)
    if options.memory:
        report["memory"] = bench.memory(OURS, (100, 2_000) if options.quick else (1_000, 100_000))
    if options.threads_test:
        report["crowd"] = bench.crowd(OURS, 32)
    return report


def prepare(bench: Bench, names: list[str], skipped: dict[str, str], common: Setup) -> list[str]:
    """Fill ``bench.setups``; the engines that can run. What cannot goes to ``skipped``."""
    ready = []
    for name in names:
        stage = bench.scratch / name
        stage.mkdir()
        bench.setups[name] = replace(common, engine=name, stage=str(stage))
        try:
            learned = bench.prepare(name)
        except EngineError as error:
            if name == OURS:
                raise
            skipped[name] = str(error)
            continue
        common = replace(common, graph=learned.get("graph", common.graph))
        ready.append(name)
    return ready


def model_flops(lengths: Sequence[int], config: dict[str, Any]) -> float:
    """Floating point operations for texts of these lengths; the formula is above."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    tokens = np.asarray(lengths, dtype=np.float64)
    weights = 4 * hidden * hidden + 2 * hidden * inner
    each = 2 * weights * tokens + 4 * hidden * tokens**2
    return float(config["num_hidden_layers"] * each.sum())


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
