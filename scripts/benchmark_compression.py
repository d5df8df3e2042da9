"""What do smaller vectors cost? Size, search time and recall of float32, float16, int8 and binary.

    python scripts/benchmark_compression.py --data DIR [--rows 100000] [--json FILE]

With ``turns.jsonl`` and ``questions.jsonl`` in DIR (as in LoCoMo: Maharana et al. 2024). The
columns:

    KB/1k       size of a thousand rows
    search      median seconds of one search over ``--rows`` random rows, over float32's; the kinds
                take turns, and times are ratios of one run
    recall@10   share of float32's ten best that come back, all conversations in one index
    frac@10     share of the turns that answer a question among its ten best (categories 1-4),
                one index for each conversation; documents are "speaker: text", nothing but dense
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cognitive_memory import Settings
from cognitive_memory.core.compressed_vectors import VectorKind, compress
from cognitive_memory.core.interfaces import EmbeddingProvider
from cognitive_memory.core.similarity import Vector, normalize
from cognitive_memory.factory import create_embedding_provider

DEPTH = 10
COUNTED = {1, 2, 3, 4}


@dataclass(frozen=True)
class Variant:
    """A row of the table; ``originals``: rescoring reads the rows before compression."""

    name: str
    kind: VectorKind
    rescore: int = 1
    originals: type[np.floating[Any]] | None = None


VARIANTS = (
    Variant("float32", "float32"),
    Variant("float16", "float16"),
    Variant("int8", "int8"),
    Variant("int8, 4x float16 rows", "int8", 4, np.float16),
    Variant("binary", "binary"),
    Variant("binary, 4x bits", "binary", 4),
    Variant("binary, 4x float16 rows", "binary", 4, np.float16),
    Variant("binary, 10x float16 rows", "binary", 10, np.float16),
)


@dataclass(frozen=True)
class Conversation:
    """The rows of its turns (n, dim), those of its questions (q, dim), and which turns answer."""

    rows: Vector
    queries: Vector
    relevant: Sequence[frozenset[int]]


class Searcher:
    """One variant over some rows: the places of the ten best for a query."""

    def __init__(self, rows: Vector, variant: Variant) -> None:
        self.compressed = compress(rows, variant.kind)
        self.rescore = variant.rescore
        self.originals = None if variant.originals is None else rows.astype(variant.originals)

    def __call__(self, query: Vector) -> NDArray[np.intp]:
        return self.compressed.search(query, DEPTH, self.rescore, self.originals)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of the benchmark's files")
    add("--rows", type=int, default=100_000, help="rows of the timed searches (default: 100000)")
    add("--rounds", type=int, default=21, help="timed searches of each kind (default: 21)")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    with create_embedding_provider(Settings()) as provider:
        conversations = load(options.data, provider)
        dimension = provider.dimension
    ratios = time_ratios(options.rows, dimension, options.rounds)
    report = [
        {
            "name": variant.name,
            "bytes_per_row": compress(conversations[0].rows[:1], variant.kind).nbytes,
            "search_ratio": ratios[variant.name],
            "recall@10": recall(conversations, variant),
            "frac@10": frac(conversations, variant),
        }
        for variant in VARIANTS
    ]
    print_report(report, options.rows, dimension)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def load(data: Path, provider: EmbeddingProvider) -> list[Conversation]:
    """Every conversation with those of its questions that count and have an answer in it."""
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in read_lines(data / "turns.jsonl"):
        turns[turn["conversation"]].append(turn)
    asked = [line for line in read_lines(data / "questions.jsonl") if line["category"] in COUNTED]
    found = []
    for name, lines in turns.items():
        places = {line["turn"]: place for place, line in enumerate(lines)}
        questions = [
            (line["question"], relevant)
            for line in asked
            if line["conversation"] == name
            and (relevant := frozenset(places[x] for x in line["evidence"] if x in places))
        ]
        rows = provider.encode_batch([f"{line['speaker']}: {line['text']}" for line in lines])
        queries = [provider.encode_query(question) for question, _ in questions]
        found.append(Conversation(rows, np.stack(queries), [relevant for _, relevant in questions]))
    return found


def time_ratios(count: int, dimension: int, rounds: int) -> dict[str, float]:
    """Median seconds of a search over ``count`` random rows, over those of the first variant."""
    rng = np.random.default_rng(0)
    rows = normalize(rng.standard_normal((count, dimension), dtype=np.float32))
    queries = normalize(rng.standard_normal((rounds, dimension), dtype=np.float32))
    searchers = {variant.name: Searcher(rows, variant) for variant in VARIANTS}
    seconds = defaultdict(list)
    for search in searchers.values():
        search(queries[0])
    for query in queries:
        for name, search in searchers.items():
            started = time.perf_counter()
            search(query)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    return {name: median / medians[VARIANTS[0].name] for name, median in medians.items()}


def recall(conversations: Sequence[Conversation], variant: Variant) -> float:
    rows = np.concatenate([each.rows for each in conversations])
    exact, search = Searcher(rows, VARIANTS[0]), Searcher(rows, variant)
    shares = [
        len(set(exact(query).tolist()).intersection(search(query).tolist())) / DEPTH
        for each in conversations
        for query in each.queries
    ]
    return float(np.mean(shares))


def frac(conversations: Sequence[Conversation], variant: Variant) -> float:
    shares = []
    for each in conversations:
        search = Searcher(each.rows, variant)
        for query, relevant in zip(each.queries, each.relevant, strict=True):
            shares.append(len(relevant.intersection(search(query).tolist())) / len(relevant))
    return float(np.mean(shares))


def print_report(report: Sequence[dict[str, Any]], rows: int, dimension: int) -> None:
    print(f"{dimension} dimensions; search over {rows:,} rows, times float32's\n")
    print(f"{'':26}{'KB/1k':>8}{'search':>9}{'recall@10':>11}{'frac@10':>9}{'kept':>8}")
    base = report[0]["frac@10"]
    for line in report:
        print(
            f"{line['name']:26}{line['bytes_per_row']:8}{line['search_ratio']:9.2f}"
            f"{line['recall@10']:11.4f}{line['frac@10']:9.4f}{line['frac@10'] / base:8.1%}"
        )


if __name__ == "__main__":
    main()
