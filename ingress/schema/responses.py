"""Answers of the hot path. The ordinary routes' are in ``ingress.routes.models``."""

from __future__ import annotations

from typing import Literal

import msgspec

from ingress.schema.problems import ProblemBody
from persistence.json_types import Id, Time

__all__ = ["Ack", "AckResult", "BatchResult", "ProblemResult", "State", "encode", "encode_lines"]

State = Literal["pending", "persisted", "dead_lettered", "archived", "erased"]
"""``pending``: in the log. ``persisted``: has its row. ``dead_lettered``: could not be stored.
``archived``: was a row, and is in a file of the archive. ``erased``: nothing of it is kept."""


class Ack(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The acknowledgement of a message. It is durable before this is sent."""

    message_id: Id
    state: State
    accepted_at: Time
    idempotent_hit: bool
    correlation_id: str


class AckResult(msgspec.Struct, frozen=True, gc=False, rename="camel", tag_field="kind", tag="ack"):
    """One acknowledged item of a batch; ``status`` is what it would have had on its own."""

    status: Literal[200, 202]
    message_id: Id
    state: State
    accepted_at: Time
    idempotent_hit: bool
    correlation_id: str


class ProblemResult(ProblemBody, frozen=True, tag_field="kind", tag="problem"):
    """Why one item of a batch was not acknowledged; ``status`` is as if it had come alone."""


BatchResult = AckResult | ProblemResult
"""One item's answer, told apart by ``kind``, and by ``status``."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines = _encoder.encode_lines
