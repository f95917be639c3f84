"""A trace shows large content on its way into the payload store, and out of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
import pytest_asyncio
import structlog

from persistence.payloads.folder import MARK
from persistence.payloads.store import PayloadStore
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.large_content import LARGE
from tests.payloads.stores import folder_of
from tests.support.spans import Tracing, identity, parent
from transport.contract import Transport

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
Eventually = Callable[..., Awaitable[object]]


@pytest.fixture
def tracing() -> Tracing:
    return Tracing("redis")


@pytest_asyncio.fixture
async def service(tracing: Tracing, log: Transport, launch: Start, store: PayloadStore) -> Service:
    """An ingress that samples every request, and has a payload store."""
    return await launch(transport=log, tracing=tracing.on, payloads=store)


async def as_form(service: Service, content: bytes) -> str:
    head = {name: value for name, value in message().items() if name != "content"}
    files = [("message", (None, json.dumps(head))), ("content", ("content", content))]
    answer = await service.client.post(
        "/api/messages", files=files, headers={"traceparent": SAMPLED}
    )
    identifier: str = answer.json()["messageId"]
    return identifier


@pytest.mark.parametrize("size", [len(LARGE), 3 * 2**20], ids=["JSON", "a form, streamed"])
async def test_an_upload_and_a_fetch_are_in_the_trace(
    service: Service, tracing: Tracing, eventually: Eventually, size: int
) -> None:
    if size == len(LARGE):
        answer = await service.post(message(content=LARGE), traceparent=SAMPLED)
        message_id = answer.json()["messageId"]
    else:
        message_id = await as_form(service, b"\xff" * size)
    async with working(service):
        await eventually(lambda: tracing.named("ack msg:stream"))
    put, get = tracing.one("put payload"), tracing.one("get payload")
    assert parent(put) == identity(tracing.one("POST /api/messages", tracing.of(TRACE)))
    assert parent(get) == identity(tracing.one("process msg:stream", tracing.of(TRACE)))
    for span in (put, get):
        assert span.attributes["crossfade.payload.bytes"] == size
        assert span.attributes["crossfade.message_id"] == message_id
        assert span.attributes["messaging.message.conversation_id"] == message_id
    assert put.end_time <= tracing.one("create msg:stream").start_time
    assert get.end_time <= tracing.one("INSERT messages").start_time


async def test_each_attempt_on_content_that_is_missing_has_its_span(
    service: Service, tracing: Tracing, store: PayloadStore, eventually: Eventually
) -> None:
    identifier = (await service.post(message(content=LARGE), traceparent=SAMPLED)).json()[
        "messageId"
    ]
    (path,) = (folder_of(store) / identifier).iterdir()
    path.unlink()
    async with working(service):
        await eventually(lambda: tracing.named("ack msg:stream"))
    attempts = tracing.named("get payload")
    assert [span.attributes["error.type"] for span in attempts] == ["PayloadMissing"] * 3


@pytest.mark.parametrize("size", [len(LARGE), 3 * 2**20], ids=["JSON", "a form, streamed"])
async def test_an_upload_that_fails_says_why(
    service: Service, tracing: Tracing, store: PayloadStore, size: int
) -> None:
    (folder_of(store) / MARK).unlink()  # as if its disk were not mounted
    if size == len(LARGE):
        await service.post(message(content=LARGE), traceparent=SAMPLED)
    else:
        with pytest.raises(KeyError):
            await as_form(service, b"\xff" * size)
    put = tracing.one("put payload", tracing.of(TRACE))
    assert put.attributes["error.type"] == "PayloadOutage"
    assert tracing.one("POST /api/messages").attributes["http.response.status_code"] == 503


@pytest.mark.parametrize("form", [False, True], ids=["JSON", "a form"])
async def test_a_failed_upload_is_logged_with_the_ids_of_its_request(
    service: Service, store: PayloadStore, form: bool
) -> None:
    (folder_of(store) / MARK).unlink()
    ids = {"traceparent": SAMPLED, "x-correlation-id": "order-7"}
    with structlog.testing.capture_logs() as lines:
        if form:
            head = {name: value for name, value in message().items() if name != "content"}
            files = [("message", (None, json.dumps(head))), ("content", ("c", LARGE.encode()))]
            answer = await service.client.post("/api/messages", files=files, headers=ids)
        else:
            answer = await service.client.post(
                "/api/messages", json=message(content=LARGE), headers=ids
            )
    assert answer.status_code == 503
    (line,) = (line for line in lines if line["event"].startswith("Upload failed"))
    assert (line["correlation_id"], line["trace_id"]) == ("order-7", TRACE)
    assert line["message_id"]
