"""One codec; what foreign producers left out is filled in, what is broken is told."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.clock import now, timestamp
from transport.contract import Envelope, Record, Topic
from transport.envelope import (
    CONTENT_TYPE,
    Message,
    Receipt,
    decode,
    seal_message,
    seal_receipt,
)
from transport.errors import DecodeError
from transport.identity import idempotency_key, message_id, partition_of
from transport.partitioner import partition_for

text = st.text(max_size=40)
name = st.text(min_size=1, max_size=40)


@st.composite
def complete_messages(draw: st.DrawFn) -> Message:
    sender, conversation, client = draw(name), draw(name), draw(name)
    key = idempotency_key(sender, conversation, client)
    identifier = message_id(key, conversation)
    return Message(
        conversation_id=conversation,
        sender_id=sender,
        client_message_id=client,
        content=draw(text),
        content_type=draw(name),
        recipient_ids=tuple(draw(st.lists(name, max_size=5))),
        message_id=identifier,
        idempotency_key=key,
        accepted_at=now(),
        correlation_id=draw(name),
        payload_key=draw(st.none() | name),
    )


def _record(body: bytes, *, appended_at: float = 1_700_000_000.25) -> Record:
    return Record(Topic.MESSAGES, 0, "1-0", "key", body, {}, appended_at)


def _foreign(**fields: Any) -> bytes:
    given_fields = {
        "type": "message",
        "conversationId": "c",
        "senderId": "s",
        "clientMessageId": "m",
        "content": "hello",
        "contentType": "text",
    }
    return json.dumps(given_fields | fields).encode()


@given(complete_messages(), st.integers(1, 64))
def test_what_is_sealed_is_what_is_read(message: Message, partitions: int) -> None:
    envelope = seal_message(message, partitions=partitions, traceparent=None)
    assert decode(_record(envelope.body)) == message
    assert envelope.partition == partition_for(message.conversation_id, partitions)
    assert envelope.key == message.conversation_id


@given(complete_messages())
def test_the_body_is_json_that_any_language_reads(message: Message) -> None:
    body = json.loads(seal_message(message, partitions=16, traceparent=None).body)
    assert body["type"] == "message"
    assert body["v"] == 1
    assert body["messageId"] == message.message_id
    assert body["content"] == message.content


@given(complete_messages())
def test_the_same_message_has_the_same_bytes_for_every_log(message: Message) -> None:
    once = seal_message(
        message, partitions=16, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    )
    again = seal_message(message, partitions=16, traceparent=None)
    assert once.body == again.body


@given(st.uuids(), name, st.sampled_from(["delivered", "read"]), name, st.integers(1, 64))
def test_a_receipt_goes_where_its_message_went(
    identifier: Any, user: str, state: Any, correlation: str, partitions: int
) -> None:
    receipt = Receipt(
        message_id=str(identifier), user_id=user, state=state, at=now(), correlation_id=correlation
    )
    envelope = seal_receipt(receipt, partitions=partitions, traceparent=None)
    assert envelope.partition == partition_of(identifier, partitions)
    assert decode(_record(envelope.body)) == receipt


def test_headers_say_what_a_consumer_without_our_code_needs() -> None:
    message = decode(_record(_foreign()))
    assert isinstance(message, Message)
    envelope = seal_message(message, partitions=16, traceparent="00-a-b-01")
    assert envelope.headers == {
        "messageId": message.message_id,
        "correlationId": message.correlation_id,
        "contentType": CONTENT_TYPE,
        "traceparent": "00-a-b-01",
    }
    assert "traceparent" not in _sealed(message).headers


def _sealed(message: Message) -> Envelope:
    return seal_message(message, partitions=16, traceparent=None)


def test_what_a_foreign_producer_left_out_is_filled_in_the_same_way_each_time() -> None:
    record = _record(_foreign())
    message = decode(record)
    assert isinstance(message, Message)
    assert message.idempotency_key == "s:c:m"
    assert message.message_id == message_id("s:c:m", "c")
    assert message.correlation_id == message.message_id
    assert message.accepted_at == timestamp(record.appended_at)
    assert decode(record) == message, "redelivery gives the same row"


def test_what_a_foreign_producer_gave_is_kept() -> None:
    message = decode(_record(_foreign(correlationId="theirs", acceptedAt="2026-01-01T00:00:00Z")))
    assert isinstance(message, Message)
    assert (message.correlation_id, message.accepted_at) == ("theirs", "2026-01-01T00:00:00Z")


def test_a_foreign_receipt_is_completed() -> None:
    body = b'{"type":"receipt","messageId":"x","userId":"u","state":"read"}'
    receipt = decode(_record(body, appended_at=0.0))
    assert isinstance(receipt, Receipt)
    assert (receipt.at, receipt.correlation_id) == ("1970-01-01T00:00:00.000000Z", "x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"type":"message"}',
        b'{"type":"unknown","v":1}',
        _foreign(v=2),
        _foreign(content=7),
        _foreign(recipientIds="no list"),
        _foreign(content="\ud800").replace(b"\\ud800", b"\xed\xa0\x80"),
        b'{"type":"receipt","messageId":"x","userId":"u","state":"liked"}',
    ],
)
def test_bytes_that_are_no_envelope_of_ours_are_told_apart(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not a version 1 envelope"):
        decode(_record(body))


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_a_decode_error(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(_record(body))


@given(complete_messages(), st.data())
def test_a_body_that_was_cut_or_changed_is_never_read_as_another_message_of_the_same_bytes(
    message: Message, data: st.DataObject
) -> None:
    body = _sealed(message).body
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(DecodeError):
        decode(_record(body[:cut]))


@given(complete_messages(), name)
def test_the_fingerprint_differs_exactly_when_what_was_sent_differs(
    message: Message, other: str
) -> None:
    retry = msgspec.structs.replace(message, accepted_at="later", correlation_id=other)
    assert retry.fingerprint() == message.fingerprint()
    changed = msgspec.structs.replace(message, content=message.content + other)
    assert changed.fingerprint() != message.fingerprint()
    more = msgspec.structs.replace(message, recipient_ids=(*message.recipient_ids, other))
    assert more.fingerprint() != message.fingerprint()


def test_the_fingerprint_of_a_message_stays_what_it_is_in_rows_and_logs() -> None:
    message = Message("c", "s", "k", "hello", "text", ("a", "b"))
    assert message.fingerprint() == "e6948bdb5b2aa26172f38e65a9f6a0eb"
