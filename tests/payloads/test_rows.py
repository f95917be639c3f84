"""Rows of messages whose content is in the payload store."""

from __future__ import annotations

import msgspec
import pytest

from migration_guide.backfill.copies import of_row
from persistence.store.writer import insert
from tests.persistence.samples import PARTITIONS, message, placed
from transport.message.envelope import Message, seal_message
from transport.message.payload import ContentDigest


def large(content: str = "hello " * 1000, client: str = "c1") -> Message:
    """A message whose content is in the store, and in memory."""
    whole = message(client, content=content)
    digest = ContentDigest()
    digest.add(content.encode())
    payload = digest.payload(whole.message_id, whole.content_type, whole.recipient_ids)
    return whole.with_payload(payload)


@pytest.mark.parametrize("kept", ["hello " * 1000, ""], ids=["content in the row", "key alone"])
async def test_a_row_makes_the_record_again(database_pool, kept):
    event = large()
    record = seal_message(event, partitions=PARTITIONS, traceparent=None)
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(msgspec.structs.replace(event, content=kept))])
        row = await connection.fetchrow("SELECT * FROM messages")
    assert (row["content"], row["payload_key"]) == (kept, event.payload_key)
    assert row["payload_bytes"] == 6000
    again = of_row(row, PARTITIONS, PARTITIONS)
    assert (again.body, again.fingerprint) == (record.body, record.fingerprint)


async def test_the_same_body_is_a_repeat_wherever_its_content_is(database_pool):
    inline, elsewhere = message(content="hello " * 1000), large()
    other = large("other " * 1000)
    async with database_pool.acquire() as connection:
        await insert(connection, [placed(inline)])
        again = await insert(connection, [placed(elsewhere)])
        conflict = await insert(connection, [placed(other)])
    assert (again.duplicates, conflict.conflicts) == ([0], [0])
