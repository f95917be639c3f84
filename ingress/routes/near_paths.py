"""The path that a client probably meant, for the answer to one that there is not."""

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
"""Without an id in them: nobody can tell an id from a slip."""
_LONGEST = 64
"""Characters; the comparison takes the square of the length."""
_ALIKE = 0.75
_SLASHES = re.compile("/{2,}")


def near_path(path: str) -> str | None:
    """Return the path that is most like ``path``, ``None`` if none is much like it.

    Slashes too many and capitals are the usual faults.
    """
    if len(path) > _LONGEST:
        return None
    plain = _SLASHES.sub("/", path).rstrip("/").lower()
    near = get_close_matches(plain, PATHS, n=1, cutoff=_ALIKE)
    return near[0] if near else None
