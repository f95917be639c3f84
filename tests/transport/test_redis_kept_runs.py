"""What claims keep in memory of their own process's appends is bounded for all of them together."""

from __future__ import annotations

import tracemalloc

from tests.transport.redis_backend import short_settings
from transport.conformance.member import Member, contents, drain, message
from transport.contract import HandingClaim
from transport.redis import RedisTransport

PARTITIONS = 256
PATIENCE = 30.0
BODY = "x" * 50_000
ROUNDS = 4  # some 200 KB for each claim, 50 MB for all


async def test_claims_that_do_not_read_keep_little_of_what_is_appended(own_redis) -> None:
    settings = short_settings(
        own_redis,
        stream_partitions=PARTITIONS,
        stream_lease_ms=60_000,
        redis_rescue_seconds=0,  # which keeps what was appended, too
    )
    async with RedisTransport.from_settings(settings) as transport, Member(transport) as member:
        claims = [await member.claim(p) for p in range(PARTITIONS)]
        for claim in claims:
            assert isinstance(claim, HandingClaim)
            claim.hand_over(lambda _: False)
        tracemalloc.start()
        try:
            for _ in range(ROUNDS):
                for partition in range(PARTITIONS):
                    await transport.publish([message(BODY, partition=partition, of=transport)])
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 16e6
        for claim in (claims[0], claims[-1]):
            records = await drain(claim, ROUNDS, patience=PATIENCE)
            assert contents(records) == [BODY] * ROUNDS, "what is not kept is read"
