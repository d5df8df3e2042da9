"""The embedded store and its peers side by side in one run: filling, opening, searching.

    python -m pip install -r requirements/stores.txt
    python scripts/benchmark_stores.py [--sizes 10000,20000,100000] [--json FILE] [--plot FILE.png]

All hold the same seeded vectors and answer the same queries, each in processes of its own and
with the same threads, and take turns, so that whatever slows the machine meets all alike. Figures
are medians over the rounds, percentiles over the calls of all of them; ratios are taken within a
round. Recall is against the nearest in double precision, computed once for each size.

Filling: vectors are handed over in batches, ready as NumPy rows; the time includes what the store
needs before it can be searched and its data are in files. This store syncs each batch to the disk
(a power cut loses nothing); the others promise less. Opening: from a process that has imported
what it needs to its first result, with the files in the system's cache; imports, NumPy's too, are
shown apart. Searching: a query is a NumPy row, and what a store makes of it is counted. Memory:
resident after the first result and after all searches; own memory is what does not lie in mapped
files, which the system can take back; the most while filling is that of the process that fills.

A store that would take longer than --limit-seconds to fill is left out, and said so. A size of
1,000,000 needs about 10 GB of memory and 25 GB of disk for all stores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedding_report import busy_warning, headline_lines
from embedding_rounds import EngineError
from machine import ForeignLoad, environment
from store_peers import OURS, STORES
from store_report import bare_lines, headlines, left_out_lines, plot, summary, tables
from store_rounds import Bench, Plan, make_vectors, nearest

from cognitive_memory.core.resources import usable_cores

SIZES = (10_000, 20_000, 100_000)
DIMENSION = 384
NEAREST = 10


def main() -> None:
    """Measure, print, and write what was asked for."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="benchmark-stores-", dir=options.scratch) as folder:
        report = measure(options, Path(folder))
    print(tables(report), end="\n\n")
    if text := left_out_lines(report):
        print(text, end="\n\n")
    report["headlines"], missing = headlines(report)
    print(headline_lines(report["headlines"], report))
    print(*(f"not measured: {title}" for title in missing), *bare_lines(report), sep="\n")
    if warning := busy_warning(report):
        print(warning)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(report, options.plot)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sizes", default=",".join(map(str, SIZES)), help="numbers of vectors, with commas")
    add("--stores", default=",".join(STORES), help="names, separated by commas")
    add("--rounds", type=int, default=3)
    add("--queries", type=int, default=256, help="in each round")
    add("--batch", type=int, default=16, help="queries in a batch")
    add("--insert-batch", type=int, default=5_000, help="vectors inserted at once")
    add("--threads", type=int, default=min(2, usable_cores()), help="of each store")
    add("--limit-seconds", type=float, default=900.0, help="for filling one store")
    add("--scratch", type=Path, metavar="DIR", help="where the stores lie meanwhile")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--plot", type=Path, metavar="FILE", help="draw them here (needs matplotlib)")
    options = parser.parse_args()
    options.stores = list(dict.fromkeys([OURS, *options.stores.split(",")]))
    try:
        options.sizes = sorted({int(size) for size in options.sizes.split(",")})
    except ValueError:
        parser.error(f"got --sizes {options.sizes}; expected numbers such as 10000,100000")
    if fault := find_fault(options):
        parser.error(fault)
    return options


def find_fault(options: argparse.Namespace) -> str | None:
    """What is wrong with an option, ``None`` if nothing is."""
    if unknown := set(options.stores) - set(STORES):
        return f"unknown store {', '.join(unknown)}; known: {', '.join(STORES)}"
    if options.sizes[0] < NEAREST:
        return f"got a size of {options.sizes[0]}; it must be at least {NEAREST}"
    for name in ("rounds", "threads", "insert_batch"):
        if (value := getattr(options, name)) < 1:
            return f"got --{name.replace('_', '-')} {value}; it must be at least 1"
    if not 2 <= options.batch <= options.queries:
        return (
            f"got --batch {options.batch}; it must be at least 2 and at most the number of "
            f"queries, {options.queries}"
        )
    return None


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The whole report, without its headlines."""
    plan = Plan(
        options.threads,
        options.rounds,
        NEAREST,
        options.batch,
        options.insert_batch,
        options.limit_seconds,
    )
    vectors, queries = scratch / "vectors.npy", scratch / "queries.npy"
    progress(f"drawing {options.sizes[-1]:,} vectors")
    make_vectors(vectors, options.sizes[-1], queries, options.queries, DIMENSION)
    bench = Bench(plan, vectors, queries, scratch, progress)
    versions: dict[str, dict[str, str]] = {}
    skipped: dict[str, str] = {}
    for name in options.stores:
        try:
            versions[name] = bench.check(name)
        except EngineError as error:
            skipped[name] = str(error)
    load = ForeignLoad()
    sizes = {}
    for size in options.sizes:
        truth = nearest(vectors, size, queries, plan.k)
        records = bench.run(list(versions), size, truth)
        sizes[str(size)] = {name: summary(each, size, plan) for name, each in records.items()}
    return {
        "plan": {**asdict(plan), "queries": options.queries, "dimension": DIMENSION},
        "rounds": plan.rounds,
        "environment": environment(load.cores()),
        "versions": versions,
        "sizes": sizes,
        "left_out": bench.left_out,
        "skipped": skipped,
    }


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
