"""The main job on real text: load this project's documents and history, then ask.

    make demo

Safe to repeat: the store is kept under data/demo, and what has not changed is not loaded again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from cognitive_memory import CognitiveMemoryError, Settings
from cognitive_memory.factory import create_system
from cognitive_memory.model_folders import prepare_model
from cognitive_memory.rendering import render_results, render_status

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = (
    "how do I run the tests?",
    "what survives a power cut?",
    "why are settings not read with pydantic?",
    "what must a quantized model pass before it is written?",
)


def main() -> int:
    """Load, ask, and say what was done and how long it took."""
    settings = Settings(data_dir=ROOT / "data" / "demo")
    begin = time.perf_counter()
    folder = prepare_model(settings, report=lambda line: print(f"- {line}", flush=True))
    print(f"model ready in {time.perf_counter() - begin:.1f} s: {folder}")
    with create_system(settings) as memory:
        begin = time.perf_counter()
        report = memory.load(str(ROOT), kinds=["markdown", "git"])
        print(
            f"loaded {report.sources} sources in {time.perf_counter() - begin:.1f} s: "
            f"{report.added} memories added, {report.updated} updated, "
            f"{report.unchanged} unchanged, {report.deleted} deleted"
        )
        print("\n".join(render_status(memory.get_memory_stats())))
        for question in QUESTIONS:
            begin = time.perf_counter()
            results = memory.search(question, k=2)
            print(f"\n? {question}  ({1000 * (time.perf_counter() - begin):.0f} ms)")
            print("\n".join(render_results([("core", result) for result in results], question)))
    print(
        f"\nask more: COGNITIVE_MEMORY_DATA_DIR={settings.data_dir} "
        f"{Path(sys.executable).parent / 'cognitive-memory'} recall '...'"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CognitiveMemoryError as error:
        sys.exit(f"error: {error}")
