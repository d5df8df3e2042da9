"""What a ranking is worth: any, all and frac recall, MRR and nDCG, with bootstrap intervals.

Three metrics are called "recall" in this field; for the first k of a ranking they are

    any   1 if it holds one of the relevant items
    all   1 if it holds all of them
    frac  the share of them that it holds

MRR is 1 / rank of the first relevant item; nDCG@10 counts each relevant item of the first ten
1 / log2(rank + 1), over the best possible sum (Jarvelin and Kekalainen 2002, binary gains).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

DEPTHS = (1, 5, 10, 20)
NAMES = (
    *(f"{kind}@{depth}" for kind in ("any", "all", "frac") for depth in DEPTHS),
    "MRR",
    "nDCG@10",
)
RESAMPLES = 2000


def measure(ranking: Sequence[str], relevant: Collection[str]) -> dict[str, float]:
    """All of ``NAMES`` for one question.

    >>> found = measure(["b", "a", "c"], {"a", "d"})
    >>> found["any@1"], found["any@5"], found["frac@5"], found["all@5"], found["MRR"]
    (0.0, 1.0, 0.5, 0.0, 0.5)
    """
    wanted = set(relevant)
    ranks = [rank for rank, item in enumerate(ranking, 1) if item in wanted]
    values: dict[str, float] = {}
    for depth in DEPTHS:
        found = sum(rank <= depth for rank in ranks)
        values[f"any@{depth}"] = float(found > 0)
        values[f"all@{depth}"] = float(found == len(wanted))
        values[f"frac@{depth}"] = found / len(wanted)
    values["MRR"] = 1 / ranks[0] if ranks else 0.0
    gained = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 10)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(wanted), 10) + 1))
    values["nDCG@10"] = gained / ideal
    return values


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the questions."""
    return {name: float(np.mean([row[name] for row in rows])) for name in NAMES}


def intervals(rows: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Of each mean, the 95% interval over questions drawn again with replacement."""
    table = np.array([[row[name] for name in NAMES] for row in rows])
    draws = np.random.default_rng(seed).integers(len(rows), size=(RESAMPLES, len(rows)))
    means = np.stack([table[draw].mean(axis=0) for draw in draws])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(NAMES)}
