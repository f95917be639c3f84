"""A claim whose own process appends without a pause is handed records, and need not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from transport.conformance.member import Member, contents, message
from transport.contract import HandingClaim, Record
from transport.redis import RedisTransport
from transport.settings import TransportSettings

PRODUCERS = 4
APPENDS = 400
ACK_SECONDS = 0.05  # as in joint_acks.py, of few partitions
SPARE = 5
PATIENCE = 60.0


@pytest.mark.parametrize("begins_busy", [True, False])
async def test_appends_without_a_pause_are_acknowledged_in_time_and_not_at_once(
    settings: TransportSettings, client: Redis, *, begins_busy: bool
) -> None:
    """A claim that had to read could only do so when everything handed over was acknowledged.

    More was handed over then, before it read; so each call acknowledged at once, for ever.
    """
    seen: list[str] = []
    async with RedisTransport.from_settings(settings) as transport, Member(transport) as member:
        claim = await member.claim(0)
        assert isinstance(claim, HandingClaim)

        def take(records: Sequence[Record]) -> bool:
            seen.extend(contents(records))
            claim.passed(records[-1].offset)
            return True

        async def produce(number: int) -> None:
            for i in range(APPENDS // PRODUCERS):
                await transport.publish([message(f"{number}/{i}", partition=0, of=transport)])

        async def work() -> None:
            claim.hand_over(take)
            while len(seen) < APPENDS:
                if records := await claim.next(max_records=100, max_wait=1.0):
                    seen.extend(contents(records))
                    await claim.ack(records[-1].offset)

        assert not await claim.next(max_records=1, max_wait=0.1), "so its stream is listened to"
        await client.config_resetstat()
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for number in range(PRODUCERS):
                group.create_task(produce(number))
            if begins_busy:
                await asyncio.sleep(ACK_SECONDS)  # appends that nobody waits for
            group.create_task(work())
        most = (time.monotonic() - began) / ACK_SECONDS + SPARE
        calls = (await client.info("commandstats")).get("cmdstat_xgroup|setid", {"calls": 0})
    for number in range(PRODUCERS):
        own = [text for text in seen if text.startswith(f"{number}/")]
        assert own == [f"{number}/{i}" for i in range(APPENDS // PRODUCERS)]
    assert calls["calls"] <= most
