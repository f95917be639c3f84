"""A log is looked into page by page: bounded, in both directions, and only where a key may."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from tests.ingress.conftest import Service, Start, message
from transport.contract import Topic

_PARTITION = 3
_PATH = f"/api/console/logs/redis/partitions/{_PARTITION}/records"
_LAST_ID = f"{2**64 - 1}-{2**64 - 1}"


async def _page(service: Service, **query: object) -> dict[str, Any]:
    answer = await service.client.get(_PATH, params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def _append(redis: Redis, *fields: str | bytes, offset: str = "*") -> str:
    """Append an entry as somebody else's program would; return its id."""
    stream = f"msg:stream:{_PARTITION}"
    entry: bytes = await redis.execute_command("XADD", stream, offset, *fields)
    return entry.decode()


async def test_a_partition_is_paged_through_in_both_directions(
    service: Service, redis: Redis
) -> None:
    offsets = [await _append(redis, "body", f"{n}", offset=f"{1000 + n}-0") for n in range(25)]
    newest = await _page(service, limit=10)
    assert [item["offset"] for item in newest["items"]] == offsets[15:]
    assert (newest["atBeginning"], newest["atEnd"]) == (False, True)
    pages, page = [newest], newest
    while not page["atBeginning"]:
        page = await _page(service, limit=10, before=page["first"])
        pages.append(page)
    assert [item["offset"] for page in pages[::-1] for item in page["items"]] == offsets
    forwards, page = [], await _page(service, limit=10, beginning=True)
    while not page["atEnd"]:
        forwards += page["items"]
        page = await _page(service, limit=10, after=page["last"])
    assert [item["offset"] for item in forwards + page["items"]] == offsets
    assert [item["offset"] for item in (await _page(service, at="1007-0"))["items"]] == offsets[7:]
    from_time = await _page(service, time="1970-01-01T00:00:01.020Z", limit=2)
    assert [item["offset"] for item in from_time["items"]] == ["1020-0", "1021-0"]
    empty = await _page(service, after=offsets[-1])
    assert (empty["items"], empty["first"], empty["atEnd"]) == ([], None, True)


async def test_a_record_is_shown_with_its_bytes_headers_and_what_it_is(
    service: Service, redis: Redis
) -> None:
    body = b"\xff\x00<script>"
    offset = await _append(
        redis, "key", b"\xfekey", "body", body, "odd\xe9", "x" * 900, "traceparent", b"\xfd"
    )
    (one,) = (await _page(service))["items"]
    assert b64decode(one["bodyBase64"]) == body
    assert (one["kind"], one["messageId"], one["key"]) == ("unreadable", None, "\\xfekey")
    assert one["error"]
    assert one["place"] == f"redis {_PARTITION}:{offset}"
    headers = {header["name"]: header["value"] for header in one["headers"]}
    assert headers["traceparent"] == "\\xfd"
    assert headers["odd\xe9"] == "x" * 500 + "…"
    posted = await service.post(message(conversationId="room"))
    (record,) = [
        record
        for partition in range(service.transport.partitions)
        for record in await service.transport.read(Topic.MESSAGES, partition)
        if record.key == "room"
    ]
    path = f"/api/console/logs/redis/partitions/{record.partition}/records"
    page = (await service.client.get(path, params={"at": record.offset})).json()
    (one,) = page["items"]
    assert (one["kind"], one["conversationId"], one["senderId"], one["messageId"]) == (
        "message", "room", "user_001", posted.json()["messageId"],
    )  # fmt: skip
    assert one["appendedAt"] == record.appended_at


async def test_a_page_is_bounded_in_bytes_however_large_records_are(
    service: Service, redis: Redis
) -> None:
    large = "x" * 1_500_000
    offsets = [await _append(redis, "body", large) for _ in range(8)]
    offsets += [await _append(redis, "body", "small") for _ in range(5)]
    pages: list[list[str]] = []
    page = await _page(service, beginning=True)
    while True:
        pages.append([item["offset"] for item in page["items"]])
        if page["atEnd"]:
            break
        page = await _page(service, after=page["last"])
    assert [offset for page in pages for offset in page] == offsets
    assert len(pages[0]) == 3  # the third passes the 4 MiB
    (first, *_) = (await _page(service, beginning=True, limit=1))["items"]
    assert len(b64decode(first["bodyBase64"])) == 16 * 1024
    assert (first["bodySize"], first["size"]) == (1_500_000, 1_500_000)
    many = [f"h{n}" for n in range(3000)]
    await _append(redis, "body", "x", *[part for name in many for part in (name, "v")])
    (last,) = (await _page(service, limit=1))["items"]
    assert (len(last["headers"]), last["moreHeaders"]) == (50, 2950)


