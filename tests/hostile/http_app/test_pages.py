"""What is read back is bounded in bytes and in items, whatever was written."""

from __future__ import annotations

import pytest

from tests.ingress.conftest import Service, Start, message, working
from tests.support.blocked import watching
from tests.support.eventually import eventually

MIB = 1024 * 1024
BOUND = 100.0
ONCE = {"Connection": "close"}


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


async def test_a_page_of_large_messages_ends_early_and_skips_none(service: Service) -> None:
    sizes = [65_000] * 60 + [10] * 60
    bodies = [message(n, content="\u20ac" * (size // 3)) for n, size in enumerate(sizes)]
    answer = await service.client.post("/api/messages:batch", json=bodies, headers=ONCE)
    assert {result["status"] for result in answer.json()} == {202}
    async with working(service):

        async def all_there() -> bool:
            return len(await service.rows()) == len(sizes)

        await eventually(all_there)
    path = "/api/conversations/test_conv_001/messages"
    read: list[str] = []
    pages = 0
    after: dict[str, str] = {}
    while True:
        with watching() as blocked:
            page = await service.client.get(path, params={"limit": 200, **after}, headers=ONCE)
        assert blocked.longest < BOUND, blocked
        assert len(page.content) < 2 * MIB
        pages += 1
        read += [item["clientMessageId"] for item in page.json()["items"]]
        if not page.json()["hasMore"]:
            break
        assert sum(len(item["content"].encode()) for item in page.json()["items"]) >= MIB
        after = {"after": page.json()["next"]}
    assert read == [body["clientMessageId"] for body in bodies]
    assert pages == 4


async def test_a_message_with_many_receipts_is_read_and_gets_another(service: Service) -> None:
    identifier = (await service.post(message())).json()["messageId"]
    async with working(service):
        await eventually(service.rows)
    async with service.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO message_receipts (message_id, user_id, state, at, correlation_id) "
            "SELECT $1, 'user_' || n, 'read', now(), 'c' FROM generate_series(1, 20000) AS n",
            identifier,
        )
    receipts = f"/api/messages/{identifier}/receipts"
    for path in (receipts, f"/api/messages/{identifier}"):
        with watching() as blocked:
            answer = await service.client.get(path, headers=ONCE)
        assert answer.status_code == 200
        assert blocked.longest < BOUND, (path, blocked)
        assert len(answer.content) < MIB
    listed = (await service.client.get(receipts, headers=ONCE)).json()
    assert (len(listed["items"]), listed["hasMore"]) == (1000, True)
    with watching() as blocked:
        body = {"userId": "user_19999", "state": "read"}
        repeat = await service.client.post(receipts, json=body, headers=ONCE)
    assert repeat.status_code == 200
    assert blocked.longest < BOUND, blocked


async def test_a_search_among_large_messages_that_wait_holds_few_at_once(service: Service) -> None:
    for start in range(0, 800, 200):
        batch = [message(n, content="x" * 60_000) for n in range(start, start + 200)]
        answer = await service.client.post("/api/messages:batch", json=batch, headers=ONCE)
        assert {result["status"] for result in answer.json()} == {202}
    with watching() as blocked:
        found = await service.client.get(
            "/api/console/search", params={"q": "client_msg_100"}, headers=ONCE
        )
    assert [item["clientMessageId"] for item in found.json()["items"]] == ["client_msg_100"]
    assert blocked.longest < BOUND, blocked
