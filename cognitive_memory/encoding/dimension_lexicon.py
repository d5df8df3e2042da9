"""What tokens mean to the rules of ``dimensions``: each is looked up once and then remembered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NEGATION = -1
"""The axis of phrases in which a negating word negates nothing."""

MARKS = ".,;:!?()\N{HORIZONTAL ELLIPSIS}\N{EM DASH}\N{EN DASH}"
"""Tokens of their own, which end the reach of a negation."""

TOKENS_KEPT = 50_000
LONGEST_KEPT = 40
"""How many tokens are remembered, and of how many characters at most; it bounds the memory."""

_DOUBLING = re.compile(r"[^aeiou][aeiou][bdgklmnprt]")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One entry of the file; ``weight`` 0 means that what it matches does not count."""

    axis: int
    spelling: str
    elements: tuple[str, ...]
    weight: float
    is_negatable: bool


@dataclass(slots=True)
class Rules:
    """The file, arranged by what a token is looked up in."""

    fingerprint: str = ""
    repeat: float = 1.0
    window: int = 0
    kinds: dict[str, re.Pattern[str]] = field(default_factory=dict)
    words: dict[str, set[str]] = field(default_factory=dict)
    """Elements by each word that they match exactly."""
    stems: dict[str, set[str]] = field(default_factory=dict)
    kind_elements: dict[str, set[str]] = field(default_factory=dict)
    starting: dict[str, list[Rule]] = field(default_factory=dict)
    """Rules by their first element."""
    negators: set[str] = field(default_factory=set)
    breaks: set[str] = field(default_factory=set)
    factors: dict[str, float] = field(default_factory=dict)

    def add(self, rule: Rule) -> None:
        """Make the elements of a rule known."""
        for element in rule.elements:
            for part in element.split("|"):
                if part.startswith("<"):
                    self.kind_elements.setdefault(part[1:-1], set()).add(element)
                elif part.endswith("*"):
                    self.stems.setdefault(part[:-1], set()).add(element)
                else:
                    for word in word_forms(part):
                        self.words.setdefault(word, set()).add(element)
        self.starting.setdefault(rule.elements[0], []).append(rule)


def word_forms(element: str) -> set[str]:
    """The words that an element without stem or kind matches.

    >>> sorted(word_forms("plan~"))
    ['plan', 'planed', 'planing', 'planned', 'planning', 'plans']
    """
    if not element.endswith("~"):
        return {element}
    word = element[:-1]
    forms = {word, f"{word}s", f"{word}ed", f"{word}ing"}
    if word.endswith("e"):
        forms = {word, f"{word}s", f"{word}d", f"{word[:-1]}ing"}
    elif re.search("[^aeiou]y$", word):
        forms |= {f"{word[:-1]}ies", f"{word[:-1]}ied"}
    elif word.endswith(("s", "x", "z", "ch", "sh")):
        forms.add(f"{word}es")
    elif _DOUBLING.search(word[-3:]):
        forms |= {f"{word}{word[-1]}ed", f"{word}{word[-1]}ing"}
    return forms


def precedence(rule: Rule) -> tuple[int, list[float], int, str]:
    """Sorts the rules that begin at one token: longest first, then the most exact."""
    vagueness = [_vagueness(element) for element in rule.elements]
    return -len(rule.elements), vagueness, rule.axis, rule.spelling


def _vagueness(element: str) -> float:
    if "|" in element:
        return max(map(_vagueness, element.split("|")))
    if element.endswith("*"):
        return 2 + 1 / len(element)
    return 3 if element.startswith("<") else float(element.endswith("~"))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a token that plays a part in any rule."""

    rules: tuple[Rule, ...]
    """Those that begin with it, in the order in which they are tried."""
    words: tuple[Rule, ...]
    """Of these, for each axis the first that has no further element."""
    seconds: frozenset[str]
    """The second elements of the others: what must come next for any of them to match."""
    elements: frozenset[str]
    is_negator: bool
    is_break: bool
    factor: float


class Lexicon(dict[str, Entry | None]):
    """Tokens as they are written, each looked up in the rules when first asked for."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
        self._longest_stem = max(map(len, rules.stems), default=0)

    def __missing__(self, token: str) -> Entry | None:
        entry = self._make(token)
        if len(token) <= LONGEST_KEPT:
            if len(self) >= TOKENS_KEPT:
                self.clear()
            self[token] = entry
        return entry

    def _make(self, token: str) -> Entry | None:
        rules = self._rules
        word = token.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        elements = self._elements(token, word) or self._elements(token, word.removesuffix("'s"))
        first = [rule for element in elements for rule in rules.starting.get(element, ())]
        is_negator = word in rules.negators
        is_break = word in rules.breaks or word[0] in MARKS or word[0] == "\n"
        if not (elements or is_negator or is_break or word in rules.factors):
            return None
        ordered = sorted(first, key=precedence)
        words = {rule.axis: rule for rule in reversed(ordered) if len(rule.elements) == 1}
        return Entry(
            rules=tuple(ordered),
            words=tuple(rule for rule in ordered if words.get(rule.axis) is rule),
            seconds=frozenset(rule.elements[1] for rule in ordered if len(rule.elements) > 1),
            elements=frozenset(elements),
            is_negator=is_negator,
            is_break=is_break,
            factor=rules.factors.get(word, 1.0),
        )

    def _elements(self, token: str, word: str) -> set[str]:
        rules = self._rules
        found = set(rules.words.get(word, ()))
        for length in range(1, min(len(word), self._longest_stem) + 1):
            found |= rules.stems.get(word[:length], set())
        for name, elements in rules.kind_elements.items():
            if len(token) <= LONGEST_KEPT and rules.kinds[name].fullmatch(token):
                found |= elements
        return found
