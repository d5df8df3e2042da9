"""What every ``LexicalIndex`` must do."""

# ruff: noqa: D102  (the name of a test says what it is for)

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

from ..core.interfaces import LexicalIndex
from ..core.memory import CognitiveMemory, TextHit
from .examples import FILTER_CASES, FILTERED_MEMORIES, make_memory


class LexicalIndexContract(ABC):
    """Define the fixture ``lexical``, and ``save_memories`` for the memories to find."""

    @abstractmethod
    def save_memories(self, memories: Sequence[CognitiveMemory]) -> None:
        """Put memories into the record that the index searches."""

    def save(self, **texts: str) -> None:
        """Save a memory for each id and text."""
        self.save_memories([make_memory(name, text) for name, text in texts.items()])

    def test_a_shared_word_finds(self, lexical: LexicalIndex) -> None:
        self.save(a="We dropped Redis.", b="The cache was cold", c="redistribution")
        (hit,) = lexical.search_text("why was REDIS dropped?", 10, None)[:1]
        assert hit.memory_id == "a"
        assert hit.score > 0
        assert _hit_ids(lexical.search_text("redis", 10)) == ["a"]

    @pytest.mark.parametrize("query", ["apple", "the", "apple quince the", "cherry"])
    def test_scores_lie_above_0_up_to_1(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="the apple", b="the apple and the quince", c="the cherry " * 200, d="the the")
        hits = lexical.search_text(query, 10)
        assert hits
        assert all(0 < hit.score <= 1 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_more_shared_words_rank_higher(self, lexical: LexicalIndex) -> None:
        self.save(one="apple banana cherry", two="apple quince cherry", no="plum and pear")
        assert _hit_ids(lexical.search_text("apple quince", 10)) == ["two", "one"]

    def test_ties_are_broken_by_id(self, lexical: LexicalIndex) -> None:
        self.save(c="apple", a="apple", d="apple", b="apple", best="apple quince")
        for k in range(7):
            hits = lexical.search_text("apple quince", k)
            assert _hit_ids(hits) == ["best", "a", "b", "c", "d"][:k]

    def test_those_asked_for_come_along(self, lexical: LexicalIndex) -> None:
        self.save(c="apple", a="apple", d="apple", b="apple quince", no="plum")
        everything = lexical.search_text("apple quince", 9)
        for k, also, found in (
            (1, [], "b"),
            (1, ["d", "c"], "bcd"),
            (2, ["d", "b", "d"], "bad"),
            (4, ["no", "unknown"], "bacd"),
        ):
            hits = lexical.search_text("apple quince", k, also=also)
            assert _hit_ids(hits) == list(found)
            assert hits == [hit for hit in everything if hit.memory_id in found]
        assert lexical.search_text("pear", 9, also=["a"]) == []

    def test_those_asked_for_must_meet_the_filter(self, lexical: LexicalIndex) -> None:
        self.save_memories(FILTERED_MEMORIES)
        filters, expected = FILTER_CASES["one tag"]
        also = [memory.id for memory in FILTERED_MEMORIES]
        assert _hit_ids(lexical.search_text("shared", 1, filters, also)) == sorted(expected)

    @pytest.mark.parametrize("query", ["", " \n", "?!", "***", '"', "' OR ''", "--", "()", "🦊"])
    def test_a_query_without_words_finds_nothing(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="apple pie")
        assert lexical.search_text(query, 10) == []

    @pytest.mark.parametrize(
        "query",
        [
            '"apple',
            "apple* AND (",
            "content:apple",
            "NEAR(apple, 2)",
            "NOT apple",
            "-apple ^apple +apple",
            "apple\0\x01",
            "apple " * 10_000,
            " ".join(["apple", *(f"w{number}" for number in range(10_000))]),
            "a_p_p_l_e " * 100 + "apple",
        ],
        ids=lambda query: query[:20].encode("unicode_escape").decode(),
    )
    def test_any_text_is_a_query(self, lexical: LexicalIndex, query: str) -> None:
        self.save(a="an apple a day")
        assert _hit_ids(lexical.search_text(query, 10)) == ["a"]

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("Die Größe zählt", "größe"),
            ("résumé", "RÉSUMÉ"),
            ("re\u0301sume\u0301", "résumé"),
            ("résumé", "re\u0301sume\u0301"),
            ("η Ελληνική γλώσσα", "ελληνική"),
            ("русский язык", "ЯЗЫК"),
            ("日本語 テキスト", "日本語"),
            ("हिन्दी भाषा", "हिन्दी"),
            ("the price in 1848", "1848"),
        ],
    )
    def test_words_of_any_script(self, lexical: LexicalIndex, text: str, query: str) -> None:
        self.save(a=text, b="something else")
        assert _hit_ids(lexical.search_text(query, 10)) == ["a"]

    @pytest.mark.parametrize("case", FILTER_CASES)
    def test_filters(self, lexical: LexicalIndex, case: str) -> None:
        self.save_memories(FILTERED_MEMORIES)
        filters, expected = FILTER_CASES[case]
        assert _hit_ids(lexical.search_text("shared", 10, filters)) == sorted(expected)
        assert _hit_ids(lexical.search_text("shared", 1, filters)) == sorted(expected)[:1]

    def test_replaced_words_are_no_longer_found(self, lexical: LexicalIndex) -> None:
        self.save(a="apple pie", b="apple juice")
        self.save(a="quince jam")
        assert _hit_ids(lexical.search_text("apple", 10)) == ["b"]
        assert _hit_ids(lexical.search_text("quince", 10)) == ["a"]

    def test_an_empty_index_finds_nothing(self, lexical: LexicalIndex) -> None:
        assert lexical.search_text("apple", 10) == []


def _hit_ids(hits: Sequence[TextHit]) -> list[str]:
    return [hit.memory_id for hit in hits]
