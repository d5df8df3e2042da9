"""Speed against retention: the plot of ``benchmark_precisions.py``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedding_peers import TORCH

Report = Mapping[str, Any]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

POINT = 6.0
"""Half the width that is kept free for a point, in points of 1/72 inch."""

OFFSETS = [
    (across * step, up * step)
    for step in (12, 18, 26, 36, 48, 62, 78, 96, 116, 140)
    for across, up in (
        *((0, 1), (0, -1), (0.8, 0.7), (-0.8, 0.7), (0.8, -0.7), (-0.8, -0.7)),
        *((1.5, 0.4), (-1.5, 0.4), (1.5, -0.4), (-1.5, -0.4)),
    )
]
"""Where a label may stand beside its point, in points of 1/72 inch, from near to far."""

STEPS = [step / 20 for step in range(20)]


def plot(report: Report, path: Path) -> None:
    """A labeled point for each row that has a retention; the models one below the other."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["variants"].values():
        if "retention" in row:
            families.setdefault(row["family"], []).append(row)
    if not families:
        sys.exit("nothing to plot: no row has its fp32 model beside it")
    figure, panels = pyplot.subplots(
        len(families),
        1,
        figsize=(11, 0.8 + 5.2 * len(families)),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for axes, (family, rows) in zip(panels[:, 0], families.items(), strict=True):
        _draw(axes, family, rows)
    panels[-1, 0].set_xlabel("texts per second")
    figure.suptitle(
        f"{report['retrieval']}; {report['texts']['mixed']['count']:,} paragraphs, "
        f"{report['threads']} threads each, {report['environment']['processor']}",
        fontsize=10,
    )
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels stand where there is room now
    for axes, rows in zip(panels[:, 0], families.values(), strict=True):
        _label(axes, rows, figure.dpi / 72)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw(axes: Any, family: str, rows: list[Mapping[str, Any]]) -> None:
    """The points of one model."""
    axes.plot(*zip(*map(_place, rows), strict=True), "o", color="#08519c", markersize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.16, y=0.3)
    axes.axhline(99, color="#9e9e9e", linestyle="--", linewidth=1)
    axes.set_title(family, fontsize=11, loc="left")
    axes.set_ylabel("% of what fp32 finds (dashed: 99)")
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["texts_per_second"], 100 * row["retention"]


def _text(row: Mapping[str, Any]) -> str:
    """Precision and runtime, and the two figures."""
    precision = "" if row["runtime"] == row["precision"] else f"{row['precision']} "
    runtime = row["runtime"].removesuffix(f"-{row['precision']}")
    name = "torch fp32" if runtime == TORCH else f"{precision}{runtime}"
    return f"{name}\n{row['texts_per_second']:,.0f}/s, {row['retention']:.1%}"


def _label(axes: Any, rows: list[Mapping[str, Any]], unit: float) -> None:
    """Beside each point, where nothing else is yet; ``unit`` is a point of 1/72 inch in pixels."""
    centers = [axes.transData.transform(_place(row)) for row in rows]
    half = POINT * unit
    points = [(x - half, y - half, x + half, y + half) for x, y in centers]
    labels: list[Box] = []
    lines: list[Box] = []
    frame = tuple(axes.get_window_extent().extents)
    for row, center in zip(rows, centers, strict=True):
        size = _measure(axes, row)
        for offset in OFFSETS:
            box, line = _box(center, offset, size, unit), _line(center, offset, unit)
            if (
                _holds(frame, box)
                and not any(_overlap(box, other) for other in (*points, *labels))
                and not any(_crosses(line, other) for other in labels)
                and not any(_crosses(other, box) for other in lines)
            ):
                break
        labels.append(box)
        lines.append(line)
        axes.annotate(
            _text(row),
            _place(row),
            offset,
            textcoords="offset points",
            ha=_alignment(offset[0]),
            va="bottom" if offset[1] > 0 else "top",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            arrowprops={"arrowstyle": "-", "color": "#9e9e9e", "linewidth": 0.7},
        )


def _measure(axes: Any, row: Mapping[str, Any]) -> tuple[float, float]:
    """Width and height of a label in pixels."""
    label = axes.text(0, 0, _text(row), fontsize=8)
    extent = label.get_window_extent()
    label.remove()
    return extent.width + POINT, extent.height


def _alignment(across: float) -> str:
    return "center" if across == 0 else "left" if across > 0 else "right"


def _box(
    center: tuple[float, float],
    offset: tuple[float, float],
    size: tuple[float, float],
    unit: float,
) -> Box:
    """Of a label of ``size`` pixels, aligned as it will be."""
    x, y = (place + unit * by for place, by in zip(center, offset, strict=True))
    width, height = size
    left = x - {"center": width / 2, "left": 0, "right": width}[_alignment(offset[0])]
    bottom = y if offset[1] > 0 else y - height
    return left, bottom, left + width, bottom + height


def _line(center: tuple[float, float], offset: tuple[float, float], unit: float) -> Box:
    """From the point to its label."""
    return center[0], center[1], center[0] + unit * offset[0], center[1] + unit * offset[1]


def _crosses(line: Box, box: Box) -> bool:
    """Whether any of twenty places on a line lies in a box."""
    left, bottom, right, top = line
    places = ((left + t * (right - left), bottom + t * (top - bottom)) for t in STEPS)
    return any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in places)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _holds(frame: Box, box: Box) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]
