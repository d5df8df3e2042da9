"""From the nearest points to the best memories, compared with a full and exact ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognitive_memory.core.memory import VectorHit
from cognitive_memory.core.similarity import normalize
from cognitive_memory.storage.qdrant_search import (
    MOST_TIES,
    PointHit,
    best_memories,
    contenders,
    first_limit,
    is_complete,
    near_ties,
    rescored,
)

X, Y = np.eye(2, dtype=np.float32)


def hits(*given: tuple[str, float]) -> list[PointHit]:
    """Points of memories with their scores; the chunk is the place."""
    return [PointHit(f"p{place}", *pair[:1], place, pair[1]) for place, pair in enumerate(given)]


def test_few_points_are_all_there_are() -> None:
    assert is_complete(hits(("a", 0.5)), limit=2, k=10)
    assert is_complete([], limit=1, k=1)


def test_the_last_score_may_go_on_beyond_the_limit() -> None:
    assert not is_complete(hits(("a", 0.5), ("b", 0.4)), limit=2, k=2)
    assert is_complete(hits(("a", 0.5), ("b", 0.4)), limit=2, k=1)
    assert not is_complete(hits(("a", 0.4 + 1e-7), ("b", 0.4)), limit=2, k=1)
    assert not is_complete(hits(("a", 0.5), ("a", 0.45), ("b", 0.4)), limit=3, k=2)


def test_endless_ties_end() -> None:
    same = [PointHit(str(place), str(place), 0, 0.5) for place in range(MOST_TIES)]
    assert not is_complete(same[:-1], limit=MOST_TIES - 1, k=1)
    assert is_complete(same, limit=MOST_TIES, k=1)
    of_one = [PointHit(str(place), "one", place, 0.5) for place in range(MOST_TIES)]
    assert not is_complete(of_one, limit=MOST_TIES, k=2), "but never with too few memories"


def test_contenders_reach_as_far_as_rounding_can() -> None:
    given = hits(("a", 0.9), ("a", 0.8), ("b", 0.5), ("c", 0.5 - 1e-7), ("d", 0.4))
    assert [hit.memory_id for hit in contenders(given, 2)] == ["a", "a", "b", "c"]
    assert contenders(given, 9) == given


def test_only_scores_that_differ_a_little_are_computed_again() -> None:
    given = hits(("a", 0.9), ("b", 0.9), ("c", 0.5), ("d", 0.5 - 1e-7), ("e", 0.5 - 2e-7))
    assert near_ties(given) == ["p2", "p3", "p4"]
    assert near_ties([]) == []


def test_rescoring_is_exact_and_within_bounds() -> None:
    given = hits(("a", 0.7), ("b", 0.6))
    again = rescored(given, X, {"p0": X * np.float32(1.0000001), "gone": Y})
    assert [hit.score for hit in again] == [1.0, 0.6]


def test_of_equal_chunks_the_first_is_named() -> None:
    given = [PointHit("x", "a", 3, 0.5), PointHit("y", "a", 1, 0.5), PointHit("z", "a", 0, 0.1)]
    assert best_memories(given, 5, None) == [VectorHit("a", 0.5, 1)]
    assert best_memories(given, 5, 0.5) == [VectorHit("a", 0.5, 1)]
    assert best_memories(given, 5, 0.6) == []


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 5)), max_size=60),
    st.integers(1, 10),
    st.randoms(use_true_random=False),
)
def test_whatever_the_server_does_with_ties_the_ranking_is_that_of_all_points(
    points: list[tuple[str, int]], k: int, random: object
) -> None:
    """Rows that tie, shuffled, with scores that are off by rounding, in steps of the limit."""
    angles = [number / 7 for _, number in points]
    rows = normalize(np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32))
    rows = rows.reshape(-1, 2)
    noise = [random.uniform(-1e-7, 1e-7) for _ in points]  # type: ignore[attr-defined]
    everything = sorted(
        (
            PointHit(f"p{place}", memory_id, place, float(rows[place] @ X) + noise[place])
            for place, (memory_id, _) in enumerate(points)
        ),
        key=lambda hit: -hit.score,
    )
    limit = max(1, k // 2)
    while not is_complete(found := everything[:limit], limit, k):
        limit *= 2
    likely = contenders(found, k)
    vectors = {point: rows[int(point[1:])] for point in near_ties(likely)}
    ranked = best_memories(rescored(likely, X, vectors), k, None)
    all_vectors = {hit.point_id: rows[int(hit.point_id[1:])] for hit in everything}
    expected = best_memories(rescored(everything, X, all_vectors), k, None)
    assert [(hit.memory_id, hit.chunk) for hit in ranked] == [
        (hit.memory_id, hit.chunk) for hit in expected
    ]
    assert [hit.score for hit in ranked] == pytest.approx([hit.score for hit in expected], abs=2e-7)


def test_the_first_request_leaves_room_for_chunks() -> None:
    assert [first_limit(k) for k in (1, 10, 200)] == [17, 26, 250]
