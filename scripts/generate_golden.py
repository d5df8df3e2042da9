"""Write the golden vectors of all-MiniLM-L6-v2 with sentence-transformers on torch.

The package ships the result, so that a conversion on a machine without torch can check itself.
Run it in an environment made from ``requirements/golden.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from golden_texts import SAME_TOKENS, TEXTS, UNCUT_TOKENS
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384
MAX_TOKENS = 256
# The generic form: a path of the machine that ran it would say nothing to anyone else.
COMMAND = "python scripts/generate_golden.py --model DIR"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "cognitive_memory" / "models" / "golden"


@dataclass(frozen=True, slots=True)
class Entry:
    """One text of the set; ``tokens`` counts special tokens, after truncation."""

    name: str
    category: str
    text: str
    tokens: int


def check_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise SystemExit(
            f"model.safetensors has SHA-256 {digest}, expected {WEIGHTS_SHA256}; "
            f"golden vectors are only made from the pinned weights of {MODEL}"
        )


def load_reference(folder: Path) -> SentenceTransformer:
    import torch
    from sentence_transformers import SentenceTransformer

    # The number of threads changes the order of sums, and with it the last bits.
    torch.set_num_threads(1)
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    # tokenizer.json alone says 128; sentence_bert_config.json must have overruled it.
    if model.max_seq_length != MAX_TOKENS:
        raise SystemExit(
            f"the model truncates at {model.max_seq_length} tokens, expected {MAX_TOKENS}; "
            "is sentence_bert_config.json in its folder?"
        )
    return model


def read_tokens(model: SentenceTransformer, text: str) -> tuple[int, ...]:
    """Token ids as the model will see them: ``"cat" -> (101, 4937, 102)``."""
    features = model.preprocess([text])
    if not bool(features["attention_mask"].all()):
        raise SystemExit(f"padding in a batch of one: {text[:40]!r}")
    return tuple(features["input_ids"][0].tolist())


def check_lengths(model: SentenceTransformer, entries: list[Entry]) -> None:
    """Hold every token count against the length of the text before truncation."""
    for entry in entries:
        ids = model.tokenizer(entry.text, truncation=False, padding=False, verbose=False)
        uncut = len(ids["input_ids"])
        wanted = UNCUT_TOKENS.get(entry.name, uncut)
        if uncut != wanted or entry.tokens != min(uncut, MAX_TOKENS):
            raise SystemExit(
                f"{entry.name} has {uncut} tokens, {entry.tokens} after truncation; "
                f"expected {wanted} and {min(wanted, MAX_TOKENS)}"
            )


def check_groups(groups: dict[tuple[int, ...], set[str]]) -> None:
    """Refuse texts that the tokenizer makes equal without this being their point."""
    found = {frozenset(names) for names in groups.values() if len(names) > 1}
    if found != SAME_TOKENS:
        surprise = sorted(sorted(names) for names in found ^ SAME_TOKENS)
        raise SystemExit(f"SAME_TOKENS and the tokenizer disagree about {surprise}")


def collect_entries(model: SentenceTransformer) -> list[Entry]:
    entries: list[Entry] = []
    groups: defaultdict[tuple[int, ...], set[str]] = defaultdict(set)
    for category, texts in TEXTS.items():
        for name, text in texts.items():
            ids = read_tokens(model, text)
            groups[ids].add(name)
            entries.append(Entry(name, category, text, len(ids)))
    if len({entry.name for entry in entries}) != len(entries):
        raise SystemExit("two texts have the same name")
    check_lengths(model, entries)
    check_groups(groups)
    return entries


def encode_alone(model: SentenceTransformer, texts: list[str]) -> NDArray[np.float32]:
    """Encode each text in a batch of its own: (n, 384) float32, unit rows."""
    # The model's own Normalize module gives the unit rows; encode() adds nothing to it.
    rows = [model.encode([text], batch_size=1, show_progress_bar=False)[0] for text in texts]
    vectors: NDArray[np.float32] = np.stack(rows)
    if vectors.shape != (len(texts), DIMENSION) or vectors.dtype != np.float32:
        raise SystemExit(f"unexpected vectors: {vectors.shape} {vectors.dtype}")
    # NaN compares false with everything, so the test is for what is wanted.
    if not np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1.0).max() < 1e-6:
        raise SystemExit("some vectors are not of unit length")
    return vectors


def describe_environment() -> dict[str, str]:
    packages = ("torch", "sentence-transformers", "transformers", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "platform": platform.machine(),
    }


def write_golden(out: Path, entries: list[Entry], vectors: NDArray[np.float32], date: str) -> None:
    """Write ``MODEL.npy``, (n, 384) float32, and ``MODEL.json``, its texts in the same order."""
    document = {
        "model": MODEL,
        "weights_sha256": WEIGHTS_SHA256,
        "generated_with": describe_environment(),
        "command": COMMAND,
        "date": date,
        "texts": [asdict(entry) for entry in entries],
    }
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / f"{MODEL}.npy", vectors, allow_pickle=False)
    # Escaped: an editor or a checkout that touches odd characters would change the texts.
    text = json.dumps(document, ensure_ascii=True, indent=1) + "\n"
    (out / f"{MODEL}.json").write_text(text, encoding="ascii", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model folder")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR")
    arguments = parser.parse_args()
    check_weights(arguments.model)
    model = load_reference(arguments.model)
    entries = collect_entries(model)
    vectors = encode_alone(model, [entry.text for entry in entries])
    write_golden(arguments.out, entries, vectors, datetime.now(UTC).date().isoformat())
    print(f"{len(entries)} texts, {sum(entry.tokens for entry in entries)} tokens")


if __name__ == "__main__":
    main()
