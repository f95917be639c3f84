"""A log that lost its tail: what was appended afterwards is read, and the loss is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from compose.load.client import Client
from compose.local.kafka import KafkaServer
from compose.local.ports import free_port
from persistence.standby.takeover_rules import Originals
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from tests.support.kafka import fresh_settings, run_kafka
from tests.support.kafka_damage import cut_tail
from tests.support.kafka_internals import commits_of, groups_of, ids_of, tails_of
from transport.conformance.member import ConformanceWorker, Member, contents, drain, message
from transport.contract import Progress, Record, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.features.forwarding import Forwarding
from transport.kafka import KafkaTransport
from transport.kafka.group.groups import Committed
from transport.kafka.loss.mark import Anchor
from transport.kafka.loss.tails import KnownTail
from transport.message.envelope import HEADER_MIRROR_OF
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
        self._cuts: list[tuple[str, int]] = []
        self._met = asyncio.Barrier(parties)
        self._over = asyncio.Event()

    async def cut(self, settings: TransportSettings, *, end: int) -> None:
        self._cuts.append((settings.kafka_topic, end))
        if await self._met.wait() == 0:
            await self._node.kill()
            for topic, where in self._cuts:
                cut_tail(self._node, topic, 0, end=where)
            await self._node.start()
            self._over.set()
        await self._over.wait()


async def _append(transport: KafkaTransport, texts: list[str]) -> None:
    """Append each as a batch of its own, however long Kafka refuses it."""
    for text in texts:
        envelope = message(text, partition=0, of=transport)

        async def accepted() -> bool:
            (outcome,) = await transport.publish([envelope])  # noqa: B023
            return not isinstance(outcome, TransportError)

        await eventually(accepted, 30.0)


async def _progress(transport: KafkaTransport, group: str) -> Progress:
    async def known() -> Progress | None:
        try:
            return (await transport.progress(Topic.MESSAGES, group=group))[0]
        except TransportError:
            return None

    found: Progress = await eventually(known, 30.0)
    return found


def _texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last)]


async def _all_read(transport: KafkaTransport, worker: ConformanceWorker, texts: list[str]) -> None:
    """Return once all are read, and acknowledged as far as the log goes."""
    group = worker.consumer.group  # type: ignore[attr-defined]

    async def read() -> bool:
        progress = await _progress(transport, group)
        return set(texts) <= set(contents(worker.records)) and progress.lag == 0

    await eventually(read, 30.0, every=0.2)


def _firsts(worker: ConformanceWorker) -> list[str]:
    """What was read, without repeats: a member that was expelled reads some of it again."""
    return list(dict.fromkeys(contents(worker.records)))


class _OfGroup(Forwarding):
    """Kafka, whose workers' group is another one."""

    def __init__(self, inner: KafkaTransport, group: str) -> None:
        super().__init__(inner)
        self._group = group

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        return await self.inner.progress(topic, group=self._group)


async def _passed(transport: KafkaTransport, group: str) -> bool:
    """Ask as the standby of another log does whether the original of a copy, at 25, was passed."""
    copy = Record(Topic.MESSAGES, 0, "7", "key", b"", {HEADER_MIRROR_OF: b"kafka:25"}, 0.0)
    originals = Originals({"kafka": _OfGroup(transport, group)})
    return await originals.passed(copy, seen=time.monotonic())


# Each in a group of its own: one group's members wait for each other, whatever topic they read.


async def _a_claim_lives_on(settings: TransportSettings, accident: _Accident) -> None:
    async with KafkaTransport(settings) as transport:
        worker = ConformanceWorker(transport, "worker", group="lives-on")
        async with worker.working():
            await _append(transport, _texts(0, 30))
            await _all_read(transport, worker, _texts(0, 30))
            await accident.cut(settings, end=20)
            await _append(transport, _texts(100, 115))
            await _all_read(transport, worker, _texts(100, 115))
            counted = await _progress(transport, "lives-on")
            assert counted.lost == 10
            assert _firsts(worker) == [*_texts(0, 30), *_texts(100, 115)]
    async with KafkaTransport(settings) as restarted:
        outlived = await _progress(restarted, "lives-on")
        assert (outlived.lost, outlived.lost_at) == (10, counted.lost_at)
        assert outlived.lost_at is not None


