"""A message that may be in the log is never said not to exist, however many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from ingress.messages import Messages
from ingress.pending import Pending
from ingress.schema.problems import Problem
from otel.metrics import Metrics
from persistence.database.pool import Pool, connect
from persistence.migrate import upgrade
from persistence.settings import PersistenceSettings
from persistence.worker.worker import Worker
from tests.persistence.samples import message
from tests.support.eventually import eventually
from tests.support.mirrors import seal
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import TransportUnavailable
from transport.features.forwarding import Forwarding
from transport.message.identity import partition_of
from transport.registry import create
from transport.settings import TransportSettings


class _Watched(Forwarding):
    """Counts the questions, and can be made to wait or to fail."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.looks = 0
        self.reads = 0
        self.recalls = 0
        self.fault: Exception | None = None
        self.may_look = asyncio.Event()
        self.may_look.set()
        self.before_read: Callable[[], Awaitable[None]] | None = None

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Any]:
        """As the inner transport."""
        self.recalls += 1
        return await super().recall(message_ids)

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """As the inner transport, unless it is to fail."""
        self.looks += 1
        await self.may_look.wait()
        if self.fault is not None:
            raise self.fault
        return await super().progress(topic, group=group)

    async def read(self, *arguments: Any, **options: Any) -> Sequence[Record]:
        """As the inner transport."""
        self.reads += 1
        if self.before_read is not None:
            await self.before_read()
        return await super().read(*arguments, **options)


async def _unknown_in_the_partition_of(log: Transport, waiting: int) -> str:
    """Append records that wait; return the id of a message that the log does not remember."""
    await log.publish([seal(message(f"c{n}"), log.partitions) for n in range(waiting)])
    partition = seal(message(), log.partitions).partition
    while partition_of(found := str(uuid4()), log.partitions) != partition:
        pass
    return found


async def test_more_records_than_are_looked_through_leave_it_open(
    log: Transport, database_pool: Pool
) -> None:
    unknown = await _unknown_in_the_partition_of(log, waiting=3)
    messages = Messages(transport=log, pool=database_pool, scan=2, timeout_seconds=5)
    with pytest.raises(
        Problem, match=r"More than 2 records of .+ wait for a worker, and"
    ) as caught:
        await messages.find(unknown, content=False)
    assert caught.value.kind.status == 503
    assert caught.value.headers["Retry-After"]


async def test_more_records_without_rows_than_are_looked_through_leave_it_open(
    log: Transport, database_pool: Pool
) -> None:
    """PostgreSQL lost the rows, and no worker has persisted them again yet."""
    lost = await _append(log, "early", "lost")
    await _persisted(log, database_pool)
    await database_pool.execute("DELETE FROM messages")
    await database_pool.execute("UPDATE log_positions SET through = '' WHERE partition >= 0")
    messages = Messages(transport=log, pool=database_pool, scan=1, timeout_seconds=5)
    with pytest.raises(Problem, match=r"More than 1 records of .+ wait for a worker") as caught:
        await messages.find(lost, content=False)
    assert caught.value.kind.status == 503
    assert caught.value.headers["Retry-After"]


async def test_where_all_was_looked_through_there_is_none(
    log: Transport, database_pool: Pool
) -> None:
    unknown = await _unknown_in_the_partition_of(log, waiting=3)
    messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
    assert await messages.find(unknown, content=False) is None


async def test_a_message_whose_row_postgresql_lost_is_found_in_the_log(
    log: Transport, database_pool: Pool
) -> None:
    """A standby was promoted that was behind; no worker has persisted it again yet."""
    lost = await _append(log, "early", "lost")
    await _persisted(log, database_pool)
    await _lose(database_pool, "early", "lost")
    messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
    found = await messages.find(lost, content=True)
    assert isinstance(found, Pending)
    assert found.message is not None
    assert found.message.client_message_id == "lost"


async def test_a_message_is_found_in_the_log_if_postgresql_lost_the_partitions_owner_too(
    log: Transport, database_pool: Pool
) -> None:
    """The standby that was promoted was behind the first take of the partition."""
    lost = await _append(log, "early", "lost")
    await _persisted(log, database_pool)
    await database_pool.execute("DELETE FROM messages")
    await database_pool.execute("DELETE FROM log_positions")
    messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
    assert isinstance(await messages.find(lost, content=True), Pending)


async def test_a_message_is_not_called_unknown_while_postgresql_does_not_say_where_rows_end(
    log: Transport, database_pool: Pool
) -> None:
    """The failover was under way during the search, and over before and after it."""
    lost = await _append(log, "early", "lost")
    await _persisted(log, database_pool)
    await _lose(database_pool, "early", "lost")
    messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
    await database_pool.execute("ALTER TABLE log_positions RENAME TO away")
    try:
        with pytest.raises(Problem) as caught:
            await messages.find(lost, content=True)
    finally:
        await database_pool.execute("ALTER TABLE away RENAME TO log_positions")
    assert isinstance(await messages.find(lost, content=True), Pending)
    assert "the database can't be asked" in str(caught.value)
    assert caught.value.kind.status == 503
    assert caught.value.headers["Retry-After"]


