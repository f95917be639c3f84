"""How many records a process appended again after a failover is counted, by log."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel.append_metrics import count_rescued
from otel.metrics import Metrics
from tests.support.appends import append_at_last
from tests.transport.redis_failover import log_of, pair
from transport.conformance.envelopes import contents, messages
from transport.contract import Appended, Topic


@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
async def test_what_was_rescued_is_counted(tmp_path: Path, is_lost: bool) -> None:
    metrics = Metrics()
    async with pair(tmp_path, None) as failover:
        log = log_of(failover)
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
            if is_lost:  # that to the first append at the new server, which is the rescue's
                failover.proxy.lose_reply_to(b"_append")
            await failover.promote()
            await append_at_last(log, "new")
            assert failover.proxy.lost_replies == is_lost
            assert contents(await log.read(Topic.MESSAGES, 0))[-1] == "new"
            assert counted() == 5
            assert await log.rescued() == 5
