"""Kafka takes appends, and our group may not read: messages are accepted, and wait."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from compose.local.kafka import KafkaServer
from compose.local.kafka_security import Security
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
from transport.contract import DLQ_GROUP, WORKER_GROUP

_GROUPS = (WORKER_GROUP, DLQ_GROUP)
_WHY = "It takes appends, and can't be read: Kafka's access rules forbid it"
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


async def _ready(service: ForkedService) -> tuple[int, dict[str, Any]]:
    """Return the status of ``/readyz``, and its components by name."""
    lines = map(json.loads, service.log_path.read_text().splitlines())
    url = next(line["url"] for line in lines if line["event"] == "Starting")  # a worker picks one
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.get("/readyz")
    return answer.status_code, {each["name"]: each for each in answer.json()["components"]}


async def test_the_api_is_ready_and_a_worker_is_not(
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

        async def is_told() -> bool:
            status, of_api = await _ready(api)
            assert (status, of_api["log (kafka)"]["status"]) == (200, "degraded")
            assert _WHY in of_api["log (kafka)"]["detail"]
            status, of_worker = await _ready(worker)
            assert (status, of_worker["log (kafka)"]["status"]) == (503, "down")
            assert _WHY in of_worker["log (kafka)"]["detail"]
            return True

        await eventually(is_told, timeout=60)
        async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
            assert (await client.post("/api/messages", json=_MESSAGE)).status_code == 202
        for each in (api, worker):
            lines = each.log_path.read_text().splitlines()
            (line,) = [line for line in lines if "Kafka can't be read" in line]
            assert "access rules forbid it" in line
        user = denying.security.username
        allowed = [Grant(user, Resource.GROUP, name, it) for name in _GROUPS for it in GROUP_RIGHTS]
        await allow(denying, allowed)

        async def is_well() -> bool:
            assert [(await _ready(each))[0] for each in (api, worker)] == [200, 200]
            return await database_pool.fetchval("SELECT count(*) = 1 FROM messages")

        await eventually(is_well, timeout=90)
    finally:
        await api.stop()
        await worker.stop()
