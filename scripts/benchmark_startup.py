"""How long a fresh process takes to answer, as a ratio to importing its libraries.

    python scripts/benchmark_startup.py [--runs 15] [--json FILE]

Compares, alternating in one run: ``cognitive-memory recall`` on a store of 1,000 memories with
``python -c "import numpy, onnxruntime, tokenizers"`` (aim: at most 3), and ``import
cognitive_memory`` with ``import numpy`` (aim: at most 60 ms more).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from corpus import paragraphs

from cognitive_memory import Settings, create_system

MEMORIES = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with create_system(Settings(data_dir=folder)) as system:
            system.store_experiences(paragraphs(MEMORIES))
        environment = {
            **os.environ,
            "COGNITIVE_MEMORY_DATA_DIR": folder,
            "ORT_DISABLE_TELEMETRY": "1",  # as the package sets it
        }
        commands = {
            "libraries": python("import numpy, onnxruntime, tokenizers"),
            "recall": [sys.executable, "-m", "cognitive_memory.cli", "recall", "parse a date"],
            "numpy": python("import numpy"),
            "package": python("import cognitive_memory"),
        }
        seconds = measure(commands, environment, options.runs)
    figures = {
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "recall_to_libraries": seconds["recall"] / seconds["libraries"],
        "package_over_numpy_ms": 1000 * (seconds["package"] - seconds["numpy"]),
    }
    print(f"median of {options.runs} runs, {MEMORIES:,} memories")
    print(
        f"recall {seconds['recall']:.3f} s, libraries {seconds['libraries']:.3f} s: "
        f"ratio {figures['recall_to_libraries']:.2f} (aim: at most 3)"
    )
    print(
        f"import cognitive_memory {1000 * seconds['package']:.0f} ms, import numpy "
        f"{1000 * seconds['numpy']:.0f} ms: {figures['package_over_numpy_ms']:+.0f} ms "
        "(aim: at most +60)"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def python(code: str) -> list[str]:
    """The command line that runs ``code``."""
    return [sys.executable, "-c", code]


def measure(
    commands: dict[str, list[str]], environment: dict[str, str], runs: int
) -> dict[str, float]:
    """Median wall time of each command; they take turns, so that drift meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
