"""The texts that embedding benchmarks use: paragraphs of mixed length, short ones, a single one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from corpus import paragraphs

MIXED, SHORT, SINGLE = "mixed", "short", "single"

SINGLE_TOKENS = 45
SHORT_TEXTS, SHORT_TOKENS = 200, 16


def choose_texts(
    count: int, tokenizer: Path, limit: int
) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    """The lists of texts, and their lengths in tokens after truncation to ``limit``."""
    from tokenizers import Tokenizer

    cutter = Tokenizer.from_file(str(tokenizer))
    cutter.no_padding()
    cutter.enable_truncation(limit)

    def tokens(chosen: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in cutter.encode_batch(list(chosen))]

    mixed = paragraphs(count)
    mixed_tokens = tokens(mixed)
    single = min(range(count), key=lambda index: abs(mixed_tokens[index] - SINGLE_TOKENS))
    sentences = list(dict.fromkeys(first_sentence(text) for text in paragraphs(4000)))
    queries = [
        text
        for text, length in zip(sentences, tokens(sentences), strict=True)
        if 5 <= length <= SHORT_TOKENS
    ]
    step = len(queries) / SHORT_TEXTS
    short = [queries[int(index * step)] for index in range(SHORT_TEXTS)]
    texts = {MIXED: mixed, SHORT: short, SINGLE: [mixed[single]]}
    return texts, {name: tokens(chosen) for name, chosen in texts.items()}


def first_sentence(text: str) -> str:
    """Without what follows: ``"Parse a date.  The result is a tuple." -> "Parse a date"``."""
    return re.split(r"[.!?:](?:\s|$)|\n", text, maxsplit=1)[0].strip()


def describe_texts(lengths: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """Count, tokens and their percentiles of each list."""
    return {
        name: {
            "count": len(tokens),
            "tokens": sum(tokens) if len(tokens) > 1 else tokens[0],
            "p50_tokens": int(np.percentile(tokens, 50)),
            "p90_tokens": int(np.percentile(tokens, 90)),
        }
        for name, tokens in lengths.items()
    }
