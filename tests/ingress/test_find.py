"""Messages are found by what people have at hand, and only those that their key may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from redis.asyncio import Redis

from tests.ingress.conftest import Service, Start, message, working
from tests.support.eventually import eventually
from transport.contract import Topic


def _entry(name: str, rest: str) -> str:
    return f"{name}:{rest.partition(':')[0]}:{sha256(f'cf_{name}'.encode()).hexdigest()}" + (
        f":{rest.partition(':')[2]}" if ":" in rest else ""
    )


KEYS = {
    "api_keys": ",".join([_entry("all", "produce+read+admin"), _entry("ours", "read:sender=ann")])
}


async def _ask(service: Service, path: str, key: str = "all", **query: object) -> Any:
    answer = await service.client.get(
        f"/api/console/{path}", params=query, headers={"X-API-Key": f"cf_{key}"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _found(service: Service, q: str, key: str = "all") -> dict[str, list[str]]:
    found = await _ask(service, "search", key, q=q)
    return {item["messageId"]: item["matched"] for item in found["items"]}


async def _listed(service: Service, key: str = "all", **query: object) -> list[str]:
    """Return all ids of a listing. A page ends early where PostgreSQL is slow, and says so."""
    listed: list[str] = []
    after: dict[str, object] = {}
    while True:
        page = await _ask(service, "messages", key, **query, **after)
        listed += [item["messageId"] for item in page["items"]]
        if page["next"] is None:
            return listed
        after = {"after": page["next"]}


async def _post(service: Service, number: int, **changes: Any) -> str:
    answer = await service.client.post(
        "/api/messages", json=message(number, **changes), headers={"X-API-Key": "cf_all"}
    )
    identifier: str = answer.json()["messageId"]
    return identifier


async def _stands(service: Service, conversation: str) -> list[tuple[int, str]]:
    """Where the messages of a conversation stand in the log."""
    return [
        (record.partition, record.offset)
        for partition in range(service.transport.partitions)
        for record in await service.transport.read(Topic.MESSAGES, partition)
        if record.key == conversation
    ]


async def test_a_message_is_found_by_its_place_while_it_waits_and_when_it_is_a_row(
    start: Start,
    redis: Redis,
) -> None:
    service = await start(**KEYS)
    identifier = await _post(service, 1, conversationId="here", senderId="ann")
    ((partition, offset),) = await _stands(service, "here")
    written = (
        f"redis {partition}:{offset}", f"redis {partition}/{offset}", f"Redis:{partition}:{offset}",
        f"redis, partition {partition}, at {offset}",
    )  # fmt: skip
    for text in written:
        found = await _ask(service, "search", q=text)
        (one,) = found["items"]
        assert (one["messageId"], one["state"], one["matched"]) == (
            identifier, "pending", ["log position"],
        )  # fmt: skip
        assert one["position"] == {"transport": "redis", "partition": partition, "offset": offset}
    async with working(service):
        await eventually(lambda: _is(service, written[0], "persisted"))


async def _is(service: Service, text: str, state: str) -> bool:
    found = await _ask(service, "search", q=text)
    return [item["state"] for item in found["items"]] == [state]


async def test_a_place_where_nothing_can_stand_says_why(start: Start) -> None:
    service = await start(**KEYS)
    for text, note in (
        ("redis 3:no-offset", "is no entry id"),
        ("redis 99:1-0", "has the partitions 0 to 15"),
        ("redis 3:1-0", "has no record there (any more), and rows"),
        ("redis 3:18446744073709551615-0", "has no record there"),
    ):
        found = await _ask(service, "search", q=text)
        assert found["items"] == []
        assert note in found["note"]
        assert (await _ask(service, "search", "ours", q=text))["note"] is None
    assert (await _ask(service, "search", q="pulsar 3:1-0"))["note"] is None


async def test_a_record_that_is_no_message_is_named_as_one(start: Start, redis: Redis) -> None:
    service = await start(**KEYS)
    await redis.xadd("msg:stream:3", {"body": "junk"}, id="77-0")
    found = await _ask(service, "search", q="redis 3:77-0")
    (one,) = found["items"]
    assert (one["messageId"], one["position"]["offset"]) == (None, "77-0")
    assert "is not a message" in found["note"]
    assert (await _ask(service, "search", "ours", q="redis 3:77-0")) == {
        "items": [], "more": False, "note": None, "incomplete": None,
    }  # fmt: skip


async def test_the_beginning_of_an_id_is_enough(start: Start) -> None:
    service = await start(**KEYS)
    identifier = await _post(service, 1, senderId="ann")
    beginnings = [identifier[:n] for n in (6, 8, 9, 12, 20, 35)]
    beginnings += [identifier[:8].upper(), f"{identifier[:8]}…", identifier.replace("-", "")[:20]]
    as_beginning = {identifier: ["beginning of the message id"]}
    for text in beginnings:
        assert await _found(service, text) == as_beginning, text
    async with working(service):
        await eventually(lambda: _is(service, identifier, "persisted"))
    for text in beginnings:
        assert await _found(service, text) == as_beginning, text
    assert (await _found(service, identifier))[identifier][0] == "message id"
    for text in (identifier[:5], f"{identifier[:6]}-", f"-{identifier[:8]}", f"{identifier[:8]}zz"):
        assert await _found(service, text) == {}, text


async def test_a_dead_letter_is_found_by_its_number(
    start: Start, index_dead_letters: Callable[[Service], Awaitable[None]], redis: Redis
) -> None:
    service = await start(**KEYS)
    await redis.xadd("msg:stream:3", {"body": "junk"}, id="*")
    async with working(service, stream_max_retries=1):
        await index_dead_letters(service)

        async def listed() -> bool:
            await index_dead_letters(service)
            letters = await _ask(service, "dead-letters")
            return bool(letters["items"])

        await eventually(listed)
    async with service.pool.acquire() as connection:
        number = await connection.fetchval("SELECT id FROM dead_letters")
    for text in (f"{number}", f"#{number}", f"dead letter {number}"):
        found = await _ask(service, "search", q=text)
        assert [(item["deadLetterId"], item["matched"]) for item in found["items"]] == [
            (number, ["dead letter"])
        ]
        assert (await _ask(service, "search", "ours", q=text))["items"] == []


async def test_a_conversation_is_listed_page_by_page_newest_first(start: Start) -> None:
    service = await start(**KEYS)
    sent = [await _post(service, n, conversationId="long", senderId="ann") for n in range(25)]
    async with working(service):
        await eventually(lambda: _rows(service, 25))
    sent.append(await _post(service, 25, conversationId="long", senderId="bob"))  # waits
    pages, after = [], None
    while True:
        page = await _ask(
            service,
            "messages",
            conversation="long",
            limit=10,
            **({"after": after} if after else {}),
        )
        pages.append([item["messageId"] for item in page["items"]])
        after = page["next"]
        if after is None:
            break
    assert [identifier for page in pages for identifier in page] == sent[::-1]
    assert [len(page) for page in pages] == [11, 10, 5]


async def _rows(service: Service, count: int) -> bool:
    return len(await service.rows()) == count


async def test_a_sender_and_the_last_minutes_are_listed(start: Start) -> None:
    service = await start(**KEYS)
    ann = [await _post(service, n, conversationId=f"c{n}", senderId="ann") for n in range(3)]
    bob = await _post(service, 9, conversationId="c9", senderId="bob")
    for settled in (False, True):
        if settled:
            async with working(service):
                await eventually(lambda: _rows(service, 4))
            async with service.pool.acquire() as connection:
                await connection.execute(
                    "UPDATE messages SET created_at = now() - interval '3 hours' WHERE id = $1", bob
                )

        async def ids(**query: object) -> set[str]:
            return set(await _listed(service, **query))

        assert await ids(sender="ann") == set(ann)
        assert await ids(sender="bob") == {bob}
        assert await ids(sender="ann", conversation="c1") == {ann[1]}
        assert await ids(minutes=5) == {*ann} if settled else {*ann, bob}
        assert await ids(minutes=600) == {*ann, bob}
        assert await ids() == {*ann, bob}
        assert await ids(sender="nobody") == set()


async def test_a_key_with_a_prefix_lists_its_own(start: Start) -> None:
    service = await start(**KEYS)
    ann = await _post(service, 1, conversationId="shared", senderId="ann")
    await _post(service, 2, conversationId="shared", senderId="bob")
    for settled in (False, True):
        if settled:
            async with working(service):
                await eventually(lambda: _rows(service, 2))
        for query in ({}, {"minutes": 5}, {"conversation": "shared"}, {"sender": "ann"}):
            assert await _listed(service, "ours", **query) == [ann]
    answer = await service.client.get(
        "/api/console/messages", params={"sender": "bob"}, headers={"X-API-Key": "cf_ours"}
    )
    assert answer.status_code == 403


async def test_a_cursor_is_of_one_listing(start: Start) -> None:
    service = await start()
    for after in ("", "x", ".", "AAAA.AAAA", "a" * 64):
        answer = await service.client.get("/api/console/messages", params={"after": after})
        assert answer.status_code == 422
    for n in range(3):
        await service.post(message(n, conversationId="c", senderId="ann"))
    async with working(service):
        await eventually(lambda: _rows(service, 3))
    query: dict[str, Any] = {"conversation": "c", "limit": 2}
    first = (await service.client.get("/api/console/messages", params=query)).json()
    query |= {"after": first["next"]}
    assert (await service.client.get("/api/console/messages", params=query)).status_code == 200
    query |= {"conversation": "d"}
    assert (await service.client.get("/api/console/messages", params=query)).status_code == 422
