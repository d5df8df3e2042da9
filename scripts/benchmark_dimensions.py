"""How many short texts a second one thread scores on the cognitive axes, beside splitting them.

    python scripts/benchmark_dimensions.py [--texts 2000] [--rounds 9] [--json FILE]

The texts are first sentences of 40 to 140 characters from the standard library's documentation
(aim: at least 20,000 texts a second). The peer in the same run is ``str.lower().split()``. Every
round of the extractor is measured twice: with tokens that it has seen, and with none.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from corpus import paragraphs

from cognitive_memory.encoding.dimensions import CognitiveDimensionExtractor

_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    texts = first_sentences(options.texts)
    begin = time.perf_counter()
    extractor = CognitiveDimensionExtractor()
    reading = time.perf_counter() - begin
    figures = measure(extractor, texts, options.rounds)
    scores = extractor.extract_batch(texts)
    figures["reading_rules_ms"] = 1000 * reading
    length = statistics.mean(map(len, texts))
    print(
        f"{len(texts):,} texts of {length:.0f} characters on average; "
        f"{(scores > 0).sum(axis=1).mean():.1f} axes each above 0"
    )
    print(f"rules read in {figures['reading_rules_ms']:.0f} ms, once in a process")
    for name in ("split", "seen", "fresh"):
        print(f"{name:6}{figures[name]:>10,.0f} texts/s")
    print(f"ratio to the peer: {figures['split'] / figures['seen']:.1f} times its time")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def first_sentences(count: int) -> list[str]:
    """``count`` different sentences that begin a paragraph, white space made single."""
    found: dict[str, None] = {}
    for paragraph in paragraphs(4 * count):
        if match := _SENTENCE.match(paragraph):
            sentence = " ".join(match[0].split())
            if 40 <= len(sentence) <= 140:
                found[sentence] = None
    if len(found) < count:
        sys.exit(f"this Python has {len(found)} such sentences, {count} were asked for")
    return list(found)[:count]


def measure(
    extractor: CognitiveDimensionExtractor, texts: list[str], rounds: int
) -> dict[str, float]:
    """Texts a second, medians; the three take turns, so that drift meets all of them."""

    def split() -> None:
        for text in texts:
            text.lower().split()

    def seen() -> None:
        extractor.extract_batch(texts)

    def fresh() -> None:
        # A new extractor has the rules at hand and remembers no token.
        CognitiveDimensionExtractor().extract_batch(texts)

    tasks: dict[str, Callable[[], None]] = {"split": split, "seen": seen, "fresh": fresh}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            begin = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - begin)
    return {name: len(texts) / statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
