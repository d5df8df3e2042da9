"""Text to 16 scores on named axes, by rules that a person can read and change.

The rules are data: ``dimension_rules.json``, whose format the docstring of ``dimension_rules``
describes. A text is split into tokens once, and what a token means to the rules is remembered, so
the cost hardly depends on the number of rules.

What counts: every entry found has the weight of its level, times the factor of an intensifier
right before it ("very"), times 0.5 for each earlier find of the same entry, at most 1. The score
of an axis is ``combine_weights`` of them: 0 without any, towards 1 with many. So it says that
something is in the text, not how much of the text it fills; long texts fill more axes.

Negation is simple: "not", "never", "without" and their like take back what begins within the next
three words of the clause ("not very happy", "no longer stuck"), on axes where that makes sense.
Irony, comparisons and negation from behind ("happy? hardly") are not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ..core.interfaces import DimensionExtractor
from ..core.similarity import Vector
from .dimension_lexicon import MARKS, NEGATION, Entry, Lexicon, Rule
from .dimension_rules import read_rules

GROUPS: Mapping[str, tuple[str, ...]] = {
    "emotional": ("frustration", "satisfaction", "curiosity", "stress"),
    "temporal": ("urgency", "deadline_pressure", "time_context"),
    "contextual": ("work", "technical", "creative", "analytical", "collaborative", "individual"),
    "social": ("collaboration", "support", "interaction"),
}
AXES: tuple[str, ...] = tuple(name for names in GROUPS.values() for name in names)

ALGORITHM = 1
"""Goes up when the same rules begin to give other scores."""

# Numbers with their separators, words, marks, and line breaks that begin another statement.
_TOKEN = re.compile(
    rf"\d+(?:[-:./,]\d+)+[^\W\d_]*|[^\W_]+(?:['\u2019][^\W_]+)*|[{MARKS}]|\n[ \t]*[-*#>+\n]"
)

_Match = tuple[int, Rule, float, bool]
"""Place of the first token, rule, weight applied, whether negated."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """One entry found in a text: ``text`` as it stands there from character ``start``.

    ``weight`` is what counted, 0 if ``is_negated``; ``rule`` is the entry's spelling in the rules.
    """

    axis: str
    text: str
    start: int
    weight: float
    is_negated: bool
    rule: str


class CognitiveDimensionExtractor(DimensionExtractor):
    """Scores on ``AXES`` by rules; deterministic, safe to use from many threads.

    ``rules`` is a file in the format of ``dimension_rules``, by default the package's own, which
    is read once in a process. Raises ``ConfigurationError`` that names the place of a fault.
    """

    axes = AXES

    def __init__(self, rules: Path | None = None) -> None:
        self._rules = read_rules(rules, AXES)
        self._lexicon = Lexicon(self._rules)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The algorithm, the version of the rules and their digest."""
        return f"dimensions-{ALGORITHM}/{self._rules.fingerprint}"

    def extract_batch(self, texts: Sequence[str]) -> Vector:
        """(n, 16) float32 in [0, 1], in the order of ``texts``.

        Text without English words scores 0 everywhere. Raises ``InvalidInputError`` for what is
        not a valid string.
        """
        _check(texts)
        look_up, find = self._lexicon.__getitem__, _TOKEN.findall
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, text in enumerate(texts):
            weights: dict[int, list[float]] = {}
            for _, rule, weight, _ in self._scan(list(map(look_up, find(text)))):
                weights.setdefault(rule.axis, []).append(weight)
            rows += [row] * len(weights)
            columns += weights
            values += map(combine_weights, weights.values())
        scores = np.zeros((len(texts), len(AXES)), dtype=np.float32)
        scores[rows, columns] = values
        return scores

    def explain(self, text: str) -> list[Contribution]:
        """Everything found in ``text``, in the order of its tokens.

        ``combine_weights`` of the weights of one axis is exactly the score on that axis. Raises
        as ``extract_batch`` does.
        """
        _check([text])
        spans = [token.span() for token in _TOKEN.finditer(text)]
        entries = [self._lexicon[text[start:end]] for start, end in spans]
        found = []
        for place, rule, weight, is_negated in self._scan(entries):
            start, end = spans[place][0], spans[place + len(rule.elements) - 1][1]
            axis = AXES[rule.axis]
            found.append(
                Contribution(axis, text[start:end], start, weight, is_negated, rule.spelling)
            )
        return found

    def _scan(self, entries: Sequence[Entry | None]) -> list[_Match]:
        """What counts in a text, or would if it were not negated."""
        found: list[_Match] = []
        reach = -1  # the last token that a negation reaches
        taken: dict[int, int] = {}  # for each axis, where what was last found on it ends
        shares: dict[Rule, float] = {}  # of its weight that the next find of a rule has
        following = [*entries[1:], None]
        for place, entry in enumerate(entries):
            if entry is None:
                continue
            if entry.is_break:
                reach = -1
            after = following[place]
            has_phrase = after is not None and not entry.seconds.isdisjoint(after.elements)
            for rule in entry.rules if has_phrase else entry.words:
                size = len(rule.elements)
                if taken.get(rule.axis, 0) > place:
                    continue
                if size > 1 and not _follows(rule.elements, following, place):
                    continue
                taken[rule.axis] = place + size
                if rule.weight and rule.is_negatable and place <= reach:
                    found.append((place, rule, 0.0, True))
                elif rule.weight:
                    share = shares.get(rule, 1.0)
                    shares[rule] = share * self._rules.repeat
                    before = entries[place - 1] if place else None
                    factor = before.factor if before else 1.0
                    found.append((place, rule, min(1.0, rule.weight * factor * share), False))
            if entry.is_negator and taken.get(NEGATION, 0) <= place:
                reach = place + self._rules.window
        return found


def combine_weights(weights: Iterable[float]) -> float:
    """1 - (1 - w1)(1 - w2)…: in [0, 1], and more with each weight.

    >>> combine_weights([0.5, 0.5])
    0.75
    """
    return 1.0 - prod(1.0 - weight for weight in weights)


def _follows(elements: tuple[str, ...], following: Sequence[Entry | None], place: int) -> bool:
    """Whether what comes after ``place`` matches the further elements of a rule."""
    for offset in range(len(elements) - 1):
        # None stands at the end, so nothing is asked for beyond it.
        entry = following[place + offset]
        if entry is None or elements[offset + 1] not in entry.elements:
            return False
    return True


def _check(texts: Sequence[str]) -> None:
    # Imported when used: the extractor alone does not need the provider's module.
    from .texts import check_texts

    check_texts(texts)
