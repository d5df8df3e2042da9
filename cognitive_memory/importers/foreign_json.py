"""JSON files of other systems, read whole: they hold no line that could be read by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import SourceError
from .sniffing import reason


def read_json(path: str) -> Any:
    """The value of a UTF-8 file; raises ``SourceError``."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} is not UTF-8 at byte {error.start}; convert it, or check the path"
        ) from None
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {reason(error)}; check the path") from None
    if text.startswith('{"format":"cognitive-memory"'):
        raise SourceError(f"{path} is an export of cognitive-memory; leave out --from")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON: {error}; export it again") from None
