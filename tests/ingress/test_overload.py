"""Past its bounds the ingress says 503 at once, before it reads a body."""

from __future__ import annotations

import asyncio

from tests.ingress.conftest import Service, message
from tests.ingress.gated_log import GatedLog
from tests.support.eventually import eventually


async def _refused(service: Service) -> None:
    """Post with a body that never comes: a handler that reads it first would wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(
        b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert b" 503 " in head.split(b"\r\n")[0]
    assert b"retry-after: 1" in head.lower()
    writer.close()
    await writer.wait_closed()


async def test_a_full_queue_refuses_before_the_body_is_read(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_queue_limit=3)
    gated.gate.clear()
    tasks = [asyncio.create_task(service.post(message(number))) for number in range(3)]
    commits = service.app.accept.commits
    await eventually(lambda: commits.held == 3)
    await _refused(service)
    batch = await service.client.post("/api/messages:batch", json=[message(9)])
    receipt = await service.client.post(
        "/api/messages/00000000-0000-8000-8000-000000000001/receipts",
        json={"userId": "u", "state": "read"},
    )
    for answer in (batch, receipt):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
    value = service.metrics.registry.get_sample_value
    assert value("ingress_shed_total") == 3
    gated.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*tasks)] == [202] * 3
    assert (await service.post(message(4))).status_code == 202


async def test_too_many_bytes_held_refuse_too(gated: GatedLog, start) -> None:
    service = await start(transport=gated, ingress_queue_bytes=3_000)
    gated.gate.clear()
    task = asyncio.create_task(service.post(message(content="x" * 4_000)))
    await eventually(lambda: gated.waiting == 1)
    await _refused(service)
    gated.gate.set()
    assert (await task).status_code == 202


async def test_an_append_that_does_not_begin_in_time_is_refused_and_not_made(
    gated: GatedLog, start
) -> None:
    service = await start(transport=gated, ingress_appends_in_flight=1, ingress_max_wait_ms=100)
    gated.gate.clear()
    first = asyncio.create_task(service.post(message(1)))
    await eventually(lambda: gated.waiting == 1)
    late = asyncio.create_task(service.post(message(2)))
    commits = service.app.accept.commits
    await eventually(lambda: commits.held == 2)

    await eventually(lambda: commits.oldest_wait > 0.1)
    # It has waited too long: new ones are refused at the door ...
    await _refused(service)
    gated.gate.set()
    assert (await first).status_code == 202
    # ... and it is itself refused rather than appended after its time.
    answer = await late
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/overloaded")
    assert sum(len(sent) for sent in gated.published) == 1
