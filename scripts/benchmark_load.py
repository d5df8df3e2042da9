"""What storing costs beside embedding: loading 1,000 paragraphs against bare ``encode_batch``.

    python scripts/benchmark_load.py [--texts 1000] [--rounds 5] [--json FILE]

Both embed the same texts with the same provider, taking turns in one run (aim: 0.9 or more).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from corpus import paragraphs

from cognitive_memory import Settings, create_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    texts = paragraphs(options.texts)
    encoded, loaded = [], []
    for number in range(options.rounds + 1):
        encode_seconds, load_seconds = one_round(texts)
        if number:  # the first warms up
            encoded.append(encode_seconds)
            loaded.append(load_seconds)
    ratios = [encode / load for encode, load in zip(encoded, loaded, strict=True)]
    figures = {
        "texts": len(texts),
        "encode_texts_per_second": len(texts) / statistics.median(encoded),
        "load_texts_per_second": len(texts) / statistics.median(loaded),
        "load_to_encode": statistics.median(ratios),
    }
    print(
        f"{len(texts):,} paragraphs, median of {options.rounds}: encode_batch "
        f"{figures['encode_texts_per_second']:.0f}/s, load "
        f"{figures['load_texts_per_second']:.0f}/s, ratio {figures['load_to_encode']:.3f} "
        "(aim: at least 0.9)"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def one_round(texts: list[str]) -> tuple[float, float]:
    """Seconds to embed the texts, and to load them into a new store from a file."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes.md"
        notes.write_text(
            "".join(f"# Note {number}\n\n{text}\n\n" for number, text in enumerate(texts)),
            encoding="utf-8",
        )
        # Without a cache, which would give the second of the two its vectors for nothing.
        settings = Settings(data_dir=folder, embedding={"cache_bytes": 0})
        with create_system(settings) as system:
            system.embedding_provider.encode("warm up")
            contents = [memory.content for memory in system.loaders[0].load_from_source(str(notes))]
            begin = time.perf_counter()
            system.embedding_provider.encode_batch(contents)
            encode_seconds = time.perf_counter() - begin
            begin = time.perf_counter()
            system.load(str(notes))
            return encode_seconds, time.perf_counter() - begin


if __name__ == "__main__":
    main()
