"""Scores by shared words, with numbers that can be checked by hand, and against plain Python."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognitive_memory.core.memory import MemoryFilter
from cognitive_memory.storage import word_ranking
from cognitive_memory.storage.database import Database
from cognitive_memory.storage.sqlite_persistence import SQLitePersistence
from cognitive_memory.storage.word_ranking import (
    CANDIDATES,
    MAX_POSTINGS,
    Pks,
    WordRanking,
    rank_by_words,
)
from cognitive_memory.testing import make_memory

Documents = Mapping[int, str]

NONE = np.empty(0, dtype=np.int64)

# idf in a store of four: ln(1 + (4 - n + 0.5) / (n + 0.5)) for n = 1, 2, 4
ONE_OF_FOUR = math.log(1 + 3.5 / 1.5)
TWO_OF_FOUR = math.log(2)
ALL_OF_FOUR = math.log(1 + 0.5 / 4.5)


class Index:
    """FTS5 in a few lines: a plural counts as its singular. Remembers what it was asked."""

    def __init__(self, documents: Documents) -> None:
        self._stems = {pk: {stem(word) for word in text.split()} for pk, text in documents.items()}
        self.asked: list[str] = []

    def postings(self, expression: str, limit: int) -> Pks:
        self.asked.append(expression)
        groups = [re.findall('"(.+?)"', part) for part in expression.split(" AND ")]
        wanted = [{stem(word) for word in group} for group in groups]
        found = [
            pk for pk, held in sorted(self._stems.items()) if all(held & each for each in wanted)
        ]
        return np.array(found[:limit], dtype=np.int64)

    def rank(self, query: str) -> WordRanking:
        return rank_by_words(query.split(), self.postings, len(self._stems))


def stem(word: str) -> str:
    return word.removesuffix("s")


def rank(documents: Documents, query: str) -> WordRanking:
    return Index(documents).rank(query)


def pks(*numbers: int) -> Pks:
    return np.array(numbers, dtype=np.int64)


FOUR = {1: "apple tree", 2: "apple", 3: "plum", 4: "plum tree"}
"""Each word stands in two of them."""


# Arithmetic


def test_a_word_weighs_by_how_few_memories_hold_it() -> None:
    assert rank({**FOUR, 1: "quince"}, "quince").sums.tolist() == [0, ONE_OF_FOUR]
    assert rank(FOUR, "apple").sums.tolist() == [0, TWO_OF_FOUR, TWO_OF_FOUR]
    everywhere = dict.fromkeys(range(1, 5), "apple")
    assert rank(everywhere, "apple").sums.tolist() == [0, *[ALL_OF_FOUR] * 4]
    assert pytest.approx([1.204, 0.693, 0.105], abs=1e-3) == [
        ONE_OF_FOUR,
        TWO_OF_FOUR,
        ALL_OF_FOUR,
    ]


def test_words_add_up() -> None:
    expected = [0, 2 * TWO_OF_FOUR, TWO_OF_FOUR, 0, TWO_OF_FOUR]
    assert rank(FOUR, "apple tree zebra").sums.tolist() == pytest.approx(expected)


def test_a_word_counts_once_however_often_it_stands_there() -> None:
    documents = {**FOUR, 2: "apple apple apple"}
    assert rank(documents, "apple").sums.tolist() == rank(FOUR, "apple").sums.tolist()


def test_two_words_of_one_stem_count_once() -> None:
    assert rank(FOUR, "apple apples").sums.tolist() == rank(FOUR, "apple").sums.tolist()


def test_two_words_that_stand_in_the_same_memories_are_two() -> None:
    documents = {1: "apple quince", 2: "plum", 3: "cherry", 4: "date"}
    expected = [0, 2 * ONE_OF_FOUR, ONE_OF_FOUR]
    assert rank(documents, "apple quince plum").sums.tolist() == pytest.approx(expected)


def test_the_best_scores_1_and_longer_ones_less() -> None:
    """600 characters are 100 words, which take off a factor of 2^0.3."""
    ranking = rank(FOUR, "apple tree")
    assert ranking.scores({1: 0, 2: 0}) == {1: 1.0, 2: 0.5}
    assert ranking.scores({1: 0, 2: 600}) == {1: 1.0, 2: pytest.approx(0.5 / 2**0.3)}
    assert ranking.scores({1: 600, 2: 0}) == {1: 1.0, 2: pytest.approx(0.5 * 2**0.3)}


def test_the_best_scores_less_where_it_shares_nothing_telling() -> None:
    """Half of ln 5 = 0.80 is what counts as telling among four."""
    scores = rank(dict.fromkeys(range(1, 5), "apple"), "apple").scores({1: 0, 2: 0})
    assert scores == {1: pytest.approx(ALL_OF_FOUR / (0.5 * math.log(5))), 2: scores[1]}
    assert 0.13 < scores[1] < 0.14


def test_nothing_shared_scores_nothing() -> None:
    for query in ("zebra", ""):
        ranking = rank(FOUR, query)
        assert ranking.choose(10, None, pks(1, 2)).tolist() == []
        assert ranking.scores({}) == {}


# Common words


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word in more than two memories is common."""
    monkeypatch.setattr(word_ranking, "MAX_POSTINGS", 2)


