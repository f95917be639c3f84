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
from tests.monitoring.disturbances import post_many
from tests.monitoring.monitored import MonitoredDeployment
from tests.support.eventually import eventually
from tests.support.kafka import run_kafka

# Figures come by the second on an idle machine; on a busy one each step may take many.
pytestmark = pytest.mark.timeout(300)

# Where other tests have the processor these are true, and nothing to do with the service.
_OF_A_BUSY_MACHINE = {
    "ConsumerProcessingSlow", "EventLoopBlocked", "PersistenceBudgetBurnsFast",
    "PersistenceBudgetBurnsSteady", "PersistenceBudgetBurnsSlow", "ParityUnwatched",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def site(
    prometheus_program: str, initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MonitoredDeployment]:
    folder = tmp_path_factory.mktemp("watched")
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(run_kafka(folder / "kafka"))
        made = MonitoredDeployment(folder, prometheus_program, initialized_postgres, kafka)
        await made.open(stack)
        yield made


@pytest_asyncio.fixture(scope="module")
async def loaded(site: MonitoredDeployment) -> AsyncIterator[MonitoredDeployment]:
    """The same under load, to the end of the module."""
    async with site.load() as load:
        await load.goes_on(20)
        yield site


async def test_what_several_processes_count_adds_up(site: MonitoredDeployment) -> None:
    """Two ingresses and three sets of workers on one host; nobody knows the whole."""
    another = site.service("another", "serve")
    await another.start()
    try:
        for number in range(20):
            await post_many((site.app, another)[number % 2], 20, f"counted{number}")

        async def adds_up() -> bool:
            for question, answer in {
                'sum(stream_enqueue_total{transport="redis"})': 400,
                'count(sum by (instance) (stream_enqueue_total{transport="redis"}) == 200)': 2,
                'sum(stream_consumer_processed_total{status="persisted"})': 400,
                'sum(max by (partition) (stream_partition_lag{transport="redis"}))': 0,
                "count(process_resident_memory_bytes > 0)": 3,
                'sum(shadow_publish_total{outcome="appended"})': 400,
            }.items():
                assert await site.prometheus.value(question) == answer, question
            return True

        await eventually(adds_up, every=0.5)
    finally:
        await another.stop()


async def test_both_processes_of_the_host_are_found_and_scraped(
    loaded: MonitoredDeployment,
) -> None:
    await loaded.both_up()
    assert len(await loaded.prometheus.targets()) == 2


async def test_every_query_of_every_panel_returns_data(loaded: MonitoredDeployment) -> None:
    async def shows(expr: str) -> bool:
        found = await loaded.prometheus.ask(concrete(expr, job="crossfade", interval="15s"))
        return any(math.isfinite(float(series["value"][1])) for series in found)

    async def all_show() -> bool:
        left = [where for where, expr in queries() if not await shows(expr)]
        assert not left, "\n".join(left)
        return True

    await eventually(all_show, every=1)


async def test_a_histograms_point_leads_to_a_trace(loaded: MonitoredDeployment) -> None:
    for name in (
        "ingress_ack_duration_seconds_bucket",
        "stream_processing_duration_seconds_bucket",
        "message_persist_latency_seconds_bucket",
        "stream_enqueue_total",
    ):
        found = await eventually(lambda name=name: loaded.prometheus.exemplars(name))
        assert all(re.fullmatch("[0-9a-f]{32}", labels["trace_id"]) for labels in found)


async def test_nothing_fires_on_a_service_that_is_well(loaded: MonitoredDeployment) -> None:
    async def quiet() -> bool:
        assert set(await loaded.prometheus.firing()) <= _OF_A_BUSY_MACHINE
        return True

    await eventually(quiet, every=0.5)


async def test_an_outage_of_postgresql_is_told_with_a_runbook_and_the_all_clear(
    loaded: MonitoredDeployment,
) -> None:
    await loaded.postgres.kill()
    expected = ("WorkersPaused", "QueuePartitionStalled", "QueueOldestMessageWaits")
    await loaded.fires(*expected)
    alert = (await loaded.prometheus.firing())["WorkersPaused"]
    assert alert["annotations"]["summary"] == "Workers wait for postgresql"
    url, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = await loaded.prometheus.page(url)
    assert f"### {anchor}" in text.lower()
    await loaded.postgres.start()
    await loaded.clears(*expected)


async def test_a_process_that_dies_is_missed_and_found_dead(loaded: MonitoredDeployment) -> None:
    await loaded.both_up()
    await loaded.worker.kill()
    await loaded.fires("CrossfadeTargetDown")
    await loaded.fires("ProcessDied")  # which takes the dead one off the list of targets
    await loaded.worker.start()
    await loaded.clears("CrossfadeTargetDown")
