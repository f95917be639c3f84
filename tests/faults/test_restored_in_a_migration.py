"""PostgreSQL is restored to a moment before workers read the log that they read now."""

from __future__ import annotations

import asyncpg
import pytest

from lab.harness.anomaly import Anomaly, What
from lab.harness.load import Mix
from tests.faults.both_logs import KAFKA, MIRROR, REDIS, BothLogsDeployment
from tests.support.eventually import eventually
from tests.support.forked_service import ForkedService
from tests.support.postgres_pair import DATABASE
from transport.contract import WORKER_GROUP, Topic


@pytest.mark.parametrize(
    "restored_to",
    [
        pytest.param(MIRROR, id="to the phase in which it was a copy"),
        pytest.param(REDIS, id="to the phase before it was used", marks=pytest.mark.chaos),
    ],
)
async def test_rows_come_back_from_a_log_that_the_restored_database_never_saw_read(
    both_logs: BothLogsDeployment, restored_to: dict[str, str]
) -> None:
    """The workers are restarted meanwhile: nobody remembers where they began to read."""
    ingresses, (worker,) = await both_logs.run(ingresses=1, **restored_to)
    async with both_logs.load(ingresses) as load:
        await load.goes_on(60)
        if restored_to is MIRROR:
            await eventually(lambda: _is_followed(both_logs))
        await _copy(both_logs)
        if restored_to is not MIRROR:
            for service in (worker, *ingresses):
                await service.restart(**MIRROR)
        await load.goes_on(60)
        await both_logs.catches_up()
        for service in (worker, *ingresses):
            await _go_on_with_kafka(service)
        await load.goes_on(60)
        await both_logs.catches_up(logs=("kafka",))
        await worker.stop()
        lost = await _restore(both_logs)
        await worker.start()
        await load.goes_on(60)
    final = await both_logs.assert_promises_held()
    assert lost > 100, "nothing was lost: the test tested nothing"
    assert {row.transport for row in final.rows} == {"redis", "kafka"}


async def test_rows_come_back_where_processes_get_the_settings_that_the_database_names(
    both_logs: BothLogsDeployment,
) -> None:
    """They leave out the phases in between, so messages of a conversation may change places."""
    ingresses, (worker,) = await both_logs.run(ingresses=1, **MIRROR)
    await both_logs.are_mirrored()
    async with both_logs.load(ingresses, mix=Mix(receipt=0)) as load:
        await load.goes_on(60)
        await eventually(lambda: _is_followed(both_logs))
        await _copy(both_logs)
        for service in (worker, *ingresses):
            await _go_on_with_kafka(service)
        await load.goes_on(60)
        await both_logs.catches_up(logs=("kafka",))
        await worker.stop()
        lost = await _restore(both_logs)
        for service in (*ingresses, worker):
            await service.restart(**MIRROR)
        await load.goes_on(60)

    def left_out(anomaly: Anomaly) -> bool:
        return anomaly.what is What.REORDERED

    await eventually(lambda: _is_passed_again(both_logs))
    await both_logs.assert_promises_held(except_for=left_out)
    assert lost > 100, "nothing was lost: the test tested nothing"


async def _is_passed_again(both_logs: BothLogsDeployment) -> bool:
    """Return whether the position of Kafka's follower has passed all that Kafka holds."""
    log = await both_logs.open("kafka")
    parts = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    connection = await asyncpg.connect(both_logs.database_url)
    try:
        rows = await connection.fetch(
            "SELECT partition, through FROM log_positions WHERE transport = 'kafka'"
        )
    finally:
        await connection.close()
    positions = {row["partition"]: row["through"] for row in rows}
    return all(positions.get(part.partition) == part.end for part in parts if part.end)


async def _go_on_with_kafka(service: ForkedService) -> None:
    for name in MIRROR:
        del service.environment[name]
    await service.restart(**KAFKA)


async def _is_followed(both_logs: BothLogsDeployment) -> bool:
    connection = await asyncpg.connect(both_logs.database_url)
    try:
        followed = await connection.fetchval(
            "SELECT count(*) FROM log_positions WHERE transport = 'kafka' AND through <> ''"
        )
    finally:
        await connection.close()
    return bool(followed)


async def _copy(both_logs: BothLogsDeployment) -> None:
    """Copy the database; nobody can be connected to it meanwhile."""
    connection = await asyncpg.connect(both_logs.postgres.url)
    try:
        await connection.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1",
            DATABASE,
        )
        await connection.execute(f"CREATE DATABASE copy TEMPLATE {DATABASE}")
        await connection.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
    finally:
        await connection.close()


async def _restore(both_logs: BothLogsDeployment) -> int:
    """Put the copy in the database's place; return how many rows are gone."""
    before = await _rows(both_logs)
    connection = await asyncpg.connect(both_logs.postgres.url)
    try:
        await connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
        await connection.execute(f"ALTER DATABASE copy RENAME TO {DATABASE}")
    finally:
        await connection.close()
    return before - await _rows(both_logs)


async def _rows(both_logs: BothLogsDeployment) -> int:
    connection = await asyncpg.connect(both_logs.database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM messages"))
    finally:
        await connection.close()
