"""Runs a graph that nobody vouches for: in a process of its own, with bounds of memory and time.

``python -m cognitive_memory.models.trial`` is that process: a request comes on standard input and
the answer goes to standard output, both JSON.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConversionError, ModelIntegrityError
from ..encoding.batching import pad_batch
from ..encoding.runtime import import_runtime, open_session, runtime_errors

SHORT = "A cat."
LONG = "Beside a longer sentence the short one is padded, and this must not change its vector."
FURTHER_BYTES = 2**31
"""Memory beyond that of the weights."""
LONGEST_SECONDS = 600.0

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a graph gave for four inferences; the name of an output -> its values."""

    together: Outputs
    """The short text and the long one, the short one padded."""
    short: Outputs
    long: Outputs
    whole: Outputs | str
    """A text as long as the model takes, or why it failed."""
    highest: Outputs | str
    """The token of the highest id, or why it failed."""
    highest_id: int
    same: bool
    """Whether the tokenizer makes the same ids of both texts."""


def try_graph(
    graph: Path,
    tokenizer: Path,
    max_length: int,
    *,
    further_bytes: int = FURTHER_BYTES,
    seconds: float = LONGEST_SECONDS,
) -> Trial:
    """Run ``graph`` on texts as ``tokenizer`` cuts them to ``max_length`` tokens.

    Raises ``ConversionError`` when it does not run.
    """
    # Intermediate values grow with the weights, and attention with the square of the length.
    room = further_bytes + 8 * graph.stat().st_size + 256 * max_length**2
    request = {
        "graph": str(graph),
        "tokenizer": str(tokenizer),
        "max_length": max_length,
        "bytes": room,
    }
    answer = _ask(request, seconds)
    if "error" in answer:
        raise ConversionError(f"the model does not run: {answer['error']}")
    results = [each if isinstance(each, str) else _decoded(each) for each in answer["results"]]
    for result in results[:3]:
        if isinstance(result, str):
            raise ConversionError(f"the model does not run: {result}")
    together, short, long, whole, highest = results
    return Trial(together, short, long, whole, highest, answer["highest_id"], answer["same"])  # type: ignore[arg-type]


def _ask(request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    # The child finds its modules where this process does, and nothing in the current folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConversionError(f"the model does not run: no end after {seconds:g} seconds") from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or ["it said nothing"]
        raise ConversionError(
            f"the model does not run: its process ended with {child.returncode} ({lines[-1][:300]})"
        )
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer


def _decoded(values: Mapping[str, Any]) -> Outputs:
    return {
        name: np.frombuffer(base64.b64decode(data), dtype=np.float32).reshape(shape)
        for name, (shape, data) in values.items()
    }


def main() -> None:
    """Answer the request on standard input."""
    request = json.loads(sys.stdin.read())
    answer: dict[str, Any] = {}
    try:
        rows, answer["highest_id"] = _rows(Path(request["tokenizer"]), request["max_length"])
        answer["same"] = rows[0] == rows[1]
        import_runtime()
        _bound_memory(request["bytes"])
        session = open_session(Path(request["graph"]), 1)
        batches = [rows[:2], *([row] for row in rows)]
        answer["results"] = [_outputs(session, batch) for batch in batches]
    except (ModelIntegrityError, ConversionError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"it needs more than {request['bytes']:,} bytes"}
    json.dump(answer, sys.stdout)


def _rows(path: Path, max_length: int) -> tuple[list[list[int]], int]:
    """Ids of the short text, the long one, one of full length and the highest id; that id."""
    from tokenizers import Tokenizer

    from ..encoding.tokenization import TextTokenizer

    tokenizer = TextTokenizer(path, max_length)
    if tokenizer.special_tokens >= max_length:
        raise ConversionError(
            f"a maximum length of {max_length} leaves no room for a word beside the tokenizer's "
            f"{tokenizer.special_tokens} special tokens"
        )
    rows = tokenizer.tokenize([SHORT, LONG, f"{LONG} " * max_length]).rows
    if not all(rows):
        raise ConversionError(f"{path} makes no tokens of {SHORT!r}")
    highest = max(Tokenizer.from_file(str(path)).get_vocab().values())
    return [*rows, [*rows[0][:1], highest]], highest


def _bound_memory(further: int) -> None:
    """Let this process take so much more than it has; only where the system can say and do it."""
    usage = Path("/proc/self/statm")
    if not usage.is_file():
        return
    import resource

    pages = int(usage.read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + further
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _outputs(session: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any] | str:
    ids, mask = pad_batch(rows)
    names = [each.name for each in session.get_outputs()]
    try:
        values = session.run(names, {"input_ids": ids, "attention_mask": mask})
    except runtime_errors() as error:
        return str(error).strip().splitlines()[0]
    return {
        name: [value.shape, base64.b64encode(value.tobytes()).decode()]
        for name, value in zip(names, values, strict=True)
    }


if __name__ == "__main__":
    main()
