"""Every alert is made to fire by causing its fault on a running service, and to clear by its cure.

The rules are the committed ones with their times divided by 30 (``hurried``). Minutes long: ``make
chaos`` runs it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from lab.harness.load import Mix
from tests.monitoring.disturbances import envelope, locked, opened, post_many, repeated
from tests.monitoring.monitored import PARTITIONS, MonitoredDeployment
from tests.monitoring.rules import alerts
from tests.payloads.test_rows import large
from tests.support.certificates import issued_by, redated, self_signed
from tests.support.eventually import eventually
from tests.support.kafka import alter_topic, run_kafka
from tests.support.kafka_rights import limit_rates
from tests.support.tls_proxy import tls_in_front_of
from transport.clock import now
from transport.contract import WORKER_GROUP, Appended, DeadLetter, Reason, Record, Topic
from transport.kafka.administration.topics import topic_specs
from transport.message.envelope import seal_message
from transport.settings import TransportSettings
from transport.shadow.copies import mirrored
from transport.shadow.origin import Origin

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

Scenario = Callable[[MonitoredDeployment], Awaitable[None]]
CAUSED: dict[str, set[str]] = {}


def causes(*names: str) -> Callable[[Scenario], Scenario]:
    """Say which alerts a scenario causes; all of them are seen to fire and to clear."""

    def note(scenario: Scenario) -> Scenario:
        CAUSED[scenario.__name__] = set(names)
        return scenario

    return note


@pytest_asyncio.fixture(scope="module")
async def site(
    prometheus_program: str, initialized_postgres: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MonitoredDeployment]:
    folder = tmp_path_factory.mktemp("hurt")
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(run_kafka(folder / "kafka"))
        made = MonitoredDeployment(folder, prometheus_program, initialized_postgres, kafka)
        await made.open(stack, TRANSPORT_SHADOW_QUEUE_RECORDS="50")
        yield made


@causes(
    "QueuePartitionLagHigh", "QueuePartitionUnread", "QueueOldestMessageWaits",
    "QueuePartitionStalled", "DeadLettersUnindexed", "QueueMessagesLost",
)  # fmt: skip
async def test_consumers_are_off_and_unread_records_are_deleted(site: MonitoredDeployment) -> None:
    names = CAUSED["test_consumers_are_off_and_unread_records_are_deleted"]
    await site.worker.stop()
    await site.app.restart(ENABLE_STREAM_CONSUMERS="false")
    await post_many(site.app, 1100, "unread")
    record = Record(Topic.MESSAGES, 0, "1-1", "k", b"?", {}, 0.0)
    async with opened(site, "redis") as log:
        await log.dead_letter([DeadLetter(record, Reason.UNDECODABLE, "why", 1, now())])
    async with Redis(host=site.redis.host, port=site.redis.port, db=1) as client:
        for partition in range(PARTITIONS):
            stream = f"msg:stream:{partition}"
            if await client.xlen(stream) > 1000:
                ids = [entry for entry, _ in await client.xrange(stream, count=5)]
                await client.xdel(stream, *ids)
    await site.fires(*names)
    await site.app.restart(ENABLE_STREAM_CONSUMERS="true")
    await site.worker.start()
    await site.clears(*names)


@causes("WorkersPaused")
async def test_postgresql_is_down(site: MonitoredDeployment) -> None:
    async with site.load():
        await site.postgres.kill()
        await site.fires("WorkersPaused")
        await site.postgres.start()
    await site.clears("WorkersPaused")


@causes("PersistenceBudgetBurnsFast", "PersistenceBudgetBurnsSteady", "PersistenceBudgetBurnsSlow")
async def test_rows_are_late(site: MonitoredDeployment) -> None:
    names = CAUSED["test_rows_are_late"]
    async with site.load():
        async with locked(site, seconds=2, free=0.3):
            await site.fires(*names)
        await site.clears(*names)


@causes("ConsumerProcessingSlow")
async def test_every_batch_waits_for_a_lock(site: MonitoredDeployment) -> None:
    async with site.load():
        async with locked(site, seconds=0.3, free=0.01):
            await site.fires("ConsumerProcessingSlow")
        await site.clears("ConsumerProcessingSlow")


@causes(
    "QueueLagUnknown", "IngressOverloaded", "AcceptanceBudgetBurnsFast",
    "AcceptanceBudgetBurnsSteady", "AcceptanceBudgetBurnsSlow",
)  # fmt: skip
async def test_the_log_does_not_answer(site: MonitoredDeployment) -> None:
    names = CAUSED["test_the_log_does_not_answer"]
    async with site.load():
        await site.redis.suspend()
        try:
            await site.fires(*names)
        finally:
            await site.redis.resume()
        await site.clears(*names)


@causes("QueueDLQRateHigh", "DeadLettersGrowing", "ConsumerProcessingErrors")
async def test_records_that_postgresql_refuses_pour_in(site: MonitoredDeployment) -> None:
    names = CAUSED["test_records_that_postgresql_refuses_pour_in"]
    async with opened(site, "redis") as log:

        async def pour() -> None:
            letters = [envelope("no \0 text", conversation=f"poison{n % 16}") for n in range(20)]
            await log.publish(letters)

        async with repeated(pour, pause=0.5):
            await site.fires(*names)
    await site.clears(*names)


@causes("PayloadsDamaged")
async def test_the_payload_store_lost_content(site: MonitoredDeployment, tmp_path: Path) -> None:
    await site.app.restart(PAYLOAD_STORE=f"file://{tmp_path}")
    await site.worker.restart(PAYLOAD_STORE=f"file://{tmp_path}")
    async with opened(site, "redis") as log:

        async def pour() -> None:
            lost = large(client=uuid4().hex)  # nobody has put it there
            await log.publish([seal_message(lost, partitions=PARTITIONS, traceparent=None)])

        async with repeated(pour, pause=0.5):
            await site.fires("PayloadsDamaged")
    await site.clears("PayloadsDamaged")


@causes("IdempotentHitRateHigh")
async def test_a_client_repeats_what_was_acknowledged(site: MonitoredDeployment) -> None:
    async with site.load(mix=Mix(repeat=0.8, old=0, other_body=0, race=0, receipt=0)):
        await site.fires("IdempotentHitRateHigh")
    await site.clears("IdempotentHitRateHigh")


@causes("CrossfadeTargetDown", "ProcessDied", "ProcessRestarting")
async def test_processes_die_and_restart(site: MonitoredDeployment) -> None:
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
async def test_a_process_is_suspended(site: MonitoredDeployment) -> None:
    await site.worker.suspend()
    await asyncio.sleep(3)  # the fault itself: a stall of three seconds
    await site.worker.resume()
    await site.fires("EventLoopBlocked")
    await site.clears("EventLoopBlocked")


@causes("TraceSpansDropped")
async def test_the_collector_is_gone(site: MonitoredDeployment) -> None:
    gone = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    await site.app.restart(OTEL_TRACES_EXPORTER="otlp", **gone)
    async with repeated(lambda: post_many(site.app, 50, "untraced"), pause=1.0):
        await site.fires("TraceSpansDropped")
    await site.app.restart(OTEL_TRACES_EXPORTER="console")
    await site.clears("TraceSpansDropped")


@causes("MigrationPhaseMixed", "MigrationSettingsUnexpected")
async def test_processes_run_in_different_phases(site: MonitoredDeployment) -> None:
    names = CAUSED["test_processes_run_in_different_phases"]
    await site.worker.restart(TRANSPORT_SHADOW="", TRANSPORT_SHADOW_MODE="")
    await site.execute("UPDATE migration SET phase = 4, target = 4, epoch = epoch + 1")
    await site.fires(*names)
    await site.execute("UPDATE migration SET phase = 1, target = 1, epoch = epoch + 1")
    await site.worker.restart(TRANSPORT_SHADOW="kafka", TRANSPORT_SHADOW_MODE="async")
    await site.clears(*names)


@causes("ShadowLagHigh", "ShadowDropping", "ParityMismatch")
async def test_bursts_are_more_than_the_shadow_may_keep_waiting(site: MonitoredDeployment) -> None:
    names = CAUSED["test_bursts_are_more_than_the_shadow_may_keep_waiting"]
    pouring = repeated(lambda: post_many(site.app, 200, "uncopied"), pause=1.0)
    async with pouring:
        await site.fires(*names)
        mismatch = (await site.prometheus.firing())["ParityMismatch"]
        assert mismatch["labels"]["result"] == "missing_in_shadow"
    await site.command("migrate", "backfill")
    await site.clears(*names)


@causes("ParityMismatch")
async def test_a_copy_has_other_bytes(site: MonitoredDeployment) -> None:
    original, other = envelope("right"), envelope("wrong")
    async with opened(site, "redis") as primary, opened(site, "kafka") as shadow:
        (outcome,) = await primary.publish([original])
        assert isinstance(outcome, Appended)
        of = Origin("redis", original.partition, outcome.offset)
        copy = mirrored(original, of, "async", home=original.partition)
        await shadow.publish([msgspec.structs.replace(copy, body=other.body)], remember=False)
    await site.fires("ParityMismatch")
    mismatch = (await site.prometheus.firing())["ParityMismatch"]
    assert mismatch["labels"]["result"] == "different_bytes"
    await site.clears("ParityMismatch")


@causes("ShadowFailing", "ShadowDropping", "ParityUnwatched")
async def test_the_shadow_is_down(site: MonitoredDeployment) -> None:
    names = CAUSED["test_the_shadow_is_down"]
    assert site.kafka
    async with site.load(pause=0.05):
        await site.kafka.suspend()
        try:
            await site.fires(*names)
        finally:
            await site.kafka.resume()
        await site.clears(*names)


@causes("LogThrottled")
async def test_a_quota_of_kafka_is_used_up(site: MonitoredDeployment) -> None:
    assert site.kafka
    await limit_rates(site.kafka, "ANONYMOUS", {"producer_byte_rate": 2_000.0})
    try:
        async with site.load(pause=0.05):
            await site.fires("LogThrottled")
    finally:
        await limit_rates(site.kafka, "ANONYMOUS", {"producer_byte_rate": None})
    await site.clears("LogThrottled")
    await site.command("migrate", "backfill")  # the copies that were dropped meanwhile


@causes("LogAltered")
async def test_kafkas_topic_is_altered(site: MonitoredDeployment) -> None:
    assert site.kafka
    topic = site.environment()["KAFKA_TOPIC"]
    right = topic_specs(TransportSettings())[Topic.MESSAGES].config
    await alter_topic(site.kafka.bootstrap, topic, {**right, "retention.ms": "60000"})
    await site.fires("LogAltered")
    await alter_topic(site.kafka.bootstrap, topic, right)
    await site.clears("LogAltered")


@causes("LogReplaced")
async def test_another_log_was_met_first_under_this_name(site: MonitoredDeployment) -> None:
    await site.execute("UPDATE log_identities SET identity = 'x' || identity WHERE name = 'redis'")
    await site.fires("LogReplaced")
    await site.execute(
        "UPDATE log_identities SET identity = substr(identity, 2) WHERE name = 'redis'"
    )
    await site.clears("LogReplaced")


@causes("LeftoverLog")
async def test_a_log_that_was_consumed_is_forgotten(site: MonitoredDeployment) -> None:
    await site.execute(
        "INSERT INTO fences (transport, partition, epoch, owner)"
        " VALUES ('kafka', 0, 1, 'a test') ON CONFLICT DO NOTHING"
    )
    await site.worker.restart(TRANSPORT_SHADOW="", TRANSPORT_SHADOW_MODE="")
    await site.fires("LeftoverLog")
    await site.worker.restart(TRANSPORT_SHADOW="kafka", TRANSPORT_SHADOW_MODE="async")
    await site.clears("LeftoverLog")


@causes("RecordsRescued")
async def test_redis_comes_back_without_its_last_records(site: MonitoredDeployment) -> None:
    await site.both_up()  # an increase is seen by who saw the count before
    files, earlier = site.redis.data_dir, site.redis.data_dir.with_name("earlier")
    shutil.copytree(files, earlier)
    await post_many(site.app, 50, "rescued")
    await site.redis.kill()
    shutil.rmtree(files)
    earlier.rename(files)
    await site.redis.start()
    await site.fires("RecordsRescued")
    await site.clears("RecordsRescued", "QueueMessagesLost")


@causes("RowsLost")
async def test_postgresql_is_behind_what_redis_still_holds(site: MonitoredDeployment) -> None:
    await post_many(site.app, 50, "gone")
    async with Redis(host=site.redis.host, port=site.redis.port, db=1) as client:
        await eventually(lambda: _is_drained(site))
        await site.worker.stop()
        await site.app.restart(ENABLE_STREAM_CONSUMERS="false")
        for partition in range(PARTITIONS):
            await client.xtrim(f"msg:stream:{partition}", maxlen=0, approximate=False)
    await site.execute("UPDATE log_positions SET through = '1-1' WHERE through <> ''")
    await site.worker.start()
    await site.app.restart(ENABLE_STREAM_CONSUMERS="true")
    await site.fires("RowsLost")
    await site.clears("RowsLost")


@causes("RowsArchiveFailing")
async def test_a_file_of_old_rows_can_not_be_finished(
    site: MonitoredDeployment, tmp_path: Path
) -> None:
    await site.execute(
        "WITH made AS (INSERT INTO row_archives (name, state, rows, first_at, last_at)"
        " VALUES ('x', 'planned', 1, now(), now()) RETURNING id)"
        " INSERT INTO tombstones (id, accepted_at, archive)"
        " SELECT gen_random_uuid(), now(), id FROM made"
    )
    await site.app.restart(ROWS_RETENTION_DAYS="365", ROWS_ARCHIVE_URL=f"file://{tmp_path}")
    await site.fires("RowsArchiveFailing")
    await site.execute("DELETE FROM tombstones")
    await site.execute("DELETE FROM row_archives")
    await site.clears("RowsArchiveFailing")


@causes("CertificateEndsSoon")
async def test_the_certificate_of_redis_is_overdue(
    site: MonitoredDeployment, tmp_path: Path
) -> None:
    authority, today = self_signed(tmp_path, "authority"), datetime.now(UTC)
    server = issued_by(authority, tmp_path, "server", local=True)
    for days, then in ((20, site.fires), (22, site.clears)):
        ends = today + timedelta(days=days)
        redated(server, authority, begins=today - timedelta(days=70), ends=ends)
        async with tls_in_front_of(site.redis.host, site.redis.port, server) as port:
            await site.app.restart(
                REDIS_HOST="localhost",
                REDIS_PORT=str(port),
                REDIS_TLS="true",
                REDIS_TLS_CA_FILE=str(authority.certificate),
            )
            await then("CertificateEndsSoon")
    plain = {"REDIS_HOST": site.redis.host, "REDIS_PORT": str(site.redis.port)}
    await site.app.restart(**plain, REDIS_TLS="false", REDIS_TLS_CA_FILE="")


@causes("QueueLagAbsent")
async def test_no_process_runs(site: MonitoredDeployment) -> None:
    await asyncio.gather(site.app.stop(), site.worker.stop())
    await site.fires("QueueLagAbsent")
    await site.app.start()
    await site.worker.start()
    await site.clears("QueueLagAbsent")


async def _is_drained(site: MonitoredDeployment) -> bool:
    async with opened(site, "redis") as log:
        progress = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return all(part.lag == 0 for part in progress)


def test_no_alert_is_left_out() -> None:
    assert set().union(*CAUSED.values()) == set(alerts())
