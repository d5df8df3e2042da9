"""The table in the module's docstring and the tree say the same."""

from __future__ import annotations

import inspect
import re

import pytest

from cognitive_memory.core import errors
from cognitive_memory.core.errors import CognitiveMemoryError, ModelError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
BASES = {CognitiveMemoryError, ModelError}
"""Never raised themselves."""


def test_the_table_lists_what_can_be_raised() -> None:
    listed = re.findall(r"^``(\w+)`` +\S", errors.__doc__ or "", re.MULTILINE)
    assert listed == [name for name, value in CLASSES.items() if value not in BASES]


@pytest.mark.parametrize("name", CLASSES)
def test_one_class_catches_them_all(name: str) -> None:
    assert issubclass(CLASSES[name], CognitiveMemoryError)
    assert inspect.getdoc(CLASSES[name])


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidInputError", ValueError),
        ("DimensionMismatchError", ValueError),
        ("MissingExtraError", ImportError),
    ],
)
def test_faults_that_python_has_a_name_for(name: str, builtin: type[Exception]) -> None:
    assert issubclass(CLASSES[name], builtin)
