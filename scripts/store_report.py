"""What ``benchmark_stores.py`` found, as tables, as figures with their aims, and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embedding_report import MEGABYTE, aligned, headline, ratios
from store_peers import BARE, LOCAL, LOCAL_DOT, OURS, STORES
from store_rounds import Plan, Record

Report = Mapping[str, Any]

LATENCY_AIMS = {100_000: 8.0, 1_000_000: 80.0}  # ms
OPENING_AIMS = {100_000: 0.4, 1_000_000: 1.5}  # s
INSERT_AIM = 20_000.0  # vectors a second
LOCAL_SIZE, LOCAL_AIM = 20_000, 20.0
COLORS = ("black", "C0", "C9", "C3", "C1", "C4", "C6", "C8", "C2")  # of those that are searched


def summary(record: Record, size: int, plan: Plan) -> dict[str, Any]:
    """One store's figures at one size: medians over the rounds, percentiles over all calls."""
    build = record.build
    found: dict[str, Any] = {
        "insert": {
            "vectors_per_second": size / (build["insert_seconds"] + build["finish_seconds"]),
            **build,
        },
        "disk_bytes": record.disk_bytes,
    }
    if not record.open_seconds:
        return found
    with_imports = [
        sum(both) for both in zip(record.open_seconds, record.import_seconds, strict=True)
    ]
    return {
        **found,
        "open_seconds": statistics.median(record.open_seconds),
        "open_with_imports_seconds": statistics.median(with_imports),
        "memory": {"opened": record.opened, "searched": record.searched},
        "latency_ms": {
            "1": _percentiles(record.one_seconds),
            str(plan.batch): _percentiles(record.batch_seconds),
        },
        f"recall@{plan.k}": record.recall,
        "rounds": {
            "open_seconds": record.open_seconds,
            "import_seconds": record.import_seconds,
            "one_p50_ms": [1000 * statistics.median(each) for each in record.one_seconds],
            "batch_p50_ms": [1000 * statistics.median(each) for each in record.batch_seconds],
        },
    }


def tables(report: Report) -> str:
    """A table for each size, one line for each store."""
    batch, k = report["plan"]["batch"], report["plan"]["k"]
    head = ["insert/s", "ms at 1", f"ms at {batch}", f"recall@{k}", "open s", "with imports"]
    memory = ["MB opened", "searched", "of it own", "filling", "disk MB"]
    parts = []
    for size, stores in report["sizes"].items():
        rows = [[f"{int(size):,} vectors", *head, *memory]]
        rows += [[name, *_cells(found, batch, k)] for name, found in stores.items()]
        parts.append(aligned(rows))
    return "\n\n".join(parts)


def _cells(found: Mapping[str, Any], batch: int, k: int) -> list[str]:
    inserted = f"{found['insert']['vectors_per_second']:,.0f}"
    filling = _megabytes(found["insert"]["peak_bytes"])
    disk = _megabytes(found["disk_bytes"])
    if "open_seconds" not in found:
        return [inserted, *["-"] * 8, filling, disk]
    one, many = (found["latency_ms"][str(each)] for each in (1, batch))
    memory = found["memory"]
    return [
        inserted,
        f"{one['p50']:.2f} / {one['p95']:.2f}",
        f"{many['p50']:.1f} / {many['p95']:.1f}",
        f"{found[f'recall@{k}']['alone']:.4f}",
        f"{found['open_seconds']:.3f}",
        f"{found['open_with_imports_seconds']:.3f}",
        _megabytes(memory["opened"]["resident_bytes"]),
        _megabytes(memory["searched"]["resident_bytes"]),
        _megabytes(memory["searched"]["own_bytes"]),
        filling,
        disk,
    ]


