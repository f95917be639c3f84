"""``TRANSPORT=kafka``: the service as it is, and no Redis anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from compose.local.kafka import KafkaServer
from compose.local.ports import free_port
from lab.load.client import Client
from lab.load.connection import HttpAnswer
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService

_BODY = {
    "senderId": "sender",
    "conversationId": "conversation",
    "clientMessageId": "client",
    "content": "hello",
}


@pytest.fixture
def environment(kafka_server: KafkaServer, database_url: str) -> dict[str, str]:
    """Settings whose Redis address has no server."""
    topic = f"serve.{free_port()}"
    return {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap,
        "KAFKA_TOPIC": f"{topic}.stream",
        "KAFKA_DLQ_TOPIC": f"{topic}.dlq",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(free_port()),
        "DATABASE_URL": database_url,
    }


async def test_no_redis_is_needed_and_processes_that_race_agree(
    environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """One key at two ingresses at once, many times: one id, one row. Nothing remembers for them."""
    services = [ForkedService(f"serve-{i}", "serve", tmp_path, dict(environment)) for i in range(2)]
    client = Client(timeout=20.0)
    try:
        await asyncio.gather(*(service.start() for service in services))
        answers: list[HttpAnswer] = await asyncio.gather(
            *(
                client.post(f"{service.url}/api/messages", _BODY)
                for service in services
                for _ in range(10)
            )
        )
        assert {answer.status for answer in answers} <= {200, 202}, [a.text for a in answers]
        (message_id,) = {answer.json()["messageId"] for answer in answers}
        database = await asyncpg.connect(database_url)
        try:

            async def stored() -> bool:
                return bool(await database.fetchval("SELECT count(*) FROM messages"))

            await eventually(stored)
            again = await client.post(f"{services[0].url}/api/messages", _BODY)
            assert (again.status, again.json()["messageId"]) == (200, message_id)
            assert again.json()["idempotentHit"] is True
            ready = await client.get(f"{services[0].url}/readyz")
            assert ready.status == 200, ready.text
            assert "redis" not in ready.text
            rows = await database.fetch("SELECT id, content FROM messages")
            assert [(str(row["id"]), row["content"]) for row in rows] == [(message_id, "hello")]
        finally:
            await database.close()
    finally:
        await client.close()
        await asyncio.gather(*(service.stop() for service in services))


async def test_an_answer_that_stayed_out_is_one_row_whatever_was_written_later(
    kafka_server: KafkaServer, environment: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    """A send whose caller has gone is written all the same, and so is its repeat."""
    service = ForkedService("serve", "serve", tmp_path, {**environment, "KAFKA_TIMEOUT_MS": "1000"})
    client = Client(timeout=20.0)
    database = await asyncpg.connect(database_url)
    try:
        await service.start()
        url = f"{service.url}/api/messages"
        await kafka_server.suspend()
        try:
            unknown = await client.post(url, _BODY)
        finally:
            await kafka_server.resume()
        assert unknown.status == 503, unknown.text
        assert int(unknown.headers["retry-after"]) > 0

        async def written() -> str | None:
            id_ = await database.fetchval("SELECT id FROM messages")
            return str(id_) if id_ else None

        first = await eventually(written)
        again = await client.post(url, _BODY)
        assert (again.status, again.json()["messageId"]) == (200, first)
        other = await client.post(url, {**_BODY, "clientMessageId": "next"})
        assert other.status == 202, other.text
        await eventually(lambda: _rows(database, 2))
    finally:
        await client.close()
        await service.stop()
        await database.close()


async def _rows(database: asyncpg.Connection, count: int) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM messages") == count)
