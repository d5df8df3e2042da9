"""What limits the embedding graph, and whether another form of it would be faster.

    python scripts/compare_graphs.py [--texts N] [--rounds N] [--budgets 128,256,...]

First a profile: the operators of the shipped graph by their share of the time. Then its forms
side by side: each embeds the same texts, they take turns, and every ratio is taken within a round
against the shipped form. Differences are against the shipped form's vectors, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from corpus import paragraphs
from numpy.typing import NDArray
from published_model import published_model

from cognitive_memory.core.resources import usable_cores
from cognitive_memory.encoding.batching import pad_batch, plan_batches
from cognitive_memory.encoding.runtime import import_runtime, open_session
from cognitive_memory.encoding.tokenization import TextTokenizer
from cognitive_memory.models.convert import write_runtime_file
from cognitive_memory.models.encoder_graph import FUSED_DOMAIN, EncoderGraph

MAX_LENGTH = 256
BUDGET, BATCH = 512, 32
BUDGETS = (128, 256, 384, 512, 768, 1024, 2048)

Rows = list[list[int]]
Floats = NDArray[np.float32]
Batches = list[NDArray[np.intp]]


class SkipNorm(EncoderGraph):
    """Residual and layer norm in one operator."""

    def add_and_norm(self, values: str, residual: str, name: str) -> str:
        inputs = [values, residual] + [
            self.constant(f"{name}.{part}", self.weight(f"{name}.{part}"))
            for part in ("weight", "bias")
        ]
        return self.op("SkipLayerNormalization", inputs, domain=FUSED_DOMAIN, epsilon=self.epsilon)


class MultiHead(EncoderGraph):
    """Matrix products for query, key and value, and attention without them."""

    def attention(self, tokens: str, mask: str, number: int) -> str:
        parts = [self.name(number, part) for part in self.family.projections]
        projected = [self.product(tokens, part) for part in parts]
        bias = self.constant(
            self.name(number, "query_key_value.bias"),
            np.concatenate([self.weight(f"{part}.bias") for part in parts]),
        )
        return self.op(
            "MultiHeadAttention",
            [*projected, bias, mask],
            domain=FUSED_DOMAIN,
            num_heads=self.heads,
        )


class Unmasked(EncoderGraph):
    """Attention without a mask: exact only where nothing is padded, the least that it can cost."""

    def attention_mask(self, mask: str, window: int | None = None) -> str:
        del mask, window
        return ""


class FlatProducts(EncoderGraph):
    """Bias inside the matrix product (Gemm on rows of tokens)."""

    def dense(self, inputs: str, name: str) -> str:
        weight = self.constant(f"{name}.weight", self.weight(f"{name}.weight").T)
        bias = self.constant(f"{name}.bias", self.weight(f"{name}.bias"))
        width = int(self.weight(f"{name}.weight").shape[1])
        rows = self.op("Reshape", [inputs, self.constant(f"rows_{width}", [-1, width])])
        product = self.op("Gemm", [rows, weight, bias])
        shape = self.op("Shape", ["input_ids"])
        last = self.constant("width_out", [self.hidden])
        return self.op("Reshape", [product, self.op("Concat", [shape, last], axis=0)])


class Runner:
    """One form of the graph: a file, and a way to call it."""

    def __init__(self, path: Path, *, binding: bool = False) -> None:
        begin = time.perf_counter()
        self.session = open_session(path, 1)
        self.open_seconds = time.perf_counter() - begin
        self.binding = binding

    def __call__(self, rows: Rows) -> Floats:
        """(n, dim) of one micro-batch."""
        ids, mask = pad_batch(rows)
        if not self.binding:
            feed = {"input_ids": ids, "attention_mask": mask}
            return np.asarray(self.session.run(["embeddings"], feed)[0])
        bound = self.session.io_binding()
        bound.bind_cpu_input("input_ids", ids)
        bound.bind_cpu_input("attention_mask", mask)
        bound.bind_output("embeddings")
        self.session.run_with_iobinding(bound)
        return np.asarray(bound.copy_outputs_to_cpu()[0])


@dataclass(frozen=True)
class Case:
    """What takes part: its name, one form of the graph, and the texts of each inference."""

    name: str
    run: Callable[[Rows], Floats]
    batches: Batches


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="compare-graphs-") as folder:
        source = published_model(Path(folder))
        graphs = write_forms(source, Path(folder))
        tokens = TextTokenizer(source / "tokenizer.json", MAX_LENGTH)
        rows = tokens.tokenize(paragraphs(options.texts)).rows
        shipped = "shipped: Attention, BiasGelu, Add + LayerNormalization"
        print(f"{sum(map(len, rows)):,} tokens in {len(rows):,} texts, {options.workers} workers")
        print_profile(graphs[shipped], rows, Path(folder))
        runners: dict[str, Callable[[Rows], Floats]] = {
            name: Runner(path) for name, path in graphs.items()
        }
        runners["shipped, with I/O binding"] = Runner(graphs[shipped], binding=True)
        print_ratios(
            "form of the graph",
            [Case(name, runner, batches_of(rows, BUDGET)) for name, runner in runners.items()],
            rows,
            options,
        )
        plans = {f"{BUDGET} tokens, few padded: shipped": batches_of(rows, BUDGET)}
        plans[f"{BUDGET} tokens, filled up"] = filled_batches(rows, BUDGET)
        plans["one text each"] = [np.array([index]) for index in range(len(rows))]
        for budget in options.budgets:
            plans[f"{budget:,} tokens"] = batches_of(rows, budget)
        print_ratios(
            "micro-batch",
            [Case(name, runners[shipped], batches) for name, batches in plans.items()],
            rows,
            options,
        )
        print_openings(graphs, options.rounds)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--texts", type=int, default=500, help="paragraphs of mixed length")
    add("--rounds", type=int, default=7)
    add("--workers", type=int, default=usable_cores(), help="inferences at once, a thread each")
    add("--budgets", default=",".join(map(str, BUDGETS)), help="token budgets to compare")
    options = parser.parse_args()
    options.budgets = [int(part) for part in options.budgets.split(",")]
    return options


def write_forms(source: Path, folder: Path) -> dict[str, Path]:
    """Every form as a file that maps into memory; the shipped one is the first."""
    from safetensors.numpy import load_file

    weights = load_file(source / "model.safetensors")
    config: Mapping[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kinds = {
        "shipped: Attention, BiasGelu, Add + LayerNormalization": (EncoderGraph, True),
        "SkipLayerNormalization": (SkipNorm, True),
        "MultiHeadAttention": (MultiHead, True),
        "Attention without mask (not exact where padded)": (Unmasked, True),
        "Gemm with bias": (FlatProducts, True),
        "standard operators": (EncoderGraph, False),
    }
    found = {}
    for number, (name, (kind, fused)) in enumerate(kinds.items()):
        graph = folder / f"{number}.onnx"
        onnx.save(kind(weights, config, fused).build(), graph)
        found[name] = graph.with_suffix(".ort")
        write_runtime_file(graph, found[name])
        if not number:
            found["shipped, as .onnx"] = graph
    return found


def print_profile(graph: Path, rows: Rows, folder: Path) -> None:
    """Operators by their share of the time of all, on one thread."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    for batch in batches_of(rows, BUDGET):
        ids, mask = pad_batch([rows[index] for index in batch])
        session.run(["embeddings"], {"input_ids": ids, "attention_mask": mask})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: Counter[str] = Counter()
    runs = 0
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
        elif event["name"] == "model_run":
            runs += event["dur"]
    print("\nshare of an inference's time, by operator (one thread)")
    for name, microseconds in spent.most_common(8):
        print(f"  {microseconds / runs:6.1%}  {name}")
    print(f"  {1 - sum(spent.values()) / runs:6.1%}  outside operators")


