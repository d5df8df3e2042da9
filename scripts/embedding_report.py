"""What ``benchmark_embedding.py`` found, as a table, as ratios with their aims, and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embedding_peers import FASTEMBED, OURS, TORCH
from embedding_rounds import LATENCIES, Record
from embedding_texts import MIXED, SHORT

MEGABYTE = 1e6
SIZES = ("1", "8", "32")

Report = Mapping[str, Any]


def summary(
    record: Record, lengths: dict[str, list[int]], flops: float, peaks: Sequence[float]
) -> dict[str, Any]:
    """One engine's figures: medians over the rounds, percentiles over all calls."""
    latency: dict[str, dict[str, dict[str, float]]] = {}
    for texts, size in LATENCIES:
        p50, p95 = 1000 * np.percentile(record.calls[texts, size], [50, 95])
        latency.setdefault(texts, {})[str(size)] = {"p50": float(p50), "p95": float(p95)}
    shares = [
        flops / seconds / (gflops * 1e9)
        for seconds, gflops in zip(record.mixed_seconds, peaks, strict=True)
    ]
    return {
        "versions": record.versions,
        "batch": str(record.batch) if record.batch else "own",
        "best_of_batches_seconds": record.trials,
        "texts_per_second": {
            MIXED: len(lengths[MIXED]) / statistics.median(record.mixed_seconds),
            SHORT: len(lengths[SHORT]) / statistics.median(record.short_seconds),
        },
        "latency_ms": latency,
        "single_p50_ms": 1000 * statistics.median(record.single_p50_seconds),
        "sgemm_share": statistics.median(shares),
        "peak_bytes": record.peak_bytes,
        "start_seconds": statistics.median(record.start_seconds),
        "start_bytes": statistics.median(record.start_bytes),
        "alone_to_batch_error": record.alone_to_batch_error,
        "idle_cores": record.idle_cores,
        "rounds": {
            "mixed_seconds": record.mixed_seconds,
            "short_seconds": record.short_seconds,
            "sgemm_gflops": record.sgemm_gflops,
            "sgemm_share": shares,
            "single_p50_seconds": record.single_p50_seconds,
            "start_seconds": record.start_seconds,
            "start_bytes": record.start_bytes,
        },
    }


def agreement(vectors: Any, reference: Any) -> dict[str, float]:
    """How far (n, dim) unit rows are from those of the reference."""
    cosines = np.einsum("nd,nd->n", vectors.astype(np.float64), reference.astype(np.float64))
    return {
        "max_abs_error": float(np.abs(vectors - reference).max()),
        "min_cosine": float(cosines.min()),
        "mean_cosine": float(cosines.mean()),
    }


def tables(report: Report) -> str:
    """Two tables, speed and the rest, one line for each engine."""
    engines = report["engines"]
    at_sizes = [f"ms at {size}" for size in SIZES]
    speed = [["engine", "batch", "texts/s", "short/s", *at_sizes, "short ms at 1", "sgemm share"]]
    memory = ["peak MB", "start s", "start MB"]
    rest = [["engine", *memory, "max error", "min cosine", "alone vs batch", "idle cores"]]
    for name, found in engines.items():
        latency = found["latency_ms"]
        speed.append(
            [
                name,
                found["batch"],
                f"{found['texts_per_second']['mixed']:.0f}",
                f"{found['texts_per_second']['short']:.0f}",
                *(_p50_p95(latency["mixed"][size]) for size in SIZES),
                _p50_p95(latency["short"]["1"]),
                f"{found['sgemm_share']:.2f}",
            ]
        )
        agreement = found.get("agreement")
        rest.append(
            [
                name,
                f"{found['peak_bytes'] / MEGABYTE:.0f}",
                f"{found['start_seconds']:.2f}",
                f"{found['start_bytes'] / MEGABYTE:.0f}",
                f"{agreement['max_abs_error']:.1e}" if agreement else "-",
                f"{agreement['min_cosine']:.5f}" if agreement else "-",
                f"{found['alone_to_batch_error']:.1e}",
                f"{found['idle_cores']:.3f}",
            ]
        )
    return f"{aligned(speed)}\n\n{aligned(rest)}"


def headlines(report: Report) -> list[dict[str, Any]]:
    """The figures that have an aim, each with whether it was met; what has no peer is left out."""
    engines = report["engines"]
    ours = engines[OURS]
    rows = []
    for peer, aim in ((TORCH, 1.8), (FASTEMBED, 3.0)):
        if peer in engines:
            title = f"throughput / {peer} ({_batch_label(engines[peer])})"
            seconds = (engines[name]["rounds"]["mixed_seconds"] for name in (peer, OURS))
            rows.append(headline(title, ratios(*seconds), aim, at_least=True))
    shares = ours["rounds"]["sgemm_share"]
    rows.append(headline("share of the sgemm peak", shares, 0.75, at_least=True))
    if TORCH in engines:
        rows.append(headline("max abs error", [ours["agreement"]["max_abs_error"]], 1e-6))
        seconds = (engines[name]["rounds"]["single_p50_seconds"] for name in (OURS, TORCH))
        title = f"p50 of one {report['texts']['single']['tokens']}-token text / {TORCH}"
        rows.append(headline(title, ratios(*seconds), 0.6))
    rows.append(headline("start to first embedding, s", ours["rounds"]["start_seconds"], 0.35))
    megabytes = [size / MEGABYTE for size in ours["rounds"]["start_bytes"]]
    rows.append(headline("peak memory at that moment, MB", megabytes, 210))
    rows.append(headline("alone vs in a batch, max abs", [ours["alone_to_batch_error"]], 1e-6))
    return rows


