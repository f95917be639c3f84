"""The envelope: the form of a message in every log, and the codec that writes and reads it.

The body is JSON, so a consumer in any language reads it without our code. Version 1:

    {"type": "message", "v": 1, "messageId": "…", "idempotencyKey": "sender:conversation:client",
     "conversationId": "…", "senderId": "…", "clientMessageId": "…", "content": "…",
     "contentType": "text", "recipientIds": ["…"], "acceptedAt": "2026-11-24T20:18:19.123456Z",
     "correlationId": "…", "payloadKey": null}

    {"type": "receipt", "v": 1, "messageId": "…", "userId": "…", "state": "delivered",
     "at": "…", "correlationId": "…"}

Version 2 is a message whose content is in the payload store. Its ``content`` is empty,
``payloadKey`` names the object (the message's id, a slash, the content's SHA-256), and two fields
follow ``v``: ``payloadBytes``, and ``fingerprint``, which can't be computed without the content.
Every other message stays version 1, with the same bytes as before.

The headers named below (Redis fields, Kafka headers) are sent beside the body. A foreign producer
may leave out ``messageId`` and ``idempotencyKey`` (they are derived, and no other value is valid),
``acceptedAt`` (default: the log's time) and ``correlationId`` (default: the message id).

A copy in a second log has the same body and key, and two more headers: ``mirrorOf``
(``redis:1732471234567-0``: the log and the offset of the original) and ``shadowMode`` (``async``,
``sync`` or ``backfill``: how the copy was made). If the original is in a partition with another
number, the header ``mirrorPartition`` has that number, in decimal.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal, cast

import msgspec
from msgspec import UNSET, UnsetType

from transport.clock import timestamp
from transport.contract import Envelope, Record, Remembered
from transport.errors import DecodeError
from transport.message.identity import idempotency_key, message_id, partition_of
from transport.message.partitioner import partition_for
from transport.message.payload import MOST_BYTES, Payload, payload_key, sha256_in

__all__ = [
    "CONTENT_TYPE",
    "CONTENT_TYPE_2",
    "HEADER_CONTENT_TYPE",
    "HEADER_CORRELATION_ID",
    "HEADER_MESSAGE_ID",
    "HEADER_MIRROR_OF",
    "HEADER_MIRROR_PARTITION",
    "HEADER_REDRIVES",
    "HEADER_SHADOW_MODE",
    "HEADER_TRACEPARENT",
    "HEADER_TRACESTATE",
    "NEWEST_VERSION",
    "Event",
    "Message",
    "Receipt",
    "decode",
    "reseal",
    "seal_message",
    "seal_receipt",
]

HEADER_MESSAGE_ID = "messageId"
HEADER_CORRELATION_ID = "correlationId"
HEADER_TRACEPARENT = "traceparent"
HEADER_TRACESTATE = "tracestate"
HEADER_CONTENT_TYPE = "contentType"
HEADER_REDRIVES = "crossfade.redrives"
"""The header of a redriven record: how often it was redriven, in decimal."""
HEADER_MIRROR_OF = "mirrorOf"
HEADER_MIRROR_PARTITION = "mirrorPartition"
HEADER_SHADOW_MODE = "shadowMode"
CONTENT_TYPE = "application/vnd.crossfade.v1+json"
CONTENT_TYPE_2 = "application/vnd.crossfade.v2+json"
"""The content type of a version 2 envelope, whose content is in the payload store."""

NEWEST_VERSION = 2
"""The newest version that this codec reads."""

ReceiptState = Literal["delivered", "read"]


class Message(msgspec.Struct, frozen=True, gc=False, tag="message", rename="camel"):
    """A message to persist. Ids are text of at most 256 characters; times are RFC 3339, UTC."""

    conversation_id: str
    sender_id: str
    client_message_id: str
    content: str
    content_type: str
    recipient_ids: tuple[str, ...] = ()
    message_id: str = ""
    idempotency_key: str = ""
    accepted_at: str = ""
    correlation_id: str = ""
    payload_key: str | None = None
    v: Literal[1, 2] = 1
    payload_bytes: int | UnsetType = UNSET
    payload_fingerprint: str | UnsetType = msgspec.field(default=UNSET, name="fingerprint")

    def fingerprint(self) -> str:
        """Return 32 hexadecimal characters that differ if the body differs (promise 5).

        Only the sender's own fields count, without ids and times, which differ between retries. The
        place of the content makes no difference. Rows and logs keep fingerprints, so a field that
        is added later may count only if it is set.
        """
        if isinstance(self.payload_fingerprint, str):
            return self.payload_fingerprint
        written = (self.content, self.content_type, self.recipient_ids)
        return sha256(_encode(written)).hexdigest()[:32]

    @property
    def payload(self) -> Payload | None:
        """The content in the payload store; ``None`` if the content is in the message.

        ``content`` may have it as well: in a row, or after a worker has fetched it.
        """
        if self.payload_key is None:
            return None
        size, fingerprint = self.payload_bytes, self.payload_fingerprint
        assert isinstance(size, int)
        assert isinstance(fingerprint, str)
        return Payload(self.payload_key, size, sha256_in(self.payload_key), fingerprint)

    def with_payload(self, payload: Payload) -> Message:
        """Return the message as version 2, with its content in the payload store."""
        return msgspec.structs.replace(
            self,
            v=2,
            payload_key=payload.key,
            payload_bytes=payload.bytes,
            payload_fingerprint=payload.fingerprint,
        )


class Receipt(msgspec.Struct, frozen=True, gc=False, tag="receipt", rename="camel"):
    """The receipt of a message: a user got (``delivered``) or saw (``read``) it.

    ``at`` is RFC 3339, UTC.
    """

    message_id: str
    user_id: str
    state: ReceiptState
    at: str = ""
    correlation_id: str = ""
    v: Literal[1] = 1

    @property
    def identity(self) -> str:
        """The receipt's id in every log and table: one for each message, state and user."""
        return f"{self.message_id}/{self.state}/{self.user_id}"


