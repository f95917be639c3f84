"""Repeats on a log that remembers no keys, while messages have no rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from tests.support.kafka import KafkaNode, fresh_settings
from transport.kafka import KafkaTransport


class _Processes:
    """Ingress processes on one Kafka: each has its own connections and its own memory."""

    def __init__(self, kafka: KafkaNode, launch: Start, stack: AsyncExitStack) -> None:
        self._settings = fresh_settings(kafka.bootstrap)
        self._launch = launch
        self._stack = stack

    async def start(self) -> Service:
        log = await self._stack.enter_async_context(KafkaTransport(self._settings))
        return await self._launch(transport=log)


@pytest_asyncio.fixture
async def processes(kafka_server: KafkaNode, launch: Start) -> AsyncIterator[_Processes]:
    async with AsyncExitStack() as stack:
        yield _Processes(kafka_server, launch, stack)


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
