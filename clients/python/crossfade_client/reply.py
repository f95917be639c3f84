"""An HTTP answer before it is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int = 1
    """The number of requests that were made."""
    maybe_accepted: bool = False
    """Whether the service may have accepted a message of an earlier attempt."""
    redirected: bool = False
    """Whether it comes from where a redirect led, such as the payload store."""