async def _a_commit_counts_and_nobody_hears_of_it(
    settings: TransportSettings, accident: _Accident
) -> None:
    """That of the claim that counts the loss: it is made again, and counts nothing twice."""
    async with KafkaTransport(settings) as transport:
        worker = ConformanceWorker(transport, "worker", group="unheard")
        async with worker.working():
            await _append(transport, _texts(0, 30))
            await _all_read(transport, worker, _texts(0, 30))
            commits = commits_of(worker.consumer)
            unheard = _Unheard(commits.commit)
            commits.commit = unheard
            await accident.cut(settings, end=20)
            await _append(transport, _texts(100, 115))
            await _all_read(transport, worker, _texts(100, 115))
            assert unheard.lost == [10, 10], "it was made twice"
            assert (await _progress(transport, "unheard")).lost == 10
            assert _firsts(worker) == [*_texts(0, 30), *_texts(100, 115)]


class _Unheard:
    """Commits, and does not tell of the first one that counts a loss."""

    def __init__(self, commit: Callable[[Mapping[int, Committed]], Awaitable[None]]) -> None:
        self._commit = commit
        self.lost: list[int] = []

    async def __call__(self, offsets: Mapping[int, Committed]) -> None:
        await self._commit(offsets)
        counts = [committed.mark.lost for committed in offsets.values() if committed.mark.lost]
        if len(self.lost) < 2:
            self.lost += counts
            if counts and len(self.lost) == 1:
                raise TransportUnavailable("no answer came")


async def _it_grew_again_before_anybody_looked(
    settings: TransportSettings, accident: _Accident
) -> None:
    async with KafkaTransport(settings) as transport:
        worker = ConformanceWorker(transport, "worker", group="grew-again")
        async with worker.working():
            await _append(transport, _texts(0, 30))
            await _all_read(transport, worker, _texts(0, 30))
    await accident.cut(settings, end=20)
    async with KafkaTransport(settings) as producer:
        await _append(producer, _texts(100, 120))
        await _is_read_whole_where_epochs_do_not_tell(producer, settings)
        assert not await _passed(producer, "grew-again"), "its original waits at a reused offset"
        progress = await _progress(producer, "grew-again")
        assert (progress.floor, progress.lag, progress.lost) == ("19", 20, 10), "nobody looked yet"
    async with KafkaTransport(settings) as transport:
        worker = ConformanceWorker(transport, "heir", group="grew-again")
        async with worker.working():
            await _all_read(transport, worker, _texts(100, 120))
            assert _firsts(worker) == _texts(100, 120), "from where it was cut, and not before"
            assert await _passed(transport, "grew-again")
    async with (
        KafkaTransport(settings) as transport,
        Member(transport, group="grew-again") as member,
    ):
        await member.claim(0)
        assert (await _progress(transport, "grew-again")).lost == 10, "it is counted once"


async def _is_read_whole_where_epochs_do_not_tell(
    transport: KafkaTransport, settings: TransportSettings
) -> None:
    """Such as where a node was restored with its metadata, and gives its epochs anew."""
    name = settings.kafka_topic
    (kept,) = (await groups_of(transport).committed("grew-again", name, 1)).values()
    last = kept.mark.last
    assert last is not None

    async def cut(anchor: Anchor) -> tuple[int, int]:
        leaders = (await ids_of(transport).describe(name)).leaders
        known = {TopicPartition(name, 0): KnownTail((anchor,))}
        (found,) = (await tails_of(transport).tail_losses(known, leaders)).values()
        return found.offset, found.lost

    assert await cut(last) == (20, 10)
    assert await cut(replace(last, leader=-1)) == (0, 1), "so many at least"
    assert await cut(replace(last, time=1)) == (0, 1), "younger records don't come from before it"


