"""What a client is told of an outage names no server, port, bucket, path or key of ours."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from compose.local.ports import free_port
from compose.process.logs.reconnecting import ReconnectingTransport
from persistence.database.pool import connect
from persistence.migrate import upgrade
from persistence.payloads.store import PayloadStore
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, Start, message, working
from tests.payloads.stores import opened
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.contract import Topic
from transport.registry import create
from transport.settings import TransportSettings

_ANY_DIGITS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\d-]+T[\d:.]+Z")
_NOWHERE = "00000000-0000-8000-8000-000000000001"
_TEXT = "large content, " * 400
_STREAMS = {"/api/console/tail", "/api/console/events"}
_FOR_PROBES = {"/readyz", "/healthz"}
"""Readiness is for the operator and names what it asks."""


def _large(number: int, content: str = _TEXT) -> dict[str, Any]:
    return message(number, content=content)


def _is_silent(answer: httpx.Response, secrets: Iterable[str]) -> None:
    """Assert that a problem has none of these in it. Ids and times may have any digits."""
    text = _ANY_DIGITS.sub("", answer.text)
    for secret in secrets:
        assert secret not in text, (answer.request.url.path, answer.text)


async def _writes(service: Service, number: int) -> list[httpx.Response]:
    """Send a message by each way that there is, small and large, and a receipt."""
    client = service.client
    described = {key: value for key, value in message(number + 2).items() if key != "content"}
    form: Any = [
        ("message", (None, json.dumps(described), "application/json")),
        ("content", ("content", b"\xff" * 100_000)),
    ]
    return [
        await service.post(message(number)),
        await service.post(_large(number + 1)),
        await client.post("/api/messages", files=form),
        await client.post("/api/messages:batch", json=[message(number), _large(number + 1)]),
        await client.post(
            f"/api/messages/{_NOWHERE}/receipts", json={"userId": "u", "state": "read"}
        ),
    ]


async def _reads(service: Service, identifier: str) -> list[httpx.Response]:
    """Get whatever the OpenAPI document has."""
    document = (await service.client.get("/openapi.json")).json()
    answers = []
    for path, operations in document["paths"].items():
        if "get" not in operations or path in _STREAMS | _FOR_PROBES:
            continue
        asked = path.replace("{messageId}", identifier).replace("{conversationId}", "c")
        asked = re.sub(r"\{\w+\}", "1", asked)
        query = {
            parameter["name"]: "1"
            for parameter in operations["get"].get("parameters", [])
            if parameter["in"] == "query" and parameter.get("required")
        }
        async with service.client.stream("GET", asked, params=query) as answer:
            if answer.status_code >= 500:
                await answer.aread()
                answers.append(answer)
    return answers


def _statuses(answers: Sequence[httpx.Response], status: int = 503) -> int:
    return sum(answer.status_code == status for answer in answers)


@pytest.mark.parametrize("how", ["its port is closed", "its tables are gone"])
async def test_postgresql(new_postgres: Any, start: Start, how: str) -> None:
    server = await new_postgres()
    url = await server.create_database("our_database")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    secrets = [server.host, str(server.port), "our_database", "SQLSTATE", "message_receipts"]
    try:
        service = await start(pool=pool, ingress_read_timeout_ms=1000)
        direct = await start(pool=pool, ingress_mode="direct", ingress_direct_timeout_ms=1000)
        if how == "its port is closed":
            await server.stop()
        else:
            async with pool.acquire() as connection:
                await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with capture_logs() as lines:
            reads = await _reads(service, _NOWHERE)
        writes = await _writes(direct, 1)
    finally:
        pool.terminate()
    assert _statuses(reads) > 5, reads
    assert _statuses(writes) >= 2, writes
    for answer in (*reads, *writes):
        _is_silent(answer, secrets)
    # The log has what the answers lack, and leads from the one to the other.
    known = {answer.headers["x-correlation-id"]: answer for answer in reads}
    told = [line for line in lines if line.get("correlation_id") in known]
    assert told
    sought = str(server.port) if how == "its port is closed" else "crossfade db upgrade"
    assert any(sought in line["error"] for line in told), told


async def test_redis(new_redis: Any, launch: Start) -> None:
    redis = await new_redis()
    settings = TransportSettings(redis_host=redis.host, redis_port=redis.port)
    async with create("redis", settings) as transport:
        service = await launch(transport=transport)
        await redis.stop()
        answers = [*await _writes(service, 1), *await _reads(service, _NOWHERE)]
    assert _statuses(answers) > 5, answers
    for answer in answers:
        _is_silent(answer, [redis.host, str(redis.port), "msg:stream"])


async def test_kafka(launch: Start) -> None:
    port = free_port()
    settings = TransportSettings(
        kafka_bootstrap_servers=f"127.0.0.1:{port}", kafka_topic="our.topic", kafka_timeout_ms=500
    )
    async with ReconnectingTransport(create("kafka", settings)) as transport:
        service = await launch(transport=transport)
        answers = [*await _writes(service, 1), *await _reads(service, _NOWHERE)]
    assert _statuses(answers) > 5, answers
    for answer in answers:
        _is_silent(answer, ["127.0.0.1", str(port), "our.topic"])


@pytest.fixture
async def proxied(s3_settings: dict[str, str]) -> AsyncIterator[FaultProxy]:
    address = urlsplit(s3_settings["PAYLOAD_ENDPOINT_URL"])
    async with FaultProxy(address.hostname or "", address.port or 0) as proxy:
        yield proxy


def _store(settings: dict[str, str], proxy: FaultProxy, **changes: str) -> PayloadStore:
    changed: dict[str, Any] = {
        **settings,
        "PAYLOAD_ENDPOINT_URL": f"http://{proxy.host}:{proxy.port}",
        "PAYLOAD_TIMEOUT_MS": "1500",
        "PAYLOAD_ROW_BYTES": "4000",
        **changes,
    }
    return opened(
        changed.pop("PAYLOAD_STORE"), **{name.lower(): value for name, value in changed.items()}
    )


def _hidden(settings: dict[str, str], proxy: FaultProxy) -> list[str]:
    bucket, _, prefix = settings["PAYLOAD_STORE"].removeprefix("s3://").partition("/")
    address = urlsplit(settings["PAYLOAD_ENDPOINT_URL"])
    return [
        proxy.host,
        str(proxy.port),
        str(address.port),
        f"{bucket}/",
        "no-such-bucket",
        prefix,
        settings["AWS_ACCESS_KEY_ID"],
        settings["AWS_SECRET_ACCESS_KEY"],
        sha256(_TEXT.encode()).hexdigest(),
        ".crossfade",
        "PAYLOAD_",
    ]


async def _closed(proxy: FaultProxy) -> dict[str, str]:
    proxy.refuse()
    proxy.reset()
    return {}


async def _silent(proxy: FaultProxy) -> dict[str, str]:
    proxy.black_hole()
    return {"PAYLOAD_TIMEOUT_MS": "500"}


async def _wrong_secret(_: FaultProxy) -> dict[str, str]:
    return {"AWS_SECRET_ACCESS_KEY": "not-the-secret"}


async def _no_bucket(_: FaultProxy) -> dict[str, str]:
    return {"PAYLOAD_STORE": "s3://no-such-bucket/test"}


@pytest.mark.parametrize("fail", [_closed, _silent, _wrong_secret, _no_bucket])
async def test_s3(
    start: Start,
    s3_settings: dict[str, str],
    proxied: FaultProxy,
    fail: Callable[[FaultProxy], Awaitable[dict[str, str]]],
) -> None:
    store = _store(s3_settings, proxied, PAYLOAD_TIMEOUT_MS="30000")  # it sets up its volumes
    identifier = (await (await start(payloads=store)).post(_large(1))).json()["messageId"]
    changes = await fail(proxied)
    service = await start(payloads=_store(s3_settings, proxied, **changes))
    answers = [*await _writes(service, 10), *await _reads(service, identifier)]
    (read,) = [answer for answer in answers if answer.url.path.endswith("/content")]
    if fail is not _no_bucket:  # this server makes one
        assert _statuses(answers) >= 3, answers
        assert (read.status_code, read.headers["retry-after"]) == (503, "2")
    assert read.status_code >= 500
    for answer in answers:
        _is_silent(answer, [*_hidden(s3_settings, proxied), "not-the-secret"])


async def test_a_message_that_is_dead_for_want_of_its_content(
    start: Start,
    s3_settings: dict[str, str],
    proxied: FaultProxy,
    index_dead_letters: Callable[[Service], Awaitable[None]],
) -> None:
    store = _store(s3_settings, proxied, PAYLOAD_TIMEOUT_MS="30000")
    service = await start(payloads=store)
    missing, damaged = [
        (await service.post(_large(number))).json()["messageId"] for number in (1, 2)
    ]
    digest = sha256(_TEXT.encode()).hexdigest()
    await store.delete([f"{missing}/{digest}"])
    await store.put(f"{damaged}/{digest}", _TEXT[:-1].encode())
    async with working(service):
        await eventually(lambda: _has_letters(service, 2))
    await index_dead_letters(service)
    for identifier in (missing, damaged):
        answer = (await service.client.get(f"/api/messages/{identifier}")).json()
        assert answer["state"] == "dead_lettered"
        error = answer["deadLetter"]["error"]
        assert "payload store" in error
        assert not [one for one in _hidden(s3_settings, proxied) if one in error], error
    # The operator's list has what that lacks.
    letters = (await service.client.get("/api/dead-letters")).json()["items"]
    assert [digest in letter["error"] for letter in letters] == [True, True], letters


async def _has_letters(service: Service, count: int) -> bool:
    return len(await service.transport.read(Topic.DEAD_LETTERS, 0)) == count


async def test_an_object_that_is_gone_or_damaged(
    start: Start, s3_settings: dict[str, str], proxied: FaultProxy
) -> None:
    store = _store(s3_settings, proxied, PAYLOAD_TIMEOUT_MS="30000")
    service = await start(payloads=store)
    identifier = (await service.post(_large(1))).json()["messageId"]
    async with working(service):
        await eventually(service.rows)
    key = f"{identifier}/{sha256(_TEXT.encode()).hexdigest()}"
    url = f"/api/messages/{identifier}/content"
    answers = []
    for damage in (_TEXT[:-1] + "!", _TEXT[:-1]):
        await store.put(key, damage.encode())
        answers.append(await service.client.get(url))
    await store.delete([key])
    with capture_logs() as lines:
        answers.append(await service.client.get(url, headers={"X-Correlation-ID": "ours"}))
    for answer in answers:
        assert answer.status_code == 500
        _is_silent(answer, [*_hidden(s3_settings, proxied), key])
    assert [line["correlation_id"] for line in lines if key in str(line.get("error"))] == ["ours"]
