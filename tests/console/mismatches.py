"""Faults of a shadow, made on purpose: a copy that was dropped, and one with other bytes."""

from __future__ import annotations

import msgspec

from tests.console.conftest import PARTITIONS, Place
from tests.support.eventually import eventually
from transport.clock import now
from transport.contract import Appended, Envelope
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.registry import create
from transport.settings import TransportSettings
from transport.shadow.copies import mirrored
from transport.shadow.origin import Origin

__all__ = ["differ"]


def _sealed(conversation: str, client: str, content: str, trace: str) -> Envelope:
    key = idempotency_key("ann", conversation, client)
    message = Message(
        conversation_id=conversation,
        sender_id="ann",
        client_message_id=client,
        content=content,
        content_type="text",
        message_id=message_id(key, conversation),
        idempotency_key=key,
        accepted_at=now(),
        correlation_id=f"{client}-correlation",
    )
    return seal_message(message, partitions=PARTITIONS, traceparent=trace)


async def differ(place: Place, conversation: str, *, trace: str) -> tuple[str, str]:
    """Make two messages on which the logs disagree; return their ids once that was found.

    The first has no copy; the copy of the second has other bytes.
    """
    settings = {key.lower(): value for key, value in place.settings.items()}
    known = {key: settings[key] for key in settings.keys() & TransportSettings.model_fields.keys()}
    missing = _sealed(conversation, f"{conversation}-missing", "copied nowhere", trace)
    right = _sealed(conversation, f"{conversation}-other", "right", trace)
    wrong = _sealed(conversation, f"{conversation}-other", "wrong", trace)
    _, outcome = await place.log.publish([missing, right], remember=False)
    assert isinstance(outcome, Appended)
    of = Origin(place.log.name, right.partition, outcome.offset)
    copy = mirrored(right, of, "sync", home=right.partition)
    async with create("kafka", TransportSettings(**known)) as shadow:
        await shadow.publish([msgspec.structs.replace(copy, body=wrong.body)], remember=False)
    identifiers = missing.message_id, right.message_id

    async def found() -> bool:
        parity = (await place.api.get("/api/console/migration")).json()["parity"] or {}
        return {sample["messageId"] for sample in parity.get("samples", ())} >= set(identifiers)

    await eventually(found, every=0.5)
    return identifiers