async def test_a_message_whose_row_postgresql_loses_during_the_search_is_not_called_unknown(
    log: Transport, database_pool: Pool
) -> None:
    """The server that said where rows end is replaced by one that was still further behind."""
    lost = await _append(log, "early", "lost", "lost too")
    watched = _Watched(log)
    watched.may_look.clear()
    messages = Messages(transport=watched, pool=database_pool, scan=1000, timeout_seconds=5)
    another = asyncio.create_task(messages.find(str(uuid4()), content=True))
    await eventually(lambda: watched.looks == 1)
    finding = asyncio.create_task(messages.find(lost, content=True))
    await eventually(lambda: watched.recalls == 2)  # it had no row, and waits for the next search
    await _persisted(log, database_pool)
    await _lose(database_pool, "lost", "lost too")

    async def fail_over() -> None:
        if watched.looks == 2:
            await _lose(database_pool, "early", "lost")

    watched.before_read = fail_over
    watched.may_look.set()
    with pytest.raises(Problem, match="the database can't be asked"):
        await finding
    await another


async def _append(log: Transport, *names: str) -> str:
    """Append messages that the log does not remember; return the second one's id."""
    events = [message(name) for name in names]
    await log.publish([seal(event, log.partitions) for event in events], remember=False)
    return events[1].message_id


async def _lose(pool: Pool, last: str, lost: str) -> None:
    """Set PostgreSQL back to the row ``last``, as a failover to a standby that was behind does."""
    row = "WHERE client_message_id = $1"
    through = await pool.fetchval(f"SELECT log_offset FROM messages {row}", last)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"DELETE FROM messages {row}", lost)
        await connection.execute(
            "UPDATE log_positions SET through = $1 WHERE partition >= 0", through
        )


async def _persisted(log: Transport, pool: Pool) -> None:
    """Persist what waits in the log, with a worker that runs until then."""
    stop = asyncio.Event()
    worker = Worker(
        transport=log, pool=pool, settings=PersistenceSettings(), metrics=Metrics(), member="w1"
    )
    running = asyncio.create_task(worker.run(stop))
    await eventually(lambda: _is_drained(log))
    stop.set()
    await running


async def _is_drained(log: Transport) -> bool:
    progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return not any(partition.lag for partition in progress)


async def test_those_that_ask_meanwhile_share_the_next_look(
    log: Transport, database_pool: Pool
) -> None:
    sent = [message(f"c{n}", f"conv{n % 3}") for n in range(30)]
    await log.publish([seal(event, log.partitions) for event in sent])
    watched = _Watched(log)
    messages = Messages(transport=watched, pool=database_pool, scan=1000, timeout_seconds=5)
    unknown = await _unknown_in_the_partition_of(log, waiting=1)
    ids = [*(event.message_id for event in sent), unknown]
    found = await asyncio.gather(*(messages.find(at, content=True) for at in ids))
    assert [at.message.message_id for at in found if isinstance(at, Pending) and at.message] == [
        event.message_id for event in sent
    ]
    assert found[-1] is None
    # The first begins a look at once. PostgreSQL answers the others one after another.
    assert watched.looks < len(ids) / 2
    assert watched.reads < len(ids)


async def test_a_fault_of_the_look_is_told_to_all_and_ends_with_it(
    log: Transport, database_pool: Pool
) -> None:
    unknown = await _unknown_in_the_partition_of(log, waiting=1)
    watched = _Watched(log)
    messages = Messages(transport=watched, pool=database_pool, scan=1000, timeout_seconds=5)
    for fault in (TransportUnavailable("away"), RuntimeError("a defect")):
        watched.fault = fault
        asked = (messages.find(unknown, content=False) for _ in range(5))
        told = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
        assert all(isinstance(answer, TransportUnavailable) for answer in told)
    watched.fault = None
    assert await messages.find(unknown, content=False) is None


async def test_where_neither_postgresql_nor_the_log_answers_both_are_named(
    new_postgres: Any, new_redis: Any, launch: Any
) -> None:
    postgres, redis = await new_postgres(), await new_redis()
    url = await postgres.create_database("slow")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    settings = TransportSettings(redis_host=redis.host, redis_port=redis.port, redis_timeout_ms=300)
    try:
        async with create("redis", settings) as transport:
            service = await launch(transport=transport, pool=pool, ingress_read_timeout_ms=300)
            await asyncio.gather(postgres.suspend(), redis.suspend())
            for path in ("", "/content"):
                answer = await service.client.get(f"/api/messages/{uuid4()}{path}")
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                detail = answer.json()["detail"]
                assert detail == "Neither the database nor the log can be asked for the message."
            await asyncio.gather(postgres.resume(), redis.resume())
    finally:
        pool.terminate()
