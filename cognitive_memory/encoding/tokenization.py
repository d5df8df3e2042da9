"""Texts to token ids: the published tokenizer file with its padding and truncation switched off.

Some published files truncate at 128 and pad everything to 128 tokens; here lengths are the true
ones, and the limit is the model's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from ..core.errors import ModelIntegrityError

Span = tuple[int, int]

PIECE_CHARACTERS = 16_384
"""Longer texts are tokenized piece by piece: a token takes a hundred times its text in memory.

A single word beyond it stays whole.
"""

CHARACTERS_AT_ONCE = 16 * PIECE_CHARACTERS
"""Tokenized in one call of the library, which holds the tokens of all its texts."""

_SPACE = re.compile(r"[^\S\x0b\x0c\x1c-\x1f\x85]+")
"""White space that ends a word; the rest of it is control characters, which BERT drops."""

_CONTEXT = 512
"""Characters beside a cut that the tokenizer sees; more than a special token has."""

OVERLAP_TOKENS = 32
"""Shared by neighboring chunks, so that a sentence cut by one is whole in the other."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of each text, and how many tokens were cut off each to fit."""

    rows: list[list[int]]
    cut: list[int]


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

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Ids of each text, special tokens included, cut to ``max_length``.

        ``texts`` are strings of valid Unicode, here and below.
        """
        tokens = Tokens([], [])
        short = [text if len(text) <= PIECE_CHARACTERS else "" for text in texts]
        for text, encoding in zip(texts, self._encode(short, special=True), strict=True):
            ids: list[int] = encoding.ids
            excess = len(ids) - self.max_length
            if len(text) > PIECE_CHARACTERS:
                ids, excess = self._tokenize_in_pieces(text, frame=ids)
            elif excess > 0:
                # BERT's template ends in one special token, which stays at the end.
                ids = [*ids[: self.max_length - 1], ids[-1]]
            tokens.rows.append(ids)
            tokens.cut.append(max(0, excess))
        return tokens

    @property
    def vocabulary_size(self) -> int:
        """Ids are below it."""
        return 1 + max(self._tokenizer.get_vocab().values(), default=-1)

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """The place of a text and ids of it, without special tokens and without limit.

        A long text comes in pieces, so that memory is bounded; its pieces do not depend on the
        other texts.
        """
        for start, end in _groups(texts):
            group = [text if len(text) <= PIECE_CHARACTERS else "" for text in texts[start:end]]
            if end - start == 1:
                encodings = [self._encode_one(group[0])]
            else:
                # Without offsets, which nobody asks for here.
                encodings = self._tokenizer.encode_batch_fast(group, add_special_tokens=False)
            for place, encoding in enumerate(encodings, start):
                if len(texts[place]) <= PIECE_CHARACTERS:
                    yield place, encoding.ids
                else:
                    for first, last in self._pieces(texts[place]):
                        yield place, self._encode_one(texts[place][first:last]).ids

    def room(self, prompt: str = "") -> int:
        """Tokens of a text that fit after ``prompt``.

        Raises ``ModelIntegrityError`` for a prompt that leaves none: all texts would be the same.
        """
        limit = self.max_length - self.special_tokens
        room = limit - self._count(prompt) if prompt else limit
        if room < 1:
            raise ModelIntegrityError(
                f"the prompt {prompt!r} has {limit - room} tokens, the limit is {limit} with the "
                "text; shorten it, or raise the model's max_length"
            )
        return room

    def chunk_spans(self, texts: Sequence[str], prompt: str = "") -> list[list[Span]]:
        """For each text its chunks as (start, end) in characters.

        Each chunk, with ``prompt`` before it, fits the limit by itself and begins and ends between
        words; neighbors overlap by about ``OVERLAP_TOKENS``; together they cover the text.

        Raises ``ModelIntegrityError`` for a prompt that leaves no room.
        """
        limit = self.max_length - self.special_tokens
        room = self.room(prompt)
        spans: list[list[Span]] = [[(0, len(text))] for text in texts]
        # A token takes a byte at least, so a text of few bytes needs no look.
        look = [i for i, text in enumerate(texts) if len((prompt + text).encode()) > limit]
        whole = [i for i in look if len(texts[i]) <= PIECE_CHARACTERS]
        encodings = self._encode([texts[i] for i in whole], special=False)
        for i, encoding in zip(whole, encodings, strict=True):
            spans[i] = self._windows(texts[i], encoding, room, prompt)
        for i in sorted(set(look).difference(whole)):
            spans[i] = []
            for first, last in self._pieces(texts[i]):
                piece = texts[i][first:last]
                cuts = self._windows(piece, self._encode_one(piece), room, prompt)
                spans[i] += [(first + start, first + end) for start, end in cuts]
        return spans

    def _tokenize_in_pieces(self, text: str, frame: list[int]) -> tuple[list[int], int]:
        """Ids of a long text between the special tokens of ``frame``, and how many were cut."""
        room = self.max_length - self.special_tokens
        kept: list[int] = []
        count = 0
        for start, end in self._pieces(text):
            ids: list[int] = self._encode_one(text[start:end]).ids
            kept += ids[: room - len(kept)]
            count += len(ids)
        return [frame[0], *kept, *frame[1:]], count - len(kept)

    def _windows(self, text: str, encoding: Encoding, room: int, prompt: str) -> list[Span]:
        """Cut one text, given its tokens, into spans of about ``room`` tokens.

        With ``prompt`` before them, with which they may merge, they are within the limit.
        """
        limit = self.max_length - self.special_tokens
        if (self._count(prompt + text) if prompt else len(encoding)) <= limit:
            return [(0, len(text))]
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
                excess = self._count(prompt + text[start : offsets[end - 1][1]]) - limit
                if excess <= 0:
                    break
                end = _word_start(words, max(begin + 1, end - excess), floor=begin)
            spans.append((start, offsets[end - 1][1]))
            begin = _word_start(words, max(begin + 1, end - min(OVERLAP_TOKENS, room // 4)), begin)
            if end < count and offsets[begin][0] <= start:
                begin = end
        spans[-1] = (spans[-1][0], len(text))
        return spans

    def _pieces(self, text: str) -> Iterator[Span]:
        """Cut a long text where no word spans the cut, after white space if there is any near."""
        start = 0
        while len(text) - start > PIECE_CHARACTERS:
            end = self._word_end(text, start + PIECE_CHARACTERS)
            yield start, end
            start = end
        if start < len(text):
            yield start, len(text)

    def _word_end(self, text: str, position: int) -> int:
        """A place at or after ``position`` between two words; the end of the text if none is."""
        space = _SPACE.search(text, position, position + PIECE_CHARACTERS)
        if space is not None:
            return space.end()
        # Scripts without spaces: the tokenizer says where words are, if it sees what surrounds.
        while position < len(text):
            start = max(0, position - _CONTEXT)
            encoding = self._encode_one(text[start : position + 2 * _CONTEXT])
            words, offsets = encoding.word_ids, encoding.offsets
            for index in range(1, len(words)):
                cut = start + offsets[index][0]
                if words[index] != words[index - 1] and 0 <= cut - position < _CONTEXT:
                    return cut
            position += _CONTEXT
        return len(text)

    def _count(self, text: str) -> int:
        return len(self._encode_one(text))

    def _encode_one(self, text: str) -> Encoding:
        # Not worth a trip to the library's threads.
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _encode(self, texts: Sequence[str], *, special: bool) -> Iterator[Encoding]:
        for start, end in _groups(texts):
            if end - start == 1:
                yield self._tokenizer.encode(texts[start], add_special_tokens=special)
            else:
                group = list(texts[start:end])
                yield from self._tokenizer.encode_batch(group, add_special_tokens=special)


def _groups(texts: Sequence[str]) -> Iterator[Span]:
    """First and last (exclusive) of the texts that are tokenized at once."""
    start = characters = 0
    for index, text in enumerate(texts):
        if index > start and characters + len(text) > CHARACTERS_AT_ONCE:
            yield start, index
            start, characters = index, 0
        characters += len(text)
    if len(texts):
        yield start, len(texts)


def _word_start(words: list[int | None], position: int, floor: int) -> int:
    """The nearest word boundary at or before ``position`` and after ``floor``, else itself."""
    if position >= len(words):
        return position
    boundary = position
    while boundary > floor and words[boundary] == words[boundary - 1]:
        boundary -= 1
    return boundary if boundary > floor else position
