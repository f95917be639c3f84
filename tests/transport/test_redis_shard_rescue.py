"""A shard's primary dies with a tail that its replica lacks: it is appended again, in its order."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot

from tests.support.appends import append, append_at_last, texts
from tests.support.eventually import eventually
from tests.support.redis_cluster import RedisCluster
from tests.transport.redis_backend import short_settings
from tests.transport.settler import Settler
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended
from transport.redis import RedisTransport

_PARTITIONS = 6
_AGAIN = "were appended again"


def _transport(shards: RedisCluster) -> RedisTransport:
    url = f"redis://{shards.addresses}/0"
    return RedisTransport.from_settings(
        short_settings(
            None,
            redis_url=url,
            stream_partitions=_PARTITIONS,
            redis_timeout_ms=20_000,
            redis_rescue_seconds=60,
        )
    )


async def test_what_a_shard_lost_of_each_process_stands_in_its_order_before_all_that_is_new_of_it(
    shards: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with _transport(shards) as one, _transport(shards) as other:
        everywhere = [message("kept", partition=p, of=one) for p in range(_PARTITIONS)]
        await append(one, everywhere)
        await append(other, messages(["kept too"], partition=0, of=other))
        victim = await shards.cut("msg:stream:0")
        for n in range(0, 40, 2):
            await append(one, messages([f"lost-{n}"], partition=0, of=one))
            await append(other, messages([f"lost-{n + 1}"], partition=0, of=other))
        on_it = [
            p for p in range(1, _PARTITIONS) if await shards.primary_of(f"msg:stream:{p}") is victim
        ]
        for partition in on_it:
            await append(one, messages(["lost"], partition=partition, of=one))
        await victim.kill()
        await asyncio.gather(
            append_at_last(one, "new of one"), append_at_last(other, "new of other")
        )
        found = await texts(one)
        assert (found[:2], len(found)) == (["kept", "kept too"], 44)
        for first, name in enumerate(("one", "other")):
            own = [*(f"lost-{n}" for n in range(first, 40, 2)), f"new of {name}"]
            assert [text for text in found if text in own] == own
        for partition in range(1, _PARTITIONS):
            await append_at_last(one, "new", partition)
            between = ["lost"] if partition in on_it else []
            assert await texts(one, partition) == ["kept", *between, "new"]
        assert await one.rescued() == 40 + len(on_it)
    assert _AGAIN in caplog.text
    assert "before anything new of this process" in caplog.text


async def test_workers_get_what_a_shard_lost(shards: RedisCluster) -> None:
    async with _transport(shards) as log:
        worker = Settler(log)
        async with worker.working():
            await append(log, messages(["kept"], partition=0, of=log))
            victim = await shards.cut("msg:stream:0")
            lost = [f"lost-{n}" for n in range(20)]
            for text in lost:
                await append(log, messages([text], partition=0, of=log))
            await victim.kill()
            await append_at_last(log, "new")

            def all_came() -> bool:
                return "new" in contents(worker.records)

            await eventually(all_came)
        in_order = list(dict.fromkeys(contents(worker.records)))
        assert in_order == ["kept", *lost, "new"]


async def test_a_slot_that_is_moved_has_nobody_wait(
    shards: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is gone, so there is no rescue: the processes knew the server that got it."""
    async with _transport(shards) as one, _transport(shards) as other:
        for log in (one, other):
            await append(log, [message(f"of {log is one}", partition=0, of=log)])
        source = await shards.primary_of("msg:stream:0")
        to = next(it for it in await shards.primaries() if it is not source)
        await shards.move(key_slot(b"msg:stream:0"), to)
        await append_at_last(one, "new")
        assert await texts(one) == ["of True", "of False", "new"]
    assert _AGAIN not in caplog.text


async def test_a_shard_fails_over_while_an_append_waits_for_the_rescue_of_another(
    shards: RedisCluster,
) -> None:
    """Its record is not among those that the process still has as the shard's rescue begins."""
    async with _transport(shards) as log:
        await append(log, [message("kept", partition=p, of=log) for p in range(_PARTITIONS)])
        near = await shards.primary_of("msg:stream:0")
        elsewhere = 1
        while await shards.primary_of(f"msg:stream:{elsewhere}") is near:
            elsewhere += 1
        far = await shards.primary_of(f"msg:stream:{elsewhere}")
        (near_replica,), (far_replica,) = [await shards.replicas_of(it) for it in (near, far)]
        for partition in (0, elsewhere):
            await shards.cut(f"msg:stream:{partition}")
        for replica in (near_replica, far_replica):  # which makes their rescues wait
            await shards.run(replica, "CONFIG", "SET", "min-replicas-to-write", "3")
        await append(log, [message("lost", partition=p, of=log) for p in (0, elsewhere)])
        await shards.run(far_replica, "CLUSTER", "FAILOVER", "TAKEOVER")

        async def waits_for(partition: int) -> bool:
            (outcome,) = await log.publish(messages(["refused"], partition=partition, of=log))
            return "appended again first" in str(outcome)

        await eventually(lambda: waits_for(elsewhere))
        both = [message("both", partition=p, of=log) for p in (0, elsewhere)]
        appending = asyncio.create_task(log.publish(both))
        await shards.run(near_replica, "CLUSTER", "FAILOVER", "TAKEOVER")
        await eventually(lambda: waits_for(0))
        outcome, _ = await appending
        for replica in (near_replica, far_replica):
            await shards.run(replica, "CONFIG", "SET", "min-replicas-to-write", "0")
        await append_at_last(log, "new")
        found = await texts(log)
        assert found.index("lost") < found.index("new")
        assert not isinstance(outcome, Appended) or "both" in found
