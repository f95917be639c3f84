"""Faults of the payload store under load: it dies, is unreachable, is slow, or returns wrong bytes.

There are two loads: small messages, which must not be affected, and large messages, which get a 503
with ``Retry-After`` and are retried.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from compose.local.seaweed import SeaweedServer
from lab.harness.anomaly import Anomaly, What
from lab.harness.content_name import is_large
from lab.harness.history import ClientAttempt, RequestKind
from lab.harness.load import PLAIN, Load
from tests.faults.deployment import Deployment
from tests.payloads.stores import s3_proxy
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.forked_service import ForkedService

_PATIENCE = {"PAYLOAD_TIMEOUT_MS": "1000", "STREAM_POLL_INTERVAL_MS": "500"}
_SHORT = 2.0
_LONG = pytest.param(60.0, marks=[pytest.mark.chaos, pytest.mark.timeout(300)])

Fault = Callable[[], Coroutine[Any, Any, object]]


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[SeaweedServer]:
    """An S3 server of the test's own."""
    server = SeaweedServer(tmp_path / "s3")
    await server.start()
    yield server
    await server.stop()


def small(deployment: Deployment, ingresses: list[ForkedService]) -> Load:
    return deployment.load(ingresses, mix=PLAIN, patience=1.0, crowded=0)


def large(deployment: Deployment, ingresses: list[ForkedService], **options: Any) -> Load:
    plan = {"conversations": 6, "crowded": 1, "pause": 0.3, "large": 1.0, **options}
    return deployment.load(ingresses, **plan)


def posts(deployment: Deployment, *, large: bool) -> list[ClientAttempt]:
    attempts = deployment.history.attempts
    return [a for a in attempts if a.kind is RequestKind.MESSAGE and is_large(a.content) == large]


async def waits_for_the_store(worker: ForkedService) -> bool:
    return await worker.metric("stream_worker_paused", dependency="payload store") > 0


async def outage(
    deployment: Deployment, store: dict[str, str], fail: Fault, heal: Fault, seconds: float
) -> None:
    """Make the store fail while unread records refer to its objects, then heal it."""
    settings = {**store, **_PATIENCE}
    ingresses, _ = await deployment.run(workers=0, **settings)
    worker = deployment.worker(**settings)
    async with small(deployment, ingresses) as few, large(deployment, ingresses) as many:
        await few.goes_on(50)
        await many.goes_on(20)
        await fail()
        await worker.start()
        await eventually(lambda: waits_for_the_store(worker), every=0.1)
        began = len(posts(deployment, large=True))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(seconds))
            for _ in range(max(1, int(seconds / 3))):
                await few.goes_on(50)  # at any time of the outage
        during = [a for a in posts(deployment, large=True)[began:] if a.status is not None]
        assert {a.status for a in during} <= {503, 422}, "large content was taken by no store"
        assert [a for a in during if a.status == 503], "nothing was refused: a test of nothing"
        assert all(a.retry_after for a in during if a.status == 503)
        await heal()
        await many.goes_on(20)
        await few.goes_on(50)
    assert not [a for a in posts(deployment, large=False) if a.status == 503]
    final = await deployment.assert_promises_held()
    assert sum(is_large(row.content) for row in final.rows) >= 40
    assert not await waits_for_the_store(worker)


@pytest.mark.parametrize("seconds", [_SHORT, _LONG])
async def test_s3_is_killed_and_started_again(
    deployment: Deployment, s3: SeaweedServer, seconds: float
) -> None:
    await outage(deployment, s3.settings("payloads"), s3.kill, s3.start, seconds)


@pytest.mark.parametrize("seconds", [_SHORT, _LONG])
async def test_a_folder_is_unmounted_and_mounted_again(
    deployment: Deployment, tmp_path: Path, seconds: float
) -> None:
    """Meanwhile the mount point is an empty folder, which can be written."""
    folder, disk = tmp_path / "payloads", tmp_path / "disk"

    async def unmount() -> None:
        folder.rename(disk)
        folder.mkdir(exist_ok=True)  # a write may have made it

    async def mount() -> None:
        shutil.rmtree(folder)  # a process that started meanwhile has marked it as another store
        disk.rename(folder)

    store = {"PAYLOAD_STORE": folder.resolve().as_uri()}
    await outage(deployment, store, unmount, mount, seconds)


@pytest.fixture
async def proxy(s3_settings: dict[str, str]) -> AsyncIterator[FaultProxy]:
    """A faulty network before the S3 server."""
    async with s3_proxy(s3_settings) as proxy:
        yield proxy


def through(proxy: FaultProxy, settings: dict[str, str]) -> dict[str, str]:
    return {**settings, "PAYLOAD_ENDPOINT_URL": f"http://{proxy.host}:{proxy.port}", **_PATIENCE}


async def test_a_slow_store_delays_large_messages_alone(
    deployment: Deployment, proxy: FaultProxy, s3_settings: dict[str, str]
) -> None:
    settings = {**through(proxy, s3_settings), "PAYLOAD_TIMEOUT_MS": "5000"}
    ingresses, _ = await deployment.run(**settings)
    async with small(deployment, ingresses) as few, large(deployment, ingresses) as many:
        await many.goes_on(10)  # the first object sets up the server's volumes
        proxy.delay(0.4)
        await many.goes_on(10)  # those that were under way
        began = len(deployment.history.attempts)
        await many.goes_on(10)
        await few.goes_on(50)
        attempts = deployment.history.attempts[began:]
        accepted = [a for a in attempts if a.status == 202]  # and not after it was healed
        proxy.heal()
    assert all(a.ended - a.sent > 0.4 for a in accepted if is_large(a.content))
    assert median(a.ended - a.sent for a in accepted if not is_large(a.content)) < 0.4
    await deployment.assert_promises_held()


async def test_a_store_that_lies_costs_nobody_else_anything(
    deployment: Deployment, proxy: FaultProxy, s3_settings: dict[str, str]
) -> None:
    """Messages with wrong bytes become dead letters with that reason, and none becomes a row."""
    ingresses, _ = await deployment.run(**through(proxy, s3_settings))
    plain = large(deployment, ingresses, mix=PLAIN)  # a receipt for a dead letter is refused
    async with small(deployment, ingresses) as few, plain as many:
        await many.goes_on(20)
        proxy.replace("wörter".encode(), "wörten".encode())
        await many.goes_on(20)
        await few.goes_on(50)
        proxy.heal()
        await many.goes_on(20)

    def lied_about(anomaly: Anomaly) -> bool:
        return anomaly.what is What.DEAD_LETTERED and "payload_corrupt" in anomaly.facts

    anomalies, _ = await deployment.judge()
    assert any(map(lied_about, anomalies)), "nothing was damaged: a test of nothing"
    final = await deployment.assert_promises_held(except_for=lied_about)
    assert sum(is_large(row.content) for row in final.rows) >= 20
