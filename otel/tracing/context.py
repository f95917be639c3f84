"""A small reader and writer of W3C Trace Context: HTTP headers, Redis fields, Kafka headers.

Flags are tested bit by bit: a level 2 sender sets more than the first.
"""

from __future__ import annotations

import re
from hashlib import sha256
from random import getrandbits

import msgspec

__all__ = [
    "RANDOM",
    "SAMPLED",
    "Parent",
    "checked",
    "derived_trace_id",
    "is_sampled",
    "new_id",
    "parse",
    "sampled_trace_id",
    "state",
    "traceparent_of",
]

SAMPLED = 0x01
RANDOM = 0x02
"""Level 2: the trace id was drawn at random."""

# Trace Context, section 3.2: version ff is invalid, version 00 has exactly four fields, later
# versions may have more; all-zero ids are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_FLAGS = slice(53, 55)
_ODD = frozenset("13579bdf")
# Section 3.3. Not parsed here: the SDK drops the members that it can't read.
_STATE = re.compile(rb"[\x20-\x7e]{3,512}")


class Parent(msgspec.Struct, frozen=True, gc=False):
    """The context that came from another process: its span is the parent."""

    trace_id: int
    span_id: int
    flags: int
    state: str | None = None

    @property
    def sampled(self) -> bool:
        """Whether the sender records the trace."""
        return bool(self.flags & SAMPLED)


def checked(value: bytes | None) -> str | None:
    """Return a valid ``traceparent`` as text; ``None`` for a missing or broken one."""
    if value is None or not value.isascii():
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    return value.decode("ascii")


def parse(traceparent: str, tracestate: str | None = None) -> Parent:
    """Return a valid ``traceparent`` as numbers."""
    return Parent(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        int(traceparent[_FLAGS], 16),
        tracestate,
    )


def state(value: bytes | None) -> str | None:
    """Return a ``tracestate`` as text; ``None`` if it is missing, broken or too long."""
    if value is None or b"=" not in value or not _STATE.fullmatch(value):
        return None
    return value.decode("ascii")


def is_sampled(traceparent: str | None) -> bool:
    """Return whether a ``traceparent``, if it is valid, says that its trace is recorded."""
    return traceparent is not None and traceparent[54:55] in _ODD


def sampled_trace_id(traceparent: str | None) -> str | None:
    """Return the trace id in a valid ``traceparent`` if its trace is recorded, else ``None``."""
    if traceparent is None or traceparent[54] not in _ODD:
        return None
    return traceparent[3:35]


def traceparent_of(trace_id: int, span_id: int, flags: int) -> str:
    """Return a ``traceparent`` (version 00)."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


def new_id(bits: int) -> int:
    """Return a random id of ``bits`` bits; never zero, which is invalid."""
    return getrandbits(bits) or 1


def derived_trace_id(body: bytes) -> int:
    """Derive the trace id of a record that came without one from its body.

    So all its deliveries, its dead letter and its redrive are one trace, and nothing of ours is
    written into another producer's record.
    """
    return int.from_bytes(sha256(body).digest()[:16]) or 1
