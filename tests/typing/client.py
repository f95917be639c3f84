"""A program that uses the client, as mypy sees it. ``make check`` checks it; nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from crossfade import (
    Ack,
    AsyncClient,
    BatchResult,
    Client,
    CrossfadeError,
    Message,
    NewMessage,
    Page,
    ProblemError,
    ReceiptAck,
    Receipts,
    Retry,
)

message = NewMessage("order-7", "alice", "Hello", recipient_ids=("bob",))
NewMessage("order-7", "alice", 7)  # type: ignore[arg-type]
NewMessage("order-7")  # type: ignore[call-arg]
message.content = "frozen"  # type: ignore[misc]


def synchronous() -> None:
    with Client("http://localhost:3000", api_key="cf_x", retry=Retry(deadline=None)) as client:
        assert_type(client.send(message), Ack)
        assert_type(client.send_batch([message]), list[BatchResult])
        assert_type(client.message("id"), Message)
        assert_type(client.wait("id", timeout=1), Message)
        assert_type(client.page("order-7"), Page)
        assert_type(client.messages("order-7"), Iterator[Message])
        assert_type(client.give_receipt("id", "bob", "read"), ReceiptAck)
        assert_type(client.receipts("id"), Receipts)
        client.send("Hello")  # type: ignore[arg-type]
        client.give_receipt("id", "bob", "seen")  # type: ignore[arg-type]


async def asynchronous() -> None:
    async with AsyncClient() as client:
        assert_type(await client.send(message), Ack)
        assert_type(await client.send_batch([message]), list[BatchResult])
        assert_type(client.messages("order-7"), AsyncIterator[Message])
        str(client.send(message).message_id)  # type: ignore[attr-defined]  # not awaited


def errors(client: Client) -> str:
    try:
        client.send(message)
    except ProblemError as error:
        assert_type(error.status, int)
        return error.remedy
    except CrossfadeError as error:
        assert_type(error.maybe_accepted, bool)
    return ""
