"""The log lines of an outage, over the lives of several consumers."""

from __future__ import annotations

import pytest

from compose.local.kafka import KafkaServer
from tests.support.eventually import eventually
from tests.support.kafka_internals import membership_of
from transport.conformance.member import Member
from transport.kafka import KafkaTransport

_BEGINS = "Kafka can't be read: records wait in it; will retry"


@pytest.mark.timeout(300)
async def test_an_outage_is_told_after_a_consumer_was_closed_in_an_earlier_one(
    kafka_transport: KafkaTransport, kafka_server: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It will never read again, so the next outage would count as the same one."""
    async with Member(kafka_transport) as member:
        await member.claim(0)
        await kafka_server.stop()
        await eventually(lambda: _BEGINS in caplog.messages, 60.0)
    await kafka_server.start()
    async with Member(kafka_transport, "another", patience=60) as member:
        await member.claim(0)
        await eventually(lambda: membership_of(member.consumer).fault is None, 60.0)
        caplog.clear()
        await kafka_server.stop()
        await eventually(lambda: _BEGINS in caplog.messages, 60.0)
    await kafka_server.start()
