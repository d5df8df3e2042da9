"""Files and histories become memories, with ids derived from where they stand in their source."""

from __future__ import annotations

from .conversation import ConversationLoader
from .git import GitHistoryLoader
from .markdown import MarkdownMemoryLoader
from .text import TextLoader

__all__ = ["ConversationLoader", "GitHistoryLoader", "MarkdownMemoryLoader", "TextLoader"]
