"""Durability: the log changed to keeps what it acknowledges no less safely."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from migration_guide.gates import durability as durability_gate
from tests.migration.gate_inputs import ask
from transport.durability import Durability
from transport.redis import RedisTransport


async def test_durability_asks_the_servers(scene, both, new_redis):
    """Ours are equal; a Redis without fsync is weaker than Kafka, and Kafka no weaker than it."""
    assert (await ask(await scene(2, 3), "durability")).verdict == "green"
    weak = await new_redis(appendfsync="no")
    settings = both.model_copy(update={"redis_host": weak.host, "redis_port": weak.port})
    async with RedisTransport(settings):
        pass  # made, as by the processes that use it
    async with await scene(2, 3, settings=settings, opened={}) as forward:
        assert (await ask(forward, "durability")).verdict == "green"
    async with await scene(4, 3, settings=settings, opened={}) as back:
        result = await ask(back, "durability")
    assert (result.verdict, "power cut" in result.reason) == ("red", True)
    assert "appendfsync=no" in result.reason
    assert result.remedy is not None, "no waiting changes a server"


async def test_durability_is_unknown_where_the_server_does_not_tell(scene, both, new_redis):
    mute = await new_redis()
    async with Redis(host=mute.host, port=mute.port) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-config")
    settings = both.model_copy(update={"redis_host": mute.host, "redis_port": mute.port})
    async with RedisTransport(settings):
        pass
    async with await scene(2, 3, settings=settings, opened={}) as asked:
        result = await ask(asked, "durability")
    assert (result.verdict, "does not tell" in result.reason) == ("unknown", True)
    assert result.remedy is not None


@pytest.mark.parametrize("power", [True, False])
def test_what_a_partition_can_take_is_named_with_the_command(power: bool) -> None:
    command = "redis-cli CONFIG SET min-replicas-to-write 1"
    result = durability_gate.judge(
        "kafka",
        Durability(True, True, False, {}),
        "redis",
        Durability(True, power, False, {}, cut_off=command),
    )
    assert result.verdict == ("green" if power else "red")
    assert command in result.reason


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((True, True, False), (True, False, False), "red"),  # one Kafka node that does not flush
        ((True, True, False), (True, False, True), "green"),  # three that answer for one another
        ((True, False, True), (True, True, False), "red"),
        ((True, True, False), (None, None, None), "unknown"),
        ((None, None, None), (True, True, True), "unknown"),
    ],
)
def test_durability_is_judged_by_what_is_lost(before, after, verdict):
    result = durability_gate.judge(
        "redis", Durability(*before, {}), "kafka", Durability(*after, {})
    )
    assert result.verdict == verdict
