"""A real Prometheus watches a running service: every panel shows something, and alerts fire.

The rules are the committed ones with their times divided by 30. What takes minutes even so is in
``test_every_alert.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.monitoring.dashboards import concrete, queries
from tests.monitoring.site import Site
from tests.support.eventually import eventually
from tests.support.kafka import run_kafka

# Figures come by the second on an idle machine; on a busy one each step may take many.
pytestmark = pytest.mark.timeout(300)

# Where other tests have the processor these are true, and nothing to do with the service.
_OF_A_BUSY_MACHINE = {
    "ConsumerProcessingSlow", "EventLoopBlocked", "PersistenceBudgetBurnsFast",
    "PersistenceBudgetBurnsSteady", "PersistenceBudgetBurnsSlow", "ParityUnwatched",
}  # fmt: skip

# What the comparison serves comes a minute after its first messages: not waited for here.
_LATER = re.compile("shadow_(lag|parity)")
QUERIES = [(where, expr) for where, expr in queries() if not _LATER.search(expr)]


@pytest_asyncio.fixture(scope="module")
async def site(
    prometheus_program: str, initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("watched")
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(run_kafka(folder / "kafka"))
        made = Site(folder, prometheus_program, initialized_postgres, kafka)
        await made.open(stack)
        load = await stack.enter_async_context(made.load())
        await load.goes_on(20)
        yield made


async def test_both_processes_of_the_host_are_found_and_scraped(site: Site) -> None:
    await site.both_up()
    assert len(await site.prometheus.targets()) == 2


async def test_every_query_of_every_panel_returns_data(site: Site) -> None:
    async def shows(expr: str) -> bool:
        found = await site.prometheus.ask(concrete(expr, job="crossfade", interval="15s"))
        return any(math.isfinite(float(series["value"][1])) for series in found)

    async def all_show() -> bool:
        left = [where for where, expr in QUERIES if not await shows(expr)]
        assert not left, "\n".join(left)
        return True

    await eventually(all_show, timeout=90, every=1)


async def test_a_histograms_point_leads_to_a_trace(site: Site) -> None:
    for name in (
        "ingress_ack_duration_seconds_bucket",
        "stream_processing_duration_seconds_bucket",
        "message_persist_latency_seconds_bucket",
        "stream_enqueue_total",
    ):
        found = await eventually(lambda name=name: site.prometheus.exemplars(name), timeout=60)
        assert all(re.fullmatch("[0-9a-f]{32}", labels["trace_id"]) for labels in found)


async def test_nothing_fires_on_a_service_that_is_well(site: Site) -> None:
    async def quiet() -> bool:
        assert set(await site.prometheus.firing()) <= _OF_A_BUSY_MACHINE
        return True

    await eventually(quiet, timeout=90, every=0.5)


async def test_an_outage_of_postgresql_is_told_with_a_runbook_and_the_all_clear(site: Site) -> None:
    await site.postgres.kill()
    expected = ("WorkersPaused", "QueuePartitionStalled", "QueueOldestMessageWaits")
    await site.fires(*expected)
    alert = (await site.prometheus.firing())["WorkersPaused"]
    assert alert["annotations"]["summary"] == "Workers wait for postgresql"
    url, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = await site.prometheus.page(url)
    assert f"### {anchor}" in text.lower()
    await site.postgres.start()
    await site.clears(*expected)


async def test_a_process_that_dies_is_missed_and_found_dead(site: Site) -> None:
    await site.both_up()
    await site.worker.kill()
    await site.fires("CrossfadeTargetDown")
    await site.fires("ProcessDied")  # which takes the dead one off the list of targets
    await site.worker.start()
    await site.clears("CrossfadeTargetDown")
