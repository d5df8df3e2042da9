"""Token ids as the reference tokenizer gives them, and chunks that fit and lose nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from cognitive_memory.core.errors import ModelIntegrityError
from cognitive_memory.core.model_files import TOKENIZER_FILE
from cognitive_memory.encoding.tokenization import OVERLAP_TOKENS, Span, TextTokenizer
from cognitive_memory.models.verify import GoldenSet

SMALL = 16
"""A limit that cuts short texts into many chunks, and long words into pieces."""


@pytest.fixture(scope="session")
def tokenizer_path(model_dir: Path) -> Path:
    return model_dir / TOKENIZER_FILE


@cache
def reference(path: Path, max_length: int) -> Tokenizer:
    """The published tokenizer, told to do what ``TextTokenizer`` does."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


@cache
def tokenizer_for(path: Path, max_length: int) -> TextTokenizer:
    return TextTokenizer(path, max_length)


def count_tokens(path: Path, text: str) -> int:
    """Tokens of a text, special ones included, whatever their number."""
    return len(reference(path, 1 << 30).encode(text))


# What tokenizers stumble over, mixed with any text at all.
pieces = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="abcdefghij\u0301\u0308 ", max_size=30),
    st.sampled_from(
        [
            *(
                "word",
                " ",
                "\n\n",
                "\0",
                "\u200b",
                "\ufeff",
                "\u0301",
                "\u093e",
                "e\u0301",
                "[SEP]",
            ),
            *(
                "[MASK]",
                "\u6211\u4eec",
                "\ud55c\uad6d\uc5b4",
                "\ufdfa",
                "\U0001f469\u200d\U0001f4bb",
            ),
            *(
                "\u1100\u1161\u11a8",
                "\u1e9b\u0323",
                "\U0001d15f",
                "\u0130",
                "ok.",
                "...",
                "x" * 150,
            ),
            *("zqxjk" * 12, "\uac01" * 25, "\u00e9" * 40, "antidisestablishmentarianism"),
        ]
    ),
)
texts = st.lists(pieces, max_size=40).map("".join)


@pytest.mark.parametrize("max_length", [256, 128, SMALL])
def test_ids_are_those_of_the_reference_tokenizer(
    tokenizer_path: Path, golden: GoldenSet, max_length: int
) -> None:
    expected = [
        encoding.ids
        for encoding in reference(tokenizer_path, max_length).encode_batch(golden.texts)
    ]
    assert tokenizer_for(tokenizer_path, max_length).tokenize(golden.texts).rows == expected
    assert max(map(len, expected)) == max_length


@given(texts=st.lists(texts, max_size=5))
def test_ids_of_any_text_are_those_of_the_reference_tokenizer(
    tokenizer_path: Path, texts: Sequence[str]
) -> None:
    expected = [
        encoding.ids for encoding in reference(tokenizer_path, SMALL).encode_batch(list(texts))
    ]
    assert tokenizer_for(tokenizer_path, SMALL).tokenize(texts).rows == expected


def test_no_texts_have_no_ids_and_no_spans(tokenizer_path: Path) -> None:
    tokenizer = tokenizer_for(tokenizer_path, SMALL)
    assert tokenizer.tokenize([]).rows == []
    assert tokenizer.chunk_spans([]) == []


def check_spans(path: Path, text: str, spans: list[Span], max_length: int) -> None:
    """Spans are in order, cover the text without a gap, and each fits by itself."""
    starts, ends = zip(*spans, strict=True)
    assert starts[0] == 0
    assert ends[-1] == len(text)
    assert sorted(set(starts)) == list(starts)
    assert sorted(ends) == list(ends)
    for next_start, end in zip(starts[1:], ends[:-1], strict=True):
        assert next_start <= end
    if count_tokens(path, text) <= max_length:
        assert spans == [(0, len(text))]
    for start, end in spans:
        assert start < end or text == ""
        assert count_tokens(path, text[start:end]) <= max_length


@given(text=texts)
@example(text="a " + "zqxjk" * 15 + " and more words here to follow")
@example(text="\uac01" * 60)
@example(text=unicodedata.normalize("NFD", "\u1ea1\u0302 \u00e9\u00e8\u00fc " * 30))
def test_chunks_of_any_text_fit_and_cover_it(tokenizer_path: Path, text: str) -> None:
    [spans] = tokenizer_for(tokenizer_path, SMALL).chunk_spans([text])
    check_spans(tokenizer_path, text, spans, SMALL)


