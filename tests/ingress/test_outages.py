"""What the ingress does while PostgreSQL or the log is down or hangs."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest
from redis.asyncio import Redis

from ingress.readiness import ReadinessChecks
from persistence.database.pool import connect
from persistence.migrate import upgrade
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import message, working
from tests.support.eventually import eventually
from tests.support.redis_library import answers_append, replace_library
from transport.registry import create
from transport.settings import TransportSettings


@pytest.fixture
async def breakable(new_postgres, start):
    """An ingress on a PostgreSQL of the test's own."""
    server = await new_postgres()
    url = await server.create_database("breakable")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    yield server, await start(pool=pool, ingress_lookup_timeout_ms=2000)
    pool.terminate()


@pytest.mark.parametrize("how", ["stopped", "suspended"])
async def test_messages_are_accepted_without_postgresql(breakable, how: str) -> None:
    server, service = breakable
    first = (await service.post(message(1))).json()
    async with working(service):
        await eventually(service.rows)
    await (server.stop() if how == "stopped" else server.suspend())

    answers = await asyncio.gather(*(service.post(message(n)) for n in range(2, 20)))
    assert {answer.status_code for answer in answers} == {202}
    lookup = service.app.accept.row_lookup
    assert not lookup.asking

    # Only the first had to find out; nobody pays the time limit again.
    took = []
    for number in range(20, 30):
        began = time.monotonic()
        assert (await service.post(message(number))).status_code == 202
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 2.0
    # The id needs no database, and the log remembers what it was answered.
    repeat = await service.post(message(1))
    assert (repeat.status_code, repeat.json()["messageId"]) == (200, first["messageId"])

    ready = await service.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    (database,) = [
        component for component in ready.json()["components"] if component["name"] == "database"
    ]
    assert (database["status"], database["required"]) == ("down", False)

    await (server.start() if how == "stopped" else server.resume())
    await eventually(lambda: lookup.asking)

    async def persisted() -> bool:
        return (await service.post(message(1))).json()["state"] == "persisted"

    await eventually(persisted)


async def test_a_repeat_has_no_guessed_state_without_postgresql(breakable) -> None:
    """A state that was answered stays, and one that cannot be determined is ``unknown``."""
    server, service = breakable
    first = [(await service.post(message(n))).json() for n in (1, 2)]
    async with working(service):
        await eventually(lambda: _has_rows(service, 2))
    seen = await service.post(message(1))
    assert (seen.status_code, seen.json()["state"]) == (200, "persisted")
    await server.suspend()

    for number, state in ((1, "persisted"), (2, "unknown")):
        for _ in range(2):  # the first one waits for PostgreSQL, and the second one does not
            repeat = await service.post(message(number))
            expected = {**first[number - 1], "state": state, "idempotentHit": True}
            assert (repeat.status_code, repeat.json()) == (200, expected)
        other = await service.post(message(number, content="another body"))
        assert other.status_code == 422, other.text

    await server.resume()
    await eventually(lambda: service.app.accept.row_lookup.asking)
    for number in (1, 2):
        assert (await service.post(message(number))).json()["state"] == "persisted"


async def _has_rows(service, count: int) -> bool:
    return len(await service.rows()) == count


async def test_reading_without_postgresql_says_so(breakable) -> None:
    server, service = breakable
    pending = (await service.post(message(1))).json()["messageId"]
    await server.stop()
    view = (await service.client.get(f"/api/messages/{pending}")).json()
    assert (view["state"], view["content"]) == ("pending", message(1)["content"])
    for path in (
        "/api/messages/00000000-0000-8000-8000-000000000001",
        "/api/conversations/test_conv_001/messages",
        "/api/dead-letters",
    ):
        answer = await service.client.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["type"] == "/problems/database-unavailable"
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_log_that_is_down_is_503_and_not_ready(new_redis, launch) -> None:
    redis = await new_redis()
    settings = TransportSettings(redis_host=redis.host, redis_port=redis.port)
    async with create("redis", settings) as transport:
        service = await launch(transport=transport)
        assert (await service.post(message(1))).status_code == 202
        await redis.stop()
        answer = await service.post(message(2))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        ready = await service.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["components"][0] | {"detail": ""} == {
            "name": "log (redis)", "status": "down", "required": True, "detail": "",
        }  # fmt: skip
        assert (await service.client.get("/healthz")).status_code == 200
        await redis.start()

        async def accepted() -> bool:
            return (await service.post(message(2))).status_code in {200, 202}

        await eventually(accepted)
        assert (await service.client.get("/readyz")).json()["status"] == "ready"
        # Acknowledged before the restart: still there.
        assert (await service.post(message(1))).status_code == 200


async def test_a_log_that_is_full_is_not_called_out_of_reach(
    new_redis, launch, database_pool
) -> None:
    redis = await new_redis()
    settings = TransportSettings(redis_host=redis.host, redis_port=redis.port)
    async with (
        create("redis", settings) as transport,
        Redis(host=redis.host, port=redis.port) as admin,
    ):
        service = await launch(transport=transport)
        assert (await service.post(message(1))).status_code == 202
        await admin.config_set("maxmemory", "1mb")
        answer = await service.post(message(2))
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("The log takes no messages now.")
        assert (await service.client.get("/readyz")).status_code == 503
        # Processes that only persist go on, and a rolling restart must not wait for room.
        worker = ReadinessChecks(
            transport=transport, pool=database_pool, needs=("reads",), timeout_seconds=5
        )
        assert (await worker.report()).status == "degraded"
        await admin.config_set("maxmemory", "0")

        async def accepted() -> bool:
            return (await service.post(message(2))).status_code in {200, 202}

        await eventually(accepted)


async def test_readiness_fails_first_when_the_process_stops(service) -> None:
    assert (await service.client.get("/readyz")).json()["status"] == "ready"
    service.app.drain()
    assert (await service.client.get("/readyz")).status_code == 503
    assert (await service.post(message())).status_code == 202


async def test_a_foreign_function_in_place_of_the_append_is_503_until_the_library_is_loaded(
    service, redis: Redis
) -> None:
    assert (await service.post(message(1))).status_code == 202
    await replace_library(redis, answers_append("1"))
    answer = await service.post(message(2))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    assert int(answer.headers["retry-after"]) >= 1
    # Calls a function that the foreign library does not have.
    unknown = await service.client.get("/api/messages/00000000-0000-8000-8000-000000000001")
    assert unknown.status_code == 404
    for number, status in ((1, 200), (2, 202), (3, 202)):
        assert (await service.post(message(number))).status_code == status
    assert await service.records() == 3
