"""A look-up of a message that was just accepted waits for its row, and does not read the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import msgspec

from ingress.arriving import ArrivingRows
from ingress.messages import Messages
from ingress.pending import Pending
from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.reads.messages import StoredMessage
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.persistence.samples import message
from tests.support.eventually import eventually
from tests.support.mirrors import seal
from transport.contract import Progress, Remembered, Topic, Transport
from transport.features.forwarding import Forwarding


class _Forgetful(Forwarding):
    """A log that remembers no ids, as Kafka; it counts the looks into it."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.features = msgspec.structs.replace(inner.features, remembers=False)
        self.looks = 0

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Nothing."""
        return [None] * len(message_ids)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """As the inner transport."""
        self.looks += 1
        return await super().progress(topic, group=group)


def _messages(log: Transport, pool: Pool, arriving: ArrivingRows) -> Messages:
    return Messages(transport=log, pool=pool, scan=1000, timeout_seconds=5, arriving=arriving)


async def test_a_row_that_comes_meanwhile_answers_without_a_look_into_the_log(
    log: Transport, database_pool: Pool
) -> None:
    sent = [message(f"c{n}", f"conv{n % 3}") for n in range(30)]
    await log.publish([seal(event, log.partitions) for event in sent])
    arriving = ArrivingRows(database_pool, 5, pause=0.05, attempts=400)
    forgetful = _Forgetful(log)
    messages = _messages(forgetful, database_pool, arriving)
    found = asyncio.gather(*(messages.find(event.message_id, content=False) for event in sent))
    await eventually(lambda: arriving.asked > 0)
    stop = asyncio.Event()
    worker = Worker(
        transport=log,
        pool=database_pool,
        settings=PersistenceSettings(),
        metrics=Metrics(),
        member="test",
    )
    working = asyncio.create_task(worker.run(stop))
    try:
        rows = await asyncio.wait_for(found, 20)
    finally:
        stop.set()
        await working
    assert all(isinstance(row, StoredMessage) for row in rows)
    assert forgetful.looks == 0


async def test_those_that_wait_share_a_question(log: Transport, database_pool: Pool) -> None:
    sent = [message(f"c{n}") for n in range(30)]
    await log.publish([seal(event, log.partitions) for event in sent])
    arriving = ArrivingRows(database_pool, 5, pause=0.5, attempts=1)
    forgetful = _Forgetful(log)
    messages = _messages(forgetful, database_pool, arriving)
    found = await asyncio.gather(
        *(messages.find(event.message_id, content=False) for event in sent)
    )
    assert all(isinstance(pending, Pending) for pending in found)
    assert arriving.asked < len(sent) / 2
    assert forgetful.looks


async def test_without_postgresql_the_log_is_asked(log: Transport, database_pool: Pool) -> None:
    arriving = ArrivingRows(database_pool, 0.0, pause=0.0)
    assert not await asyncio.wait_for(arriving.arrives(str(uuid4())), 5)


async def test_a_log_that_remembers_is_asked_at_once(log: Transport, database_pool: Pool) -> None:
    arriving = ArrivingRows(database_pool, 5)
    unknown = str(uuid4())
    assert await _messages(log, database_pool, arriving).find(unknown, content=False) is None
    assert arriving.asked == 0
