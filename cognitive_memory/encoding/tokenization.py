"""Texts to token ids: the published tokenizer file with its padding and truncation switched off.

Some published files truncate at 128 and pad everything to 128 tokens; here lengths are the true
ones, and the limit is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from ..core.errors import ModelIntegrityError

Span = tuple[int, int]

OVERLAP_TOKENS = 32
"""Shared by neighboring chunks, so that a sentence cut by one is whole in the other."""


class TextTokenizer:
    """Token ids within the model's limit, and chunks of texts beyond it. Thread-safe."""

    def __init__(self, path: Path, max_length: int) -> None:
        """Read ``tokenizer.json``; raises ``ModelIntegrityError`` if it is not one."""
        try:
            self._tokenizer = Tokenizer.from_buffer(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ModelIntegrityError(f"{path} is not a tokenizer: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_length = max_length
        self.special_tokens = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, special tokens included, cut to ``max_length``.

        ``texts`` are strings of valid Unicode, here and below.
        """
        return [self._truncated(encoding.ids) for encoding in self._encode(texts, special=True)]

    def chunk_spans(self, texts: Sequence[str]) -> list[list[Span]]:
        """For each text its chunks as (start, end) in characters.

        Each chunk fits the limit by itself and begins and ends between words; neighbors overlap
        by about ``OVERLAP_TOKENS``; together they cover the text.
        """
        room = self.max_length - self.special_tokens
        spans: list[list[Span]] = [[(0, len(text))] for text in texts]
        # A token takes a byte at least, so a text of few bytes needs no look.
        long = [i for i, text in enumerate(texts) if len(text.encode()) > room]
        encodings = self._encode([texts[i] for i in long], special=False)
        for i, encoding in zip(long, encodings, strict=True):
            if len(encoding) > room:
                spans[i] = self._windows(texts[i], encoding, room)
        return spans

    def _windows(self, text: str, encoding: Encoding, room: int) -> list[Span]:
        """Cut one text, given its tokens, into spans of at most ``room`` tokens."""
        words: list[int | None] = encoding.word_ids
        offsets: list[Span] = encoding.offsets
        count = len(offsets)
        spans: list[Span] = []
        begin = end = 0
        while end < count:
            # What no token covers (white space, control characters) goes with the next chunk.
            start = min(offsets[begin][0], spans[-1][1]) if spans else 0
            end = _word_start(words, min(begin + room, count), floor=begin)
            # A word that is cut can have more tokens in its parts than it had as a whole.
            while end > begin + 1:
                excess = self._count(text[start : offsets[end - 1][1]]) - room
                if excess <= 0:
                    break
                end = _word_start(words, max(begin + 1, end - excess), floor=begin)
            spans.append((start, offsets[end - 1][1]))
            begin = _word_start(words, max(begin + 1, end - min(OVERLAP_TOKENS, room // 4)), begin)
            if end < count and offsets[begin][0] <= start:
                begin = end
        spans[-1] = (spans[-1][0], len(text))
        return spans

    def _count(self, text: str) -> int:
        return len(self._encode([text], special=False)[0])

    def _truncated(self, ids: list[int]) -> list[int]:
        # BERT's template ends in one special token, which stays at the end.
        return ids if len(ids) <= self.max_length else [*ids[: self.max_length - 1], ids[-1]]

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[Encoding]:
        encodings: list[Encoding] = self._tokenizer.encode_batch(
            list(texts), add_special_tokens=special
        )
        return encodings


def _word_start(words: list[int | None], position: int, floor: int) -> int:
    """The nearest word boundary at or before ``position`` and after ``floor``, else itself."""
    if position >= len(words):
        return position
    boundary = position
    while boundary > floor and words[boundary] == words[boundary - 1]:
        boundary -= 1
    return boundary if boundary > floor else position