def headline_lines(rows: Sequence[Mapping[str, Any]], report: Report) -> str:
    """The headlines, then what has no aim."""
    rounds = report["rounds"]
    lines = [[f"headline (median of rounds: {rounds})", "value", "range", "aim", ""]]
    for row in rows:
        spread = f"{_figure(row['lowest'])} to {_figure(row['highest'])}"
        sign = ">=" if row["at_least"] else "<="
        met = "met" if row["met"] else "MISSED"
        shown = [_figure(row["value"]), spread if row["rounds"] > 1 else ""]
        lines.append([row["title"], *shown, f"{sign} {row['aim']:g}", met])
    text = aligned(lines)
    if "memory" in report:
        text += "\n" + _memory_line(report["memory"])
    if "crowd" in report:
        crowd = report["crowd"]
        text += (
            f"\n{crowd['threads']} threads calling encode at once: "
            f"{crowd['ratio']:.2f} of the throughput of one encode_batch"
        )
    return text


def _figure(value: float) -> str:
    """Three digits; a share that is almost all, with those that tell it from all."""
    return f"{value:.5f}" if 0.99 <= value < 1 else f"{value:.3g}"


def busy_warning(report: Report) -> str:
    """What to say when other processes took part of the machine, else nothing."""
    foreign = report["environment"]["foreign_cores"]
    if foreign is None or foreign < 0.1:
        return ""
    return (
        f"other processes kept {foreign:.1f} cores busy meanwhile, which slows engines whose "
        "threads wait for each other more than the rest: these ratios are not to be quoted"
    )


def _memory_line(memory: Mapping[str, Any]) -> str:
    few, many = memory["few"], memory["many"]
    without = (many["peak_bytes"] - many["result_bytes"]) / (
        few["peak_bytes"] - few["result_bytes"]
    )
    return (
        f"peak memory of {many['texts']:,} texts: {many['peak_bytes'] / MEGABYTE:.0f} MB, "
        f"{many['peak_bytes'] / few['peak_bytes']:.2f} of that of {few['texts']:,}; "
        f"without the vectors themselves {without:.2f}"
    )


def plot(report: Report, path: Path) -> None:
    """Throughput under the sgemm ceiling, and latency by batch size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    engines = report["engines"]
    names = list(engines)
    colors = {name: "#08519c" if name == OURS else "#9e9e9e" for name in names}
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(13, 1.6 + 0.75 * len(names)), layout="constrained", sharey=True
    )
    _plot_throughput(left, report, colors)
    _plot_latency(right, engines)
    sizes = right.get_legend_handles_labels()
    figure.legend(*sizes, frameon=False, loc="outside lower right", ncols=len(SIZES))
    left.set_yticks(range(len(names)), [f"{name}\n{_batch_label(engines[name])}" for name in names])
    left.invert_yaxis()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(
        f"{report['texts']['mixed']['count']:,} paragraphs of real text, "
        f"{report['threads']} threads each, {report['environment']['processor']}",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _plot_throughput(axes: Any, report: Report, colors: Mapping[str, str]) -> None:
    rates = [found["texts_per_second"]["mixed"] for found in report["engines"].values()]
    bars = axes.barh(range(len(rates)), rates, height=0.6, color=list(colors.values()))
    axes.bar_label(bars, [f"{rate:.0f}" for rate in rates], padding=4)
    ceiling = report["sgemm"]["ceiling_texts_per_second"]
    axes.axvline(ceiling, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.12 * max(*rates, ceiling))
    axes.set_xlabel(f"texts per second (dashed: {ceiling:.0f}, at NumPy's sgemm speed)")
    axes.set_title("Throughput, mixed lengths", fontsize=11)


def _plot_latency(axes: Any, engines: Mapping[str, Any]) -> None:
    colors = ("#74a9cf", "#2b8cbe", "#045a8d")
    for place, (size, color) in enumerate(zip(SIZES, colors, strict=True)):
        found = [engine["latency_ms"]["mixed"][size] for engine in engines.values()]
        rows = [row + (place - 1) * 0.22 for row in range(len(found))]
        middle = [each["p50"] for each in found]
        late = [each["p95"] for each in found]
        axes.hlines(rows, middle, late, color=color, linewidth=1.5)
        axes.plot(middle, rows, "o", color=color, markersize=7, label=f"batch {size}")
        axes.plot(late, rows, "|", color=color, markersize=10, markeredgewidth=1.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("milliseconds for one call (dot: p50, tick: p95)")
    axes.set_title("Latency, mixed lengths", fontsize=11)


def _batch_label(found: Mapping[str, Any]) -> str:
    return "own batches" if found["batch"] == "own" else f"batch {found['batch']}"


def headline(
    title: str, values: Sequence[float], aim: float, *, at_least: bool = False
) -> dict[str, Any]:
    value = statistics.median(values)
    return {
        "title": title,
        "value": value,
        "lowest": min(values),
        "highest": max(values),
        "rounds": len(values),
        "aim": aim,
        "at_least": at_least,
        "met": value >= aim if at_least else value <= aim,
    }


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(above, below, strict=True)]


def _p50_p95(found: Mapping[str, float]) -> str:
    return f"{found['p50']:.1f} / {found['p95']:.1f}"


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *others)).rstrip())
    return "\n".join(lines)
