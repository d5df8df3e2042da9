"""Real mixed-length text that every machine has: the docstrings of the standard library.

Paragraphs of prose, lists and code in their natural lengths, in an order that depends on nothing
but the Python version.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_BLANK = re.compile(r"\n\s*\n")


def paragraphs(count: int) -> list[str]:
    """``count`` different paragraphs of 40 to 4,000 characters, spread over the library."""
    found = list(dict.fromkeys(_all_paragraphs()))
    if len(found) < count:
        sys.exit(
            f"this Python has {len(found)} paragraphs of documentation, {count} were asked for"
        )
    step = len(found) / count
    return [found[int(index * step)] for index in range(count)]


def _all_paragraphs() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "encodings"}
    for path in sorted(library.rglob("*.py")):
        if skipped & set(path.relative_to(library).parts):
            continue
        for docstring in _docstrings(path):
            for paragraph in _BLANK.split(docstring):
                text = paragraph.strip()
                if 40 <= len(text) <= 4000:
                    yield text


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
