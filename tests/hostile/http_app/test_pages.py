"""What is read back is bounded in bytes and in items, whatever was written."""

from __future__ import annotations

import asyncio
import json
import socket
from base64 import b64decode
from collections.abc import Callable
from hashlib import sha512
from typing import Any, Self

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from ingress.http1.connection import HttpConnection
from persistence.database.pool import connect
from persistence.dead_letters.dead_letters import DeadLetters
from persistence.errors import Outage
from persistence.settings import PersistenceSettings
from tests.ingress.conftest import Service, Start, message, working
from tests.support.blocked import watching
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from transport.clock import now
from transport.contract import DeadLetter, Reason, Record, Topic, Transport
from transport.errors import TransportUnavailable
from transport.message.identity import partition_of

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
    """A client that asks for a page, by default of the conversation, and does not read it."""

    def __init__(
        self, service: Service, path: str = "/api/conversations/test_conv_001/messages"
    ) -> None:
        self._service = service
        self._path = path
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
        question = "&" if "?" in self._path else "?"
        path = f"{self._path}{question}limit=200".encode()
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


async def _logged(service: Service, count: int) -> tuple[str, list[Record]]:
    """Post large messages; return the path of their partition's records, and these."""
    bodies = [message(n, content=f"{n:>6000}") for n in range(count)]
    answer = await service.client.post("/api/messages:batch", json=bodies, headers=ONCE)
    partition = partition_of(answer.json()[0]["messageId"], service.transport.partitions)
    records = await service.transport.read(Topic.MESSAGES, partition)
    assert len(records) == count
    return f"/api/console/logs/redis/partitions/{partition}/records", list(records)


async def _dead(service: Service, count: int, index: Callable[[Service], Any]) -> list[int]:
    """Make dead letters with long errors; return their ids, newest first."""
    _, records = await _logged(service, count)
    letters = [
        DeadLetter(record, Reason.REJECTED, f"\u20ac{number:>3900}", 1, now())
        for number, record in enumerate(records)
    ]
    await service.transport.dead_letter(letters)
    await index(service)
    path = "/api/dead-letters?limit=10"
    ids: list[int] = []
    while len(ids) < count:
        page = (await service.client.get(path, headers=ONCE)).json()
        ids += [item["id"] for item in page["items"]]
        path = f"/api/dead-letters?limit=10&after={page['next']}"
    return ids


@pytest.mark.parametrize("place", ["beginning=true", ""], ids=["beginning", "end"])
async def test_records_that_are_not_read_hold_one_piece_of_their_page(
    service: Service, place: str
) -> None:
    path, records = await _logged(service, 100)
    with _Unread(service, f"{path}?{place}" if place else path) as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        assert 0 < there.held <= 64 * 1024 + 2 * 10_000
        page = await unread.read()
    assert [item["offset"] for item in page["items"]] == [record.offset for record in records]
    assert [b64decode(item["bodyBase64"]) for item in page["items"]] == [
        record.body for record in records
    ]
    ends = (page["first"], page["last"], page["atBeginning"], page["atEnd"])
    assert ends == (records[0].offset, records[-1].offset, not place, True)


async def test_records_that_are_removed_while_their_page_is_sent_are_left_out(
    service: Service, redis: Redis
) -> None:
    path, records = await _logged(service, 100)
    with _Unread(service, path) as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        stream = f"msg:stream:{records[0].partition}"
        await redis.xdel(stream, *(record.offset for record in records[20:90]))
        page = await unread.read()
    expected = [record.offset for record in records]
    assert [item["offset"] for item in page["items"]] == expected[:20] + expected[90:]


async def test_a_page_of_records_ends_early_when_the_log_fails_while_it_is_sent(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, records = await _logged(service, 100)

    async def failing(*_: object, **__: object) -> None:
        raise TransportUnavailable("gone")

    with _Unread(service, path) as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        with monkeypatch.context() as patched:
            patched.setattr(service.transport, "read", failing)
            page = await unread.read()
    assert 0 < len(page["items"]) < len(records)
    assert (page["last"], page["atEnd"]) == (page["items"][-1]["offset"], False)
    answer = await service.client.get(
        path, params={"after": page["last"], "limit": 200}, headers=ONCE
    )
    read = page["items"] + answer.json()["items"]
    assert [item["offset"] for item in read] == [record.offset for record in records]


async def test_dead_letters_that_are_not_read_hold_one_piece_of_their_page(
    service: Service, index_dead_letters: Callable[[Service], Any]
) -> None:
    ids = await _dead(service, 150, index_dead_letters)
    with _Unread(service, "/api/dead-letters") as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        assert 0 < there.held <= 64 * 1024 + 2 * 6_000
        page = await unread.read()
    assert [item["id"] for item in page["items"]] == ids
    assert [int(item["error"][1:]) for item in page["items"]] == list(reversed(range(150)))
    assert (page["next"], page["hasMore"]) == (None, False)


async def test_a_page_of_dead_letters_ends_early_when_postgresql_fails_while_it_is_sent(
    service: Service,
    index_dead_letters: Callable[[Service], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await _dead(service, 150, index_dead_letters)

    async def failing(*_: object, **__: object) -> None:
        raise Outage("gone")

    with _Unread(service, "/api/dead-letters") as unread:
        there = await unread.ask()
        await eventually(lambda: there.is_unread)
        with monkeypatch.context() as patched:
            patched.setattr(DeadLetters, "list", failing)
            page = await unread.read()
    assert 0 < len(page["items"]) < len(ids)
    assert page["hasMore"] is True
    query: dict[str, Any] = {"after": page["next"], "limit": 200}
    rest = await service.client.get("/api/dead-letters", params=query, headers=ONCE)
    assert [item["id"] for item in page["items"] + rest.json()["items"]] == ids


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
