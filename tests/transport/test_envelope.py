"""The codec of envelopes: it fills in what foreign producers leave out, and reports errors."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.clock import now, timestamp
from transport.contract import Envelope, Record, Remembered, Topic
from transport.errors import DecodeError
from transport.message.envelope import (
    CONTENT_TYPE,
    CONTENT_TYPE_2,
    HEADER_CONTENT_TYPE,
    Message,
    Receipt,
    decode,
    reseal,
    seal_message,
    seal_receipt,
)
from transport.message.identity import idempotency_key, message_id, partition_of
from transport.message.partitioner import partition_for
from transport.message.payload import ContentDigest, Payload

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
    with pytest.raises(DecodeError, match="envelope"):
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


def _digested(content: bytes, message: Message, *cuts: int) -> tuple[Payload, bool]:
    """Return the payload of content that arrives in pieces, and whether it is text."""
    digest = ContentDigest()
    for start, end in itertools.pairwise([0, *sorted(min(c, len(content)) for c in cuts), None]):
        digest.add(content[start:end])
    payload = digest.payload(message.message_id, message.content_type, message.recipient_ids)
    return payload, digest.is_text


@given(complete_messages(), st.lists(st.integers(0, 160), max_size=4))
def test_content_has_one_fingerprint_wherever_it_is_kept(message: Message, cuts: list[int]) -> None:
    """The same body inline and, after a change of the threshold, as a payload: promise 5."""
    payload, is_text = _digested(message.content.encode(), message, *cuts)
    assert is_text == ("\0" not in message.content)
    if is_text:
        assert payload.fingerprint == message.fingerprint()
    assert message.with_payload(payload).fingerprint() == payload.fingerprint


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_bytes_that_are_no_text_have_a_fingerprint_too(content: bytes, cuts: list[int]) -> None:
    message = Message("c", "s", "m", "", "image/png", message_id="i")
    payload, is_text = _digested(content, message, *cuts)
    with contextlib.suppress(UnicodeDecodeError):
        assert is_text == ("\0" not in content.decode())
        return
    assert not is_text
    assert len({payload.fingerprint, _digested(content + b"\xff", message)[0].fingerprint}) == 2


def test_a_payload_leaves_its_content_out_of_the_record() -> None:
    content = "hello " * 999
    message = Message("c", "s", "m", content, "text", ("r",), _ID, "s:c:m", now(), "cor")
    payload, _ = _digested(message.content.encode(), message)
    large = message.with_payload(payload)
    envelope = seal_message(large, partitions=4, traceparent=None)
    assert len(envelope.body) < 700
    assert envelope.headers[HEADER_CONTENT_TYPE] == CONTENT_TYPE_2
    body = json.loads(envelope.body)
    assert (body["v"], body["content"], body["payloadBytes"]) == (2, "", 5994)
    assert body["fingerprint"] == message.fingerprint() == envelope.fingerprint
    read = decode(_record(envelope.body))
    assert isinstance(read, Message)
    assert read.payload == payload
    # A row gives content and payload; with it the codec writes the same bytes again.
    again = msgspec.structs.replace(read, content=message.content)
    assert seal_message(again, partitions=4, traceparent=None).body == envelope.body
    first = Remembered("1-0", read.accepted_at, envelope.fingerprint, "cor")
    assert reseal(envelope, first).body == envelope.body


_ID = message_id("s:c:m", "c")
_LARGE = {
    "v": 2,
    "content": "",
    "messageId": _ID,
    "payloadKey": f"{_ID}/" + "a" * 64,
    "payloadBytes": 5000,
    "fingerprint": "b" * 32,
}


def test_a_foreign_producer_may_write_a_payload() -> None:
    event = decode(_record(_foreign(**_LARGE)))
    assert isinstance(event, Message)
    assert event.payload == Payload(f"{_ID}/" + "a" * 64, 5000, "a" * 64, "b" * 32)


@pytest.mark.parametrize(
    "fields",
    [
        {"v": 1},
        {"v": 1, "payloadKey": None, "payloadBytes": 5},
        {"v": 3},
        {"content": "hello"},
        {"payloadKey": None},
        {"payloadKey": "../../etc/passwd"},
        {"payloadKey": "j/" + "a" * 64},
        {"payloadKey": f"{_ID}/" + "A" * 64},
        {"payloadKey": f"{_ID}/" + "a" * 63},
        {"payloadKey": f"{_ID}//" + "a" * 64},
        {"payloadBytes": -1},
        {"payloadBytes": 10**10},
        {"fingerprint": ""},
    ],
)
def test_a_payload_that_can_not_be_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match=r"version|payload"):
        decode(_record(_foreign(**(_LARGE | fields))))


_KEY = "s:c:m"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        *(
            ({"messageId": identifier}, "messageId is not the one derived")
            for identifier in (
                "i", "..", "a/../b", "x" * 300, _ID.upper(), _ID + "\n",
                message_id("s:c:other", "c"), message_id(_KEY, "other"), str(uuid4()),
            )
        ),
        ({"idempotencyKey": "s:c:other"}, "idempotencyKey is not the one of"),
        # A matching key and id, but of no message of this sender in this conversation.
        (
            {"idempotencyKey": "theirs", "messageId": message_id("theirs", "c")},
            "idempotencyKey is not the one of",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_payload", [False, True])
def test_an_id_or_a_key_of_another_message_is_told(
    fields: dict[str, Any], told: str, of_payload: bool
) -> None:
    """If accepted, one key could get two rows, or its own message would never be found."""
    body = _LARGE | fields if of_payload else fields
    if of_payload and "messageId" in fields:
        body["payloadKey"] = f"{fields['messageId']}/" + "a" * 64
    with pytest.raises(DecodeError, match=told):
        decode(_record(_foreign(**body)))


def test_a_foreign_producer_may_give_the_id_and_the_key_that_are_derived() -> None:
    given_by_it = decode(_record(_foreign(messageId=_ID, idempotencyKey=_KEY)))
    assert given_by_it == decode(_record(_foreign()))


@pytest.mark.parametrize("field", ["payloadKey", "payloadBytes", "fingerprint"])
def test_version_2_needs_each_of_its_fields(field: str) -> None:
    body = {name: value for name, value in _LARGE.items() if name != field}
    with pytest.raises(DecodeError, match="version 2"):
        decode(_record(_foreign(**body)))


def test_a_fingerprint_in_version_1_is_told() -> None:
    with pytest.raises(DecodeError, match="version 1 envelope with a payload"):
        decode(_record(_foreign(fingerprint="b" * 32)))
