"""The payload store is out, or something fails between an upload, its append and its row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ingress.console.health.stores import payloads_check
from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.large_content import (
    LARGE,
    has_rows,
    large,
    letters,
    logged,
    objects,
    store_behind,
)
from tests.ingress.test_forms import begun
from tests.payloads.stores import folder_of, s3_proxy
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy


@pytest.fixture
async def s3(s3_settings: dict[str, str]) -> AsyncIterator[tuple[FaultProxy, PayloadStore]]:
    """A real S3 server behind a faulty network, and a store that has two seconds' patience."""
    async with s3_proxy(s3_settings) as proxy:
        # The first object makes the server set up its volumes, which takes seconds.
        patient = store_behind(proxy, s3_settings, payload_timeout_ms=30_000)
        await patient.put("first", b"first")
        yield proxy, store_behind(proxy, s3_settings, payload_timeout_ms=2000)


async def _down(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()


async def _silent(proxy: FaultProxy) -> None:
    proxy.black_hole()


async def test_a_worker_without_a_store_waits_and_says_so(
    start: Start, store: PayloadStore
) -> None:
    service = await start(payloads=store)
    await service.post(large())
    service.payloads = None
    async with working(service, stream_poll_interval_ms=50) as worker:
        (paused,) = await eventually(lambda: worker.status().paused)
        assert paused.dependency == "payload store"
        assert "set PAYLOAD_STORE" in paused.error
    assert not await service.rows()
    assert not await letters(service)
    service.payloads = store
    async with working(service):
        await eventually(lambda: has_rows(service, 1))


async def test_a_folder_that_is_gone_is_an_outage(start: Start, store: PayloadStore) -> None:
    service = await start(payloads=store)
    await service.post(large())
    root = folder_of(store)
    root.rename(root.with_name("unmounted"))
    async with working(service, stream_poll_interval_ms=50) as worker:
        (paused,) = await eventually(lambda: worker.status().paused)
        assert "mounted" in paused.error
        root.with_name("unmounted").rename(root)
        await eventually(lambda: has_rows(service, 1))
    assert not await letters(service)


@pytest.mark.parametrize("fail", [_down, _silent])
async def test_while_the_store_is_out_only_large_messages_are_refused(
    start: Start, s3: tuple[FaultProxy, PayloadStore], fail: Callable[[FaultProxy], Any]
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    assert (await service.post(large(1))).status_code == 202
    await fail(proxy)
    waiting = asyncio.create_task(service.post(large(2)))
    batch = [message(3), large(4), message(5, conversationId="another")]
    mixed = asyncio.create_task(service.client.post("/api/messages:batch", json=batch))
    assert (await service.post(message(6))).status_code == 202  # while the large ones wait
    sentence = await payloads_check(store)(0.5)
    assert sentence is not None
    assert "can't be used" in sentence.text
    refused = await waiting
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["type"] == "/problems/payloads-unavailable"
    answers = (await mixed).json()
    assert [answer["status"] for answer in answers] == [202, 503, 202]
    assert len(await logged(service)) == 4
    # Workers wait; nothing is a dead letter.
    async with working(service, stream_poll_interval_ms=50) as worker:
        await eventually(lambda: worker.status().paused)
        assert {row["payload_key"] for row in await service.rows()} <= {None}
        proxy.heal()
        await eventually(lambda: has_rows(service, 4))
    assert not await letters(service)
    assert (await service.post(large(2))).status_code == 202


async def test_no_message_of_a_batch_overtakes_one_that_the_store_did_not_take(
    start: Start, s3: tuple[FaultProxy, PayloadStore]
) -> None:
    """The client sends the refused ones again, and they would stand behind it."""
    proxy, store = s3
    service = await start(payloads=store)
    await _down(proxy)
    batch = [message(1), large(2), message(3), message(4, conversationId="another")]
    answers = (await service.client.post("/api/messages:batch", json=batch)).json()
    assert [answer["status"] for answer in answers] == [202, 503, 503, 202]
    proxy.heal()
    refused = [body for body, answer in zip(batch, answers, strict=True) if answer["status"] == 503]
    again = (await service.client.post("/api/messages:batch", json=refused)).json()
    assert [answer["status"] for answer in again] == [202, 202]
    async with working(service):
        await eventually(lambda: has_rows(service, 4))
    stored = [row["client_message_id"] for row in await service.rows()]
    wanted = [body["clientMessageId"] for body in batch[:3]]
    assert [one for one in stored if one in wanted] == wanted


async def test_a_store_that_refuses_us_is_an_outage(
    start: Start, s3: tuple[FaultProxy, PayloadStore], s3_settings: dict[str, str]
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    stranger = store_behind(proxy, s3_settings, secret="not the secret", payload_timeout_ms=2000)
    await service.post(large(1))
    refused = await (await start(payloads=stranger)).post(large(2))
    assert refused.status_code == 503
    service.payloads = stranger
    async with working(service, stream_poll_interval_ms=50) as worker:
        (paused,) = await eventually(lambda: worker.status().paused)
        assert "credentials" in paused.error
    assert not await letters(service)
    service.payloads = store
    async with working(service):
        await eventually(lambda: has_rows(service, 1))


async def test_an_upload_whose_answer_is_lost_is_made_again(
    start: Start, s3: tuple[FaultProxy, PayloadStore]
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    proxy.lose_reply_to(b"PUT ")
    assert (await service.post(large())).status_code == 202
    assert proxy.lost_replies == 1
    async with working(service):
        (row,) = await eventually(service.rows)
    assert row["content"] == LARGE


async def test_a_form_is_answered_before_its_upload_is_removed(
    start: Start, s3: tuple[FaultProxy, PayloadStore]
) -> None:
    """A store that doesn't answer would keep its client waiting as well."""
    proxy, store = s3
    service = await start(payloads=store)
    uploads = service.app.accept.uploads
    assert uploads is not None
    reader, writer = await begun(service, b"\xff" * 2 * 2**20)
    await eventually(lambda: uploads.streams == 1)
    proxy.black_hole()
    uploads.withheld = "a process is too old"
    writer.write(b"more")
    async with asyncio.timeout(3):
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
    assert uploads.streams == 1
    proxy.heal()
    await uploads.close()
    assert uploads.streams == 0
    writer.close()


async def test_an_upload_without_an_append_is_nothing(
    start: Start, store: PayloadStore, redis: Any
) -> None:
    """A crash, or an outage of the log, between upload and append: the retry is a first POST."""
    service = await start(payloads=store)
    await redis.config_set("maxmemory", 1)  # the log takes nothing
    try:
        assert (await service.post(large())).status_code == 503
    finally:
        await redis.config_set("maxmemory", 0)
    assert len(objects(store)) == 1
    assert not await logged(service)
    assert (await service.post(large())).json()["idempotentHit"] is False
    assert len(objects(store)) == 1


async def test_a_worker_that_dies_between_fetch_and_insert_leaves_no_trace(
    start: Start, store: PayloadStore
) -> None:
    service = await start(payloads=store)
    await service.post(large())
    async with service.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        worker = asyncio.create_task(working_for_ever(service))
        await eventually(lambda: waits_for_lock(other))  # fetched, and not inserted
        assert fetched(service) == 1
        await dead(worker)
        # PostgreSQL ends the statement of a process that is gone.
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        await eventually(lambda: waits_for_no_lock(other))
    assert not await service.rows()
    assert not await letters(service)
    async with working(service):
        await eventually(lambda: has_rows(service, 1))
    assert fetched(service) == 2


async def working_for_ever(service: Service) -> None:
    async with working(service):
        await asyncio.Event().wait()


async def waits_for_lock(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def waits_for_no_lock(connection: Any) -> bool:
    return not await waits_for_lock(connection)


async def dead(worker: asyncio.Task[None]) -> None:
    """Cancel until it ends: the first request stops it, which may wait for its statement."""
    while not worker.done():
        worker.cancel()
        await asyncio.wait([worker], timeout=0.1)


def fetched(service: Service) -> float:
    name = "payload_fetch_duration_seconds_count"
    return service.metrics.registry.get_sample_value(name) or 0
