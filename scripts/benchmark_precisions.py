"""Every precision, engine and device of each model side by side in one run: speed and its cost.

    python -m pip install -r requirements/bench.txt
    python scripts/benchmark_precisions.py [--data DIR] [--quick] [--json FILE] [--plot FILE.png]

What is in the models folder is measured on whatever this machine has; what the default model lacks
(int8, fp16, static) is built there first. ``sentence-transformers`` takes part as the yardstick.
Each row lives in a process of its own, with the same threads, and works while the others wait; they
take turns. Figures are medians over the rounds, ratios are taken within a round. The columns:

    texts/s          paragraphs of mixed length in one call
    x fp32, x torch  that over the fp32 model's on the processor, and over sentence-transformers'
    ms at 1          p50 of one text of about 45 tokens
    file MB          what is loaded: the graph, or the table
    start s, MB      from before the process to after its first embedding, and its peak memory then
    peak MB          peak memory of the whole run
    mean, min        cosine with the fp32 model's vectors of the paragraphs
    alone            largest difference of a value between a text alone and in a batch
    retention        what it finds over what the fp32 model finds: frac@10 with --data (a folder of
                     turns.jsonl and questions.jsonl as in LoCoMo; documents are "speaker: text",
                     one index for each conversation, categories 1 to 4), else nDCG@10 on the
                     package's held questions
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from embedding_peers import TORCH
from embedding_report import agreement, busy_warning, headline_lines
from embedding_rounds import Bench, EngineError, Plan, Record
from embedding_texts import SHORT, choose_texts, describe_texts
from machine import ForeignLoad, environment
from precision_plot import plot
from precision_report import headlines, skipped_lines, summary, table
from precision_variants import RUNTIMES, Variant, build_missing, default_family, find_variants
from published_model import published_model
from retrieval_task import Task, conversation_task, held_task

from cognitive_memory import Settings
from cognitive_memory.core.errors import CognitiveMemoryError
from cognitive_memory.core.model_files import TOKENIZER_FILE, ModelFolder
from cognitive_memory.core.processor import detect_processor
from cognitive_memory.core.resources import usable_cores

FULL = Plan(rounds=5, single_calls=40)
QUICK = Plan(rounds=1, single_calls=5)


def main() -> None:
    """Build what is missing, measure, print, and write what was asked for."""
    options = parse_options()
    settings = Settings()
    skipped: dict[str, str] = {}
    try:
        if options.build and (not options.models or default_family(settings) in options.models):
            build_missing(settings, skipped, progress)
        variants = find_variants(settings, options.models, skipped)
        task = conversation_task(options.data) if options.data else held_task()
        with tempfile.TemporaryDirectory(prefix="benchmark-precisions-") as scratch:
            report = measure(options, variants, task, Path(scratch), skipped)
    except (CognitiveMemoryError, EngineError) as error:
        sys.exit(str(error))
    print_report(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="conversations and questions for the retention")
    add("--quick", action="store_true", help="100 texts and one round: does it work?")
    add("--texts", type=int, default=1000, help="paragraphs of mixed length")
    add("--rounds", type=int, default=FULL.rounds)
    add("--threads", type=int, default=usable_cores(), help="of each row; default: all cores")
    add("--models", default="", help="fp32 models, separated by commas; default: all there are")
    add("--no-build", dest="build", action="store_false", help="measure what is there")
    add("--model-dir", type=Path, metavar="DIR", help="published files; default: fetched")
    add(
        *("--python", "-p"),
        action="append",
        default=[],
        metavar="RUNTIME=PYTHON",
        help="an interpreter of its own for a runtime, such as sentence-transformers or onnx-cuda",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--plot", type=Path, metavar="FILE", help="draw them here (needs matplotlib)")
    options = parser.parse_args()
    options.models = [name for name in options.models.split(",") if name]
    options.python = dict(item.partition("=")[::2] for item in options.python)
    known = (*RUNTIMES, TORCH)
    if unknown := set(options.python) - set(known):
        parser.error(f"--python {', '.join(unknown)}: expected one of {', '.join(known)}")
    for name, value in (("threads", options.threads), ("rounds", options.rounds)):
        if value < 1:
            parser.error(f"got --{name} {value}; it must be at least 1")
    if options.quick:
        options.texts = 100
    return options


def measure(
    options: argparse.Namespace,
    variants: Sequence[Variant],
    task: Task,
    scratch: Path,
    skipped: dict[str, str],
) -> dict[str, Any]:
    """The whole report, without its headlines."""
    plan = QUICK if options.quick else replace(FULL, rounds=options.rounds)
    first = ModelFolder(lambda: variants[0].folder)
    tokenizer = first.checked(TOKENIZER_FILE)
    texts, lengths = choose_texts(options.texts, tokenizer, first.config.max_length)
    del texts[SHORT], lengths[SHORT]
    retrieval = {"documents": task.documents, "queries": task.queries}
    for name, content in (("texts.json", texts), ("retrieval.json", retrieval)):
        (scratch / name).write_text(json.dumps(content), encoding="utf-8")
    interpreters = {
        each.name: options.python[each.runtime]
        for each in variants
        if each.runtime in options.python
    }
    bench = Bench(
        {},
        interpreters,
        scratch / "texts.json",
        scratch,
        plan,
        progress,
        retrieval=scratch / "retrieval.json",
    )
    ready = prepare(bench, variants, options, skipped)
    load = ForeignLoad()
    records = bench.run(list(ready), lambda name, why: keep_reason(skipped, name, why))
    return {
        "threads": options.threads,
        "rounds": plan.rounds,
        "environment": environment(load.cores()),
        "has_amx": "amx_bf16" in (detect_processor().features or ()),
        "texts": describe_texts(lengths),
        "retrieval": task.title,
        "family": variants[0].family,
        "variants": {
            name: summary(ready[name], records, options.texts)
            | compared(bench, ready[name], records, task, options.texts)
            for name in records
        },
        "skipped": skipped,
    }


def prepare(
    bench: Bench,
    variants: Sequence[Variant],
    options: argparse.Namespace,
    skipped: dict[str, str],
) -> dict[str, Variant]:
    """The rows that this machine can run, by name; what it cannot goes to ``skipped``."""
    ready = {}
    for each in variants:
        variant = each
        bench.setups[variant.name] = variant.setup(options.threads)
        try:
            bench.prepare(variant.name)
        except EngineError as error:
            keep_reason(skipped, variant.name, str(error))
            continue
        if variant.runtime == TORCH:
            files = options.model_dir or published_model(bench.scratch)
            variant = replace(variant, folder=files)
            bench.setups[variant.name] = variant.setup(options.threads)
        ready[variant.name] = variant
    if not ready:
        raise EngineError(f"nothing can run here\n{skipped_lines(skipped)}")
    return ready


def compared(
    bench: Bench, variant: Variant, records: Mapping[str, Record], task: Task, count: int
) -> dict[str, Any]:
    """Agreement and retention beside the fp32 model, where that was measured."""
    score = retrieval_score(bench, variant.name, task)
    if variant.reference not in records:
        return {"score": score}
    found: dict[str, Any] = {
        "score": score,
        "retention": score / retrieval_score(bench, variant.reference, task),
    }
    rows, reference = (
        np.load(bench.vectors(name))[:count] for name in (variant.name, variant.reference)
    )
    if rows.shape == reference.shape:  # static embeddings are of another length
        found["agreement"] = agreement(rows, reference)
    return found


def retrieval_score(bench: Bench, name: str, task: Task) -> float:
    """What a row's vectors find."""
    vectors = np.load(bench.retrieval_vectors(name))
    return task.score(vectors["documents"], vectors["queries"])


def print_report(report: dict[str, Any]) -> None:
    """The table, what is missing in it and why, and the figures that have an aim."""
    print(f"retention by {report['retrieval']}")
    print(table(report), end="\n\n")
    if report["skipped"]:
        print(skipped_lines(report["skipped"]), end="\n\n")
    report["headlines"], missing = headlines(report)
    print(headline_lines(report["headlines"], report))
    for title in missing:
        print(f"not measured: {title}")
    if warning := busy_warning(report):
        print(warning)


def keep_reason(skipped: dict[str, str], name: str, reason: str) -> None:
    """Without the name that it begins with."""
    skipped[name] = reason.removeprefix(f"{name}: ")


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
