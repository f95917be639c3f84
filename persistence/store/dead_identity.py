"""The identity of a record as a dead letter."""

from __future__ import annotations

from hashlib import sha256

from transport.contract import Record
from transport.shadow.origin import Origin, origin_of

__all__ = ["identity_of"]


def identity_of(transport: str, record: Record) -> bytes:
    """Return a digest that stays the same however often ``record`` is dead-lettered.

    A copy has the digest of its original. So a message has one letter, whether it failed on one log
    or on both.
    """
    origin = origin_of(record) or Origin(transport, record.partition, record.offset)
    place = f"{origin.transport}/{record.topic.value}/{origin.partition}/{origin.offset}"
    return sha256(place.encode("utf-8", "surrogateescape") + b"\0" + record.body).digest()
