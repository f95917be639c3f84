"""A row of another program's open transaction, with the key of a message that is in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from persistence.store.standstill import standstill
from tests.persistence.loglib import append, contents, lag, letters
from tests.persistence.samples import PARTITIONS, message
from transport.contract import Reason
from transport.message.partitioner import partition_for

_INSERT = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, content, content_type, fingerprint, recipient_ids, accepted_at, transport,
    partition, log_offset)
VALUES ($1, $2, 'x', 'theirs', 'x', 'x', 'theirs', 'text', sha256('x'), '{}', now(), 'redis', 0,
    '1-1')
"""
_HELD = [message(f"held{i}", "conv", f"{i}") for i in range(3)]
_OTHERS = [message(f"c{i}", f"conv{i}", f"{i}") for i in range(40)]


@pytest.fixture
async def open_row(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Return a session with an uncommitted row that has the key of the first held message."""
    session = await asyncpg.connect(
        database_url, server_settings={"application_name": "another program"}
    )
    await session.execute("BEGIN")
    await session.execute(_INSERT, uuid4(), _HELD[0].idempotency_key)
    yield session
    session.terminate()


def _is_elsewhere(conversation: str) -> bool:
    return partition_for(conversation, PARTITIONS) != partition_for("conv", PARTITIONS)


async def test_its_partition_waits_until_that_session_is_ended(
    start: Any, transport: Any, database_pool: Any, open_row: asyncpg.Connection, eventually: Any
) -> None:
    """Others continue meanwhile; then all of it is stored, in order."""
    await append(transport, _HELD[0], *_OTHERS, *_HELD[1:])
    worker = start()
    elsewhere = [each for each in _OTHERS if _is_elsewhere(each.conversation_id)]
    assert len(elsewhere) > 10
    await eventually(lambda: worker.count("persisted") >= len(elsewhere))

    async def is_named() -> str | None:
        async with database_pool.acquire() as connection:
            found = await standstill(connection)
        return found and f"{found.why} {found.remedy}"

    named = await eventually(is_named)
    pid = open_row.get_server_pid()
    assert f"PostgreSQL's process {pid} (" in named
    assert "another program; idle in transaction" in named
    assert f"SELECT pg_terminate_backend({pid})" in named
    assert await contents(database_pool) == []
    assert await letters(transport) == []
    await database_pool.execute("SELECT pg_terminate_backend($1)", pid)
    every = len(_OTHERS) + len(_HELD)
    await eventually(lambda: worker.count("persisted") == every)
    await worker.stop()
    assert await contents(database_pool) == ["0", "1", "2"]
    assert await lag(transport) == 0


async def test_a_row_that_is_committed_makes_its_message_a_dead_letter(
    start: Any, transport: Any, database_pool: Any, open_row: asyncpg.Connection, eventually: Any
) -> None:
    """The bytes are kept, and what is behind it in its conversation is stored."""
    await append(transport, *_HELD)
    worker = start()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    await eventually(lambda: database_pool.fetchval(waiting))
    await open_row.execute("COMMIT")
    await eventually(lambda: worker.count("persisted") == 2)
    await worker.stop()
    assert await contents(database_pool) == ["1", "2"]
    assert [letter.reason for letter in await letters(transport)] == [Reason.IDEMPOTENCY_CONFLICT]
