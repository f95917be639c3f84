"""A database and a log with hostile text in every place, and the commands that look at them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest_asyncio

from tests.support.forked_commands import ForkedCommands, Ran
from tests.support.hostile_rows import DEAD, MESSAGE, fill
from tests.support.services import empty_redis
from transport.clock import now
from transport.contract import Envelope, Transport
from transport.message.envelope import Message, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.registry import create
from transport.settings import TransportSettings

PARTITIONS = 4


@dataclass
class Installation:
    """One Redis and one database, and commands on them."""

    commands: ForkedCommands
    settings: dict[str, str]
    database: asyncpg.Connection
    log: Transport
    server: Any

    async def run(self, *arguments: str | bytes, **options: Any) -> Ran:
        """Run a command on it."""
        return await self.commands.run(*arguments, settings=self.settings, **options)

    async def fill(self, text: str, *, everywhere: bool = False) -> None:
        """Put ``text`` everywhere, in place of what was there."""
        await empty_redis(self.server)
        await self.log.__aexit__(None, None, None)
        await self.log.__aenter__()
        await fill(self.database, text, everywhere=everywhere)
        await self.append(text)

    async def append(self, text: str) -> None:
        """Append a message of hostile ids, and records that are none."""
        key = idempotency_key(text, text, text)
        message = Message(
            conversation_id=text, sender_id=text, client_message_id=text, content=text,
            content_type=text, recipient_ids=(text,), message_id=message_id(key, text),
            idempotency_key=key, accepted_at=now(), correlation_id=text,
        )  # fmt: skip
        partitions = self.log.partitions
        traceparent = text.replace("\n", "") or None
        records = [seal_message(message, partitions=partitions, traceparent=traceparent)]
        records += [
            Envelope(str(kind), 0, text, body, {"messageId": text, text: text, "contentType": text})
            for kind, body in (
                (MESSAGE, text.encode()),
                (DEAD, b"\xff\0" + text.encode()),
                ("x", b'{"type": "message", "v": 1, "conversationId": 7}'),
            )
        ]
        for outcome in await self.log.publish(records, remember=False):
            assert not isinstance(outcome, Exception), outcome


async def _heard_of(url: str) -> None:
    """Let the first process be heard of again and again; the second is missing."""
    database = await asyncpg.connect(url)
    try:
        while True:
            await database.execute("UPDATE processes SET seen_at = now() WHERE pid = 1")
            await asyncio.sleep(0.5)
    finally:
        await database.close()


@pytest_asyncio.fixture(scope="module")
async def installation(
    tmp_path_factory: Any, redis_server: Any, postgres_server: Any, database_template: str
) -> AsyncIterator[Installation]:
    name = f"hostile_{os.getpid()}"
    url = await postgres_server.create_database(name, template=database_template)
    settings = {
        "DATABASE_URL": url,
        "REDIS_HOST": redis_server.host,
        "REDIS_PORT": str(redis_server.port),
        "STREAM_PARTITIONS": str(PARTITIONS),
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "INGRESS_TRACE_URL": "http://traces.test/{traceId}",
    }
    await empty_redis(redis_server)
    database = await asyncpg.connect(url)
    transport = TransportSettings(
        redis_host=redis_server.host, redis_port=redis_server.port, stream_partitions=PARTITIONS
    )
    commands = ForkedCommands(tmp_path_factory.mktemp("commands"))
    async with create("redis", transport) as log:
        live = asyncio.create_task(_heard_of(url))
        yield Installation(commands, settings, database, log, redis_server)
        live.cancel()
        await asyncio.wait([live])
    await database.close()
    await postgres_server.drop_database(name)
