"""How long partitions are without an owner where a member comes or goes in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.eventually import eventually
from transport.contract import Claim, Topic
from transport.kafka import KafkaTransport
from transport.settings import TransportSettings

_GROUP = "handing-over"
_LEASE_MS = 30_000


@asynccontextmanager
async def _member(transport: KafkaTransport, name: str) -> AsyncIterator[dict[int, Claim]]:
    """Be a member; yield its newest claim of each partition."""
    claims: dict[int, Claim] = {}

    async def collect() -> None:
        async for claim in consumer.claims():
            claims[claim.partition] = claim

    async with transport.consume(Topic.MESSAGES, group=_GROUP, member=name) as consumer:
        collecting = asyncio.create_task(collect())
        yield claims
    await collecting


def _owned(claims: dict[int, Claim]) -> int:
    return sum(claim.owned for claim in claims.values())  # type: ignore[attr-defined]


async def test_who_stays_learns_soon_that_another_has_left(
    kafka_settings: TransportSettings,
) -> None:
    """A heartbeat's answer tells it, and the lease does not say how often one is sent.

    The member that stays has sent one when the other joined, so the next is a whole pause away.
    """
    settings = kafka_settings.model_copy(update={"stream_lease_ms": _LEASE_MS})
    async with KafkaTransport(settings) as transport:
        count = transport.partitions
        async with _member(transport, "stays") as ours:
            await eventually(lambda: _owned(ours) == count)
            async with _member(transport, "leaves") as theirs:
                await eventually(lambda: _owned(ours) + _owned(theirs) == count and theirs)
                left = asyncio.get_running_loop().time()
            await eventually(lambda: _owned(ours) == count)
            assert asyncio.get_running_loop().time() - left < 2.0
