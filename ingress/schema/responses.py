"""Answers of the hot path. Other routes have theirs in ``ingress.routes.models``."""

from __future__ import annotations

from typing import Literal

import msgspec

from ingress.schema.problems import ProblemBody
from persistence.json_types import Id, Time

__all__ = [
    "Ack",
    "AckResult",
    "AckState",
    "BatchResult",
    "ProblemResult",
    "State",
    "encode",
    "encode_lines",
]

State = Literal["pending", "persisted", "dead_lettered", "archived", "erased"]
"""The state of a message. ``pending``: in the log. ``persisted``: has its row. ``dead_lettered``:
could not be stored. ``archived``: was a row, and is now in a file of the archive. ``erased``: its
content is deleted."""
AckState = Literal[State, "unknown"]
"""The state of a message in an acknowledgement. ``unknown``: accepted before, and PostgreSQL did
not answer whether it has its row."""


class Ack(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The acknowledgement of a message. The message is durable before this is sent."""

    message_id: Id
    state: AckState
    accepted_at: Time
    idempotent_hit: bool
    correlation_id: str


class AckResult(msgspec.Struct, frozen=True, gc=False, rename="camel", tag_field="kind", tag="ack"):
    """One acknowledged message of a batch; ``status`` is the status of a request on its own."""

    status: Literal[200, 202]
    message_id: Id
    state: AckState
    accepted_at: Time
    idempotent_hit: bool
    correlation_id: str


class ProblemResult(ProblemBody, frozen=True, tag_field="kind", tag="problem"):
    """The problem of one message of a batch; ``status`` is the status of a request on its own."""


BatchResult = AckResult | ProblemResult
"""The result of one message of a batch; ``kind`` says which of the two it is."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines = _encoder.encode_lines
