"""Suggestions for paths that do not exist: the existing path that a client probably meant."""

from __future__ import annotations

import re
from difflib import get_close_matches

from ingress.accept.post_batch import BATCH
from ingress.accept.post_message import MESSAGES

__all__ = ["PATHS", "near_path"]

PATHS = (
    MESSAGES, BATCH, "/api/dead-letters", "/api/dead-letters/redrive", "/api/dead-letters/discard",
    "/api/jobs", "/healthz", "/readyz", "/docs", "/console", "/openapi.json", "/problems",
)  # fmt: skip
"""The suggested paths. None has an id in it: an id can't be told from a typing error."""
_LONGEST = 64
"""The most characters of a path that gets a suggestion: the search takes the square of them."""
_ALIKE = 0.75
_SLASHES = re.compile("/{2,}")


def near_path(path: str) -> str | None:
    """Return the existing path that is most similar to ``path``, or ``None`` if none is similar.

    The usual faults are extra slashes and capital letters.
    """
    if len(path) > _LONGEST:
        return None
    plain = _SLASHES.sub("/", path).rstrip("/").lower()
    near = get_close_matches(plain, PATHS, n=1, cutoff=_ALIKE)
    return near[0] if near else None
