"""Rows after Redis went back to before what it had confirmed: a replica that was behind."""

from __future__ import annotations

import pytest

from otel.lag_reporter import LagReporter
from tests.persistence.samples import PARTITIONS, message
from tests.support.eventually import eventually
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import Failover, pair
from transport.contract import Appended
from transport.errors import TransportError
from transport.message.envelope import seal_message
from transport.redis import RedisTransport


@pytest.fixture(params=[0, -3600], ids=["clocks-agree", "an-hour-behind"])
async def failover(request, tmp_path):
    clock = None
    if request.param:
        clock = SteppedClock(tmp_path)
        clock.step(request.param)
    async with pair(tmp_path, clock) as failover:
        yield failover


async def test_what_is_accepted_after_a_failover_that_lost_the_tail_is_persisted_in_order(
    failover: Failover, start, database_pool
) -> None:
    """100 rows, 20 more that the replica has not heard of, and 41 after the failover."""
    proxy = failover.proxy
    settings = short_settings(
        None, redis_host=proxy.host, redis_port=proxy.port, redis_rescue_seconds=0
    )
    async with RedisTransport.from_settings(settings) as log:
        assert log.partitions == PARTITIONS
        running = start(log=log)

        async def accept(names: list[str]) -> None:
            for name in names:
                sealed = seal_message(message(name), partitions=PARTITIONS, traceparent=None)

                async def accepted(sealed=sealed) -> bool:
                    (outcome,) = await log.publish([sealed])
                    return not isinstance(outcome, TransportError)

                await eventually(accepted)

        async def rows() -> list[str]:
            found = await database_pool.fetch("SELECT client_message_id FROM messages ORDER BY seq")
            return [row["client_message_id"] for row in found]

        async def persisted(count: int) -> bool:
            return len(await rows()) >= count

        early, lost, late = (
            [f"{kind}-{n}" for n in range(count)]
            for kind, count in (("early", 100), ("lost", 20), ("late", 41))
        )
        await accept(early)
        await eventually(lambda: persisted(100))
        await failover.cut()
        await running.kill()  # so that nothing of what is lost became a row
        await accept(lost)
        metrics = running.metrics
        reporter = LagReporter(log, metrics, interval=60.0)
        await reporter.report()
        running = start(log=log, member="w2")
        await failover.promote()
        await accept(late)
        await eventually(lambda: persisted(141))
        assert [name for name in await rows() if not name.startswith("lost")] == early + late

        async def told() -> bool:
            await reporter.report()
            families = metrics.registry.collect()
            samples = [s for f in families if f.name == "stream_loss_detected" for s in f.samples]
            return sum(s.value for s in samples) > 0

        await eventually(told)
        again = [seal_message(message(n), partitions=PARTITIONS, traceparent=None) for n in lost]
        assert {type(outcome) for outcome in await log.publish(again)} == {Appended}
        await eventually(lambda: persisted(161))
