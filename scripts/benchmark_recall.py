"""Does the right memory come back? Recall on a public benchmark, and what each part adds.

    python scripts/benchmark_recall.py --data DIR [--quick] [--json FILE]

With ``turns.jsonl`` and ``questions.jsonl`` in DIR (as in LoCoMo: Maharana et al. 2024), each
conversation is loaded into a store of its own, as a user would load it, and each question is
recalled from it. With ``documents.jsonl`` (``id``, ``title``, ``text``) and ``queries.jsonl``
(``id``, ``text``, ``relevant``: ids) all documents go into one store.

No language model and no second model takes part: what is measured is which memories come back.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recall_metrics import DEPTHS, intervals, mean, measure

from cognitive_memory import Settings, create_system
from cognitive_memory.core.interfaces import CognitiveSystem

DEPTH = max(DEPTHS)
DEFAULT = "defaults"
DENSE = "dense only"
_MEANING = {
    "lexical_weight": 0,
    "activation_weight": 0,
    "speaker_weight": 0,
    "importance_weight": 0,
}
VARIANTS: Mapping[str, Mapping[str, float]] = {
    DENSE: _MEANING,
    "lexical only": {**_MEANING, "lexical_weight": 1, "semantic_weight": 0},
    "hybrid": {**_MEANING, "lexical_weight": 0.5},
    "+ activation": {"speaker_weight": 0},
    DEFAULT: {},
    "+ dimensions 0.1": {"dimensions_weight": 0.1},
    "+ recency 0.1": {"recency_weight": 0.1},
}
"""Name and retrieval settings; what is not named is as it comes out of the box."""

LINKED: Mapping[str, Mapping[str, float]] = {
    "+ associative edges 0.1": {"associative_weight": 0.1},
    "+ entity edges 0.1": {"entity_weight": 0.1},
}
"""Measured last, on stores in which the edges have been found by then."""


@dataclass(frozen=True)
class Question:
    """One question: its text, the ids of what answers it, and its group."""

    text: str
    relevant: frozenset[str]
    group: str


@dataclass(frozen=True)
class Collection:
    """One store's worth: its folder and its questions; ``key`` names the id in the metadata."""

    name: str
    folder: Path
    key: str
    questions: Sequence[Question]


