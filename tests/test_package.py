"""The package as a whole: its public names, what importing it costs, what it may never import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import cognitive_memory

PACKAGE = Path(cognitive_memory.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"numpy", "onnx", "onnxruntime", "tokenizers", "pydantic", "pydantic_settings"}
HEAVY |= {"huggingface_hub", "safetensors", "tqdm", "qdrant_client", "sqlite3", "torch"}
FORBIDDEN = {"torch", "transformers", "sentence_transformers"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that ``statement`` loads in a fresh interpreter."""
    code = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


def test_public_names_are_sorted_unique_and_importable() -> None:
    names = cognitive_memory.__all__
    assert names == sorted(set(names))
    for name in names:
        assert getattr(cognitive_memory, name) is not None
    assert set(names) <= set(dir(cognitive_memory))


def test_public_names_are_complete() -> None:
    homes = set(cognitive_memory._HOMES)
    assert homes | {"__version__"} == set(cognitive_memory.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert typed == homes, "type checkers see the same names as the interpreter"


@pytest.mark.parametrize("name", sorted(cognitive_memory._HOMES))
def test_a_public_name_is_the_one_of_its_home(name: str) -> None:
    home = import_module(f"cognitive_memory.{cognitive_memory._HOMES[name]}")
    assert getattr(cognitive_memory, name) is getattr(home, name)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'cognitive_memory' has no attribute 'nope'"):
        _ = cognitive_memory.nope
    with pytest.raises(ImportError, match="cannot import name 'nope'"):
        exec("from cognitive_memory import nope")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import cognitive_memory") & HEAVY == set()


def test_the_first_use_of_a_light_name_loads_no_runtime() -> None:
    loaded = loaded_by("from cognitive_memory import CognitiveMemory, MemoryFilter")
    assert loaded & (HEAVY - {"numpy"}) == set()


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert loaded_by("from cognitive_memory.cli import _parser; _parser()") & HEAVY == set()


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_torch_is_imported_by_the_exporter_only() -> None:
    offenders = {str(path.relative_to(PACKAGE)) for path in MODULES if imports_of(path) & FORBIDDEN}
    assert offenders <= {"models/torch_exporter.py"}


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert version("cognitive-memory-onnx") == cognitive_memory.__version__


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""


def test_data_files_stand_where_the_code_looks_for_them() -> None:
    for name in (
        "encoding/dimension_rules.json",
        "models/registry.json",
        "models/golden",
        "storage/migrations/0001_initial.sql",
        "storage/migrations/0002_context.sql",
    ):
        assert (PACKAGE / name).exists(), name
