"""A copy: a message that the primary has, on its way to the shadow."""

from __future__ import annotations

import msgspec

from transport.contract import Envelope
from transport.message.envelope import HEADER_MIRROR_OF, HEADER_MIRROR_PARTITION, HEADER_SHADOW_MODE
from transport.shadow.origin import Origin

__all__ = ["Copy", "mirrored"]

_OVERHEAD = 1024
"""Bytes that a waiting copy costs beside its body and key: headers and the objects themselves."""


class Copy(msgspec.Struct, gc=False, eq=False):
    """One envelope, and where it stands in the primary. ``home`` is its partition in the shadow."""

    envelope: Envelope
    offset: str
    home: int
    remember: bool = True
    """Whether the shadow is to append it only once, as the primary did. Not so for redrives."""
    since: float = 0.0
    queued: bool = False
    done: bool = False
    """It need not be sent any more."""

    @property
    def size(self) -> int:
        """About as many bytes as it holds in memory."""
        return _OVERHEAD + len(self.envelope.body) + len(self.envelope.key)


def mirrored(envelope: Envelope, of: Origin, mode: str, *, home: int) -> Envelope:
    """Return the envelope to append to the shadow's partition ``home`` as a copy of ``of``.

    It has two headers more, and a third where the two partitions differ.
    """
    headers = {
        **envelope.headers,
        HEADER_MIRROR_OF: f"{of.transport}:{of.offset}",
        HEADER_SHADOW_MODE: mode,
    }
    if of.partition != home:
        headers[HEADER_MIRROR_PARTITION] = str(of.partition)
    return msgspec.structs.replace(envelope, partition=home, headers=headers, event=None)
