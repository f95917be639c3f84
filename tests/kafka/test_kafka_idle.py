"""What a member costs while nothing comes."""

from __future__ import annotations

import time

import pytest

from tests.support.kafka import fresh_settings
from transport.conformance.member import Member
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_PARTITIONS = 256
_LINGER = 0.25
_CALM, _MEASURED = 4.0, 4.0  # seconds


@pytest.mark.quiet
async def test_a_member_that_lingers_on_many_idle_partitions_costs_little(
    kafka_settings: TransportSettings,
) -> None:
    settings = fresh_settings(
        kafka_settings.kafka_bootstrap_servers,
        kafka_timeout_ms=20_000,
        stream_partitions=_PARTITIONS,
        stream_lease_ms=10_000,
    )
    async with KafkaTransport(settings) as transport, Member(transport, linger=_LINGER) as member:
        claim = await member.claim(_PARTITIONS - 1)
        assert not await claim.next(max_records=1, max_wait=_CALM)
        begun = time.thread_time()
        assert not await claim.next(max_records=1, max_wait=_MEASURED)
        used = time.thread_time() - begun
    assert used < 0.012 * _MEASURED
