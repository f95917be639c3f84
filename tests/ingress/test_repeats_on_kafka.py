"""Repeats on a log that remembers no keys, while messages have no rows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from ingress.accept import commit
from persistence.database.pool import Pool, connect
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, Start, message, working
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import KafkaNode, fresh_settings
from transport.clock import timestamp
from transport.kafka import KafkaTransport


class _Processes:
    """Ingress processes on one Kafka: each has its own connections and its own memory."""

    def __init__(self, kafka: KafkaNode, launch: Start, stack: AsyncExitStack) -> None:
        self._settings = fresh_settings(kafka.bootstrap)
        self._launch = launch
        self._stack = stack

    async def start(self, pool: Pool | None = None) -> Service:
        log = await self._stack.enter_async_context(KafkaTransport(self._settings))
        return await self._launch(transport=log, pool=pool)


@pytest_asyncio.fixture
async def processes(kafka_server: KafkaNode, launch: Start) -> AsyncIterator[_Processes]:
    async with AsyncExitStack() as stack:
        yield _Processes(kafka_server, launch, stack)


@pytest_asyncio.fixture
async def database(databases: Databases) -> AsyncIterator[tuple[Pool, FaultProxy]]:
    """An empty database, behind a proxy that can take it away."""
    given = await databases.take()
    url = httpx.URL(given)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        address = str(url.copy_with(host=proxy.host, port=proxy.port))
        pool = await connect(PersistenceSettings(database_url=SecretStr(address)))
        yield pool, proxy
        pool.terminate()
    await databases.give_back(given)


async def test_another_body_is_refused_while_the_row_is_missing(processes: _Processes) -> None:
    service = await processes.start()
    first = await service.post(message(1), X_Correlation_ID="order-1")
    assert first.status_code == 202, first.text

    repeat = await service.post(message(1), X_Correlation_ID="order-2")
    assert (repeat.status_code, repeat.json()) == (200, {**first.json(), "idempotentHit": True})

    records = await service.records()
    other = await service.post(message(1, content="another body"))
    assert other.status_code == 422, other.text
    assert first.json()["acceptedAt"] in other.json()["detail"]
    assert await service.records() == records, "the refused message was enqueued"

    # The refusal does not depend on the worker, and the first body becomes the row.
    async with working(service):
        (row,) = await eventually(service.rows)
    assert row["content"] == message(1)["content"]


async def test_another_body_in_the_same_batch_is_refused(processes: _Processes) -> None:
    service = await processes.start()
    first = (await service.post(message(1))).json()
    batch = [message(2), message(1, content="another body"), message(1)]
    answer = await service.client.post("/api/messages:batch", json=batch)
    new, other, repeat = answer.json()
    assert [new["status"], other["status"], repeat["status"]] == [202, 422, 200]
    assert (repeat["acceptedAt"], repeat["idempotentHit"]) == (first["acceptedAt"], True)


@pytest.mark.parametrize("started", ["before", "after"])
async def test_another_process_refuses_another_body_while_the_row_is_missing(
    processes: _Processes, started: str
) -> None:
    """A process that runs, or starts later, finds the keys among the unread records."""
    service = await processes.start()
    other = await processes.start() if started == "before" else None
    first = (await service.post(message(1), X_Correlation_ID="order-1")).json()
    other = other or await processes.start()

    recent = other.app.accept.recent
    await eventually(lambda: recent.find(first["messageId"]))
    records = await service.records()
    refused = await other.post(message(1, content="another body"))
    assert refused.status_code == 422, refused.text
    assert await service.records() == records, "the refused message was enqueued"
    repeat = await other.post(message(1))
    assert (repeat.status_code, repeat.json()) == (200, {**first, "idempotentHit": True})

    later = (await service.post(message(2))).json()
    await eventually(lambda: recent.find(later["messageId"]))
    assert (await other.post(message(2, content="another body"))).status_code == 422


@pytest.mark.parametrize("process", ["the same", "another", "a new one"])
async def test_without_postgresql_a_message_keeps_its_body_and_its_time(
    processes: _Processes,
    database: tuple[Pool, FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
    process: str,
) -> None:
    """However long ago it was accepted: here half an hour, by its own time."""
    pool, proxy = database
    service = await processes.start(pool)
    asked = await processes.start(pool) if process == "another" else service
    proxy.refuse()
    proxy.reset()
    with monkeypatch.context() as patched:
        patched.setattr(commit, "now", lambda: timestamp(time.time() - 1800))
        first = (await service.post(message(1), X_Correlation_ID="order-1")).json()
    if process == "a new one":
        asked = await processes.start(pool)
    await eventually(lambda: asked.app.accept.recent.find(first["messageId"]))

    records = await service.records()
    other = await asked.post(message(1, content="another body"))
    assert other.status_code == 422, other.text
    assert first["acceptedAt"] in other.json()["detail"]
    assert await service.records() == records, "the refused message was enqueued"
    repeat = await asked.post(message(1), X_Correlation_ID="order-2")
    as_first = {**first, "idempotentHit": True, "state": "unknown"}
    assert (repeat.status_code, repeat.json()) == (200, as_first)

    proxy.heal()
    async with working(service):
        (row,) = await eventually(service.rows)
    assert (row["content"], str(row["id"])) == (message(1)["content"], first["messageId"])
    assert (await asked.post(message(1, content="another body"))).status_code == 422
