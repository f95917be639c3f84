"""What the migration never does, done to it once: the checker has to see the harm.

Each is done beside its right way on the same schedule, of which the checker has nothing to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.harness.anomaly import What
from compose.harness.checker import check
from compose.harness.final import gather
from compose.harness.load import PLAIN
from tests.faults.both_logs import CONSUME, MIRROR, REDIS, BothLogs, BothLogsDeployment
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.errors import TransportUnavailable

# A shadow that gives up soon, so that a short outage makes it miss something.
HASTY = {
    "TRANSPORT_SHADOW_TIMEOUT_MS": "300",
    "TRANSPORT_SHADOW_QUEUE_RECORDS": "1",
    "TRANSPORT_SHADOW_FLUSH_MS": "0",
}
SHADOW = {
    **REDIS, "TRANSPORT_SHADOW": "kafka", "TRANSPORT_SHADOW_MODE": "async",
    "CONSUME_FROM": "redis", **HASTY,
}  # fmt: skip
TOO_EARLY = {**SHADOW, "CONSUME_FROM": "kafka"}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest_asyncio.fixture
async def deployment(
    redis_log, kafka_log, postgres, tmp_path: Path
) -> AsyncIterator[BothLogsDeployment]:
    logs = BothLogs(redis_log, kafka_log)
    url = postgres.url_of("faults")
    async with BothLogsDeployment.on(logs, postgres, url, tmp_path / "services") as made:
        yield made


async def found(deployment: BothLogsDeployment, *logs: str) -> set[What]:
    """Return what the checker finds once all is settled in ``logs``."""
    await deployment.settled(logs=logs, within=120.0)
    return {
        anomaly.what for anomaly in check(deployment.history, await gather(deployment.database_url))
    }


async def acknowledge_everything(log: Transport) -> None:
    """A standby that does not ask what is settled."""
    stands = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
    behind = {stand.partition for stand in stands if stand.lag}
    async with log.consume(Topic.MESSAGES, group=WORKER_GROUP, member="blind") as consumer:
        async for claim in consumer.claims():
            async with claim:
                while claim.partition in behind:
                    with contextlib.suppress(TransportUnavailable):
                        if records := await claim.next(max_records=500, max_wait=1.0):
                            await claim.ack(records[-1].offset)
                            behind.discard(claim.partition)
            if not behind:
                return


@pytest.mark.parametrize("settings", [SHADOW, TOO_EARLY], ids=["right", "too early"])
async def test_consuming_the_shadow_while_it_may_miss_something(
    deployment: BothLogsDeployment, settings: dict[str, str]
) -> None:
    """Phase 1 with the readers of phase 3: what the shadow drops is acknowledged, and no row."""
    ingresses, _ = await deployment.run(**settings)
    kafka = deployment.log.kafka.server
    async with deployment.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await kafka.suspend()
        try:
            await load.goes_on(150)
        finally:
            await kafka.resume()
        await load.goes_on(40)
    for ingress in ingresses:
        await ingress.stop()
    harm = await found(deployment, settings["CONSUME_FROM"])
    assert (What.LOST in harm) == (settings is TOO_EARLY), harm
    assert settings is TOO_EARLY or not harm


@pytest.mark.parametrize("asks", [True, False], ids=["right", "blind"])
async def test_a_standby_that_acknowledges_what_is_not_settled(
    deployment: BothLogsDeployment, *, asks: bool
) -> None:
    """The next reader begins behind what nobody persisted; who makes up for it comes too late."""
    ingresses, (worker,) = await deployment.run(**MIRROR)
    async with deployment.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await worker.stop()
        await load.goes_on(60)
        if not asks:
            await acknowledge_everything(await deployment.open("kafka"))
        await worker.start(**CONSUME)
        await load.goes_on(150)
    harm = await found(deployment, "redis", "kafka")
    assert harm == (set() if asks else {What.REORDERED})


@pytest.mark.parametrize("waits", [True, False], ids=["right", "no gate"])
async def test_going_to_phase_three_without_its_gate(
    deployment: BothLogsDeployment, *, waits: bool
) -> None:
    """What phase 1 left out of the shadow was not yet persisted when the readers changed."""
    ingresses, (worker,) = await deployment.run(**SHADOW)
    kafka = deployment.log.kafka.server
    async with deployment.load(ingresses, mix=PLAIN) as load:
        await load.goes_on(40)
        await worker.stop()
        await kafka.suspend()
        try:
            await load.goes_on(100)
        finally:
            await kafka.resume()
        for ingress in ingresses:
            await ingress.restart(**MIRROR)
        if waits:  # what the gate asks for: all that was accepted before phase 2 is a row
            await worker.start(**MIRROR)
            await deployment.catches_up(logs=("redis",))
        await worker.restart(**CONSUME)
        await load.goes_on(150)
    harm = await found(deployment, "redis", "kafka")
    assert harm == (set() if waits else {What.REORDERED})
