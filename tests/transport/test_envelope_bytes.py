"""The bytes of each version of the envelope are what other versions of Crossfade write and read.

If a test here fails, the change needs a new version: processes of two versions run side by side
during an upgrade, and logs keep records for days.
"""

from __future__ import annotations

import pytest

from transport.contract import Envelope, Record, Topic
from transport.message.envelope import (
    Event,
    Message,
    Receipt,
    decode,
    seal_message,
    seal_receipt,
)
from transport.message.payload import ContentDigest

_ID = "ffe54ce7-430e-84da-99c6-0274bdcccd00"
_CONTENT = "Grüße"
_MESSAGE = Message(
    conversation_id="room-1",
    sender_id="ann",
    client_message_id="c-1",
    content=_CONTENT,
    content_type="text",
    recipient_ids=("bob", "eve"),
    message_id=_ID,
    idempotency_key="ann:room-1:c-1",
    accepted_at="2026-11-24T20:18:19.123456Z",
    correlation_id="cor-1",
)
_RECEIPT = Receipt(_ID, "bob", "read", "2026-11-24T20:19:00.000001Z", "cor-2")
_HEAD = (
    '{"type":"message","conversationId":"room-1","senderId":"ann","clientMessageId":"c-1",'
    '"content":"%s","contentType":"text","recipientIds":["bob","eve"],'
    '"messageId":"ffe54ce7-430e-84da-99c6-0274bdcccd00","idempotencyKey":"ann:room-1:c-1",'
    '"acceptedAt":"2026-11-24T20:18:19.123456Z","correlationId":"cor-1",'
)
_VERSION_1 = _HEAD % _CONTENT + '"payloadKey":null,"v":1}'
_VERSION_2 = (
    _HEAD % ""
    + '"payloadKey":"ffe54ce7-430e-84da-99c6-0274bdcccd00/'
    + 'f83e039796c6453a10f5519e39fd113901572316a1a8ea07cb525d2801dfd074",'
    + '"v":2,"payloadBytes":7,"fingerprint":"0a07fbe69ebbc7fa76ac246dadbd71f0"}'
)
_VERSION_1_RECEIPT = (
    '{"type":"receipt","messageId":"ffe54ce7-430e-84da-99c6-0274bdcccd00","userId":"bob",'
    '"state":"read","at":"2026-11-24T20:19:00.000001Z","correlationId":"cor-2","v":1}'
)


def _stored() -> Message:
    """Return the message with its content in the payload store."""
    digest = ContentDigest()
    digest.add(_CONTENT.encode())
    payload = digest.payload(_ID, _MESSAGE.content_type, _MESSAGE.recipient_ids)
    return _MESSAGE.with_payload(payload)


def _sealed(event: Event) -> Envelope:
    if isinstance(event, Receipt):
        return seal_receipt(event, partitions=16, traceparent=None)
    return seal_message(event, partitions=16, traceparent=None)


@pytest.mark.parametrize(
    ("event", "body", "version"),
    [
        (_MESSAGE, _VERSION_1, "v1"),
        (_stored(), _VERSION_2, "v2"),
        (_RECEIPT, _VERSION_1_RECEIPT, "v1"),
    ],
    ids=["message", "payload", "receipt"],
)
def test_a_version_keeps_its_bytes(event: Event, body: str, version: str) -> None:
    envelope = _sealed(event)
    assert envelope.body.decode() == body
    assert envelope.headers == {
        "messageId": _ID,
        "correlationId": event.correlation_id,
        "contentType": f"application/vnd.crossfade.{version}+json",
    }
    assert envelope.partition == 7
    record = Record(Topic.MESSAGES, 7, "1-0", envelope.key, body.encode(), {}, 1_764_000_000.0)
    assert _sealed(decode(record)).body == envelope.body


@pytest.mark.parametrize("body", [_VERSION_1, _VERSION_1_RECEIPT])
def test_a_field_of_a_later_release_is_passed_over(body: str) -> None:
    """So a version may gain a field that its readers can do without."""
    later = body.replace('"v":1}', '"v":1,"later":{"a":[1]}}').encode()
    record = Record(Topic.MESSAGES, 7, "1-0", "room-1", later, {}, 1_764_000_000.0)
    assert _sealed(decode(record)).body.decode() == body