def headlines(report: Report) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures that have an aim, each with whether it was met; those that were not measured."""
    rows: list[dict[str, Any]] = []
    missing: list[str] = []

    def add(title: str, size: int, values: Sequence[float], aim: float, at_least: bool) -> None:
        if values:
            rows.append(headline(f"{title}, {size:,}", values, aim, at_least=at_least))
        else:
            missing.append(f"{title}, {size:,}")

    for size, aim in LATENCY_AIMS.items():
        add("p50 of one query, ms", size, _rounds(report, size, OURS, "one_p50_ms"), aim, False)
    k = report["plan"]["k"]
    for size in report["sizes"]:
        found = report["sizes"][size].get(OURS)
        shares = [min(found[f"recall@{k}"].values())] if found else []
        add(f"recall@{k}", int(size), shares, 1.0, True)
    for peer in (LOCAL, LOCAL_DOT):
        pair = [_rounds(report, LOCAL_SIZE, name, "one_p50_ms") for name in (peer, OURS)]
        faster = ratios(*pair) if all(pair) else []
        add(f"p50 of {peer} / {OURS}", LOCAL_SIZE, faster, LOCAL_AIM, True)
    for size, aim in OPENING_AIMS.items():
        opening = _rounds(report, size, OURS, "open_seconds")
        add("opening to the first result, s", size, opening, aim, False)
    for size in LATENCY_AIMS:
        found = report["sizes"].get(str(size), {}).get(OURS)
        rate = [found["insert"]["vectors_per_second"]] if found else []
        add("ready vectors inserted a second", size, rate, INSERT_AIM, True)
    return rows, missing


def bare_lines(report: Report) -> list[str]:
    """How near the store is to the bare product: tells it from a machine whose memory is slow."""
    lines = []
    for size in report["sizes"]:
        pair = [_rounds(report, int(size), name, "one_p50_ms") for name in (OURS, BARE)]
        if all(pair):
            ratio = statistics.median(ratios(*pair))
            lines.append(f"p50 of {OURS} / {BARE}, {int(size):,}: {ratio:.2f}")
    return lines


def _rounds(report: Report, size: int, name: str, what: str) -> list[float]:
    found = report["sizes"].get(str(size), {}).get(name)
    values: list[float] = found["rounds"][what] if found else []
    return values


def left_out_lines(report: Report) -> str:
    """What was not measured, and why."""
    lines = [f"skipped {reason}" for reason in report["skipped"].values()]
    for name, reasons in report["left_out"].items():
        lines += [f"left out {name} at {reason}" for reason in reasons]
    return "\n".join(lines)


def plot(report: Report, path: Path) -> None:
    """Latency by size, a line for each store; opening at the largest size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    searched = [name for name, kind in STORES.items() if kind.is_searched]
    colors = dict(zip(searched, COLORS, strict=True))
    _plot_latency(left, report["sizes"], colors)
    _plot_opening(right, report["sizes"], colors)
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    plan, machine = report["plan"], report["environment"]["processor"]
    figure.suptitle(
        f"{plan['dimension']} dimensions, {plan['threads']} threads each, {machine}", fontsize=10
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _plot_latency(axes: Any, sizes: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    for name, color in colors.items():
        points = [
            (int(size), stores[name]["latency_ms"]["1"]["p50"])
            for size, stores in sizes.items()
            if "latency_ms" in stores.get(name, {})
        ]
        if points:
            width = 2.5 if name == OURS else 1.5
            axes.plot(*zip(*points, strict=True), "o-", color=color, linewidth=width, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([int(size) for size in sizes], [f"{int(size):,}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_xlabel("vectors")
    axes.set_ylabel("milliseconds for one query, p50")
    axes.set_title("Latency", fontsize=11)


def _plot_opening(axes: Any, sizes: Mapping[str, Any], colors: Mapping[str, str]) -> None:
    size, stores = max(sizes.items(), key=lambda item: int(item[0]))
    opened = {name: found for name, found in stores.items() if "open_seconds" in found}
    places = range(len(opened))
    opening = [found["open_seconds"] for found in opened.values()]
    whole = [found["open_with_imports_seconds"] for found in opened.values()]
    axes.barh(places, whole, height=0.6, color="#d9d9d9", label="with imports")
    axes.barh(places, opening, height=0.6, color=[colors[name] for name in opened])
    for place, found in enumerate(opened.values()):
        text = f" {found['open_seconds']:.3f} / {found['open_with_imports_seconds']:.3f}"
        axes.text(found["open_with_imports_seconds"], place, text, va="center", fontsize=9)
    axes.set_yticks(places, opened)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.3 * max(whole, default=1))
    axes.set_xlabel("seconds from opening to the first result / with imports (gray)")
    axes.set_title(f"Opening {int(size):,} vectors in a new process", fontsize=11)


def _percentiles(seconds: Sequence[Sequence[float]]) -> dict[str, float]:
    calls = [call for each in seconds for call in each]
    p50, p95 = 1000 * np.percentile(calls, [50, 95])
    return {"p50": float(p50), "p95": float(p95)}


def _megabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / MEGABYTE:,.0f}"
