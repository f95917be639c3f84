"""What is read back is bounded in bytes and in items, whatever was written."""

from __future__ import annotations

import asyncio
import json
import socket
from hashlib import sha512
from typing import Any, Self

import httpx
import pytest
from pydantic import SecretStr

from ingress.http1.connection import HttpConnection
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, Start, message, working
from tests.support.blocked import watching
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.contract import Transport

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


class _Unread:
    """A client that asks for the first page of the conversation and does not read it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.socket = socket.socket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def ask(self) -> HttpConnection:
        """Ask, and return the service's side. Between the two, the kernel buffers 10 KiB or so."""
        before = set(self._service.app.listener.connections)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", self._service.port))
        (there,) = await eventually(lambda: set(self._service.app.listener.connections) - before)
        assert isinstance(there, HttpConnection)
        ours = there._transport.get_extra_info("socket")  # noqa: SLF001 - nothing else needs it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        path = b"/api/conversations/test_conv_001/messages?limit=200"
        head = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path
        await loop.sock_sendall(self.socket, head)
        return there

    async def read(self) -> dict[str, Any]:
        """Read the page."""
        reader, writer = await asyncio.open_connection(sock=self.socket)
        got = await reader.read()
        writer.close()
        head, _, rest = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        page: dict[str, Any] = json.loads(body)
        return page


async def _persisted(service: Service, bodies: list[dict[str, Any]]) -> None:
    for start in range(0, len(bodies), 50):
        answer = await service.client.post(
            "/api/messages:batch", json=bodies[start : start + 50], headers=ONCE
        )
        assert {result["status"] for result in answer.json()} == {202}
    async with working(service):

        async def all_there() -> bool:
            return len(await service.rows()) == len(bodies)

        await eventually(all_there)


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "x" * 6_000},
        {"recipientIds": [sha512(b"%d" % n).hexdigest() for n in range(1000)]},
    ],
    ids=["contents", "recipients"],
)
async def test_a_page_that_is_not_read_holds_one_piece_of_it(
    service: Service, changes: dict[str, Any]
) -> None:
    bodies = [message(n, **changes) for n in range(100)]
    await _persisted(service, bodies)
    with _Unread(service) as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        one = len(json.dumps(bodies[0])) + 1_000
        assert 0 < there.held <= 64 * 1024 + 2 * one
        page = await unread.read()
    assert [item["clientMessageId"] for item in page["items"]] == [
        body["clientMessageId"] for body in bodies
    ]
    assert page["hasMore"] is False


async def test_a_page_ends_early_when_postgresql_fails_while_it_is_sent(
    launch: Start, log: Transport, databases: Databases
) -> None:
    given = await databases.take()
    url = httpx.URL(given)
    async with FaultProxy(url.host, url.port or 5432) as proxy:
        address = url.copy_with(host=proxy.host, port=proxy.port)
        pool = await connect(PersistenceSettings(database_url=SecretStr(str(address))))
        service = await launch(transport=log, pool=pool)
        bodies = [message(n, content="x" * 6_000) for n in range(100)]
        await _persisted(service, bodies)
        with _Unread(service) as unread:
            there = await unread.ask()
            await eventually(lambda: there.is_unread)
            proxy.refuse()
            proxy.reset()
            page = await unread.read()
        assert 0 < len(page["items"]) < len(bodies)
        assert page["hasMore"] is True
        proxy.heal()
        path = "/api/conversations/test_conv_001/messages"

        async def rest() -> list[dict[str, Any]]:
            query: dict[str, Any] = {"limit": 200, "after": page["next"]}
            answer = await service.client.get(path, params=query, headers=ONCE)
            assert answer.status_code == 200
            items: list[dict[str, Any]] = answer.json()["items"]
            return items

        read = page["items"] + await eventually(rest)
        assert [item["clientMessageId"] for item in read] == [
            body["clientMessageId"] for body in bodies
        ]
        pool.terminate()
    await databases.give_back(given)


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
