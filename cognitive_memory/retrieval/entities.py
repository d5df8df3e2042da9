"""What a text is about, found by rules: names, identifiers, paths, addresses and dates.

Made for English; the rules err toward finding too little. Nothing is learned or looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from .proper_names import STOP_WORDS, find_names

MAX_ENTITIES = 32
"""For each text: its first ones."""

SCANNED = 65_536
"""Characters of a text that are looked at, up to the last whole word."""

LONGEST = 256
"""Characters of a name; a longer one is data."""

Kind = Literal["url", "email", "path", "date", "identifier", "name"]


@dataclass(frozen=True, slots=True)
class Entity:
    """``name`` is spelled as in the text; a date is ISO 8601, a URL has its host in lower case."""

    kind: Kind
    name: str

    @property
    def key(self) -> tuple[Kind, str]:
        """Equal for two spellings of one name."""
        return self.kind, self.name.casefold()


_Found = tuple[int, int, str]
"""Start, end, name."""

_TAKEN = "\0"
"""Stands where an entity was: neither word nor space, so that nothing is joined across it."""


def find_entities(text: str) -> tuple[Entity, ...]:
    """The entities in order of first appearance, each once, at most ``MAX_ENTITIES``.

    ``"Ada: see core/a.py, July 7th, 2023" -> name Ada, path core/a.py, date 2023-07-07``.
    A span belongs to the first kind that claims it: URL, e-mail, path, date, identifier, name.
    """
    rest = _beginning(text)
    found: list[tuple[int, Entity]] = []
    for kind, finder in _FINDERS:
        spans = sorted(finder(rest))
        found += [(start, Entity(kind, name)) for start, _, name in spans if len(name) <= LONGEST]
        rest = _without(rest, spans)
    found.sort(key=lambda item: item[0])
    unique: dict[tuple[Kind, str], Entity] = {}
    for _, entity in found:
        unique.setdefault(entity.key, entity)
    return tuple(unique.values())[:MAX_ENTITIES]


def _beginning(text: str) -> str:
    cut = text[:SCANNED]
    if len(text) <= SCANNED or text[SCANNED].isspace():
        return cut
    last = max(cut.rfind(" "), cut.rfind("\n"))
    return cut[:last] if last > 0 else cut


def _without(text: str, spans: Sequence[_Found]) -> str:
    if not spans:
        return text
    pieces, at = [], 0
    for start, end, _ in spans:
        pieces += [text[at:start], _TAKEN * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


# No pattern backtracks far: each begins where its characters begin, as the assertion in front of
# it says, and takes them possessively. So the time is proportional to the text, whatever it holds.

_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])(?:[A-Za-z][A-Za-z0-9+.-]{1,15}+://|git@[\w.-]++:)"
    r"""[^\s\0<>"'`|\\^{}\[\]\u3001-\u303f\uff01-\uff5e]++"""
)
_HOST = re.compile(r"([^:@]*://)?([^/?#]*@)?([^/?#:]*)")
_EMAIL = re.compile(r"(?<![\w.%+-])[A-Za-z0-9_][\w.%+-]*+@[A-Za-z0-9-]++(?:\.[A-Za-z0-9-]++)++")


def _find_urls(text: str) -> Iterator[_Found]:
    if "://" not in text and "git@" not in text:
        return
    for match in _URL.finditer(text):
        name = match[0] if len(match[0]) > LONGEST else _trim_url(match[0])
        if not name.endswith("//"):
            yield match.start(), match.start() + len(name), _lower_host(name)


def _trim_url(url: str) -> str:
    """``"https://a.org/b_(c))." -> "https://a.org/b_(c)"``."""
    while url[-1] in ".,;:!?*~\u2026" or (url[-1] == ")" and url.count("(") < url.count(")")):
        url = url[:-1]
    return url


def _lower_host(url: str) -> str:
    match = _HOST.match(url)
    assert match
    scheme, user, host = match.groups("")
    return scheme.lower() + user + host.lower() + url[match.end() :]


def _find_emails(text: str) -> Iterator[_Found]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield match.start(), match.end(), match[0]


