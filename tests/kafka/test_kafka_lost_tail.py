"""A log that lost its tail: what was appended afterwards is read, and the loss is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from lab.load.client import Client
from persistence.chain.known_chain import KnownChain
from persistence.chain.links import Marks
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.support.eventually import eventually
from tests.support.first_records import first_records
from tests.support.forked_service import ForkedService
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_damage import cut_tail
from tests.support.kafka_internals import fetches_held
from transport.conformance.envelopes import contents, message
from transport.contract import WORKER_GROUP, Progress, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


@pytest_asyncio.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    """A node of this file's own: it loses records."""
    async with run_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


class _Accident:
    """The node dies, topics lose their ends, and it comes back: once for all that wait for it."""

    def __init__(self, node: KafkaServer, parties: int) -> None:
        self._node = node
        self._cuts: list[tuple[str, int | None]] = []
        self._met = asyncio.Barrier(parties)
        self._over = asyncio.Event()

    async def cut(self, settings: TransportSettings, *, end: int | None) -> None:
        """Have the log end at ``end``, or leave it whole."""
        self._cuts.append((settings.kafka_topic, end))
        if await self._met.wait() == 0:
            await self._node.kill()
            for topic, where in self._cuts:
                if where is None:
                    continue
                cut_tail(self._node, topic, 0, end=where)
            await self._node.start()
            self._over.set()
        await self._over.wait()


async def _append(transport: KafkaTransport, texts: list[str], *, partition: int = 0) -> None:
    """Append each as a batch of its own, however long Kafka refuses it."""
    for text in texts:
        envelope = message(text, partition=partition, of=transport)

        async def accepted() -> bool:
            (outcome,) = await transport.publish([envelope])  # noqa: B023
            return not isinstance(outcome, TransportError)

        await eventually(accepted)


async def _progress(transport: KafkaTransport) -> Progress:
    async def known() -> Progress | None:
        try:
            return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
        except TransportError:
            return None

    found: Progress = await eventually(known)
    return found


def _texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