async def _nobody_had_read_it(settings: TransportSettings, accident: _Accident) -> None:
    """A worker that is behind: acknowledged to their senders, gone, and never to be rows."""
    async with KafkaTransport(settings) as transport:
        async with Member(transport, group="unread") as member:
            claim = await member.claim(0)
            await _append(transport, _texts(0, 30))
            records = await drain(claim, 30, patience=20)
            offsets = iter([record.offset for record in records[:20]])

            async def noted() -> bool:
                await claim.ack(next(offsets))
                groups = groups_of(transport)
                (kept,) = (await groups.committed("unread", settings.kafka_topic, 1)).values()
                return kept.mark.seen is not None and kept.mark.seen.end == 30

            await eventually(noted, 30.0, every=0.3)
        await accident.cut(settings, end=22)
        await _append(transport, _texts(100, 110))
        worker = ConformanceWorker(transport, "heir", group="unread")
        async with worker.working():
            await _all_read(transport, worker, _texts(100, 110))
            assert (await _progress(transport, "unread")).lost == 8
            assert _firsts(worker)[-12:] == [*_texts(20, 22), *_texts(100, 110)]


async def test_what_took_the_place_of_a_lost_tail_is_read_and_the_loss_is_counted(
    node: KafkaServer,
) -> None:
    stories = (
        _a_claim_lives_on,
        _a_commit_counts_and_nobody_hears_of_it,
        _it_grew_again_before_anybody_looked,
        _nobody_had_read_it,
    )
    on_one_claim = stories[:2]
    accident = _Accident(node, len(stories))
    async with asyncio.TaskGroup() as tasks:
        for story in stories:
            # For a claim to live on the group has to keep its member for as long as that takes.
            lease = 60_000 if story in on_one_claim else 1000
            settings = fresh_settings(node.bootstrap, stream_partitions=1, stream_lease_ms=lease)
            tasks.create_task(story(settings, accident), name=story.__name__)


@dataclass
class _Site:
    """The whole service on the node, a client of it, and its rows."""

    service: ForkedService
    client: Client
    database: asyncpg.Connection
    topic: str
    accepted: list[str] = field(default_factory=list)

    async def post(self, numbers: Sequence[int]) -> None:
        """Post messages of one conversation, each until it is accepted."""
        for number in numbers:
            await eventually(partial(self._post, number), 30.0)

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

    async def rows(self) -> list[str]:
        """The ids of the rows, in order."""
        rows = await self.database.fetch("SELECT id FROM messages ORDER BY seq")
        return [str(row["id"]) for row in rows]


@pytest_asyncio.fixture
async def site(node: KafkaServer, database_url: str, tmp_path: Path) -> AsyncIterator[_Site]:
    """Not started yet."""
    topic = f"tail.{free_port()}"
    environment = {
        "TRANSPORT": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": node.bootstrap,
        "KAFKA_TOPIC": f"{topic}.stream",
        "KAFKA_DLQ_TOPIC": f"{topic}.dlq",
        "STREAM_PARTITIONS": "1",
        "STREAM_LEASE_MS": "60000",  # the group keeps its members over the accident
        "DATABASE_URL": database_url,
    }
    service = ForkedService("serve", "serve", tmp_path, environment)
    client = Client(timeout=20.0)
    database = await asyncpg.connect(database_url)
    yield _Site(service, client, database, f"{topic}.stream")
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
    await eventually(all_rows, 30.0)
    await node.kill()
    assert cut_tail(node, site.topic, 0, end=20) == 20
    await node.start()
    await site.post(range(40, 81))
    assert len(site.accepted) == 81
    await eventually(all_rows, 30.0)

    async def told() -> bool:
        status = await site.client.get(f"{site.service.url}/api/console/status")
        return "20 records left" in status.text

    await eventually(told, 30.0)


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
        "STREAM_LEASE_MS": "2000",
    }
    await site.service.start()
    await site.post(range(10))
    await site.service.stop()
    await node.kill()
    assert cut_tail(node, site.topic, 0, end=4) == 6
    await node.start()
    environment["ENABLE_STREAM_CONSUMERS"] = "true"
    await site.service.start()
    await site.post(range(10, 20))

    async def all_rows() -> bool:
        return set(await site.rows()) == set(site.accepted)

    await eventually(all_rows, 30.0)
    kept = [message for at, message in enumerate(site.accepted) if at not in range(4, 10)]
    assert [row for row in await site.rows() if row in kept] == kept
