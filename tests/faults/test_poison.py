"""Records that can't be persisted, in the middle of good ones (promises 5, 6)."""

from __future__ import annotations

import time
import uuid

import msgspec

from lab.harness.history import ClientAttempt, Outcome
from tests.faults.deployment import Deployment
from transport.clock import now
from transport.contract import Appended, Envelope, Reason
from transport.message.envelope import Message, Receipt, seal_message, seal_receipt
from transport.message.identity import idempotency_key, message_id
from transport.message.partitioner import partition_for

PARTITIONS = 16
MAX_RETRIES = 3


def message(conversation: str, client_id: str, content: str) -> Message:
    key = idempotency_key("foreign", conversation, client_id)
    identifier = message_id(key, conversation)
    return Message(
        conversation_id=conversation,
        sender_id="foreign",
        client_message_id=client_id,
        content=content,
        content_type="text",
        message_id=identifier,
        idempotency_key=key,
        accepted_at=now(),
        correlation_id=identifier,
    )


def poison(conversation: str) -> list[tuple[Envelope, Reason]]:
    """Return one record of each kind that can't be persisted, for the conversation's partition."""
    partition = partition_for(conversation, PARTITIONS)
    nul = seal_message(
        message(conversation, uuid.uuid4().hex, "a \0 no text of PostgreSQL's can hold"),
        partitions=PARTITIONS,
        traceparent=None,
    )
    no_envelope = Envelope(
        message_id=str(uuid.uuid4()), partition=partition, key=conversation,
        body=b"\xff\x00 not an envelope", headers={},
    )  # fmt: skip
    newer = Envelope(
        message_id=str(uuid.uuid4()), partition=partition, key=conversation,
        body=b'{"type":"message","v":99}', headers={},
    )  # fmt: skip
    orphan = msgspec.structs.replace(
        seal_receipt(
            Receipt(message_id=str(uuid.uuid4()), user_id="u", state="read", at=now()),
            partitions=PARTITIONS,
            traceparent=None,
        ),
        partition=partition,
    )
    return [
        (nul, Reason.REJECTED),
        (no_envelope, Reason.UNDECODABLE),
        (newer, Reason.UNDECODABLE),
        (orphan, Reason.ORPHAN_RECEIPT),
    ]


def marked(envelope: Envelope) -> Envelope:
    """Return the envelope with a unique ``messageId`` header, to find its dead letter by."""
    headers = {**envelope.headers, "messageId": str(uuid.uuid4())}
    return msgspec.structs.replace(envelope, headers=headers)


def conflict(conversation: str) -> tuple[ClientAttempt, Envelope, Envelope]:
    """Return a good message as an attempt and an envelope, and another body for its key."""
    good = message(conversation, uuid.uuid4().hex, f"{conversation} foreign {uuid.uuid4()}")
    other = msgspec.structs.replace(good, content=good.content + ", but other")
    first, second = (
        seal_message(m, partitions=PARTITIONS, traceparent=None) for m in (good, other)
    )
    attempt = ClientAttempt(
        key=good.idempotency_key,
        conversation=conversation,
        content=good.content,
        sent=time.monotonic(),
        outcome=Outcome.OK,
        message_id=good.message_id,
        via="log",
    )
    return attempt, first, second


async def test_poison_is_set_aside_with_its_bytes_and_the_rest_goes_on(
    deployment: Deployment,
) -> None:
    """Also a second body for a key that bypasses the ingress: the first body becomes the row."""
    ingresses, _ = await deployment.run(STREAM_MAX_RETRIES=str(MAX_RETRIES))
    transport = await deployment.transport()
    bodies: dict[str, bytes] = {}

    async def append(*envelopes: Envelope) -> None:
        outcomes = await transport.publish(envelopes, remember=False)
        assert [type(outcome) for outcome in outcomes] == [Appended] * len(envelopes)

    async with deployment.load(ingresses) as load:
        for conversation in load.conversations[:6]:
            await load.goes_on(50)
            attempt, first, second = conflict(conversation)
            await append(first)
            attempt.ended = time.monotonic()
            deployment.history.begin(attempt)
            for envelope, reason in [*poison(conversation), (second, Reason.IDEMPOTENCY_CONFLICT)]:
                named = marked(envelope)
                header = named.headers["messageId"]
                deployment.history.planted[header] = reason
                bodies[header] = named.body
                await append(named)
        await load.goes_on(100)
    final = await deployment.assert_promises_held()
    kept = {letter.message_id: letter for letter in final.letters}
    assert {header: kept[header].body for header in bodies} == bodies
    assert max(kept[header].attempts for header in bodies) <= MAX_RETRIES