class _Worker:
    """Reads partition 0 and settles what it reads, as a worker does; PostgreSQL is ``position``."""

    def __init__(self, log: KafkaTransport, position: str | None = None) -> None:
        self.position = position
        self.texts: list[str] = []
        self._log = log

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work until the block ends."""
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait([working])
            assert working.cancelled()

    async def has_read(self, texts: Sequence[str]) -> None:
        """Return once these are settled, and the log shows it."""

        async def is_settled() -> bool:
            return set(texts) <= set(self.texts) and (await _progress(self._log)).lag == 0

        await eventually(is_settled, every=0.2)

    async def _work(self) -> None:
        published = self.position
        while True:
            try:
                records = await self._log.read(
                    Topic.MESSAGES, 0, after=self.position, limit=2, wait=1.0
                )
                if records:
                    self.position = records[-1].offset
                    self.texts += contents(records)
                if self.position is not None and self.position != published:
                    await _publish(self._log, self.position)
                    published = self.position
            except TransportUnavailable:
                await asyncio.sleep(0.05)


async def _publish(log: KafkaTransport, position: str) -> None:
    await log.publish_positions(Topic.MESSAGES, {0: position}, group=WORKER_GROUP)


async def _a_reader_lives_on(settings: TransportSettings, accident: _Accident) -> None:
    async with KafkaTransport(settings) as transport:
        worker = _Worker(transport)
        async with worker.working():
            await _append(transport, _texts(0, 30))
            await worker.has_read(_texts(0, 30))
            await accident.cut(settings, end=20)
            await _append(transport, _texts(100, 105))  # the log is still shorter than it was
            await worker.has_read(_texts(100, 105))
            assert (await _progress(transport)).lost == 10
            await _append(transport, _texts(105, 115))
            await worker.has_read(_texts(105, 115))
            counted = await _progress(transport)
            assert counted.lost == 10
            assert list(dict.fromkeys(worker.texts)) == [*_texts(0, 30), *_texts(100, 115)]
    async with KafkaTransport(settings) as restarted:
        outlived = await _progress(restarted)
        assert (outlived.lost, outlived.lost_at) == (10, counted.lost_at)
        assert outlived.lost_at is not None


async def _two_reads_begin_at_a_lost_position(
    settings: TransportSettings, accident: _Accident
) -> None:
    """The first one takes the record at the cut, which the second one needs too."""
    async with KafkaTransport(settings) as transport:
        await _append(transport, _texts(0, 30))
        assert len(await first_records(transport, 30)) == 30
        await accident.cut(settings, end=20)
        await _append(transport, _texts(100, 120))
        for _ in range(2):
            (found,) = await transport.read(Topic.MESSAGES, 0, after="29", limit=1, wait=120.0)
            assert contents([found]) == ["100"]


async def _it_grew_again_before_it_was_read(
    settings: TransportSettings, accident: _Accident
) -> None:
    async with KafkaTransport(settings) as transport:
        first = _Worker(transport)
        async with first.working():
            await _append(transport, _texts(0, 30))
            await first.has_read(_texts(0, 30))
    await accident.cut(settings, end=20)
    async with KafkaTransport(settings) as producer:
        await _append(producer, _texts(100, 120))
        for _ in range(2):
            progress = await _progress(producer)
            assert (progress.floor, progress.lag, progress.lost) == ("19", 20, 10)
            # A process that dies before it has read on leaves the mark that shows the loss.
            await _publish(producer, "29")
    async with KafkaTransport(settings) as transport:
        heir = _Worker(transport, first.position)
        async with heir.working():
            await heir.has_read(_texts(100, 120))
            assert heir.texts == _texts(100, 120), "from where it was cut, and not before"
            assert (await _progress(transport)).lost == 10
    async with KafkaTransport(settings) as transport:
        assert not await transport.read(Topic.MESSAGES, 0, after=heir.position, wait=1.0)
        assert (await _progress(transport)).lost == 10, "it is counted once"


async def _it_was_not_read_yet(settings: TransportSettings, accident: _Accident) -> None:
    """PostgreSQL was down: acknowledged messages are gone, and never become rows."""
    async with KafkaTransport(settings) as transport:
        await _append(transport, _texts(0, 30))
        assert len(await first_records(transport, 20)) == 20
        await _publish(transport, "19")
    await accident.cut(settings, end=22)
    async with KafkaTransport(settings) as transport:
        await _append(transport, _texts(100, 110))
        heir = _Worker(transport, "19")
        async with heir.working():
            await heir.has_read(_texts(100, 110))
            assert (await _progress(transport)).lost == 8
            assert heir.texts == [*_texts(20, 22), *_texts(100, 110)]


async def _an_older_position_is_read_again(
    settings: TransportSettings, accident: _Accident
) -> None:
    """PostgreSQL went back at the same time, to before the cut."""
    async with KafkaTransport(settings) as transport:
        worker = _Worker(transport)
        async with worker.working():
            await _append(transport, _texts(0, 30))
            await worker.has_read(_texts(0, 30))
    await accident.cut(settings, end=20)
    async with KafkaTransport(settings) as transport:
        await _append(transport, _texts(100, 130))
        worker = _Worker(transport, "14")
        async with worker.working():
            await worker.has_read(_texts(100, 130))
            assert worker.texts == [*_texts(15, 20), *_texts(100, 130)]


async def _own_appends_after_an_election_are_no_loss(
    settings: TransportSettings, accident: _Accident
) -> None:
    """They are read before a fetch shows that another leader epoch has begun."""
    async with KafkaTransport(settings) as transport:
        await _append(transport, _texts(0, 3))
        assert contents(await first_records(transport, 3)) == _texts(0, 3)
        await _publish(transport, "2")
        with fetches_held(transport):
            reading = asyncio.create_task(transport.read(Topic.MESSAGES, 0, after="2", wait=120.0))
            await accident.cut(settings, end=None)
            await _append(transport, ["until it can"], partition=1)
            await _append(transport, ["new"])
            assert contents(await reading) == ["new"]
        await _append(transport, ["last"])
        (last,) = await transport.read(Topic.MESSAGES, 0, after="3", wait=120.0)
        assert contents([last]) == ["last"], "the log has what was handed over"
        await _is_counted(transport, "4", lost=0)


async def _own_appends_that_were_lost_are_replaced(
    settings: TransportSettings, accident: _Accident
) -> None:
    """The log ends where the old leader epoch was fetched to, so only contents show the loss."""
    async with KafkaTransport(settings) as transport, KafkaTransport(settings) as other:
        await _append(transport, _texts(0, 3))
        assert contents(await first_records(transport, 3)) == _texts(0, 3)
        with fetches_held(transport, are_lost=True):
            reading = asyncio.create_task(transport.read(Topic.MESSAGES, 0, after="2", wait=120.0))
            await asyncio.sleep(0)
            await _append(transport, ["lost"])
            assert contents(await reading) == ["lost"]
            await _publish(transport, "3")
            await accident.cut(settings, end=3)
            await _append(other, ["in its place"])
        (found,) = await transport.read(Topic.MESSAGES, 0, after="3", wait=120.0)
        assert (found.offset, contents([found])) == ("3", ["in its place"])
        await _append(transport, ["last"])
        (last,) = await transport.read(Topic.MESSAGES, 0, after="3", wait=120.0)
        assert contents([last]) == ["last"]
        await _is_counted(transport, "4", lost=1)


async def _is_at(transport: KafkaTransport, position: str) -> bool:
    return (await _progress(transport)).floor == position


async def _is_counted(transport: KafkaTransport, position: str, *, lost: int) -> None:
    """Assert that the log shows this position, and so many lost records."""
    await _publish(transport, position)
    progress = await _progress(transport)
    assert (progress.floor, progress.lag, progress.lost) == (position, 0, lost)


async def test_records_that_took_the_place_of_a_lost_tail_are_read_and_the_loss_is_counted(
    node: KafkaServer,
) -> None:
    stories = (
        _a_reader_lives_on,
        _two_reads_begin_at_a_lost_position,
        _it_grew_again_before_it_was_read,
        _it_was_not_read_yet,
        _an_older_position_is_read_again,
        _own_appends_after_an_election_are_no_loss,
        _own_appends_that_were_lost_are_replaced,
    )
    accident = _Accident(node, len(stories))
    async with asyncio.TaskGroup() as tasks:
        for story in stories:
            settings = fresh_settings(node.bootstrap, stream_partitions=2)
            tasks.create_task(story(settings, accident), name=story.__name__)


@dataclass
class _Site:
    """The whole service on the node, a client of it, and its rows."""

    service: ForkedService
    client: Client
    database: asyncpg.Connection
    log: TransportSettings
    accepted: list[str] = field(default_factory=list)

    async def post(self, numbers: Sequence[int]) -> None:
        """Post messages of one conversation, each until it is accepted."""
        for number in numbers:
            await eventually(partial(self._post, number))

    async def _post(self, number: int) -> bool:
        answer = await self.client.post(
            f"{self.service.url}/api/messages",
            {
                "senderId": "sender",
                "conversationId": "conversation",
                "clientMessageId": f"client-{number}",
                "content": str(number),
            },
        )
        if answer.status == 202:
            self.accepted.append(answer.json()["messageId"])
        return answer.status in (200, 202)

    async def are_mirrored(self) -> None:
        """Record that the service writes both logs from the first message on."""
        url = self.service.environment["DATABASE_URL"]
        pool = await connect(PersistenceSettings(database_url=url))
        both = Marks("", {})
        await KnownChain(pool).update(lambda now: now.marked({"kafka": both}, "kafka", "redis"))
        await pool.close()

    async def rows(self) -> list[str]:
        """The ids of the rows, in order."""
        rows = await self.database.fetch("SELECT id FROM messages ORDER BY seq")
        return [str(row["id"]) for row in rows]


@pytest_asyncio.fixture
async def site(node: KafkaServer, database_url: str, tmp_path: Path) -> AsyncIterator[_Site]:
    """Not started yet."""
    log = fresh_settings(node.bootstrap, stream_partitions=1)
    environment = {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": node.bootstrap,
        "KAFKA_TOPIC": log.kafka_topic,
        "KAFKA_DLQ_TOPIC": log.kafka_dlq_topic,
        "STREAM_PARTITIONS": "1",
        "DATABASE_URL": database_url,
    }
    service = ForkedService("serve", "serve", tmp_path, environment)
    client = Client(timeout=20.0)
    database = await asyncpg.connect(database_url)
    yield _Site(service, client, database, log)
    await database.close()
    await client.close()
    await service.stop()


async def test_every_message_accepted_after_the_loss_becomes_a_row(
    node: KafkaServer, site: _Site
) -> None:
    """The whole service, under which Kafka loses the last 20 of 40 messages."""

    async def all_rows() -> bool:
        return await site.rows() == site.accepted

    await site.service.start()
    await site.post(range(40))
    await eventually(all_rows)
    # What the log's last position covers is counted.
    async with KafkaTransport(site.log) as log:
        await eventually(partial(_is_at, log, "39"))
    await node.kill()
    assert cut_tail(node, site.log.kafka_topic, 0, end=20) == 20
    await node.start()
    await site.post(range(40, 81))
    assert len(site.accepted) == 81
    await eventually(all_rows)

    async def told() -> bool:
        status = await site.client.get(f"{site.service.url}/api/console/status")
        assert "20 records left" in status.text, status.text
        return True

    await eventually(told)


async def test_what_the_shadow_still_has_of_a_lost_tail_becomes_rows(
    node: KafkaServer, site: _Site, redis_settings: TransportSettings
) -> None:
    """It was unread, and other messages have its offsets: its copies say which records it had."""
    environment = site.service.environment
    environment |= {
        "TRANSPORT_SHADOW": "redis",
        "TRANSPORT_SHADOW_MODE": "sync",
        "REDIS_HOST": redis_settings.redis_host,
        "REDIS_PORT": str(redis_settings.redis_port),
        "ENABLE_STREAM_CONSUMERS": "false",
    }
    await site.service.start()
    await site.are_mirrored()
    await site.post(range(10))
    await site.service.stop()
    await node.kill()
    assert cut_tail(node, site.log.kafka_topic, 0, end=4) == 6
    await node.start()
    environment["ENABLE_STREAM_CONSUMERS"] = "true"
    await site.service.start()
    await site.post(range(10, 20))

    async def all_rows() -> bool:
        return set(await site.rows()) == set(site.accepted)

    await eventually(all_rows)
    kept = [message for at, message in enumerate(site.accepted) if at not in range(4, 10)]
    assert [row for row in await site.rows() if row in kept] == kept
