"""Page cursors. They are opaque to clients, and valid for one listing only."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from zlib import crc32

from ingress.schema.problems import FieldError
from ingress.schema.validation_errors import field_problem

__all__ = ["decode", "encode"]

_VERSION = 1
_LAYOUT = struct.Struct(">BQI")
_MOST = 2**63 - 1


def encode(position: int, subject: str) -> str:
    """Return the cursor of ``position`` in the listing ``subject``."""
    packed = _LAYOUT.pack(_VERSION, position, crc32(subject.encode()))
    return urlsafe_b64encode(packed).decode().rstrip("=")


def decode(cursor: str, subject: str) -> int:
    """Return the position in a cursor of the listing ``subject``.

    Raises:
        Problem: The cursor was not made by ``encode``, or for another listing (422).
    """
    try:
        packed = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        position = int(_LAYOUT.unpack(packed)[1])
    except (Error, UnicodeEncodeError, struct.error):
        position = _MOST + 1
    # Encoding the position again has to give the same cursor. This checks its version, its listing
    # and its spelling at once.
    if position > _MOST or encode(position, subject) != cursor:
        raise field_problem(
            [
                FieldError(
                    "after",
                    "is not a cursor of this listing",
                    "Send `next` of the page before, as it was, or leave it out to begin.",
                )
            ]
        )
    return position
