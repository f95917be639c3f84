"""A program that joins the workers' group by mistake, as a default consumer of aiokafka does."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from tests.support.eventually import eventually
from tests.support.kafka_internals import send
from transport.conformance.member import Member
from transport.contract import WORKER_GROUP, Topic
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_GETS_NONE = "get no partitions"
_HAS_SOME = "Partitions belong to members of our group that are no workers"
_EARLIER = "earlier version"
_WORKER = "host-1-77-0a1b2c"
"""The client id of a worker: host, process id and a random part (``compose.process.wiring``)."""


def _stranger(
    settings: TransportSettings, topic: str, client: str = "stranger"
) -> AIOKafkaConsumer:
    """Return a consumer without the mark of workers, as those of earlier versions are."""
    return AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=f"{settings.kafka_group_prefix or ''}{WORKER_GROUP}",
        client_id=client,
        heartbeat_interval_ms=300,
    )


async def _owners(transport: KafkaTransport) -> Collection[str | None]:
    progress = await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
    return {part.owner for part in progress}


async def test_it_gets_no_partition_of_ours(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Member(kafka_transport, "worker") as member:
        first = await member.claim(0)
        async with _stranger(kafka_settings, kafka_transport.location.messages) as stranger:
            await eventually(lambda: member.claims[0] is not first, 30.0)
            assert not stranger.assignment()
            assert await _owners(kafka_transport) == {"worker"}
    told = [record for record in caplog.records if _GETS_NONE in record.message]
    assert "stranger" in str(vars(told[0])["members"])


async def test_partitions_that_it_gave_itself_are_told(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The member that came first leads the group, and assigns."""

    async def is_shared() -> bool:
        return await _owners(kafka_transport) == {"stranger", "worker"}

    stranger = _stranger(kafka_settings, kafka_transport.location.messages)
    await stranger.start()
    async with Member(kafka_transport, "worker") as member:
        await eventually(is_shared, 30.0)
        assert await is_shared()
        assert [_HAS_SOME in record.message for record in caplog.records].count(True) == 1
        await stranger.stop()
        await eventually(lambda: member.claims.keys() == {0, 1, 2, 3}, 30.0)
        assert await _owners(kafka_transport) == {"worker"}


async def test_workers_of_an_earlier_version_are_no_other_program(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They store what they own. The first of them leads the group, and assigns."""
    caplog.set_level(logging.INFO)

    async def is_shared() -> bool:
        return await _owners(kafka_transport) == {_WORKER, "worker"}

    async def is_over() -> bool:
        return await _owners(kafka_transport) == {"worker"}

    topic = kafka_transport.location.messages
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_stranger(kafka_settings, topic, _WORKER))
        async with Member(kafka_transport, "worker"):
            await eventually(is_shared, 30.0)
            ours = [record for record in caplog.records if record.name.startswith("transport.")]
            assert [record for record in ours if record.levelno > logging.INFO] == []
            (told,) = [record for record in caplog.records if _EARLIER in record.message]
            assert (told.levelname, vars(told)["members"]) == ("INFO", [_WORKER])
            await stack.aclose()
            await eventually(is_over, 30.0)
    assert [_EARLIER in record.message for record in caplog.records].count(True) == 1


async def test_a_worker_of_an_earlier_version_keeps_its_share(
    kafka_transport: KafkaTransport,
    kafka_settings: TransportSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """During a rolling restart, a worker of this version may lead the group."""

    async def is_shared() -> bool:
        return await _owners(kafka_transport) == {_WORKER, "worker"}

    async with Member(kafka_transport, "worker") as member:
        first = await member.claim(0)
        async with _stranger(kafka_settings, kafka_transport.location.messages, _WORKER):
            await eventually(lambda: not first.assigned or member.claims[0] is not first, 30.0)
            await eventually(is_shared, 30.0)
    assert _GETS_NONE not in caplog.text


async def test_one_whose_metadata_is_no_metadata_stops_no_worker(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        async with Member(kafka_transport, "worker") as member:
            first = await member.claim(0)
            group = f"{kafka_settings.kafka_group_prefix or ''}{WORKER_GROUP}"
            node = await admin.find_coordinator(group)
            protocols = [("roundrobin", b"\xff")]
            join = JoinGroupRequest(group, 10_000, 10_000, "", "consumer", "consumer", protocols)
            joined = await send(admin, join, node)
            sync = SyncGroupRequest(group, joined.generation_id, joined.member_id, "consumer", [])
            assert (await send(admin, sync, node)).error_code == 0
            await eventually(lambda: member.claims[0] is not first, 30.0)
            assert member.consumer.fault is None  # type: ignore[attr-defined]
    finally:
        await admin.close()
