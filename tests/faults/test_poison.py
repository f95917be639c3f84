"""Records that can't be persisted, in the middle of good ones (promises 5, 6)."""

from __future__ import annotations

import uuid

import msgspec

from tests.faults.stand import Stand
from transport.clock import now
from transport.contract import Appended, Envelope, Reason
from transport.envelope import Message, Receipt, seal_message, seal_receipt
from transport.identity import idempotency_key, message_id
from transport.partitioner import partition_for

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
    made = [
        (nul, Reason.REJECTED),
        (no_envelope, Reason.UNDECODABLE),
        (newer, Reason.UNDECODABLE),
        (orphan, Reason.ORPHAN_RECEIPT),
    ]
    return [
        (msgspec.structs.replace(e, headers={**e.headers, "messageId": str(uuid.uuid4())}), reason)
        for e, reason in made
    ]


async def test_poison_is_set_aside_with_its_bytes_and_the_rest_goes_on(stand: Stand) -> None:
    ingresses, _ = await stand.run(STREAM_MAX_RETRIES=str(MAX_RETRIES))
    transport = await stand.transport()
    bodies: dict[str, bytes] = {}
    async with stand.load(ingresses) as load:
        for conversation in load.conversations[:6]:
            await load.goes_on(50)
            for envelope, reason in poison(conversation):
                header = envelope.headers["messageId"]
                stand.history.planted[header] = reason
                bodies[header] = envelope.body
                (outcome,) = await transport.publish([envelope], remember=False)
                assert isinstance(outcome, Appended)
        await load.goes_on(100)
    final = await stand.assert_promises_held()
    kept = {letter.message_id: letter for letter in final.letters}
    assert {header: kept[header].body for header in bodies} == bodies
    assert max(kept[header].attempts for header in bodies) <= MAX_RETRIES
