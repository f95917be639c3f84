"""What tests of the console do again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from playwright.async_api import Page, expect

from tests.console.conftest import PARTITIONS, Place
from tests.support.eventually import eventually
from transport.clock import now
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id

__all__ = ["HOSTILE", "TRACEPARENT", "WHY", "bury", "connected", "sure"]

HOSTILE = (
    '<img src=x onerror="document.body.dataset.hacked=1">'
    "<script>document.body.dataset.hacked=1</script>"
    '<a href="javascript:document.body.dataset.hacked=1">x</a>'
)
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
WHY = "because the test says so"


async def bury(place: Place, conversation: str, *, letters: int = 1, body: str = HOSTILE) -> str:
    """Append messages that PostgreSQL refuses (no text of its can hold NUL); return the last id."""
    identifier = ""
    for number in range(letters):
        key = idempotency_key("ann", conversation, f"{conversation}-{number}")
        identifier = message_id(key, conversation)
        message = Message(
            conversation_id=conversation,
            sender_id="ann",
            client_message_id=f"{conversation}-{number}",
            content=f"{body}\0",
            content_type="text",
            message_id=identifier,
            idempotency_key=key,
            accepted_at=now(),
            correlation_id=f"{conversation}-correlation",
        )
        sealed = seal_message(message, partitions=PARTITIONS, traceparent=None)
        (outcome,) = await place.log.publish([sealed], remember=False)
        assert not isinstance(outcome, Exception)

    async def buried() -> bool:
        found = await place.api.get(
            "/api/dead-letters", params={"conversationId": conversation, "limit": 200}
        )
        return len(found.json()["items"]) >= letters

    await eventually(buried)
    return identifier


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection to a place's database, for what the API would not do."""
    connection = await asyncpg.connect(place.settings["DATABASE_URL"])
    try:
        yield connection
    finally:
        await connection.close()


async def sure(page: Page, verb: str, why: str = WHY) -> None:
    """Give the reason that is asked for, and go ahead."""
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Reason").fill(why)
    await dialog.get_by_role("button", name=verb).click()
    await expect(dialog).to_have_count(0)