@given(text=st.text(max_size=200), max_length=st.integers(8, 40))
def test_chunks_fit_any_limit(tokenizer_path: Path, text: str, max_length: int) -> None:
    [spans] = TextTokenizer(tokenizer_path, max_length).chunk_spans([text])
    check_spans(tokenizer_path, text, spans, max_length)


@pytest.mark.parametrize(
    "text",
    [
        "\u6211\u4eec\u6628\u5929\u8ba8\u8bba\u4e86\u8bb0\u5fc6\u7cfb\u7edf" * 100,
        " ".join(["x" * 150] * 400),
        " ".join(["pneumonoultramicroscopicsilicovolcanoconiosis"] * 60),
        "word\0" * 400 + "word \0 \0\0" * 400,
        "\n".join(["one two three"] * 300) + " \t\n" * 300,
        " " * 2000,
        "\0" * 2000,
        unicodedata.normalize(
            "NFD", "Ti\u1ebfng Vi\u1ec7t d\u00f9ng nhi\u1ec1u d\u1ea5u thanh; " * 50
        ),
        "e" + "\u0301" * 3000,
        "\U0001f469\u200d\U0001f4bb " * 500,
        "https://example.org/" + "a1b2c3d4" * 500,
    ],
    ids=lambda text: f"{text[:8]!a}",
)
def test_chunks_at_the_limit_of_the_model(tokenizer_path: Path, text: str) -> None:
    [spans] = tokenizer_for(tokenizer_path, 256).chunk_spans([text])
    check_spans(tokenizer_path, text, spans, 256)


def test_chunks_of_golden_texts_cover_them(tokenizer_path: Path, golden: GoldenSet) -> None:
    found = tokenizer_for(tokenizer_path, 256).chunk_spans(golden.texts)
    for text, spans in zip(golden.texts, found, strict=True):
        check_spans(tokenizer_path, text, spans, 256)
    assert max(map(len, found)) > 2


@pytest.mark.parametrize(("words", "chunks"), [(253, 1), (254, 1), (255, 2), (476, 2), (477, 3)])
def test_a_text_is_cut_as_soon_as_it_is_too_long(
    tokenizer_path: Path, words: int, chunks: int
) -> None:
    # 254 words fit beside [CLS] and [SEP]; each further chunk brings 254 - 32 new ones.
    [spans] = tokenizer_for(tokenizer_path, 256).chunk_spans([" ".join(["river"] * words)])
    assert len(spans) == chunks


def test_chunks_begin_and_end_between_words_and_overlap(tokenizer_path: Path) -> None:
    text = " ".join(f"embedding number {number}" for number in range(300))
    [spans] = tokenizer_for(tokenizer_path, 256).chunk_spans([text])
    assert len(spans) > 3
    for (start, end), (next_start, _) in pairwise(spans):
        assert text[end] == " "
        assert text[next_start - 1] == " "
        shared = count_tokens(tokenizer_path, text[next_start:end]) - 2
        assert OVERLAP_TOKENS <= shared < OVERLAP_TOKENS + 8
        assert start < next_start


def test_spans_of_many_texts_stay_with_their_texts(tokenizer_path: Path) -> None:
    long = "one two three four five six seven " * 10
    tokenizer = tokenizer_for(tokenizer_path, SMALL)
    [spans] = tokenizer.chunk_spans([long])
    assert tokenizer.chunk_spans(["short", long, "", long[:20]]) == [
        [(0, 5)],
        spans,
        [(0, 0)],
        [(0, 20)],
    ]


def test_the_limit_of_the_file_does_not_count(tokenizer_path: Path) -> None:
    # The published file truncates at 128 tokens and pads up to them.
    published = Tokenizer.from_file(str(tokenizer_path))
    assert (published.truncation or {})["max_length"] == 128
    assert (published.padding or {})["length"] == 128
    tokenizer = tokenizer_for(tokenizer_path, 256)
    assert [len(row) for row in tokenizer.tokenize(["river " * 200, "river"]).rows] == [202, 3]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"not JSON"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelIntegrityError, match=r"tokenizer\.json is not a tokenizer: \w+"):
        TextTokenizer(path, 256)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelIntegrityError, match=r"gone\.json is not a tokenizer: .*No such file"):
        TextTokenizer(tmp_path / "gone.json", 256)
