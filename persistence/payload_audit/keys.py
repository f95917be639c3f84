"""The kinds of keys in the payload store."""

from __future__ import annotations

import re

__all__ = ["DOOMED", "DOOMED_KEY", "KEY", "content_key"]

DOOMED = "doomed"
"""The prefix of objects that a sweep set aside: ``doomed/{seconds since the epoch}/{key}``."""
KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([0-9a-f]{64})")
"""The key of a message's content: the message id, and the content's SHA-256."""
DOOMED_KEY = re.compile(rf"{DOOMED}/(\d{{1,12}})/({KEY.pattern})")
"""The seconds, the key, and its parts."""


def content_key(key: str) -> re.Match[str] | None:
    """Match the key of a message's content, also of one that a sweep set aside."""
    aside = DOOMED_KEY.fullmatch(key)
    return KEY.fullmatch(aside[2] if aside else key)
