"""Reads the rules of ``dimensions``: which words speak for which axis.

=============  ==================================================================================
key            holds
=============  ==================================================================================
``format``     1, the layout that this table describes
``version``    a name for the set of rules; it is part of the extractor's fingerprint
``levels``     names of weights in [0, 1]; weight 0 keeps words from counting otherwise
``repeat``     what each further occurrence of an entry in a text is multiplied by, in [0, 1]
``kinds``      regular expressions that match one whole token, as it is written in the text
``negation``   ``words`` that take back the entries which begin within ``window`` words after
               them; ``breaks`` end their reach, ``neutral`` phrases take nothing back
``factors``    a number: words that multiply the weight of an entry right behind them
``axes``       for each axis a ``description``, whether entries are ``negatable`` (subjects are not:
               "no Python" speaks of Python), and a list of entries for each level
=============  ==================================================================================

An entry is one or several elements with spaces between, in lower case: ``word``; ``word~``, the
word with its regular endings (s, ed, ing); ``stem*``, any word that begins so; ``<kind>``; the
marks ``?`` and ``!``; or a choice, ``me|you``. Text is split at hyphens and underscores, so
"low-level" is the entry ``low level``. On one axis the longest entry at a place wins, then the
more exact one, and hides what begins within it: with ``group`` on an axis and ``group by`` at
weight 0, "group by" does not count. A ``description`` may stand beside any of these keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationError
from .dimension_lexicon import NEGATION, Rule, Rules, word_forms

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FORMAT = 1
RULES_FILE = "dimension_rules.json"
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def read_rules(path: Path | None, axes: Sequence[str]) -> Rules:
    """The rules in ``path``, or the package's own, which are read once.

    Raises ``ConfigurationError`` that names the place of the fault.
    """
    return _own_rules(tuple(axes)) if path is None else _read(path, axes)


@cache
def _own_rules(axes: tuple[str, ...]) -> Rules:
    return _read(files(__package__).joinpath(RULES_FILE), axes)


class _FaultError(Exception):
    """Place and problem; the file is named where it is known."""


def _read(path: Path | Traversable, axes: Sequence[str]) -> Rules:
    try:
        text = path.read_text(encoding="utf-8")
        return _compile(json.loads(text, object_pairs_hook=_unique), axes)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON: {error}"
    except _FaultError as fault:
        problem = f"is not a file of rules: {fault}"
    raise ConfigurationError(
        f"{path} {problem}; begin with a copy of {RULES_FILE} of cognitive_memory.encoding"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _FaultError(f"the key {twice!r} stands twice in one object")
    return values


def _compile(data: object, axes: Sequence[str]) -> Rules:
    keys = ("format", "version", "levels", "repeat", "kinds", "negation", "factors", "axes")
    top = _object(data, "the file", keys)
    if top["format"] != FORMAT:
        raise _FaultError(f"format is {top['format']!r}, this version reads {FORMAT}")
    rules = Rules(repeat=_number(top["repeat"], "repeat", most=1.0))
    if not isinstance(top["version"], str) or not re.fullmatch(r"[\w.-]+", top["version"]):
        raise _FaultError(f"version is {top['version']!r}; expected a name without spaces")
    digest = hashlib.sha256(json.dumps(_without_text(top), sort_keys=True).encode()).hexdigest()
    rules.fingerprint = f"{top['version']}/{digest[:16]}"
    for name, pattern in _object(top["kinds"], "kinds").items():
        rules.kinds[name] = _pattern(pattern, f"kinds.{name}")
    levels = {
        name: _number(weight, f"levels.{name}", most=1.0)
        for name, weight in _object(top["levels"], "levels").items()
    }
    _add_modifiers(rules, top)
    for name, values in _object(top["axes"], "axes", axes).items():
        place = f"axes.{name}"
        entries = _object(values, place, ("negatable", *levels))
        if not isinstance(entries["negatable"], bool):
            raise _FaultError(
                f"{place}.negatable is {entries['negatable']!r}; expected true or false"
            )
        _add_axis(rules, axes.index(name), place, entries, levels)
    return rules


def _add_modifiers(rules: Rules, top: Mapping[str, Any]) -> None:
    negation = _object(top["negation"], "negation", ("window", "words", "breaks", "neutral"))
    rules.window = int(_number(negation["window"], "negation.window"))
    for key, words in (("words", rules.negators), ("breaks", rules.breaks)):
        for _, elements in _entries(negation[key], f"negation.{key}", {}, 1):
            words.update(word_forms(elements[0]))
    for place, elements in _entries(negation["neutral"], "negation.neutral", rules.kinds):
        rules.add(Rule(NEGATION, place, elements, 0.0, False))
    for key, values in _object(top["factors"], "factors").items():
        try:
            factor = _number(float(key), f"factors.{key}")
        except ValueError:
            raise _FaultError(f"factors has the key {key!r}; expected a number") from None
        for _, elements in _entries(values, f"factors.{key}", {}, 1):
            rules.factors |= dict.fromkeys(word_forms(elements[0]), factor)


def _add_axis(
    rules: Rules, axis: int, place: str, values: Mapping[str, Any], levels: Mapping[str, float]
) -> None:
    seen: dict[tuple[str, ...], str] = {}
    for level, weight in levels.items():
        for where, elements in _entries(values[level], f"{place}.{level}", rules.kinds):
            spelling = " ".join(elements)
            if elements in seen:
                raise _FaultError(f"{where} repeats {spelling!r} of {seen[elements]}")
            seen[elements] = where
            rules.add(Rule(axis, spelling, elements, weight, values["negatable"]))


def _entries(
    values: object, place: str, kinds: Mapping[str, Any], longest: int = 20
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The place and the elements of each entry of a list."""
    if not isinstance(values, list):
        raise _FaultError(f"{place} is {values!r:.60}; expected a list of entries")
    for index, entry in enumerate(values):
        where = f"{place}[{index}]"
        elements = tuple(entry.split()) if isinstance(entry, str) else ()
        if not 1 <= len(elements) <= longest:
            expected = "one word" if longest == 1 else f"1 to {longest} words"
            raise _FaultError(f"{where} is {entry!r}; expected {expected}")
        for part in "|".join(elements).split("|"):
            if not _is_element(part, kinds):
                raise _FaultError(
                    f"{where} is {entry!r}, of which {part!r} is no element; expected word, word~, "
                    f"stem*, ?, !{''.join(f', <{name}>' for name in kinds)}, in lower case"
                )
        yield where, elements