_PATH = re.compile(
    r"""(?<![\w/\\.~<-])(?:
        [A-Za-z]:[\\/](?:[^\s\0\\/:*?"'`<>|,;()]++[\\/]?)++
      | \\\\[\w.$-]++(?:\\[^\s\0\\/:*?"'`<>|,;()]++)++
      | (?:~|\.{1,2})?(?:/[\w.+@~-]++)++/?
      | (?P<relative>[\w.-]++(?:/[\w.+@~-]++)++)
      | [\w-]++(?:\.[\w-]++)*?\.(?:bat|c|cfg|cpp|csv|cs|css|db|dll|docx?|exe|gif|go|gz|h|html?|ini
          |ipynb|java|jpe?g|js|json|jsonl|jsx|kt|lock|log|md|mp[34]|npy|onnx|pdf|php|png|pptx?|ps1
          |pyi?|rb|rs|rst|sh|sqlite|sql|svg|tar|toml|tsv|tsx?|txt|wav|whl|xlsx?|xml|ya?ml|zip
        )(?![.-]?\w)
    )""",
    re.VERBOSE,
)
_HAS_DOT = re.compile(r"\.\w")
_EXTENSION = re.compile(r"\.(?:[a-z][a-z0-9]{0,7}|[A-Z][A-Z0-9]{0,7})\Z")


def _find_paths(text: str) -> Iterator[_Found]:
    if not ("/" in text or "\\" in text or _HAS_DOT.search(text)):
        return
    for match in _PATH.finditer(text):
        name = match[0].rstrip(".-")
        # Without an ending, "and/or" and "her/his" would be paths too.
        is_path = _EXTENSION.search(name) if match["relative"] else len(name) > 2
        if is_path and any(map(str.isalpha, name)):
            yield match.start(), match.start() + len(name), name


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    "|Sep(?:t|tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
)
_DATE = re.compile(
    rf"""(?<![\w.-])(?:
        (?P<y1>[12]\d{{3}})-(?P<m1>\d\d)(?:-(?P<d1>\d\d)(?:T\d[\d:.]*+(?:Z|[+-]\d\d:?\d\d)?)?)?
      | (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\ (?:of\ )?(?P<m2>{_MONTH})\.?,?\ (?P<y2>[12]\d{{3}})
      | (?P<m3>{_MONTH})\.?(?:\ (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?)?,?\ (?P<y3>[12]\d{{3}})
    )(?![\w-])""",
    re.IGNORECASE | re.VERBOSE,
)
_HAS_YEAR = re.compile(r"[12]\d{3}")


def _find_dates(text: str) -> Iterator[_Found]:
    if not _HAS_YEAR.search(text):
        return
    for match in _DATE.finditer(text):
        year, month, day = (match[f"{x}1"] or match[f"{x}2"] or match[f"{x}3"] for x in "ymd")
        number = int(month) if month.isdecimal() else 1 + _MONTHS.index(month[:3].lower())
        try:
            name = date(int(year), number, int(day or 1)).isoformat()
        except ValueError:  # the calendar has no such day
            continue
        yield match.start(), match.end(), name if day else name[:7]


_IDENTIFIER = re.compile(
    r"""(?<![\w.])(?:
        0x[0-9A-Fa-f]{2,}+
      | v?\d++(?:\.\d++){2,3}+(?:[-+]?[A-Za-z0-9][\w.+-]*+)?
      | v\d++(?:\.\d++)?
      | [A-Z][A-Z0-9]{1,9}+(?:-\d++)++
      | [A-Z]{1,5}\d{2,6}
      | (?P<dotted>[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+)++)(?:\(\))?
      | [A-Za-z_]\w*+\(\)
      | (?P<snake>[^\W_]*+_\w*+)
      | (?P<camel>[^\W_]*?[a-z][A-Z]\w*+)
    )(?!\w)""",
    re.VERBOSE,
)
"""Hexadecimal, versions, tickets, error codes, dotted names, calls, and words joined up."""
_HAS_HUMP_OR_DIGIT = re.compile(r"[a-z][A-Z]|\d")


def _find_identifiers(text: str) -> Iterator[_Found]:
    marks = "_" in text or "()" in text
    if not (marks or _HAS_DOT.search(text) or _HAS_HUMP_OR_DIGIT.search(text)):
        return
    for match in _IDENTIFIER.finditer(text):
        name = match[0].removesuffix("()").rstrip(".+-")
        is_one = True
        if match["dotted"]:
            # "e.g", "p.m" and "great.Thanks" are prose.
            parts = name.split(".")
            is_one = min(map(len, parts)) > 1 and parts[-1].lower() not in STOP_WORDS
        elif match["snake"]:
            name = name.strip("_")  # of a private name, or of emphasis in Markdown
            is_one = "_" in name and any(map(str.isalpha, name))
        elif match["camel"]:
            is_one = len(name) > 3  # "PhD"
        if is_one:
            yield match.start(), match.end(), name


_FINDERS: tuple[tuple[Kind, Callable[[str], Iterator[_Found]]], ...] = (
    ("url", _find_urls),
    ("email", _find_emails),
    ("path", _find_paths),
    ("date", _find_dates),
    ("identifier", _find_identifiers),
    ("name", find_names),
)
