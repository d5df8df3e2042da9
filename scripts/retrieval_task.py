"""What an embedding is worth for retrieval: documents, questions, and a figure of merit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cognitive_memory.models.quality import HeldVectors, load_held_texts, ndcg

DEPTH = 10
COUNTED = {1, 2, 3, 4}
"""Categories of questions; the others have no answer in the conversation."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """``score`` takes the unit rows of ``documents`` and of ``queries``; more is better."""

    title: str
    documents: Sequence[str]
    queries: Sequence[str]
    score: Callable[[Vectors, Vectors], float]


@dataclass(frozen=True)
class Conversation:
    """An index of its own: its documents, its queries, and the places of what answers each."""

    documents: slice
    queries: slice
    relevant: Sequence[frozenset[int]]

    def shares(self, documents: Vectors, queries: Vectors) -> list[float]:
        """Of what answers a query, the share among the ten nearest documents."""
        scores = queries[self.queries] @ documents[self.documents].T
        nearest = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
        return [
            len(wanted.intersection(row.tolist())) / len(wanted)
            for wanted, row in zip(self.relevant, nearest, strict=True)
        ]


def held_task() -> Task:
    """The package's own held questions; each has one passage that answers it."""
    held = load_held_texts()
    title = f"nDCG@10 of {len(held.queries)} held questions"
    return Task(
        title,
        held.texts,
        held.queries,
        lambda documents, queries: ndcg(HeldVectors(queries, documents)),
    )


def conversation_task(data: Path) -> Task:
    """``turns.jsonl`` and ``questions.jsonl`` as in LoCoMo; a document is ``speaker: text``.

    The figure is frac@10, the mean share of the turns that answer a question among the ten nearest
    of its conversation.
    """
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in _read_lines(data / "turns.jsonl"):
        turns[turn["conversation"]].append(turn)
    asked = [line for line in _read_lines(data / "questions.jsonl") if line["category"] in COUNTED]
    documents: list[str] = []
    queries: list[str] = []
    conversations = []
    for name, lines in turns.items():
        places = {line["turn"]: place for place, line in enumerate(lines)}
        answered = [
            (line["question"], relevant)
            for line in asked
            if line["conversation"] == name
            and (relevant := frozenset(places[turn] for turn in line["evidence"] if turn in places))
        ]
        conversations.append(
            Conversation(
                slice(len(documents), len(documents) + len(lines)),
                slice(len(queries), len(queries) + len(answered)),
                [relevant for _, relevant in answered],
            )
        )
        documents += [f"{line['speaker']}: {line['text']}" for line in lines]
        queries += [question for question, _ in answered]

    def score(of_documents: Vectors, of_queries: Vectors) -> float:
        shares = [each.shares(of_documents, of_queries) for each in conversations]
        return float(np.mean(np.concatenate(shares)))

    title = f"frac@10 of {len(queries)} questions over {len(turns)} conversations of {data.name}"
    return Task(title, documents, queries, score)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