def _is_element(part: str, kinds: Mapping[str, Any]) -> bool:
    if part in ("?", "!"):
        return True
    if part.startswith("<"):
        return part.endswith(">") and part[1:-1] in kinds
    word = part[:-1] if part.endswith(("*", "~")) else part
    return bool(_WORD.fullmatch(word)) and word == word.lower()


def _object(value: object, place: str, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """A JSON object without its description, with exactly these keys."""
    if not isinstance(value, dict):
        raise _FaultError(f"{place} is {value!r:.60}; expected an object")
    values = {key: each for key, each in value.items() if key != "description"}
    if keys is not None:
        for key in keys:
            if key not in values:
                raise _FaultError(f"{place} has no {key!r}")
        for key in values:
            if key not in keys:
                raise _FaultError(f"{place} has an unknown key {key!r}; known: {', '.join(keys)}")
    return values


def _number(value: object, place: str, most: float = 1000.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise _FaultError(f"{place} is {value!r}; expected a number from 0 to {most:g}")
    return float(value)


def _pattern(value: object, place: str) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise _FaultError(f"{place} is {value!r}; expected a regular expression")
    try:
        return re.compile(value)
    except re.error as error:
        raise _FaultError(f"{place} is {value!r}: {error}") from None


def _without_text(value: object) -> object:
    """The same without descriptions, which change nothing about the scores."""
    if isinstance(value, dict):
        return {key: _without_text(each) for key, each in value.items() if key != "description"}
    return value
