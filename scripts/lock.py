"""Write the hashed requirements: every version and hash, no index address.

Run it as ``make lock``; it needs ``uv``, which it calls through ``python -m uv``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("--universal", "--generate-hashes", "--no-emit-index-url", "--no-header", "--quiet")


def compile_lock(name: str, *sources: str) -> None:
    """Resolve ``sources`` for every platform and Python from 3.11 into ``requirements/name``."""
    target = f"requirements/{name}.txt"
    command = [sys.executable, "-m", "uv", "pip", "compile", *OPTIONS, *sources, "-o", target]
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"wrote {target}")


def main() -> None:
    """Renew all locks; those for development keep the versions of the runtime."""
    compile_lock("runtime", "pyproject.toml")
    compile_lock("build", "requirements/build.in")
    compile_lock("dev", "--group", "dev", "-c", "requirements/runtime.txt")
    # Installed beside both of them, by `make qdrant` and `make openvino`.
    beside = ("-c", "requirements/runtime.txt", "-c", "requirements/dev.txt")
    compile_lock("qdrant", "pyproject.toml", "--extra", "qdrant", *beside)
    compile_lock("openvino", "pyproject.toml", "--extra", "openvino", *beside)


if __name__ == "__main__":
    main()
