"""Faults of the network between processes and servers: cut connections, lost replies, silence."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from compose.local.kafka import KafkaServer
from lab.harness.history import Outcome
from tests.faults.deployment import Deployment
from tests.faults.kafka_log import KafkaLog
from tests.faults.logs import FaultyLog
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import run_kafka_behind_a_proxy

TIMES = 12


@pytest_asyncio.fixture(scope="module")
async def _kafka_behind_a_proxy(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[KafkaServer, FaultProxy]]:
    async with run_kafka_behind_a_proxy(tmp_path_factory.mktemp("kafka")) as both:
        yield both


@pytest.fixture
def kafka_log(_kafka_behind_a_proxy: tuple[KafkaServer, FaultProxy]) -> FaultyLog:
    """A Kafka whose clients all come by way of a proxy."""
    return KafkaLog(*_kafka_behind_a_proxy)


@pytest_asyncio.fixture
async def to_log(deployment: Deployment) -> AsyncIterator[FaultProxy]:
    async with deployment.log.proxy() as proxy:
        yield proxy
        proxy.heal()
        await deployment.stop()


@pytest_asyncio.fixture
async def to_database(deployment: Deployment) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(deployment.postgres.host, deployment.postgres.port) as proxy:
        yield proxy
        await deployment.stop()


async def test_connections_to_the_log_are_cut_again_and_again(
    deployment: Deployment, to_log: FaultProxy
) -> None:
    ingresses, _ = await deployment.run(
        **deployment.log.environment_through(to_log.host, to_log.port)
    )
    async with deployment.load(ingresses) as load:
        for _ in range(15):
            await load.goes_on(25)
            to_log.reset()
        await load.goes_on(50)
    await deployment.assert_promises_held()


@pytest.mark.parametrize("command", ["append", "read", "show"])
async def test_the_logs_replies_get_lost(
    deployment: Deployment, to_log: FaultProxy, command: str
) -> None:
    """The server executes the command, and its reply is lost."""
    ingresses, _ = await deployment.run(
        **deployment.log.environment_through(to_log.host, to_log.port)
    )
    async with deployment.load(ingresses) as load:
        for _ in range(TIMES):
            await load.goes_on(25)
            lost = to_log.lost_replies
            to_log.lose_reply_to(deployment.log.markers[command])
            await eventually(lambda before=lost: to_log.lost_replies > before)
        await load.goes_on(50)
    await deployment.assert_promises_held()


async def test_the_databases_replies_get_lost(
    deployment: Deployment, to_database: FaultProxy
) -> None:
    """A batch is committed, and its worker loses the connection before the reply."""
    through = deployment.database_url.replace(
        f":{deployment.postgres.port}/", f":{to_database.port}/"
    )
    ingresses, (worker,) = await deployment.run(DATABASE_URL=through)
    async with deployment.load(ingresses) as load:
        inserted = (
            load.options.run.encode()
        )  # of all statements, only inserts carry conversation ids
        for n in range(TIMES):
            await load.goes_on(25)
            to_database.lose_reply_to(inserted)
            await eventually(lambda lost=n + 1: to_database.lost_replies >= lost)
        await load.goes_on(50)
    final = await deployment.assert_promises_held()
    assert {letter.reason for letter in final.letters} <= {"idempotency_conflict"}
    assert await worker.metric("stream_consumer_processed_total", status="error") > 0


async def test_the_network_to_the_log_goes_quiet(
    deployment: Deployment, to_log: FaultProxy
) -> None:
    """Nothing is refused and nothing is answered, for some seconds."""
    ingresses, _ = await deployment.run(
        **deployment.log.environment_through(to_log.host, to_log.port)
    )
    async with deployment.load(ingresses) as load:
        for cut in (False, True):
            await load.goes_on(100)
            unknown = deployment.history.count(Outcome.UNKNOWN)
            to_log.black_hole()
            await eventually(
                lambda seen=unknown: deployment.history.count(Outcome.UNKNOWN) > seen + 20,
            )
            if cut:
                to_log.reset()
            to_log.heal()
            await load.goes_on(100)
    await deployment.assert_promises_held()
