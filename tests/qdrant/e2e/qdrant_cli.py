"""The command line as a process, as ``tests/e2e`` starts it, with Qdrant."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS / "e2e"), str(TESTS / "qdrant")]

from cli_process import Cli  # noqa: E402

from cognitive_memory.providers import PROVIDER_GROUP  # noqa: E402

READABLE = """
from cognitive_memory.testing import WordLengthProvider


def make(settings):
    return WordLengthProvider(name=settings.embedding.model)
"""


@dataclass(frozen=True)
class QdrantCli(Cli):
    """With readable vectors, and with Qdrant at ``url``."""

    url: str = ""

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        given = super().environment(
            {
                "PYTHONPATH": str(self.folder / "site"),
                "COGNITIVE_MEMORY_EMBEDDING__PROVIDER": "readable",
                "COGNITIVE_MEMORY_STORAGE__VECTORS": "qdrant",
                "COGNITIVE_MEMORY_QDRANT__URL": self.url,
                "COGNITIVE_MEMORY_QDRANT__TIMEOUT_SECONDS": "30",
                "COGNITIVE_MEMORY_QDRANT__FLUSH_SECONDS": "60",
                **(changes or {}),
            }
        )
        # Tests in one process cover it all; measured, the client takes twice as long to import.
        return {name: value for name, value in given.items() if not name.startswith("COVERAGE_")}

    def replica(self, **options: Any) -> dict[str, Any]:
        """What ``status`` says of it."""
        found: dict[str, Any] = self.json("status", **options)["storage_stats"]["replica"]
        return found

    def doctor(self, *options: str, code: int = 0) -> str:
        """What it finds of the replica."""
        output = self.run("doctor", "--json", *options, code=code)
        findings = {each["check"]: each for each in json.loads(output.stdout)["findings"]}
        assert findings["replica"]["sound"] == (code == 0)
        return str(findings["replica"]["detail"])


def install_provider(folder: Path) -> None:
    """Let processes find it by its name, with ``folder`` on their module path."""
    record = folder / "readable-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: readable\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[{PROVIDER_GROUP}]\nreadable = readable:make\n")
    (folder / "readable.py").write_text(READABLE)
