"""Prove that a plain install is light, torch-free and complete.

    python scripts/check_install.py

Makes an environment of its own from the hashed runtime requirements, installs the package into
it without extras, and checks what is there: size, names, import cost, and one memory stored and
recalled. Exits 1 if a limit is passed. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MB = 260
FORBIDDEN = ("torch", "transformers", "sentence_transformers")
INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack")
LAZY = ("onnxruntime", "qdrant_client", "numpy", "pydantic", "tokenizers")


def main() -> int:
    """Install, measure and try; 1 when something is not as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        python = install(Path(folder))
        faults = [*check_content(python), *check_import(python), *check_recall(python, folder)]
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if faults else 0


def install(folder: Path) -> Path:
    """The interpreter of a new environment that holds the package and what it requires."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        python = folder / "venv" / "Scripts" / "python.exe"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    locked = ("--require-hashes", "-r", ROOT / "requirements" / "runtime.txt")
    subprocess.run([*pip, *locked], check=True)
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    return python


def check_content(python: Path) -> list[str]:
    """The size of what was installed, and whether any of it should not be there."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, code).strip())
    names = {path.name for path in packages.iterdir()}
    size = sum(
        file.stat().st_size
        for entry in packages.iterdir()
        if entry.name.partition("-")[0] not in INSTALLERS
        for file in ([entry] if entry.is_file() else entry.rglob("*"))
        if file.is_file()
    )
    megabytes = size / 1e6
    print(f"site-packages without installers: {megabytes:.0f} MB (limit {LIMIT_MB})")
    faults = [f"{name} is installed" for name in FORBIDDEN if name in names]
    if megabytes > LIMIT_MB:
        faults.append(f"{megabytes:.0f} MB is more than {LIMIT_MB}")
    return faults


def check_import(python: Path) -> list[str]:
    """Whether the package alone stays light."""
    code = "import cognitive_memory, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run(python, code)))
    print("import cognitive_memory loads none of:", ", ".join(LAZY))
    return [f"import cognitive_memory loads {name}" for name in LAZY if name in loaded]


def check_recall(python: Path, folder: str) -> list[str]:
    """Store and recall through the installed command."""
    command = python.with_name("cognitive-memory")
    environment = {**os.environ, "COGNITIVE_MEMORY_DATA_DIR": folder}
    text = "We dropped Redis: the cache hit rate was 3%."
    for arguments in (["store", text], ["recall", "why is there no cache?", "--json"]):
        answer = subprocess.run(
            [command, *arguments],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            return [f"cognitive-memory {arguments[0]}: {answer.stderr.strip()}"]
    found = [result["content"] for result in json.loads(answer.stdout)["results"]]
    print(f"recalled: {found}")
    return [] if found == [text] else [f"recall gave {found}"]


def run(python: Path, code: str) -> str:
    """What a program prints, outside this folder so that only the installed package counts."""
    result = subprocess.run(
        [python, "-c", code], cwd=python.parent, check=True, capture_output=True, text=True
    )
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