TEN = {
    **dict.fromkeys(range(1, 11), "common"),
    4: "common usual one",
    5: "common usual two",
    6: "common usual three",
    7: "common four",
}
THREE_OF_TEN = math.log(1 + 7.5 / 3.5)
"""What a common word weighs, where three is the most that is looked at."""
ONE_OF_TEN = math.log(1 + 9.5 / 1.5)


@pytest.mark.usefixtures("few")
def test_only_common_words_count_for_all_who_hold_them() -> None:
    """However late they were stored."""
    ten, three = math.log(1 + 0.5 / 10.5), THREE_OF_TEN
    both = rank(TEN, "common usual").sums
    assert both.tolist() == pytest.approx([0, *[ten] * 3, *[ten + three] * 3, *[ten] * 4])
    assert rank(TEN, "common commons").sums.tolist() == rank(TEN, "common").sums.tolist()


@pytest.mark.usefixtures("few")
def test_of_common_words_alone_the_three_rarest_count() -> None:
    documents = dict.fromkeys(range(1, 20), "a")
    for word, places in (("b", (1, 2, 9)), ("c", (3, 4, 12, 13)), ("d", (5, 6, 7, 8))):
        documents.update({pk: f"{documents[pk]} {word}" for pk in places})
    found = rank(documents, "a b c d").sums
    assert np.flatnonzero(found).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13]
    assert found[9] == math.log(1 + 16.5 / 3.5)
    assert found[13] == found[8] == math.log(1 + 15.5 / 4.5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("query", "sums"),
    [
        ("common two", {5: ONE_OF_TEN + THREE_OF_TEN}),
        ("usual four", {7: ONE_OF_TEN}),
        (
            "one common two usual",
            dict.fromkeys((4, 5), ONE_OF_TEN + 2 * THREE_OF_TEN),
        ),
    ],
)
def test_beside_one_or_two_rarer_words_common_ones_only_add(
    query: str, sums: dict[int, float]
) -> None:
    found = rank(TEN, query).sums
    assert {pk: found[pk] for pk in np.flatnonzero(found)} == pytest.approx(sums)


@pytest.mark.usefixtures("few")
def test_beside_three_rarer_words_common_ones_are_not_looked_at() -> None:
    index = Index(TEN)
    sums = index.rank("one two common four usual").sums
    assert {pk: sums[pk] for pk in np.flatnonzero(sums)} == dict.fromkeys((4, 5, 7), ONE_OF_TEN)
    assert index.asked == [f'"{word}"' for word in ("one", "two", "common", "four", "usual")]


@pytest.mark.usefixtures("few")
def test_rare_words_of_one_stem_are_not_several() -> None:
    found = rank(TEN, "one ones common").sums
    assert found[4] == pytest.approx(ONE_OF_TEN + THREE_OF_TEN)


# Whose length is asked


def test_those_with_the_most_telling_words_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ranking, "CANDIDATES", 2)
    ranking = WordRanking(np.array([0, 1.0, 3.0, 1.0, 2.0, 1.0]), 1.0)
    assert ranking.choose(1, None, NONE).tolist() == [2, 4]
    assert ranking.choose(2, None, NONE).tolist() == [1, 2, 3, 4], "of equal ones the first"
    assert ranking.choose(9, None, NONE).tolist() == [1, 2, 3, 4, 5]


def test_those_allowed_and_those_asked_for_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ranking, "CANDIDATES", 2)
    ranking = WordRanking(np.array([0, 1.0, 3.0, 1.0, 2.0, 1.0, 0]), 1.0)
    assert ranking.choose(1, None, pks(0, 5, 6, 99)).tolist() == [2, 4, 5]
    assert ranking.choose(1, pks(1, 3, 5, 6, 99), NONE).tolist() == [1, 2, 3, 4]
    assert ranking.choose(1, NONE, NONE).tolist() == [2, 4]


