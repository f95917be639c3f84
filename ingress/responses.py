"""What the hot path answers with. The ordinary routes' are in :mod:`ingress.routes.models`."""

from __future__ import annotations

from typing import Literal

import msgspec

from ingress.problems import ProblemBody

__all__ = ["Ack", "AckResult", "BatchResult", "State", "encode", "encode_lines"]

State = Literal["pending", "persisted", "dead_lettered"]
"""``pending``: in the log. ``persisted``: has its row. ``dead_lettered``: could not be stored."""


class Ack(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The acknowledgement of a message. It is durable before this is sent."""

    message_id: str
    state: State
    accepted_at: str
    idempotent_hit: bool
    correlation_id: str


class AckResult(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One acknowledged item of a batch; ``status`` is what it would have had on its own."""

    status: Literal[200, 202]
    message_id: str
    state: State
    accepted_at: str
    idempotent_hit: bool
    correlation_id: str


BatchResult = AckResult | ProblemBody
"""One item's answer: an acknowledgement or a problem, told apart by ``status``."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
encode_lines = _encoder.encode_lines
