"""Content that is missing, late or not what was accepted."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel.metrics import Metrics
from persistence.payloads.store import PayloadStore
from persistence.worker.batch import contents
from tests.ingress.conftest import Service, Start, working
from tests.ingress.large_content import (
    LARGE,
    failed_attempts,
    has_rows,
    large,
    letters,
    logged,
    objects,
)
from tests.payloads.stores import folder_of, opened
from tests.support.eventually import eventually
from transport.contract import Reason


async def _spoilt(
    start: Start, store: PayloadStore, spoil: Callable[[Path], Any]
) -> tuple[Service, list[Any]]:
    """Post three messages of one conversation, spoil the second's content, persist."""
    service = await start(payloads=store)
    for number in (1, 2, 3):
        assert (await service.post(large(number, f"{LARGE}{number}"))).status_code == 202
    (key,) = [
        body["payloadKey"]
        for record in await logged(service)
        if (body := json.loads(record.body))["clientMessageId"] == "client_msg_002"
    ]
    spoil(folder_of(store) / key)
    async with working(service):
        await eventually(lambda: has_rows(service, 2))
        found = await eventually(lambda: letters(service))
    rows = [row["client_message_id"] for row in await service.rows()]
    assert rows == ["client_msg_001", "client_msg_003"]
    return service, found


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, Reason.PAYLOAD_MISSING),
        (lambda path: path.write_text("wrong bytes, " * 400), Reason.PAYLOAD_CORRUPT),
        (lambda path: path.write_bytes(path.read_bytes().upper()), Reason.PAYLOAD_CORRUPT),
    ],
    ids=["missing", "another length", "other bytes"],
)
async def test_content_that_is_not_what_was_accepted_is_set_apart(
    start: Start, store: PayloadStore, spoil: Callable[[Path], Any], reason: Reason
) -> None:
    service, (letter,) = await _spoilt(start, store, spoil)
    assert (letter.reason, letter.attempts) == (reason, 3)
    async with service.pool.acquire() as connection:
        attempts = await connection.fetch("SELECT attempt FROM delivery_attempts ORDER BY id")
    assert [row["attempt"] for row in attempts] == [1, 2, 3]


async def test_of_content_that_no_row_holds_the_length_is_proven_and_nothing_read(
    start: Start, tmp_path: Path
) -> None:
    """Its partition waits for no bytes; a reader compares them."""
    metrics = Metrics()
    store = opened(f"file://{tmp_path}/payloads", metrics=metrics, payload_row_bytes=5000)
    service = await start(payloads=store)
    paths = []
    for number in range(4):
        ack = (await service.post(large(number, f"{LARGE}{number}"))).json()
        (path,) = (folder_of(store) / ack["messageId"]).iterdir()
        paths.append(path)
    paths[0].unlink()
    paths[1].write_text("another length")
    paths[2].write_bytes(paths[2].read_bytes().upper())
    async with working(service):
        rows = await eventually(lambda: has_rows(service, 2)) and await service.rows()
        found = await eventually(lambda: letters(service))
    assert [letter.reason for letter in found] == [Reason.PAYLOAD_MISSING, Reason.PAYLOAD_CORRUPT]
    assert not metrics.registry.get_sample_value("payload_store_bytes_total", {"operation": "get"})
    damaged, right = [
        await service.client.get(f"/api/messages/{row['id']}/content") for row in rows
    ]
    assert (damaged.status_code, right.text) == (500, f"{LARGE}3")
    assert damaged.json()["type"] == "/problems/payload-damaged"


async def test_content_that_comes_late_is_waited_for(start: Start, store: PayloadStore) -> None:
    """A copy of the bucket may be behind; a retry within the attempts finds it."""
    service = await start(payloads=store)
    await service.post(large())
    (path,) = (folder_of(store) / key for key in objects(store))
    path.rename(folder_of(store) / "aside")
    async with working(service, stream_max_retries=50):
        await eventually(lambda: failed_attempts(service))
        (folder_of(store) / "aside").rename(path)
        await eventually(lambda: has_rows(service, 1))


async def test_a_stop_uses_up_no_attempts(start: Start, store: PayloadStore) -> None:
    service = await start(payloads=store)
    await service.post(large())
    (path,) = (folder_of(store) / key for key in objects(store))
    path.rename(folder_of(store) / "aside")
    async with working(service, stream_max_retries=100):
        await eventually(lambda: failed_attempts(service))
    assert not await letters(service)
    (folder_of(store) / "aside").rename(path)
    async with working(service):
        await eventually(lambda: has_rows(service, 1))


async def test_an_object_that_fails_while_others_are_read_is_at_fault_itself(
    start: Start, store: PayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one object holds up its partition for ever. While none can be read, all wait."""
    monkeypatch.setattr(contents, "_ALONE_SECONDS", 0.1)
    service = await start(payloads=store)
    await service.post(large(1))
    (path,) = (folder_of(store) / key for key in objects(store))
    path.unlink()
    path.symlink_to(path.name)  # neither missing nor readable
    async with working(service, stream_poll_interval_ms=50) as worker:
        await eventually(lambda: worker.status().paused)
        await asyncio.sleep(1)
        assert not await letters(service)  # as far as can be known, the store is out

        async def posts_another() -> bool:
            number = next(numbers)
            await service.post(large(number, conversationId=f"other {number}"))
            return bool(await letters(service))

        numbers = itertools.count(2)
        await eventually(posts_another)
        (letter,) = await letters(service)
        assert letter.reason == Reason.PAYLOAD_MISSING