async def test_a_page_beyond_either_end_of_the_offsets_is_empty(
    service: Service, redis: Redis
) -> None:
    offsets = [await _append(redis, "body", f"{n}", offset=f"{1000 + n}-0") for n in range(3)]
    for edge in ("0", "0-0"):
        before = await _page(service, before=edge)
        assert (before["items"], before["first"], before["atBeginning"]) == ([], None, True)
        for place in ("after", "at"):
            page = await _page(service, **{place: edge})
            assert [item["offset"] for item in page["items"]] == offsets
    for edge in (_LAST_ID, str(2**64 - 1)):
        after = await _page(service, after=edge)
        assert (after["items"], after["last"], after["atEnd"]) == ([], None, True)
        assert (await _page(service, at=edge))["items"] == []
        page = await _page(service, before=edge)
        assert [item["offset"] for item in page["items"]] == offsets
    for time in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        page = await _page(service, time=time)
        assert [item["offset"] for item in page["items"]] == (offsets if time < "1" else [])


@pytest.mark.parametrize("count", [16, 100, 116])  # as many as one step of a read returns
async def test_a_page_that_ends_with_the_highest_id_is_read_to_its_end(
    service: Service, redis: Redis, count: int
) -> None:
    offsets = [await _append(redis, "body", "x", offset=f"{n}-1") for n in range(1, count)]
    offsets.append(await _append(redis, "body", "last", offset=_LAST_ID))
    for place in ({"beginning": True}, {"at": offsets[0]}, {}):
        page = await _page(service, limit=200, **place)
        assert [item["offset"] for item in page["items"]] == offsets


async def test_what_is_no_place_is_refused_with_the_field_named(service: Service) -> None:
    async def ask(path: str = _PATH, **query: object) -> httpx.Response:
        return await service.client.get(path, params=query)

    for name in ("after", "before", "at"):
        answer = await ask(**{name: "no-offset"})
        assert answer.status_code == 422, name
        assert answer.json()["errors"][0]["field"] == name
    assert (await ask(time="yesterday")).status_code == 422
    assert (await ask(at="1-0", before="2-0")).status_code == 422
    assert (await ask(limit=201)).status_code == 422
    assert (await ask(_PATH.replace("redis", "kafka"))).status_code == 404
    assert (await ask(_PATH.replace("/3/", "/16/"))).status_code == 404
    assert (await ask(_PATH.replace("/3/", "/1/"), topic="dead_letters")).status_code == 404
    assert (await ask(_PATH.replace("/3/", "/0/"), topic="dead_letters")).status_code == 200
    logs = (await ask("/api/console/logs")).json()
    assert logs == {
        "items": [{"name": "redis", "roles": ["primary", "consumed"], "partitions": 16}]
    }


async def test_a_key_with_a_prefix_sees_its_own_records(start: Start, redis: Redis) -> None:
    digest = {name: sha256(f"cf_{name}".encode()).hexdigest() for name in ("all", "ann", "none")}
    service = await start(
        api_keys=f"all:produce+read:{digest['all']},ann:read:{digest['ann']}:sender=ann,"
        f"none:produce:{digest['none']}"
    )
    for number, sender in enumerate(("ann", "bob", "ann:2")):
        body = message(number, senderId=sender, conversationId="room")
        answer = await service.client.post(
            "/api/messages", json=body, headers={"X-API-Key": "cf_all"}
        )
        assert answer.status_code == 202
    await _append(redis, "body", "junk")
    seen: dict[str, list[str | None]] = {"all": [], "ann": []}
    for name, senders in seen.items():
        for partition in range(service.transport.partitions):
            answer = await service.client.get(
                f"/api/console/logs/redis/partitions/{partition}/records",
                headers={"X-API-Key": f"cf_{name}"},
            )
            senders += [item["senderId"] for item in answer.json()["items"]]
    assert sorted(seen["all"], key=str) == [None, "ann", "ann:2", "bob"]
    assert sorted(seen["ann"], key=str) == ["ann", "ann:2"]
    for name, path, status in (
        ("ann", f"{_PATH.replace('/3/', '/0/')}?topic=dead_letters", 403),
        ("all", f"{_PATH.replace('/3/', '/0/')}?topic=dead_letters", 200),
        ("none", _PATH, 403),
        ("nobody", _PATH, 401),
    ):
        answer = await service.client.get(path, headers={"X-API-Key": f"cf_{name}"})
        assert answer.status_code == status, (name, path)
