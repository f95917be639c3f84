"""Kafka allows Crossfade its topics, and no group: messages become rows all the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from compose.local.kafka import KafkaServer
from persistence.database.pool import Pool
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from tests.support.kafka import run_kafka
from tests.support.kafka_rights import (
    AUTHORIZER,
    GROUP_RIGHTS,
    TOPIC_RIGHTS,
    Grant,
    Resource,
    allow,
)
from tests.support.kafka_security import Security
from transport.contract import DLQ_GROUP, WORKER_GROUP

_GROUPS = (WORKER_GROUP, DLQ_GROUP)
_WHY = "The log does not show the workers' positions"
_MESSAGE = {
    "conversationId": "c",
    "senderId": "s",
    "content": "hello",
    "contentType": "text",
    "clientMessageId": "m",
    "recipientIds": ["r"],
}


@pytest_asyncio.fixture
async def denying(tmp_path: Path) -> AsyncIterator[KafkaServer]:
    """A broker that allows us the topics, and no group."""
    security = Security.with_password("SASL_PLAINTEXT", "PLAIN")
    async with run_kafka(tmp_path / "kafka", security=security, config=AUTHORIZER) as server:
        user = security.username
        await allow(server, [Grant(user, Resource.TOPIC, "msg.", it) for it in TOPIC_RIGHTS])
        yield server


async def _is_ready(service: ForkedService) -> bool:
    lines = map(json.loads, service.log_path.read_text().splitlines())
    url = next(line["url"] for line in lines if line["event"] == "Starting")  # a worker picks one
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        return (await client.get("/readyz")).status_code == 200


async def test_positions_are_not_shown_and_everything_else_works(
    denying: KafkaServer, database_url: str, database_pool: Pool, tmp_path: Path
) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": denying.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": denying.security.protocol,
        "KAFKA_SASL_MECHANISM": denying.security.mechanism,
        "KAFKA_SASL_USERNAME": denying.security.username,
        "KAFKA_SASL_PASSWORD": denying.security.password,
        "KAFKA_TOPIC": "msg.stream",
        "KAFKA_DLQ_TOPIC": "msg.dlq",
        "STREAM_PARTITIONS": "2",
        "LOG_FORMAT": "json",
    }
    api = ForkedService("api", "serve", tmp_path, dict(settings))
    worker = ForkedService("worker", "worker", tmp_path, dict(settings))
    await api.start()
    await worker.start()
    try:
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            assert (await client.post("/api/messages", json=_MESSAGE)).status_code == 202

        async def is_row() -> bool:
            return bool(await database_pool.fetchval("SELECT count(*) = 1 FROM messages"))

        await eventually(is_row)

        async def is_logged() -> bool:
            lines = [line for it in (api, worker) for line in it.log_path.read_text().splitlines()]
            return any(_WHY in line and "access rules forbid it" in line for line in lines)

        await eventually(is_logged)
        assert [await _is_ready(each) for each in (api, worker)] == [True, True]
        user = denying.security.username
        allowed = [Grant(user, Resource.GROUP, name, it) for name in _GROUPS for it in GROUP_RIGHTS]
        await allow(denying, allowed)

        async def is_shown() -> bool:
            return await _committed(denying) == 1

        await eventually(is_shown)
    finally:
        await api.stop()
        await worker.stop()


async def _committed(server: KafkaServer) -> int:
    """Return the sum of the positions that Kafka shows."""
    security = server.security
    admin = AIOKafkaAdminClient(
        bootstrap_servers=server.bootstrap,
        security_protocol=security.protocol,
        sasl_mechanism=security.mechanism,
        sasl_plain_username=security.username,
        sasl_plain_password=security.password,
    )
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(WORKER_GROUP)
    except KafkaError:  # it makes the topic in which it keeps groups
        return 0
    finally:
        await admin.close()
    return sum(of.offset for of in found.values())
