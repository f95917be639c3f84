"""An answer as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int = 1
    """How many requests were made for it."""
    maybe_accepted: bool = False
    """Whether the service may have accepted what one of the requests before it sent."""
