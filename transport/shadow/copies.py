"""Copies: messages of the primary on their way to the shadow."""

from __future__ import annotations

import msgspec

from transport.contract import Envelope
from transport.message.envelope import HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE
from transport.shadow.origin import Origin

__all__ = ["Copy", "mirrored"]

_OVERHEAD = 1024
"""The bytes of a waiting copy in memory beside its body and key: headers and objects."""


class Copy(msgspec.Struct, gc=False, eq=False):
    """One envelope, its offset in the primary, and its partition in the shadow (``home``)."""

    envelope: Envelope
    offset: str
    home: int
    remember: bool = True
    """Whether the shadow must append it only once, as the primary did; false for redrives."""
    since: float = 0.0
    queued: bool = False
    done: bool = False
    """Whether it need not be sent any more."""

    @property
    def size(self) -> int:
        """The approximate bytes of the copy in memory."""
        return _OVERHEAD + len(self.envelope.body) + len(self.envelope.key)


def mirrored(envelope: Envelope, of: Origin, mode: str, *, home: int) -> Envelope:
    """Return the envelope to append to the shadow's partition ``home`` as a copy of ``of``.

    It has two more headers, and a third one if the two partitions differ.
    """
    headers = {
        **envelope.headers,
        HEADER_MIRROR_OF: f"{of.transport}:{of.offset}",
        HEADER_SHADOW_MODE: mode,
    }
    if of.partition != home:
        headers[HEADER_MIRROR_PARTITION] = str(of.partition)
    return msgspec.structs.replace(envelope, partition=home, headers=headers)
