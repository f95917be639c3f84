"""A copy: a message that the primary has, on its way to the shadow."""

from __future__ import annotations

import msgspec

from transport.contract import Envelope
from transport.envelope import HEADER_MIRROR_OF, HEADER_SHADOW_MODE

__all__ = ["Copy", "mirrored"]

_OVERHEAD = 1024
"""Bytes that a waiting copy costs beside its body and key: headers and the objects themselves."""


class Copy(msgspec.Struct, gc=False, eq=False):
    """One envelope, and where it stands in the primary."""

    envelope: Envelope
    offset: str
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


def mirrored(envelope: Envelope, of: str, mode: str) -> Envelope:
    """Return the envelope to append to the shadow: the same but for two headers.

    ``of`` is ``<log>:<offset>``.
    """
    headers = {**envelope.headers, HEADER_MIRROR_OF: of, HEADER_SHADOW_MODE: mode}
    return msgspec.structs.replace(envelope, headers=headers)