def batches_of(rows: Rows, budget: int) -> Batches:
    """As the provider plans them; its limit on texts grows with the budget here."""
    return plan_batches([len(row) for row in rows], budget, max(BATCH, budget // 16))


def filled_batches(rows: Rows, budget: int) -> Batches:
    """Each filled up to the budget, whatever the padding."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, min(BATCH, budget // len(rows[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def print_ratios(
    title: str, cases: Sequence[Case], rows: Rows, options: argparse.Namespace
) -> None:
    """Throughput of each against the first, the median over the rounds."""
    ratios: dict[str, list[float]] = {case.name: [] for case in cases}
    errors: dict[str, float] = {}
    with ThreadPoolExecutor(options.workers) as pool:

        def embed(case: Case) -> Floats:
            parts = pool.map(lambda batch: case.run([rows[index] for index in batch]), case.batches)
            vectors = np.concatenate(list(parts))
            return vectors[np.argsort(np.concatenate(case.batches))]

        reference = embed(cases[0])
        for case in cases:
            errors[case.name] = float(np.abs(embed(case) - reference).max())
        for number in range(options.rounds):
            seconds = {}
            # Each round in another order: a machine that slows down slows nobody in particular.
            for case in islice(cycle(cases), number, number + len(cases)):
                begin = time.perf_counter()
                embed(case)
                seconds[case.name] = time.perf_counter() - begin
            for name, taken in seconds.items():
                ratios[name].append(seconds[cases[0].name] / taken)
    print(f"\nthroughput by {title} (median; quartiles; largest difference of a value)")
    for name, found in ratios.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"  {middle:5.2f} x  ({low:.2f} to {high:.2f})  {errors[name]:.0e}  {name}")


def print_openings(graphs: Mapping[str, Path], rounds: int) -> None:
    """Seconds until a file is ready, here in a process that has imported the runtime."""
    print("\nmilliseconds to open (median)")
    for name in list(graphs)[:2]:
        taken = statistics.median(Runner(graphs[name]).open_seconds for _ in range(rounds))
        print(f"  {1000 * taken:6.1f}  {name}")


if __name__ == "__main__":
    main()
