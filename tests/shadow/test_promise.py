"""Promise 8, on a real ingress process: the shadow never hurts the primary.

The same load goes in turns to a process without a shadow and to one whose shadow is refusing,
hanging, cut off or slow. The long version (``make chaos``) holds the p99 to within 10 %; the short
one, on a machine that may be busy with anything, allows it some milliseconds more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from benchmarks.load.job import Job, Result
from benchmarks.metrics_page import fetch
from benchmarks.processes import Running, crossfade, load
from tests.shadow.faults import FAULTS
from tests.shadow.pair import Pair
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy

_RATE = 1000.0


class _Plan(NamedTuple):
    turns: int
    seconds: float
    slack: float
    """Seconds by which the p99 may be more than 10 % longer."""


def _environment(pair: Pair, database_url: str) -> dict[str, str]:
    settings = pair.settings
    return {
        "TRANSPORT": pair.primary,
        "REDIS_HOST": settings.redis_host,
        "REDIS_PORT": str(settings.redis_port),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC": settings.kafka_topic,
        "KAFKA_DLQ_TOPIC": settings.kafka_dlq_topic,
        "STREAM_PARTITIONS": "4",
        "DATABASE_URL": database_url,
        "ENABLE_STREAM_CONSUMERS": "false",
    }


async def _post(app: Running, plan: _Plan, run: str) -> Result:
    job = Job(
        host="127.0.0.1", port=app.port, mode="open", rate=_RATE, seconds=plan.seconds, run=run
    )
    return await load(job)


async def _prove(
    pair: Pair,
    fault: Callable[[FaultProxy], None],
    plan: _Plan,
    record_property: Callable[[str, object], None],
    database_url: str,
    folder: Path,
) -> None:
    environment = _environment(pair, database_url)
    # What a mirror holds is a few hundred copies, so that the queues fill up within the test.
    with_shadow = environment | {
        "TRANSPORT_SHADOW": pair.shadow,
        "TRANSPORT_SHADOW_QUEUE_RECORDS": "200",
        "TRANSPORT_SHADOW_TIMEOUT_MS": "1000",
    }
    async with (
        crossfade("serve", folder, environment) as alone,
        crossfade("serve", folder, with_shadow) as shadowed,
    ):
        for app in (alone, shadowed):
            await _post(app, plan, f"warm-{app.port}")

        async def copies() -> bool:
            return await _outcome(shadowed, "appended") > 0

        await eventually(copies, timeout=30)
        fault(pair.shadow_proxy)
        without: list[float] = []
        beside: list[float] = []
        for turn in range(plan.turns):
            for app, times in ((alone, without), (shadowed, beside)):
                result = await _post(app, plan, f"run-{app.port}-{turn}")
                assert result.errors == 0, result.statuses
                assert result.messages == int(_RATE * plan.seconds)
                times.append(result.p99)
        # Nothing is out of sight: what was posted was copied, is waiting, or is counted as missed.
        posted = int(_RATE * plan.seconds) * (plan.turns + 1)
        page = await fetch(shadowed.metrics_port)
        told = sum(
            page.labelled("shadow_publish_total", word)
            for word in ("dropped_", "appended", "remembered")
        )
        assert told + page.total("shadow_queue_depth") >= posted
        assert await _outcome(shadowed, "dropped_breaker_open") + await _outcome(
            shadowed, "dropped_queue_full"
        ), "the shadow was not hurt"
        pair.shadow_proxy.heal()
    figures = (
        f"{_RATE:.0f} POST/s, p99 {median(without) * 1000:.1f} ms alone, "
        f"{median(beside) * 1000:.1f} ms beside ({median(beside) / median(without):.2f})"
    )
    record_property("figures", figures)
    assert median(beside) <= median(without) * 1.1 + plan.slack, figures


async def _outcome(app: Running, outcome: str) -> float:
    page = await fetch(app.metrics_port)
    return page.labelled("shadow_publish_total", f'outcome="{outcome}"')


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)
async def test_a_bad_shadow_fails_and_slows_no_post(
    pair: Pair, fault: Callable[[FaultProxy], None], record_property, database_url, tmp_path
) -> None:
    plan = _Plan(turns=3, seconds=1.0, slack=0.01)
    await _prove(pair, fault, plan, record_property, database_url, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_bad_shadow_leaves_the_p99_within_ten_percent(
    pair: Pair, fault: Callable[[FaultProxy], None], record_property, database_url, tmp_path
) -> None:
    plan = _Plan(turns=9, seconds=4.0, slack=0.0005)
    await _prove(pair, fault, plan, record_property, database_url, tmp_path)
