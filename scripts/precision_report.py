"""What ``benchmark_precisions.py`` found, as a table and as figures with their aims."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from embedding_peers import TORCH
from embedding_report import MEGABYTE, aligned, headline, ratios
from embedding_rounds import Record
from precision_variants import Variant

Report = Mapping[str, Any]

INT8, BF16 = "int8", "bf16"


def summary(variant: Variant, records: Mapping[str, Record], count: int) -> dict[str, Any]:
    """One row's own figures, and its speed beside the fp32 model and sentence-transformers."""
    record = records[variant.name]

    def times(other: str) -> list[float] | None:
        if other not in records:
            return None
        return ratios(records[other].mixed_seconds, record.mixed_seconds)

    return {
        "model": variant.model,
        "family": variant.family,
        "precision": variant.precision,
        "runtime": variant.runtime,
        "versions": record.versions,
        "texts_per_second": count / statistics.median(record.mixed_seconds),
        "single_p50_ms": 1000 * statistics.median(record.single_p50_seconds),
        "file_bytes": variant.file.stat().st_size,
        "start_seconds": statistics.median(record.start_seconds),
        "start_bytes": statistics.median(record.start_bytes),
        "peak_bytes": record.peak_bytes,
        "alone_to_batch_error": record.alone_to_batch_error,
        "rounds": {
            "mixed_seconds": record.mixed_seconds,
            "times_fp32": times(variant.reference),
            "times_torch": times(variant.yardstick),
            "single_p50_seconds": record.single_p50_seconds,
            "start_seconds": record.start_seconds,
            "start_bytes": record.start_bytes,
        },
    }


def table(report: Report) -> str:
    """A line for each row; a dash where there is nothing to compare with."""
    speed = ["texts/s", "x fp32", "x torch", "ms at 1"]
    cost = ["file MB", "start s", "start MB", "peak MB", "mean", "min", "alone", "retention"]
    lines = [["", *speed, *cost]]
    for name, found in report["variants"].items():
        agreement = found.get("agreement")
        lines.append(
            [
                name,
                f"{found['texts_per_second']:,.0f}",
                _times(found["rounds"]["times_fp32"]),
                _times(found["rounds"]["times_torch"]),
                f"{found['single_p50_ms']:.2f}",
                f"{found['file_bytes'] / MEGABYTE:.1f}",
                f"{found['start_seconds']:.2f}",
                f"{found['start_bytes'] / MEGABYTE:.0f}",
                f"{found['peak_bytes'] / MEGABYTE:.0f}",
                f"{agreement['mean_cosine']:.5f}" if agreement else "-",
                f"{agreement['min_cosine']:.5f}" if agreement else "-",
                f"{found['alone_to_batch_error']:.0e}",
                f"{found['retention']:.1%}" if "retention" in found else "-",
            ]
        )
    return aligned(lines)


def skipped_lines(skipped: Mapping[str, str]) -> str:
    """What was left out, once for each reason."""
    names = defaultdict(list)
    for name, reason in skipped.items():
        names[reason].append(name)
    return "\n".join(f"skipped {', '.join(each)}: {reason}" for reason, each in names.items())


def headlines(report: Report) -> tuple[list[dict[str, Any]], list[str]]:
    """The figures of the first model that have an aim; those that were not measured, and why."""
    rows = {
        found["runtime"] if found["precision"] in ("fp32", BF16) else found["precision"]: found
        for found in report["variants"].values()
        if found["family"] == report["family"] and found["runtime"] in _JUDGED
    }
    measured = [*_int8_headlines(rows), *_bf16_headlines(rows, report["has_amx"])]
    for name, found in rows.items():
        if name not in ("onnx", TORCH) and "retention" in found:
            measured.append((f"{name}: retention", [found["retention"]], 0.99, True))
    known = [
        headline(title, values, aim, at_least=at_least)
        for title, values, aim, at_least in measured
        if values
    ]
    return known, [title for title, values, _, _ in measured if not values]


Judged = tuple[str, Sequence[float] | None, float, bool]
"""Title, values of the rounds, aim, whether more is better."""

_JUDGED = ("onnx", "openvino", "openvino-bf16", TORCH)


def _int8_headlines(rows: Mapping[str, Any]) -> Iterator[Judged]:
    found = rows.get(INT8)
    if found is None:
        yield "int8: there is no such row", None, 0, True
        return
    rounds = found["rounds"]
    yield f"int8: throughput / {TORCH} (6 hoped for)", rounds["times_torch"], 4.5, True
    yield from _cosines("int8", found, mean=0.997, least=0.985)
    yield "int8: alone vs in a batch, max abs", [found["alone_to_batch_error"]], 1e-5, False
    yield "int8: start to first embedding, s", rounds["start_seconds"], 0.2, False
    megabytes = [size / MEGABYTE for size in rounds["start_bytes"]]
    yield "int8: peak memory at that moment, MB", megabytes, 120, False
    yield "int8: file, MB", [found["file_bytes"] / MEGABYTE], 26, False


def _bf16_headlines(rows: Mapping[str, Any], has_amx: bool) -> Iterator[Judged]:
    found = rows.get("openvino-bf16")
    if found is None:
        yield "bf16: there is no such row", None, 0, True
        return
    speed = found["rounds"]["times_torch"] if has_amx else None
    title = f"bf16: throughput / {TORCH}"
    yield title if has_amx else f"{title}: this processor has no AMX", speed, 5, True
    yield from _cosines("bf16", found, mean=None, least=0.9995)


def _cosines(
    name: str, found: Mapping[str, Any], *, mean: float | None, least: float
) -> Iterator[Judged]:
    agreement = found.get("agreement", {})
    for title, aim in (("mean_cosine", mean), ("min_cosine", least)):
        if aim is not None:
            values = [agreement[title]] if agreement else None
            yield f"{name}: {title.replace('_', ' ')} with fp32", values, aim, True


def _times(values: Sequence[float] | None) -> str:
    return f"{statistics.median(values):.2f}" if values else "-"
