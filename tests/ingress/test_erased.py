"""What a client, a reader and the console are told of a message that was erased or archived."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from persistence.database.pool import Pool
from persistence.retention.archives import ArchiveTable
from persistence.retention.burial import Doomed, mark_erased
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.large_content import large, objects
from tests.payloads.stores import opened
from tests.support.eventually import eventually
from transport.contract import Topic
from transport.message.partitioner import partition_for

CANARY = "kanarienvogel-41d0"
BODY = message(
    senderId=f"from-{CANARY}", content=f"hello {CANARY}", clientMessageId=CANARY,
    conversationId=f"in-{CANARY}",
)  # fmt: skip


@pytest.fixture
async def erased(service: Service, database_pool: Pool) -> dict[str, Any]:
    """The acknowledgement of a message that was a row, and was erased."""
    first = await service.post(BODY, X_Correlation_ID=f"corr-{CANARY}")
    assert first.status_code == 202
    async with working(service):
        await eventually(service.rows)
    subject = Subject("sender", BODY["senderId"])
    await Erasure(database_pool, subject, [service.transport], None).run(by="me")
    return first.json()


async def test_the_same_key_has_the_same_id_for_ever(
    service: Service, erased: dict[str, Any]
) -> None:
    for body in (BODY, BODY | {"content": "another"}):  # nothing is known to tell them apart
        again = await service.post(body)
        assert again.status_code == 200
        assert again.json() == {
            "messageId": erased["messageId"], "acceptedAt": erased["acceptedAt"],
            "state": "erased", "idempotentHit": True, "correlationId": erased["messageId"],
        }  # fmt: skip
    assert await service.rows() == []
    assert await service.records() == 1
    batch = await service.client.post("/api/messages:batch", json=[BODY])
    assert [result["state"] for result in batch.json()] == ["erased"]


async def test_no_receipt_is_accepted_that_the_archive_would_lose(
    service: Service, database_pool: Pool
) -> None:
    """The store is down for days: the file is planned, and its rows are there to be read."""
    sent = (await service.post(BODY)).json()
    async with working(service):
        await eventually(service.rows)
    path = f"/api/messages/{sent['messageId']}"

    async def answered(user: str) -> int:
        body = {"userId": user, "state": "read"}
        return (await service.client.post(f"{path}/receipts", json=body)).status_code

    await database_pool.execute("UPDATE messages SET created_at = now() - interval '40 days'")
    assert await answered("before") == 202
    table = ArchiveTable(database_pool)
    await table.plan(await table.cutoff(30), 10)
    assert (await service.client.get(path)).json()["state"] == "persisted"
    assert await answered("after") == 410


async def test_reading_tells_that_it_was_erased_and_nothing_of_it(
    service: Service, erased: dict[str, Any]
) -> None:
    path = f"/api/messages/{erased['messageId']}"
    found = (await service.client.get(path)).json()
    told = {name: value for name, value in found.items() if value}
    assert told == {
        "messageId": erased["messageId"], "state": "erased", "acceptedAt": erased["acceptedAt"],
        "correlationId": erased["messageId"],
    }  # fmt: skip
    for method, where, body in (
        ("GET", "/content", None),
        ("GET", "/receipts", None),
        ("POST", "/receipts", {"userId": "u", "state": "read"}),
    ):
        gone = await service.client.request(method, path + where, json=body)
        assert gone.status_code == 410
        assert gone.json()["type"] == "/problems/gone"
    page = await service.client.get(f"/api/conversations/{BODY['conversationId']}/messages")
    assert page.json()["items"] == []


async def test_content_is_gone_while_its_row_is_still_being_erased(
    start: Start, tmp_path: Path
) -> None:
    store = opened(f"file://{tmp_path}/payloads", payload_row_bytes=5000)
    service = await start(payloads=store)
    sent = (await service.post(large())).json()
    async with working(service):
        await eventually(service.rows)
    path = f"/api/messages/{sent['messageId']}/content"
    assert (await service.client.get(path)).status_code == 200

    (key,) = objects(store)
    # As an erasure does it, one after the other.
    await mark_erased(service.pool, [Doomed(UUID(sent["messageId"]), datetime.now(UTC))])
    await store.delete([key])
    assert len(await service.rows()) == 1
    gone = await service.client.get(path)
    assert (gone.status_code, gone.json()["type"]) == (410, "/problems/gone")


async def test_the_console_shows_nothing_of_it_although_the_log_has_it(
    service: Service, erased: dict[str, Any]
) -> None:
    log = service.transport
    partition = partition_for(BODY["conversationId"], log.partitions)
    (record,) = await log.read(Topic.MESSAGES, partition)
    assert CANARY.encode() in record.body  # goes with the log's retention
    asked = [
        f"/api/console/logs/redis/partitions/{partition}/records",
        f"/api/console/search?q=redis {partition}:{record.offset}",
        f"/api/console/messages/{erased['messageId']}",
        "/api/console/messages",
        "/api/console/actions",
        "/api/console/status",
    ]
    asked += [
        f"/api/console/search?q={text}"
        for text in (erased["messageId"], BODY["conversationId"], CANARY, f"corr-{CANARY}")
    ]
    for path in asked:
        answer = await service.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert CANARY not in answer.text, path
        assert base64.b64encode(CANARY.encode()).decode()[:-4] not in answer.text
    story = (await service.client.get(f"/api/console/messages/{erased['messageId']}")).json()
    assert story["message"]["state"] == "erased"
    assert "erased" in {step["kind"] for step in story["steps"]}
