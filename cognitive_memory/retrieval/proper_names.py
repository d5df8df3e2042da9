"""Proper names in a text: acronyms, and words that are capitalized for no other reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

_CAPITALIZED = re.compile(r"(?<!\w)[^\W\d_a-z]\w*+(?:['\u2019&-]\w++)*+")
_CONTRACTION = re.compile(r"['\u2019](?:m|re|ve|ll|d|t)\Z", re.IGNORECASE)
_POSSESSIVE = re.compile(r"['\u2019][sS]\Z|(?<=[A-Z]{2})s\Z")
_ABBREVIATION = re.compile(r"(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|St|vs|[A-Z])\Z")
_LEADING = " \t*_#\"\u201c\u2018'([>-\u2014\u2022"
_ENDS = "\n.!?:\u2026\u3002\uff01\uff1f\uff1a"
_DAYS_AND_MONTHS = """
    monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri
    january february march april may june july august september october november december
"""
_NO_NAMES = """
    a about absolutely after again all also although always am amazing an and another answer any
    anything anyway are as asap at awesome aww be because been before being both btw but by bye
    can cheers come congrats congratulations cool could dad dear definitely did do does don done
    dr during each either else error even ever every everyone everything exactly example few
    finally find fix fixme for from fyi get glad go god gonna good goodbye got great had haha
    hahaha happy has have having he hello her here hers hey hi him his hmm hooray how however
    hurray i idk if imo in indeed info instead into is it its just keep let like lmao lol look
    looking love make many maybe me merry mine mom more most mr mrs ms much mum must my never
    nice no none nope nor not note nothing now of off oh ok okay omg on once only or other our
    out over own perfect perhaps please prof question really right same see she should since so
    some someone something sometimes soon sorry still stop such summary sure take thank thanks
    that the their them then there these they thing things this those though through tip title to
    today todo tomorrow tonight too true try under until up upon us usage very wait warning was
    way we welcome well were what whatever when whenever where whether which while who whoa whose
    why will wish with within without won wonderful woohoo would wow yay yeah yep yes yesterday
    yet you your yours yup
"""
_CALENDAR = frozenset(_DAYS_AND_MONTHS.split())
STOP_WORDS = frozenset(_NO_NAMES.split())
"""Words that are capitalized for other reasons: they begin sentences, greet, exclaim, label."""


def find_names(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and name of what something but its place in a sentence marks as a name.

    That is: an acronym, several words in a row, a place amid a sentence, a colon that makes it a
    speaker, or that the word is repeated and never written small.
    """
    if text.isupper():
        return
    runs = [(start, end, text[start:end]) for start, end in _runs(text)]
    unsure = []
    for start, end, name in runs:
        if name[1].isupper() or " " in name or not _opens_sentence(text, start):
            yield start, end, name
        else:
            unsure.append((start, end, name))
    if not unsure:
        return
    counts = Counter(name for _, _, name in runs)
    words = frozenset(re.findall(r"\w+", text)) if max(counts.values()) > 1 else frozenset()
    for start, end, name in unsure:
        is_repeated = counts[name] > 1 and name.lower() not in words
        if is_repeated or _is_speaker(text, start, end):
            yield start, end, name


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of acronyms, and of capitalized words with nothing but a space between."""
    start = end = -1
    for match in _CAPITALIZED.finditer(text):
        word = _bare(match[0])
        is_acronym = word[1:2].isupper()
        if word and not is_acronym and start >= 0 and text[end : match.start()] == " ":
            end = match.start() + len(word)
            continue
        if start >= 0:
            yield start, end
        start = -1
        if word and word.casefold() not in _CALENDAR:
            start, end = match.start(), match.start() + len(word)
        if start >= 0 and is_acronym:
            yield start, end
            start = -1
    if start >= 0:
        yield start, end


def _bare(word: str) -> str:
    """``"Ada's" -> "Ada"``, ``"GPUs" -> "GPU"``; no name (``"I'm"``, ``"The"``) -> ``""``."""
    if not word[0].isupper() or _CONTRACTION.search(word):
        return ""
    word = _POSSESSIVE.sub("", word)
    return "" if len(word) < 2 or word[1] == "-" or word.casefold() in STOP_WORDS else word


def _opens_sentence(text: str, start: int) -> bool:
    at = _before(text, start)
    if at >= 0 and text[at] == "." and _ABBREVIATION.search(text[max(at - 5, 0) : at]):
        return False
    return at < 0 or text[at] in _ENDS


def _is_speaker(text: str, start: int, end: int) -> bool:
    """``"Ada: …"`` and ``"- **Ada**: …"`` at the beginning of a line."""
    at = _before(text, start)
    return (at < 0 or text[at] == "\n") and text[end : end + 3].lstrip("*_")[:1] == ":"


def _before(text: str, start: int) -> int:
    """Index of what stands in front, past spaces, quotes and bullets; -1 for nothing."""
    at = start - 1
    while at >= 0 and text[at] in _LEADING:
        at -= 1
    return at
