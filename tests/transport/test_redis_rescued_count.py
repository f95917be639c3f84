"""How many records a process appended again after a failover is counted, by log."""

from __future__ import annotations

from pathlib import Path

from otel.append_metrics import count_rescued
from otel.metrics import Metrics
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import pair
from transport.conformance.member import contents, message, messages
from transport.contract import Appended, Topic
from transport.errors import TransportError
from transport.redis import RedisTransport


async def test_what_was_rescued_is_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    async with pair(tmp_path, None) as failover:
        settings = short_settings(
            None, redis_host=failover.proxy.host, redis_port=failover.proxy.port
        )
        log = RedisTransport.from_settings(settings)
        count_rescued(metrics, log)

        def counted() -> float | None:
            return metrics.registry.get_sample_value("stream_rescued_total", {"transport": "redis"})

        assert counted() == 0, "from the start on"
        async with log:
            assert await log.rescued() == 0
            await log.publish(messages(["kept"], partition=0, of=log))
            await failover.cut()
            lost = messages([f"lost-{n}" for n in range(5)], partition=0, of=log)
            assert {type(it) for it in await log.publish(lost)} == {Appended}
            await failover.promote()
            new = message("new", partition=0, of=log)

            async def appended() -> bool:
                (outcome,) = await log.publish([new])
                return not isinstance(outcome, TransportError)

            await eventually(appended, timeout=20.0)
            assert contents(await log.read(Topic.MESSAGES, 0))[-1] == "new"
            assert counted() == 5
            assert await log.rescued() == 5