def main() -> None:
    """Load, ask, print."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="benchmark-recall-") as scratch:
        if (options.data / "turns.jsonl").exists():
            collections = load_conversations(options.data, Path(scratch), options.quick)
        elif (options.data / "documents.jsonl").exists():
            collections = load_documents(options.data, Path(scratch))
        else:
            sys.exit(f"{options.data} holds neither turns.jsonl nor documents.jsonl")
        report = run(collections, options)
    print_report(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of the benchmark's files")
    add("--groups", default="1,2,3,4", help="question categories that count (default: 1,2,3,4)")
    add("--variants", help="only these rows, separated by commas; default: all")
    add("--quick", action="store_true", help="the first conversation only")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    options = parser.parse_args()
    known = [*VARIANTS, *LINKED]
    options.variants = options.variants.split(",") if options.variants else known
    if unknown := set(options.variants) - set(known):
        parser.error(f"unknown variant {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return options


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def load_conversations(data: Path, scratch: Path, quick: bool) -> list[Collection]:
    """A store for each conversation, filled by the loader from the lines as they are."""
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in read_lines(data / "turns.jsonl"):
        turns[turn["conversation"]].append(turn)
    asked = read_lines(data / "questions.jsonl")
    found = []
    for name, lines in list(turns.items())[: 1 if quick else None]:
        folder = scratch / name
        folder.mkdir()
        source = folder / f"{name}.jsonl"
        source.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        with create_system(settings(folder, {})) as system:
            system.load(source)
        known = {line["turn"] for line in lines}
        questions = [
            Question(each["question"], relevant, str(each["category"]))
            for each in asked
            if each["conversation"] == name
            and (relevant := frozenset(known.intersection(each["evidence"])))
        ]
        found.append(Collection(name, folder, "turn", questions))
        progress(f"loaded {name}: {len(lines)} turns, {len(questions)} questions")
    return found


def load_documents(data: Path, scratch: Path) -> list[Collection]:
    """One store of all documents."""
    documents = read_lines(data / "documents.jsonl")
    texts = ["\n\n".join(filter(None, (each.get("title"), each["text"]))) for each in documents]
    contexts = [{"metadata": {"document": str(each["id"])}} for each in documents]
    with create_system(settings(scratch, {})) as system:
        system.store_experiences(texts, contexts)
    known = {str(each["id"]) for each in documents}
    questions = [
        Question(each["text"], relevant, "all")
        for each in read_lines(data / "queries.jsonl")
        if (relevant := frozenset(known.intersection(map(str, each["relevant"]))))
    ]
    progress(f"loaded {len(documents)} documents, {len(questions)} queries")
    return [Collection(data.name, scratch, "document", questions)]


def settings(folder: Path, retrieval: Mapping[str, float]) -> Settings:
    return Settings(data_dir=folder, retrieval=retrieval)


def run(collections: Sequence[Collection], options: argparse.Namespace) -> dict[str, Any]:
    """Each variant over all questions: means with intervals, by group, and latencies."""
    counted = set(options.groups.split(",")) | {"all"}
    groups = [question.group for each in collections for question in each.questions]
    if counted.isdisjoint(groups):
        known = ", ".join(sorted(set(groups)))
        sys.exit(f"no question of the groups {options.groups}; there are {known or 'none at all'}")
    report: dict[str, Any] = {"questions": sum(group in counted for group in groups)}
    report["variants"] = {}
    is_linked = False
    for name in options.variants:
        if name in LINKED and not is_linked:
            link(collections)
            is_linked = True
        progress(f"asking: {name}")
        rows: dict[str, list[dict[str, float]]] = defaultdict(list)
        seconds: list[float] = []
        for collection in collections:
            given = {**VARIANTS, **LINKED}[name]
            with create_system(settings(collection.folder, given)) as system:
                system.search("warm up", k=1)
                for question, values, taken in ask(system, collection):
                    rows[question.group].append(values)
                    seconds.append(taken)
        every = [row for group in rows if group in counted for row in rows[group]]
        report["variants"][name] = {
            "mean": mean(every),
            "interval": intervals(every),
            "groups": {group: {"n": len(rows[group]), **mean(rows[group])} for group in rows},
            "p50_ms": 1000 * float(np.percentile(seconds, 50)),
            "p95_ms": 1000 * float(np.percentile(seconds, 95)),
        }
    return report


def ask(
    system: CognitiveSystem, collection: Collection
) -> Iterable[tuple[Question, dict[str, float], float]]:
    """Each question's metrics and the seconds that its recall took, query embedding included."""
    for question in collection.questions:
        begin = time.perf_counter()
        groups = system.retrieve_memories(question.text, max_results=DEPTH)
        taken = time.perf_counter() - begin
        ranking = [
            str(result.memory.metadata[collection.key])
            for result in [*groups["core"], *groups["peripheral"]]
        ]
        yield question, measure(ranking, question.relevant), taken


def link(collections: Sequence[Collection]) -> None:
    """Find the edges of like content and of shared names, in every store."""
    for collection in collections:
        with create_system(settings(collection.folder, {})) as system:
            report = system.consolidate_memories()
            system.undo_consolidation()
        progress(f"linked {collection.name}: {report}")


def print_report(report: Mapping[str, Any]) -> None:
    variants: Mapping[str, Any] = report["variants"]
    columns = ("any@5", "all@5", "frac@5", "any@10", "frac@10", "frac@20", "MRR", "nDCG@10")
    print(f"{'ranking':<24}" + "".join(f"{name:>9}" for name in columns) + "   p50 / p95 ms")
    for name, found in variants.items():
        print(
            f"{name:<24}"
            + "".join(f"{found['mean'][column]:>9.3f}" for column in columns)
            + f"{found['p50_ms']:>8.1f} / {found['p95_ms']:.1f}"
        )
    shown = DEFAULT if DEFAULT in variants else next(iter(variants))
    print(f"\n{shown}: every metric with its 95% bootstrap interval")
    for name, value in variants[shown]["mean"].items():
        low, high = variants[shown]["interval"][name]
        print(f"  {name:<8} {value:.3f}  ({low:.3f} to {high:.3f})")
    print("\nby category: questions, then frac@10 and any@5 of each ranking")
    for group in sorted(variants[shown]["groups"]):
        count = variants[shown]["groups"][group]["n"]
        print(f"  {group:<4}{count:>5}", end="")
        for name in (DENSE, DEFAULT):
            if name in variants:
                values = variants[name]["groups"][group]
                print(f"   {name} {values['frac@10']:.3f} {values['any@5']:.3f}", end="")
        print()


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
