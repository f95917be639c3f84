"""Payloads: content that is kept outside the log. The record has a key in place of it.

Nothing here knows where it is kept.
"""

from __future__ import annotations

import msgspec

__all__ = ["Payload", "payload_key"]


class Payload(msgspec.Struct, frozen=True, gc=False):
    """Content outside the log, as its record names it.

    ``sha256`` is of the content, in lower-case hexadecimal. ``fingerprint`` is the message's, which
    can't be computed from the record alone.
    """

    key: str
    bytes: int
    sha256: str
    fingerprint: str


def payload_key(message_id: str, sha256: str) -> str:
    """Return the key of a message's content.

    A retry writes the same bytes under it, another body of the same message has another one, and
    all content of a message is under one prefix.
    """
    return f"{message_id}/{sha256}"
