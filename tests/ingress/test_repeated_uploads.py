"""A repeat of a large message is known for one before its content is uploaded again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import httpx
import pytest

from persistence.database.pool import connect
from persistence.migrate import upgrade
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.gated_log import GatedLog
from tests.ingress.large_content import (
    LARGE,
    Send,
    as_batch,
    as_form,
    as_json,
    store_behind,
)
from tests.payloads.stores import s3_proxy
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.errors import AppendUnknown

OTHER = "other content, " * 400
STREAMED = LARGE * 200
"""More than the megabyte of a form that is kept in memory."""


@pytest.fixture
async def s3(s3_settings: dict[str, str]) -> AsyncIterator[tuple[FaultProxy, PayloadStore]]:
    """A real S3 server behind a proxy that tells whether something is written."""
    async with s3_proxy(s3_settings) as proxy:
        # With the first object the server sets up its volumes.
        patient = {"payload_timeout_ms": 30_000, "payload_row_bytes": 5000}
        yield proxy, store_behind(proxy, s3_settings, **patient)


async def _objects(store: PayloadStore) -> list[str]:
    return sorted([one.key for page in [p async for p in store.objects()] for one in page])


async def _writes_of(proxy: FaultProxy, sending: Awaitable[httpx.Response]) -> httpx.Response:
    """Await an answer; a write to the store meanwhile would lose its reply and be counted."""
    for verb in (b"PUT ", b"POST "):
        proxy.lose_reply_to(verb)
    answer = await sending
    assert proxy.lost_replies == 0, "something was uploaded"
    return answer


def _large(send: Send) -> tuple[str, str]:
    streamed = send is _as_streamed_form
    return (STREAMED, STREAMED[:-1] + "!") if streamed else (LARGE, OTHER)


async def _as_streamed_form(service: Service, content: str) -> httpx.Response:
    return await as_form(service, content)


@pytest.mark.parametrize("send", [as_json, as_batch, as_form, _as_streamed_form])
async def test_what_is_a_row_is_answered_without_an_upload(
    start: Start, s3: tuple[FaultProxy, PayloadStore], send: Send
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    content, other = _large(send)
    first = await send(service, content)
    assert first.status_code == 202, first.text
    async with working(service):
        await eventually(service.rows)
    (key,) = await _objects(store)
    again = await _writes_of(proxy, send(service, content))
    assert (again.status_code, again.json()["messageId"]) == (200, first.json()["messageId"])
    assert (again.json()["state"], again.json()["idempotentHit"]) == ("persisted", True)
    conflict = await _writes_of(proxy, send(service, other))
    assert conflict.status_code == 422
    assert await _objects(store) == [key]


@pytest.mark.parametrize("send", [as_json, as_batch, as_form])
async def test_what_waits_in_the_log_is_answered_without_an_upload(
    start: Start, s3: tuple[FaultProxy, PayloadStore], send: Send
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    assert (await send(service, LARGE)).status_code == 202
    (key,) = await _objects(store)
    again = await _writes_of(proxy, send(service, LARGE))
    assert (again.status_code, again.json()["state"]) == (200, "pending")
    assert (await _writes_of(proxy, send(service, OTHER))).status_code == 422
    assert await service.records() == 1
    assert await _objects(store) == [key]
    proxy.heal()
    await store.delete([key])  # an object that the store lost
    assert (await send(service, LARGE)).status_code == 200
    assert await _objects(store) == [key]


@pytest.mark.parametrize("send", [as_json, as_form])
async def test_two_at_once_are_one_message(
    start: Start, s3: tuple[FaultProxy, PayloadStore], send: Send
) -> None:
    _, store = s3
    service = await start(payloads=store)
    answers = await asyncio.gather(*(send(service, LARGE) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.json()["messageId"] for answer in answers}) == 1
    assert await service.records() == 1
    assert len(await _objects(store)) == 1


async def test_two_bodies_at_once_are_one_message_and_refusals(
    start: Start, s3: tuple[FaultProxy, PayloadStore]
) -> None:
    _, store = s3
    service = await start(payloads=store)
    bodies = [LARGE, OTHER] * 4
    answers = await asyncio.gather(*(as_json(service, body) for body in bodies))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(202) == 1
    accepted = bodies[statuses.index(202)]
    for body, status in zip(bodies, statuses, strict=True):
        assert status in ({200, 202} if body is accepted else {422})
    assert await service.records() == 1


@pytest.mark.parametrize("send", [as_json, as_form])
async def test_what_the_log_remembers_is_confirmed_by_an_append(
    launch: Start, gated: GatedLog, s3: tuple[FaultProxy, PayloadStore], send: Send
) -> None:
    """A second log may lack it, or a replica: only the append tells."""
    proxy, store = s3
    service = await launch(transport=gated, payloads=store)
    gated.lost_reply = AppendUnknown("no answer")
    assert (await send(service, LARGE)).status_code == 503
    assert await service.records() == 1
    again = await _writes_of(proxy, send(service, LARGE))
    assert again.status_code == 503
    gated.lost_reply = None
    assert (await _writes_of(proxy, send(service, LARGE))).status_code == 200
    assert await service.records() == 1


async def test_a_look_that_fails_costs_an_upload(
    start: Start, s3: tuple[FaultProxy, PayloadStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = s3
    service = await start(payloads=store)
    lookup = service.app.accept.row_lookup
    answers = lookup.answers
    calls: list[int] = []

    async def failing(message_ids: Any) -> Any:
        calls.append(len(message_ids))
        if len(calls) == 1:
            raise RuntimeError("not understood")
        return await answers(message_ids)

    monkeypatch.setattr(lookup, "answers", failing)
    assert (await as_json(service, LARGE)).status_code == 202
    assert calls == [1, 1]
    assert len(await _objects(store)) == 1


async def test_content_that_waits_for_the_look_counts_as_waiting(
    new_postgres: Any, start: Start, s3: tuple[FaultProxy, PayloadStore]
) -> None:
    _, store = s3
    server = await new_postgres()
    url = await server.create_database("silent")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    try:
        service = await start(
            pool=pool, payloads=store, ingress_lookup_timeout_ms=30_000, ingress_queue_bytes=100_000
        )
        await server.suspend()
        bodies = [message(number, content="x" * 20_000) for number in range(12)]
        posts = [asyncio.ensure_future(service.post(body)) for body in bodies]

        def refused() -> bool:
            answers = [post.result().text for post in posts if post.done()]
            return any("bytes of content wait for the payload store" in text for text in answers)

        await eventually(refused)  # long before the look is given up
        await server.resume()
        assert 202 in {answer.status_code for answer in await asyncio.gather(*posts)}
    finally:
        pool.terminate()
