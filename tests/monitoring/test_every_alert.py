"""Every alert is made to fire by causing its fault on a running service, and to clear by its cure.

The rules are the committed ones with their times divided by 30 (``hurried``). Minutes long: ``make
chaos`` runs it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from compose.rehearsal.load import Mix
from tests.faults.test_poison import message
from tests.monitoring.rules import alerts
from tests.monitoring.site import PARTITIONS, Site
from tests.support.kafka import run_kafka
from transport.clock import now
from transport.contract import DeadLetter, Envelope, Reason, Record, Topic, Transport
from transport.envelope import seal_message
from transport.registry import create
from transport.settings import TransportSettings
from transport.shadow.copies import mirrored

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

Scenario = Callable[[Site], Awaitable[None]]
CAUSED: dict[str, set[str]] = {}
_numbers = itertools.count(1)


def causes(*names: str) -> Callable[[Scenario], Scenario]:
    """Say which alerts a scenario causes; all of them are seen to fire and to clear."""

    def note(scenario: Scenario) -> Scenario:
        CAUSED[scenario.__name__] = set(names)
        return scenario

    return note


@pytest_asyncio.fixture(scope="module")
async def site(
    prometheus_program: str, initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("hurt")
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(run_kafka(folder / "kafka"))
        made = Site(folder, prometheus_program, initialized_postgres, kafka)
        await made.open(stack, TRANSPORT_SHADOW_QUEUE_RECORDS="50")
        yield made


@asynccontextmanager
async def _log(site: Site, name: str) -> AsyncIterator[Transport]:
    values = {key.lower(): value for key, value in site.environment().items()}
    known = {key: value for key, value in values.items() if key in TransportSettings.model_fields}
    async with create(name, TransportSettings(**known)) as opened:
        yield opened


def _envelope(content: str, *, conversation: str = "hurt") -> Envelope:
    one = message(conversation, f"m{next(_numbers)}", content)
    return seal_message(one, partitions=PARTITIONS, traceparent=None)


async def _post_many(site: Site, count: int, conversation: str) -> None:
    items = [
        {
            "conversationId": conversation,
            "senderId": "s",
            "content": "x",
            "clientMessageId": f"{conversation}-{number}",
        }
        for number in range(count)
    ]
    async with httpx.AsyncClient(base_url=site.app.url, trust_env=False, timeout=20) as client:
        for start in range(0, count, 500):
            answer = await client.post("/api/messages:batch", json=items[start : start + 500])
            assert answer.status_code == 207


@causes(
    "QueuePartitionLagHigh", "QueuePartitionUnread", "QueueOldestMessageWaits",
    "QueuePartitionStalled", "DeadLettersUnindexed", "QueueMessagesLost",
)  # fmt: skip
async def test_consumers_are_off_and_unread_records_are_deleted(site: Site) -> None:
    names = CAUSED["test_consumers_are_off_and_unread_records_are_deleted"]
    await site.worker.stop()
    await site.app.restart(ENABLE_STREAM_CONSUMERS="false")
    await _post_many(site, 1100, "unread")
    record = Record(Topic.MESSAGES, 0, "1-1", "k", b"?", {}, 0.0)
    async with _log(site, "redis") as log:
        await log.dead_letter([DeadLetter(record, Reason.UNDECODABLE, "why", 1, now())])
    async with Redis(host=site.redis.host, port=site.redis.port, db=1) as client:
        for partition in range(PARTITIONS):
            stream = f"msg:stream:{partition}"
            if await client.xlen(stream) > 1000:
                ids = [entry for entry, _ in await client.xrange(stream, count=5)]
                await client.xdel(stream, *ids)
    await site.fires(*names, within=60)
    await site.app.restart(ENABLE_STREAM_CONSUMERS="true")
    await site.worker.start()
    await site.clears(*names)


@causes("WorkersPaused")
async def test_postgresql_is_down(site: Site) -> None:
    async with site.load():
        await site.postgres.kill()
        await site.fires("WorkersPaused")
        await site.postgres.start()
    await site.clears("WorkersPaused")


@asynccontextmanager
async def _locked(site: Site, *, seconds: float, free: float) -> AsyncIterator[None]:
    """Lock the table of messages for so many ``seconds``, again and again."""
    enough = asyncio.Event()

    async def lock() -> None:
        connection = await asyncpg.connect(site.database_url)
        try:
            while not enough.is_set():
                await connection.execute(
                    "BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE;"
                    f" SELECT pg_sleep({seconds}); COMMIT"
                )
                await asyncio.sleep(free)
        finally:
            await connection.close()

    locking = asyncio.create_task(lock())
    try:
        yield
    finally:
        enough.set()
        await locking


@causes("PersistenceBudgetBurnsFast", "PersistenceBudgetBurnsSteady", "PersistenceBudgetBurnsSlow")
async def test_rows_are_late(site: Site) -> None:
    names = CAUSED["test_rows_are_late"]
    async with site.load():
        async with _locked(site, seconds=2, free=0.3):
            await site.fires(*names, within=60)
        await site.clears(*names, within=120)


@causes("ConsumerProcessingSlow")
async def test_every_batch_waits_for_a_lock(site: Site) -> None:
    async with site.load():
        async with _locked(site, seconds=0.3, free=0.01):
            await site.fires("ConsumerProcessingSlow", within=90)
        await site.clears("ConsumerProcessingSlow", within=60)


@causes(
    "QueueLagUnknown", "IngressOverloaded", "AcceptanceBudgetBurnsFast",
    "AcceptanceBudgetBurnsSteady", "AcceptanceBudgetBurnsSlow",
)  # fmt: skip
async def test_the_log_does_not_answer(site: Site) -> None:
    names = CAUSED["test_the_log_does_not_answer"]
    async with site.load():
        await site.redis.suspend()
        try:
            await site.fires(*names, within=60)
        finally:
            await site.redis.resume()
        await site.clears(*names, within=120)


@causes("QueueDLQRateHigh", "DeadLettersGrowing", "ConsumerProcessingErrors")
async def test_records_that_postgresql_refuses_pour_in(site: Site) -> None:
    names = CAUSED["test_records_that_postgresql_refuses_pour_in"]
    enough = asyncio.Event()

    async def pour() -> None:
        async with _log(site, "redis") as log:
            while not enough.is_set():
                batch = [_envelope("no \0 text", conversation=f"poison{n % 16}") for n in range(20)]
                await log.publish(batch)
                await asyncio.sleep(0.5)

    pouring = asyncio.create_task(pour())
    try:
        await site.fires(*names, within=60)
    finally:
        enough.set()
        await pouring
    await site.clears(*names, within=120)


@causes("IdempotentHitRateHigh")
async def test_a_client_repeats_what_was_acknowledged(site: Site) -> None:
    async with site.load(mix=Mix(repeat=0.8, old=0, other_body=0, race=0, receipt=0)):
        await site.fires("IdempotentHitRateHigh", within=60)
    await site.clears("IdempotentHitRateHigh", within=60)


@causes("CrossfadeTargetDown", "ProcessDied", "ProcessRestarting")
async def test_processes_die_and_restart(site: Site) -> None:
    await site.both_up()
    await site.worker.kill()
    await site.fires("CrossfadeTargetDown")
    await site.fires("ProcessDied")  # which takes the dead one off the list of targets
    await site.worker.start()
    await site.both_up()  # or it would take the port that the other one leaves for a moment
    for _ in range(3):
        before = await site.started_at()
        await site.app.restart()
        await site.scraped_since(before)
    await site.fires("ProcessRestarting")
    await site.clears("CrossfadeTargetDown", "ProcessDied", "ProcessRestarting")


@causes("EventLoopBlocked")
async def test_a_process_is_suspended(site: Site) -> None:
    await site.worker.suspend()
    await asyncio.sleep(3)  # the fault itself: a stall of three seconds
    await site.worker.resume()
    await site.fires("EventLoopBlocked")
    await site.clears("EventLoopBlocked")


@causes("MigrationPhaseMixed", "MigrationSettingsUnexpected")
async def test_processes_run_in_different_phases(site: Site) -> None:
    names = CAUSED["test_processes_run_in_different_phases"]
    await site.worker.restart(TRANSPORT_SHADOW="", TRANSPORT_SHADOW_MODE="")
    await site.execute("UPDATE migration SET phase = 4, target = 4, epoch = epoch + 1")
    await site.fires(*names, within=90)
    await site.execute("UPDATE migration SET phase = 1, target = 1, epoch = epoch + 1")
    await site.worker.restart(TRANSPORT_SHADOW="kafka", TRANSPORT_SHADOW_MODE="async")
    await site.clears(*names)


@causes("ShadowFailing", "ShadowDropping")
async def test_the_shadow_is_down(site: Site) -> None:
    names = CAUSED["test_the_shadow_is_down"]
    assert site.kafka
    async with site.load(pause=0.05):
        await site.kafka.suspend()
        try:
            await site.fires(*names, within=90)
        finally:
            await site.kafka.resume()
        await site.clears(*names, within=120)


@causes("StandbyStalled")
async def test_a_copy_is_of_a_log_that_nobody_knows(site: Site) -> None:
    original = _envelope("first in the shadow, then in the primary")
    async with _log(site, "kafka") as log:
        await log.publish([mirrored(original, "elsewhere:1-0", "async")])
    await site.fires("StandbyStalled", within=90)
    async with _log(site, "redis") as log:
        await log.publish([original])
    await site.clears("StandbyStalled", within=120)


@causes("LeftoverLog")
async def test_a_log_that_was_consumed_is_forgotten(site: Site) -> None:
    await site.execute(
        "INSERT INTO fences (transport, partition, epoch, owner)"
        " VALUES ('kafka', 0, 1, 'a test') ON CONFLICT DO NOTHING"
    )
    await site.worker.restart(TRANSPORT_SHADOW="", TRANSPORT_SHADOW_MODE="")
    await site.fires("LeftoverLog", within=60)
    await site.worker.restart(TRANSPORT_SHADOW="kafka", TRANSPORT_SHADOW_MODE="async")
    await site.clears("LeftoverLog")


@causes("QueueLagAbsent")
async def test_no_process_runs(site: Site) -> None:
    await asyncio.gather(site.app.stop(), site.worker.stop())
    await site.fires("QueueLagAbsent")
    await site.app.start()
    await site.worker.start()
    await site.clears("QueueLagAbsent")


# Proved on given figures alone (promtool): a shadow that is slow and not down, and the comparison.
_NOT_CAUSED = {"ShadowLagHigh", "ParityMismatch", "ParityUnwatched"}


def test_no_alert_is_left_out() -> None:
    assert set().union(*CAUSED.values(), _NOT_CAUSED) == set(alerts())
