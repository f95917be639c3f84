"""Acknowledgements that come too late: of an expelled process, or to a node that hung."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka_internals import is_expelled, is_logged_later
from transport.conformance.member import Member, drain, messages
from transport.contract import WORKER_GROUP, Progress, Topic
from transport.errors import PartitionLost, TransportUnavailable
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings


async def test_a_process_that_was_suspended_does_not_set_the_group_back(
    kafka_transport: KafkaTransport, kafka_settings: TransportSettings
) -> None:
    """Another one has gone further meanwhile, and has left: the group has no members."""
    texts = [str(number) for number in range(20)]
    await kafka_transport.publish(messages(texts, partition=0, of=kafka_transport))
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        async with claim:
            held = await drain(claim, 20, patience=20)
            await claim.ack(held[1].offset)
            others = Thread(target=asyncio.run, args=(_rest_is_acknowledged(kafka_settings),))
            others.start()
            others.join()  # our loop is blocked until then, as in a suspended process
            # It joins again once the claim's user has left, or had its time.
            await eventually(lambda: is_expelled(member.consumer) or claim.lost, 10.0)  # type: ignore[attr-defined]
            with pytest.raises(PartitionLost):
                await claim.ack(held[5].offset)
            progress = await _progress(kafka_transport)
            assert (progress.acknowledged, progress.lag) == ("19", 0)


async def test_an_acknowledgement_that_was_given_up_leaves_no_traceback(
    kafka_server: KafkaServer, kafka_transport: KafkaTransport
) -> None:
    """Its request fails long after its caller was told, when the node that hangs is ended."""
    await kafka_transport.publish(messages(["a"], partition=0, of=kafka_transport))
    async with Member(kafka_transport) as member:
        claim = await member.claim(0)
        (held,) = await drain(claim, 1, patience=20)
        await kafka_server.suspend()
        with pytest.raises(TransportUnavailable):
            await claim.ack(held.offset)
        given_up = {task for task in asyncio.all_tasks() if "committing" in str(task.get_coro())}
        assert given_up
        await kafka_server.kill()
        await asyncio.wait(given_up)
        assert not any(is_logged_later(task) for task in given_up)
        await kafka_server.start()


async def _rest_is_acknowledged(settings: TransportSettings) -> None:
    async with KafkaTransport(settings) as transport, Member(transport, "two") as member:
        claim = await member.claim(0)
        records = await drain(claim, 18, patience=30)
        await claim.ack(records[-1].offset)


async def _progress(transport: KafkaTransport) -> Progress:
    return (await transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