Event = Message | Receipt

_SHA256 = re.compile("[0-9a-f]{64}")
_FINGERPRINT = re.compile("[0-9a-f]{32}")

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def seal_message(
    message: Message, *, partitions: int, traceparent: str | None, tracestate: str | None = None
) -> Envelope:
    """Encode a message, and compute its partition. Content in the payload store is left out.

    Args:
        message: the message, with ids and times set.
        partitions: the number of partitions of the log.
        traceparent: the W3C trace context to send, if any.
        tracestate: the vendor part of the trace context.
    """
    headers = _headers(message.message_id, message.correlation_id, traceparent, tracestate)
    if message.payload_key is not None:
        headers[HEADER_CONTENT_TYPE] = CONTENT_TYPE_2
        message = msgspec.structs.replace(message, content="")
    return Envelope(
        message_id=message.message_id,
        partition=partition_for(message.conversation_id, partitions),
        key=message.conversation_id,
        body=_encode(message),
        headers=headers,
        accepted_at=message.accepted_at,
        fingerprint=message.fingerprint(),
    )


def seal_receipt(
    receipt: Receipt, *, partitions: int, traceparent: str | None, tracestate: str | None = None
) -> Envelope:
    """Encode a receipt for its message's partition, so that it can't overtake the message.

    The key is the message id, since the conversation is not known here. The partition is explicit.

    Args:
        receipt: the receipt, with its time set.
        partitions: the number of partitions of the log.
        traceparent: the W3C trace context to send, if any.
        tracestate: the vendor part of the trace context.
    """
    return Envelope(
        message_id=receipt.identity,
        partition=partition_of(receipt.message_id, partitions),
        key=receipt.message_id,
        body=_encode(receipt),
        headers=_headers(receipt.message_id, receipt.correlation_id, traceparent, tracestate),
        accepted_at=receipt.at,
    )


