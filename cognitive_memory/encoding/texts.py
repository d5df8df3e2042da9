"""What every provider of ours accepts as a batch of texts."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import InvalidInputError


def check_texts(texts: Sequence[str]) -> None:
    """Raise ``InvalidInputError`` for anything that is not a string of valid Unicode.

    One string is a sequence of strings, too, but never meant as one: ``TypeError``.
    """
    if isinstance(texts, str):
        raise TypeError("a sequence of texts is needed, not one text; for one there is encode")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"text {index} is a {type(text).__name__}; expected a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"text {index} is not valid Unicode: a lone surrogate "
                f"{text[error.start]!r} at character {error.start}; decode it as UTF-8 first"
            ) from None