def test_what_comes_along_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third is so short that it would be the best; it is none of the two that are measured."""
    monkeypatch.setattr(word_ranking, "CANDIDATES", 2)
    ranking = WordRanking(np.array([0, 3.0, 3.0, 2.9]), 0.1)
    lengths = {1: 6_000, 2: 12_000}
    assert ranking.scores(lengths)[1] == 1.0
    assert ranking.scores({**lengths, 3: 0}) == {**ranking.scores(lengths), 3: 1.0}


@given(
    sums=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=12),
    lengths=st.lists(st.integers(0, 5_000), min_size=12, max_size=12),
    k=st.integers(1, 12),
    allowed=st.sets(st.integers(0, 20)),
    also=st.sets(st.integers(0, 20)),
)
def test_no_filter_changes_a_score(
    sums: list[float], lengths: list[int], k: int, allowed: set[int], also: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_ranking, "CANDIDATES", 3)
        ranking = WordRanking(np.array(sums), 0.7)

        def scores(k: int, allowed: Pks | None, also: Pks) -> dict[int, float]:
            chosen = ranking.choose(k, allowed, also).tolist()
            return ranking.scores({pk: lengths[pk] for pk in chosen})

        plain = scores(1, None, NONE)
        asked = scores(k, pks(*sorted(allowed)), pks(*sorted(also)))
        assert {pk: asked[pk] for pk in plain} == plain
        assert {pk for pk in also if pk < len(sums) and sums[pk]} <= asked.keys()
        assert all(0 < score <= 1 for score in asked.values())


# The store against plain Python

VOCABULARY = ["apple", "apples", "quince", "plum", "cherry", "date"]


def expected_scores(texts: Sequence[str], query: str, most: int) -> dict[int, float]:
    """The formula of the module, memory by memory; numbers are places in ``texts``."""
    count = len(texts)
    held = [{stem(word) for word in text.split()} for text in texts]
    holders = {
        word: [place for place, words in enumerate(held) if word in words]
        for word in dict.fromkeys(stem(word) for word in query.split())
    }
    rare = {word: places for word, places in holders.items() if 0 < len(places) <= most}
    common = {word: places for word, places in holders.items() if len(places) > most}
    anyone = sorted({place for places in rare.values() for place in places})
    if not rare:
        rarest = sorted(common, key=lambda word: -common[word][most])[:3]
        counted = rare = {word: common[word] for word in rarest}
    elif len(rare) < 3:
        beside = {
            word: [place for place in anyone if place in places] for word, places in common.items()
        }
        counted = {**rare, **beside}
    else:
        counted = rare
    sums = dict.fromkeys(range(count), 0.0)
    for word, places in counted.items():
        n = len(places) if word in rare else most + 1
        for place in places:
            sums[place] += math.log(1 + max(count - n + 0.5, 0.5) / (n + 0.5))
    scores = {
        place: total / (1 + len(texts[place]) / 6 / 100) ** 0.3
        for place, total in sums.items()
        if total
    }
    best = max([0.5 * math.log(1 + count), *scores.values()])
    return {place: score / best for place, score in scores.items()}


TEXTS = st.lists(
    st.lists(st.sampled_from([*VOCABULARY, "other " * 30]), max_size=6).map(" ".join),
    min_size=1,
    max_size=9,
)


@settings(max_examples=150)
@given(
    texts=TEXTS,
    query=st.lists(st.sampled_from(VOCABULARY), max_size=6).map(" ".join),
    most=st.integers(1, 5) | st.just(MAX_POSTINGS),
    k=st.integers(1, 9),
    asked=st.none() | st.sets(st.integers(0, 9)),
    also=st.sets(st.integers(0, 12)),
)
def test_the_store_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    query: str,
    most: int,
    k: int,
    asked: set[int] | None,
    also: set[int],
) -> None:
    names = [str(number) for number in range(len(texts))]
    folder = tmp_path_factory.mktemp("words")
    filters = None if asked is None else MemoryFilter(memory_ids=tuple(map(str, asked)))
    with (
        SQLitePersistence(Database(folder / "store.db")) as record,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(word_ranking, "MAX_POSTINGS", most)
        record.save_memories(
            [make_memory(name, text) for name, text in zip(names, texts, strict=True)]
        )
        hits = record.search_text(query, k, filters, also=[str(number) for number in also])
    expected = {
        str(place): score
        for place, score in expected_scores(texts, query, most).items()
        if asked is None or place in asked
    }
    # To fewer digits than rounding touches, as the order of equal scores is that of their ids.
    order = sorted(expected, key=lambda name: (-round(expected[name], 9), name))
    wanted = [name for rank, name in enumerate(order) if rank < k or int(name) in also]
    found = {hit.memory_id: hit.score for hit in hits}
    assert sorted(hits, key=lambda hit: (-round(hit.score, 9), hit.memory_id)) == hits
    assert list(found) == wanted
    assert found == pytest.approx({name: expected[name] for name in wanted})
    assert all(0 < score <= 1 for score in found.values())


def test_a_word_that_very_many_hold_is_found_beside_a_rarer_one(tmp_path: Path) -> None:
    """With the limits as they are: one more than are looked at holds the word."""
    count = MAX_POSTINGS + 1
    memories = [make_memory(f"{number:05}", "apple") for number in range(count)]
    memories += [make_memory("last", "apple quince"), make_memory("only", "quince tarts")]
    with SQLitePersistence(Database(tmp_path / "store.db")) as record:
        record.save_memories(memories)
        hits = record.search_text("apple quince", 5)
        assert [hit.memory_id for hit in hits] == ["last", "only"]
        assert hits[0].score == 1.0
        common = record.search_text("apple", 3)
        assert [hit.memory_id for hit in common] == ["00000", "00001", "00002"]
        assert 0 < common[0].score < 0.001
        late = record.search_text("apple", 1, also=["02000", "last"])
        assert [hit.memory_id for hit in late] == ["00000", "02000", "last"]
        assert late[0].score == late[1].score
        assert len(record.search_text("apple", count)) == count
        assert count > CANDIDATES