def reseal(envelope: Envelope, first: Remembered) -> Envelope:
    """Encode the repeat of a message with exactly the bytes of the first append.

    A repeat differs only in its time of acceptance and its correlation id. With those of the first,
    the codec writes the same bytes again.

    Args:
        envelope: the repeat.
        first: the first append, as the log remembers it.

    Returns:
        The envelope of the first append; ``envelope`` itself if this codec did not write its body.
    """
    try:
        event = _decoder.decode(envelope.body)
    except msgspec.DecodeError:
        return envelope  # not sealed by this codec
    at, correlation_id = first.accepted_at, first.correlation_id
    if isinstance(event, Message):
        event = msgspec.structs.replace(event, accepted_at=at, correlation_id=correlation_id)
    else:
        event = msgspec.structs.replace(event, at=at, correlation_id=correlation_id)
    return msgspec.structs.replace(
        envelope,
        body=_encode(event),
        headers={**envelope.headers, HEADER_CORRELATION_ID: correlation_id},
        accepted_at=at,
        event=None,
    )


def _headers(
    message: str, correlation_id: str, traceparent: str | None, tracestate: str | None
) -> dict[str, str]:
    headers = {
        HEADER_MESSAGE_ID: message,
        HEADER_CORRELATION_ID: correlation_id,
        HEADER_CONTENT_TYPE: CONTENT_TYPE,
    }
    if traceparent:
        headers[HEADER_TRACEPARENT] = traceparent
        if tracestate:
            headers[HEADER_TRACESTATE] = tracestate
    return headers


def decode(record: Record) -> Event:
    """Decode a record, and fill in the fields that a foreign producer may leave out.

    Args:
        record: a record of the messages log.

    Raises:
        DecodeError: the body is not an envelope of a known version, or the id or the key does not
            belong to the message; the text names the field.
    """
    if record.event is not None:
        return cast("Event", record.event)
    try:
        event = _decoder.decode(record.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise DecodeError(f"the body is not a version 1 or 2 envelope: {e}") from e
    if isinstance(event, Message):
        key = idempotency_key(event.sender_id, event.conversation_id, event.client_message_id)
        identifier = message_id(key, event.conversation_id)
        if (
            event.message_id != identifier
            or event.idempotency_key != key
            or not event.accepted_at
            or not event.correlation_id
        ):
            event = _completed(event, key, identifier, record)
        if (
            event.v != 1
            or event.payload_key is not None
            or not UNSET is event.payload_bytes is event.payload_fingerprint
        ):
            _check_payload(event)
        return event
    if event.at and event.correlation_id:
        return event
    return msgspec.structs.replace(
        event,
        at=event.at or timestamp(record.appended_at),
        correlation_id=event.correlation_id or event.message_id,
    )


def _check_payload(event: Message) -> None:
    """Raise ``DecodeError`` unless the version and the fields of the payload are consistent.

    A key with another message's id would read that message's content.
    """
    key, size, fingerprint = event.payload_key, event.payload_bytes, event.payload_fingerprint
    if event.v == 1:
        raise DecodeError("the body is a version 1 envelope with a payload; that is version 2")
    if event.content or key is None or size is UNSET or fingerprint is UNSET:
        raise DecodeError(
            "the body is a version 2 envelope without payloadKey, payloadBytes or fingerprint, or "
            "with content"
        )
    if not (
        _SHA256.fullmatch(digest := sha256_in(key))
        and key == payload_key(event.message_id, digest)
        and 0 <= size <= MOST_BYTES
        and _FINGERPRINT.fullmatch(fingerprint)
    ):
        raise DecodeError(
            "the payload's key is not messageId/sha256, or its digest, its fingerprint or its size "
            "is none"
        )


def _completed(event: Message, key: str, identifier: str, record: Record) -> Message:
    """Fill in the fields that the producer left out.

    An id that is not derived from the key is refused: the message would never be found, since its
    sender is told the derived id.
    """
    if event.idempotency_key not in {"", key}:
        raise DecodeError(
            "idempotencyKey is not the one of senderId, conversationId and clientMessageId: leave "
            "it out"
        )
    if event.message_id not in {"", identifier}:
        raise DecodeError("messageId is not the one derived from idempotencyKey: leave it out")
    return msgspec.structs.replace(
        event,
        idempotency_key=key,
        message_id=identifier,
        accepted_at=event.accepted_at or timestamp(record.appended_at),
        correlation_id=event.correlation_id or identifier,
    )
