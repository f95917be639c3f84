"""Large content: in the payload store, not in the log; small content never notices.

Content that is missing or damaged: test_payload_damage.py. A store that is out:
test_payload_outages.py.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from persistence.database.pool import Pool
from persistence.payloads.store import PayloadStore
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.large_content import (
    LARGE,
    Send,
    as_batch,
    as_form,
    as_json,
    has_rows,
    large,
    logged,
    objects,
)
from tests.payloads.stores import folder_of, opened
from tests.support.eventually import eventually

_WAYS = [as_json, as_batch, as_form]


@pytest.fixture
async def service(start: Start, store: PayloadStore) -> Service:
    return await start(payloads=store)


async def _persist_and_erase(service: Service, store: PayloadStore, pool: Pool) -> None:
    assert (await service.post(large())).status_code == 202
    async with working(service):
        await eventually(service.rows)
    subject = Subject("sender", large()["senderId"])
    report = await Erasure(pool, subject, [service.transport], store).run(by="me")
    assert report.payloads == 1


async def test_a_repeat_of_an_erased_message_uploads_nothing(
    service: Service, store: PayloadStore, database_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _persist_and_erase(service, store, database_pool)
    monkeypatch.setattr(store, "put", None)
    for send in _WAYS:
        answer = await send(service, LARGE)
        assert "erased" in answer.text, answer.text
    assert objects(store) == []


@pytest.mark.parametrize("send", _WAYS)
async def test_content_of_a_message_that_is_erased_meanwhile_is_taken_back(
    start: Start,
    store: PayloadStore,
    database_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    send: Send,
) -> None:
    """Its row did not exist when the upload began, and is erased when it ends."""
    service, other = await start(payloads=store), opened(store.settings.payload_store or "")
    put, began, goes_on = store.put, asyncio.Event(), asyncio.Event()

    async def held(key: str, data: bytes) -> None:
        began.set()
        await goes_on.wait()
        await put(key, data)

    monkeypatch.setattr(store, "put", held)
    late = asyncio.ensure_future(send(service, LARGE))
    await began.wait()
    await _persist_and_erase(await start(payloads=other), other, database_pool)
    goes_on.set()
    answer = await late
    assert "erased" in answer.text, answer.text
    await eventually(lambda: objects(store) == [])


async def test_large_content_leaves_the_log_and_is_in_the_row(
    service: Service, store: PayloadStore
) -> None:
    answer = await service.post(large())
    assert answer.status_code == 202
    (record,) = await logged(service)
    body = json.loads(record.body)
    assert (body["v"], body["content"], body["payloadBytes"]) == (2, "", 6000)
    assert len(record.body) + sum(len(k) + len(v) for k, v in record.headers.items()) < 1000
    assert objects(store) == [body["payloadKey"]]
    assert (await service.post(large())).status_code == 200  # a repeat that the log remembers
    async with working(service):
        (row,) = await eventually(service.rows)
    assert (row["content"], row["payload_key"]) == (LARGE, body["payloadKey"])
    assert row["payload_bytes"] == 6000
    repeat = await service.post(large())
    assert (repeat.status_code, repeat.json()["messageId"]) == (200, answer.json()["messageId"])
    assert len(objects(store)) == 1
    assert (await service.post(large(content=LARGE + "!"))).status_code == 422
    read = await service.client.get(f"/api/messages/{row['id']}")
    assert read.json()["content"] == LARGE


async def test_the_threshold_decides_and_changes_no_identity(
    start: Start, store: PayloadStore
) -> None:
    """Promise 5: the same body inline and as a payload is one body, and another one is another."""
    inline, outside = await start(), await start(payloads=store)
    for number, content in enumerate(["x" * 2048, "é" * 1024, "x" * 2049, "é" * 1025]):
        body = large(number, content)
        assert (await outside.post(body)).status_code == 202
        assert (await inline.post(body)).json()["idempotentHit"]
        assert (await inline.post(body | {"content": content + "!"})).status_code == 422
    versions = {json.loads(r.body)["clientMessageId"]: json.loads(r.body)["v"]
                for r in await logged(inline)}  # fmt: skip
    assert [versions[f"client_msg_{n:03}"] for n in range(4)] == [1, 1, 2, 2]


async def test_long_text_is_in_the_store_alone(start: Start, tmp_path: Path) -> None:
    store = opened(f"file://{tmp_path}/payloads", payload_row_bytes=5000)
    service = await start(payloads=store)
    await service.post(large())
    async with working(service):
        (row,) = await eventually(service.rows)
    assert (row["content"], row["payload_bytes"]) == ("", 6000)
    assert (await service.post(large())).json()["idempotentHit"]


@pytest.mark.parametrize("door", ["protocol"])
async def test_a_batch_may_mix(service: Service, store: PayloadStore) -> None:
    batch = [large(n) if n % 3 == 0 else message(n) for n in range(30)]
    answer = await service.client.post("/api/messages:batch", json=batch)
    assert [result["status"] for result in answer.json()] == [202] * 30
    assert len(objects(store)) == 10
    async with working(service):
        await eventually(lambda: has_rows(service, 30))
    assert [row["client_message_id"] for row in await service.rows()] == [
        body["clientMessageId"] for body in batch
    ]


async def test_of_a_message_that_is_refused_nothing_is_uploaded(
    service: Service, store: PayloadStore
) -> None:
    for wrong in ({"conversationId": ""}, {"recipientIds": "nobody"}, {"unknown": 1}):
        assert (await service.post(large() | wrong)).status_code == 422
        batch = await service.client.post("/api/messages:batch", json=[large() | wrong])
        assert [result["status"] for result in batch.json()] == [422]
    assert objects(store) == []


@pytest.mark.parametrize("door", ["protocol"])
async def test_direct_messages_have_their_payload_too(start: Start, store: PayloadStore) -> None:
    service = await start(payloads=store, ingress_mode="direct")
    assert (await service.post(large())).json()["state"] == "persisted"
    (row,) = await service.rows()
    assert (row["content"], row["transport"]) == (LARGE, "direct")
    assert objects(store) == [row["payload_key"]]
    assert (await service.post(large())).status_code == 200
    assert (await service.post(large(content=LARGE + "!"))).status_code == 422


async def test_large_messages_are_withheld_while_a_process_can_not_read_them(
    service: Service,
) -> None:
    uploads = service.app.accept.uploads
    assert uploads is not None
    uploads.withheld = "a process is too old"
    refused = await service.post(large())
    assert (refused.status_code, refused.json()["detail"]) == (503, "a process is too old")
    assert (await service.post(message(2))).status_code == 202
    uploads.withheld = None
    assert (await service.post(large())).status_code == 202


@pytest.mark.parametrize("door", ["protocol"])
async def test_without_a_store_nothing_changes(start: Start, store: PayloadStore) -> None:
    """Not a byte of a record below the threshold, whether there is a store or not."""
    services = [await start(), await start(payloads=store)]
    for number, service in enumerate(services):
        await service.post(message(1, conversationId=f"c{number}"), X_Correlation_ID="same")
    one, other = [
        {k: v for k, v in json.loads(r.body).items() if k not in _OF_ITS_OWN}
        for r in await logged(services[0])
    ]
    assert one == other
    assert "payloadBytes" not in one
    shutil.rmtree(folder_of(store), ignore_errors=True)


_OF_ITS_OWN = {"conversationId", "messageId", "idempotencyKey", "acceptedAt"}
