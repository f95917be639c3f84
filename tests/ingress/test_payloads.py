"""Large content: in the payload store, not in the log; small content never notices."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from otel.metrics import Metrics
from persistence.database.pool import Pool
from persistence.payloads.store import PayloadStore
from persistence.retention.erasure import Erasure
from persistence.retention.subject import Subject
from persistence.worker import contents
from tests.ingress.conftest import Service, Start, message, working
from tests.ingress.test_forms import begun
from tests.payloads.stores import folder_of, opened
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.contract import Reason, Record, Topic
from transport.dead_letters import dead_letter_of

LARGE = "large content, " * 400
"""6,000 bytes: more than PAYLOAD_THRESHOLD_BYTES, and less than PAYLOAD_ROW_BYTES."""


def large(number: int = 1, content: str = LARGE, **changes: Any) -> dict[str, Any]:
    return message(number, content=content, **changes)


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    return opened(f"file://{tmp_path}/payloads")


@pytest.fixture
async def service(start: Start, store: PayloadStore) -> Service:
    return await start(payloads=store)


async def logged(service: Service) -> list[Record]:
    """Every record, partition by partition."""
    partitions = range(service.transport.partitions)
    return [
        record for p in partitions for record in await service.transport.read(Topic.MESSAGES, p)
    ]


async def letters(service: Service) -> list[Any]:
    return [dead_letter_of(r) for r in await service.transport.read(Topic.DEAD_LETTERS, 0)]


def objects(store: PayloadStore) -> list[str]:
    root = folder_of(store)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*/*") if path.is_file())


def _ways(service: Service) -> list[Callable[[], Awaitable[Any]]]:
    """Every way to send one large message."""
    described = {name: value for name, value in large().items() if name != "content"}
    form: Any = [
        ("message", (None, json.dumps(described), "application/json")),
        ("content", (None, LARGE, "text/plain")),
    ]
    return [
        lambda: service.post(large()),
        lambda: service.client.post("/api/messages:batch", json=[large()]),
        lambda: service.client.post("/api/messages", files=form),
    ]


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
    for again in _ways(service):
        answer = await again()
        assert "erased" in answer.text, answer.text
    assert objects(store) == []


@pytest.mark.parametrize("way", [0, 1, 2], ids=["JSON", "batch", "form"])
async def test_content_of_a_message_that_is_erased_meanwhile_is_taken_back(
    start: Start,
    store: PayloadStore,
    database_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    way: int,
) -> None:
    """Its row did not exist when the upload began, and is erased when it ends."""
    service, other = await start(payloads=store), opened(store.settings.payload_store or "")
    put, began, goes_on = store.put, asyncio.Event(), asyncio.Event()

    async def held(key: str, data: bytes) -> None:
        began.set()
        await goes_on.wait()
        await put(key, data)

    monkeypatch.setattr(store, "put", held)
    late = asyncio.ensure_future(_ways(service)[way]())
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


async def has_rows(service: Service, count: int) -> bool:
    return len(await service.rows()) == count


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


# The store is missing, damaged or gone.


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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


async def failed_attempts(service: Service) -> float:
    registry = service.metrics.registry
    return registry.get_sample_value("stream_consumer_processed_total", {"status": "error"}) or 0


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.fixture
async def s3(s3_settings: dict[str, str]) -> AsyncIterator[tuple[FaultProxy, PayloadStore]]:
    """A real S3 server behind a faulty network, and a store that has two seconds' patience."""
    address = urlsplit(s3_settings["PAYLOAD_ENDPOINT_URL"])
    assert address.hostname
    assert address.port
    secret = s3_settings["AWS_SECRET_ACCESS_KEY"]
    async with FaultProxy(address.hostname, address.port) as proxy:
        # The first object makes the server set up its volumes, which takes seconds.
        await _on(s3_settings, proxy, secret, seconds=30).put("first", b"first")
        yield proxy, _on(s3_settings, proxy, secret)


def _on(
    settings: dict[str, str], proxy: FaultProxy, secret: str, *, seconds: int = 2
) -> PayloadStore:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", settings["AWS_ACCESS_KEY_ID"])
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
        return opened(
            settings["PAYLOAD_STORE"],
            payload_endpoint_url=f"http://{proxy.host}:{proxy.port}",
            payload_region=settings["PAYLOAD_REGION"],
            payload_timeout_ms=seconds * 1000,
        )


async def _down(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()


async def _silent(proxy: FaultProxy) -> None:
    proxy.black_hole()


@pytest.mark.parametrize("door", ["protocol"])
@pytest.mark.parametrize("fail", [_down, _silent])
async def test_while_the_store_is_out_only_large_messages_are_refused(
    start: Start, s3: tuple[FaultProxy, PayloadStore], fail: Callable[[FaultProxy], Any]
) -> None:
    proxy, store = s3
    service = await start(payloads=store)
    assert (await service.post(large(1))).status_code == 202
    await fail(proxy)
    waiting = asyncio.create_task(service.post(large(2)))
    batch = [message(3), large(4), message(5)]
    mixed = asyncio.create_task(service.client.post("/api/messages:batch", json=batch))
    assert (await service.post(message(6))).status_code == 202  # while the large ones wait
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


@pytest.mark.parametrize("door", ["protocol"])
async def test_a_store_that_refuses_us_is_an_outage(
    start: Start, s3: tuple[FaultProxy, PayloadStore], s3_settings: dict[str, str]
) -> None:
    proxy, store = s3
    service, stranger = await start(payloads=store), _on(s3_settings, proxy, "not the secret")
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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


@pytest.mark.parametrize("door", ["protocol"])
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
