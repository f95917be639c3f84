"""Entries and keys of other programs, as odd as Redis allows: each stops only itself."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ResponseError

from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.selection import Selection
from persistence.worker import position_publisher
from tests.persistence.samples import PARTITIONS, message, record
from tests.support.eventually import eventually
from transport.contract import WORKER_GROUP, Envelope, Record, Topic
from transport.errors import TransportUnavailable

from .conftest import Site

LAST_ID = "18446744073709551615-18446744073709551615"
ALL = range(PARTITIONS)


def _wide(pairs: int) -> list[bytes]:
    return [part for n in range(pairs) for part in (b"f%d" % n, b"%d" % n)]


def _body(client: str = "foreign", **changes: Any) -> bytes:
    fields = {
        "type": "message",
        "v": 1,
        "conversationId": "foreign",
        "senderId": "s",
        "clientMessageId": client,
        "content": "x",
        "contentType": "text",
    }
    return json.dumps(fields | changes).encode()


UNDECODABLE: dict[str, list[bytes]] = {
    "4,100 fields": _wide(4100),
    "100,000 fields": _wide(100_000),
    "names of any bytes": [b"\xff\xfe", b"1", b"\x00", b"2", b"", b"3", b"\xed\xa0\x80", b"4"],
    "no field that we know": [b"payload", b"x"],
    "the same field three times": [b"a", b"1", b"a", b"2", b"a", b"3", b"body", b"x"],
    "two bodies and two keys": [b"body", b"1", b"key", b"\xff", b"body", b"2", b"key", b""],
    "an empty body": [b"key", b"k", b"body", b""],
    "a body and no key": [b"body", b"\x80"],
    "8 MB": [b"body", b"x" * (8 << 20), b"more", b"\0" * (1 << 20)],
}


@pytest.mark.parametrize("fields", UNDECODABLE.values(), ids=UNDECODABLE.keys())
async def test_an_undecodable_entry_is_a_letter_with_its_fields_and_its_neighbours_are_rows(
    site: Site, fields: list[bytes]
) -> None:
    good = await site.good(*ALL)
    at = await site.add(0, *fields)
    good += await site.good(*ALL)
    await site.settled()
    assert set(good) == await site.rows()
    stands = await site.dead_letter_fields()
    assert Counter(_pairs(fields)) <= Counter(_pairs(stands))
    letter = (await site.letters())[f"0/{at}"]
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    assert letter["body"] == named.get(b"body", b"")
    assert letter["record_key"] == named.get(b"key", b"")


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize(
    "at",
    [
        "9999999999999-0",  # the year 2286
        "253402300800000-0",  # the year 10000
        "9007199254740993-9007199254740993",  # more than a Lua number can tell from its neighbour
        "9223372036854775808-0",
        "18446744073709551615-0",
    ],
)
async def test_an_id_far_in_the_future_delays_nothing(site: Site, at: str) -> None:
    """The entry, an odd one beside it, and all that follow: their ids are as far ahead."""
    await site.good(1)
    ms = at.partition("-")[0]
    await site.add(1, b"body", _body(), at=at)
    await site.add(1, b"odd", b"1")
    good = await site.good(*ALL, 1)
    await site.settled()
    rows = await site.rows()
    assert set(good) <= rows
    assert len(rows) == 1 + 1 + len(good)
    (letter,) = (await site.letters()).values()
    assert letter["source_offset"].startswith(ms)
    (entry,) = await site.transport.read(Topic.MESSAGES, 1, after=letter["source_offset"], limit=1)
    assert int(entry.offset.partition("-")[0]) >= int(ms)
    assert await site.lost() == 0


async def test_ids_above_what_lua_counts_exactly_are_told_apart(site: Site) -> None:
    """Two neighbours above 2^53: the second one is acknowledged only when it was delivered."""
    big = 2**53
    for last in range(6):
        await site.add(2, b"body", _body(f"{last}"), at=f"{big + last}-{big + last}")
    await site.settled()
    assert len(await site.rows()) == 6
    progress = (await site.transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[2]
    assert progress.floor == f"{big + 5}-{big + 5}"


async def test_a_stream_at_its_last_id_refuses_its_own_appends_alone(site: Site) -> None:
    await site.add(3, b"body", _body(), at=LAST_ID)
    await site.settled()
    refused = record(message("m", "c"), 3)
    (outcome,) = await site.transport.publish([_envelope(refused, 3)])
    assert isinstance(outcome, TransportUnavailable)
    assert "DEL the stream" in str(outcome)
    good = await site.good(0, 1, 2)
    await site.settled()
    assert set(good) <= await site.rows()
    await site.client.delete("msg:stream:3")  # as the error says
    (again,) = await _appended_in_the_end(site, 3)
    await site.settled()
    assert again in await site.rows()
    assert await site.lost() == 0


async def _appended_in_the_end(site: Site, partition: int) -> list[str]:
    found: list[str] = []

    async def appended() -> bool:
        try:
            found[:] = await site.good(partition)
        except AssertionError:
            return False
        return True

    await eventually(appended)
    return found


def _envelope(of: Record, partition: int) -> Envelope:
    headers = {name: value.decode() for name, value in of.headers.items()}
    return Envelope("m", partition, of.key, of.body, headers)


async def test_a_key_that_is_no_stream_stops_its_partition_and_says_the_remedy(site: Site) -> None:
    await site.good(3)
    await site.settled()
    await site.client.set("msg:stream:3", "x")
    (outcome,) = await site.transport.publish([_envelope(record(message("m", "c"), 3), 3)])
    assert isinstance(outcome, TransportUnavailable)
    assert "RENAME or DEL it" in str(outcome)
    good = await site.good(0, 1, 2)

    async def others_are_settled() -> bool:
        progress = await site.transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return [part.lag for part in progress] == [0, 0, 0, None]

    await eventually(others_are_settled)
    assert set(good) <= await site.rows()
    await site.client.delete("msg:stream:3")
    good = await _appended_in_the_end(site, 3)
    await site.settled()
    assert set(good) <= await site.rows()


@pytest.mark.parametrize("side", ["accounts:persistence-workers", "trimmed"])
async def test_a_side_key_of_another_type_is_named_and_keeps_no_record_from_its_row(
    site: Site, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[str] = []
    log = SimpleNamespace(warning=lambda _event, **facts: errors.append(facts["error"]))
    monkeypatch.setattr(position_publisher, "_log", log)
    await site.good(3)
    await site.settled()
    key = f"{{msg:stream:3}}:{side}"
    await site.client.delete(key)
    await site.client.lpush(key, "x")  # type: ignore[misc]
    good = await site.good(0, 1, 2, 3)

    async def others_are_settled() -> bool:
        progress = await site.transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return [part.lag for part in progress] == [0, 0, 0, None]

    await eventually(others_are_settled)
    assert set(good) <= await site.rows()
    named = f"alone, and it is made anew (ResponseError: WRONGTYPE {key} is a list)"
    await eventually(lambda: any(named in error for error in errors))
    await site.client.delete(key)
    await site.settled()


async def test_what_another_consumer_of_our_group_took_is_persisted_all_the_same(
    site: Site,
) -> None:
    """A person reads with our group by hand: those records are pending for them alone."""
    (first,) = await site.good(0)
    await site.settled()

    async def stolen() -> bool:
        await site.good(0)
        taken = await site.client.execute_command(
            "XREADGROUP", "GROUP", WORKER_GROUP, "by-hand", "COUNT", 1, "STREAMS",
            "msg:stream:0", ">",
        )  # fmt: skip
        return bool(taken)

    await eventually(stolen, every=0.001)
    after = await site.good(0, 0)
    await site.settled()
    assert {first, *after} <= await site.rows()
    stood = await site.client.xlen("msg:stream:0")
    assert len(await site.rows()) == stood
    assert await site.lost() == 0


@pytest.mark.parametrize(
    "harm", ["group destroyed", "set forward", "set back", "deleted", "xsetid"]
)
async def test_harm_done_by_hand_is_counted_and_the_partition_goes_on(
    site: Site, harm: str
) -> None:
    await site.good(0)
    await site.settled()
    stream = "msg:stream:0"
    match harm:
        case "group destroyed":
            await site.client.xgroup_destroy(stream, WORKER_GROUP)
        case "set forward":
            await site.client.execute_command("XGROUP", "SETID", stream, WORKER_GROUP, "$")
        case "set back":
            await site.client.execute_command("XGROUP", "SETID", stream, WORKER_GROUP, "0")
        case "deleted":
            for entry, _ in await site.client.xrange(stream):
                await site.client.xdel(stream, entry)
        case "xsetid":
            await site.client.execute_command("XSETID", stream, "9007199254740993-1")
    good = await _appended_in_the_end(site, 0)
    await site.settled()
    assert set(good) <= await site.rows()


@pytest.mark.parametrize("was_read", [False, True])
async def test_a_group_that_was_set_forward_past_unread_records_loses_none(
    unread_site: Site, was_read: bool
) -> None:
    """``was_read``: workers have settled records of these partitions before."""
    site = unread_site
    good = await site.good(*ALL)
    if was_read:
        async with site.working():
            await site.settled()
    good += await site.good(*ALL, *ALL)
    for partition in ALL:
        stream = f"msg:stream:{partition}"
        await site.client.execute_command("XGROUP", "SETID", stream, WORKER_GROUP, "$")
    markers = set(await site.good(*ALL))
    async with site.working():

        async def are_past_the_markers() -> bool:
            return markers <= await site.rows()

        await eventually(are_past_the_markers)
        assert await site.rows() == markers | set(good)


async def test_records_deleted_before_they_are_settled_are_counted_as_lost(
    site: Site, database_pool: Any
) -> None:
    await site.good(1)
    await site.settled()
    async with database_pool.acquire() as lock, lock.transaction():
        await lock.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
        good = await site.good(1)
        at = await site.add(1, b"body", _body())
        assert (await site.transport.progress(Topic.MESSAGES, group=WORKER_GROUP))[1].lag == 2
        await site.client.xdel("msg:stream:1", at)
    good += await site.good(1)
    await site.settled()
    assert set(good) <= await site.rows()
    assert await site.lost() == 1


async def test_a_letter_of_4100_fields_is_redriven_among_others_in_order(site: Site) -> None:
    await site.add(0, *_wide(4100), b"body", b"wide")
    await site.add(0, b"body", b"narrow")
    await site.settled()
    redriver = Redriver(site.pool, site.transport, site.metrics)
    await redriver.wait(await redriver.start(Selection(), by="test"))
    await site.settled()
    entries = await site.client.xrange("msg:stream:0")
    assert [fields[b"body"] for _, fields in entries] == [b"wide", b"narrow"] * 2
    assert len(entries[2][1]) >= 4100
    await redriver.close()


async def test_a_full_server_takes_dead_letters_so_that_their_partition_goes_on(
    site: Site,
) -> None:
    good = await site.good(0)
    at = await site.add(0, b"odd", b"1")
    good += await site.good(0)
    before = (await site.client.config_get("maxmemory"))["maxmemory"]
    await site.client.config_set("maxmemory", "1")
    try:
        await site.settled()
    finally:
        await site.client.config_set("maxmemory", before)
    assert set(good) <= await site.rows()
    assert f"0/{at}" in await site.letters()


async def test_a_letter_that_redis_takes_no_more_is_cut_and_its_partition_goes_on(
    site: Site,
) -> None:
    """``proto-max-bulk-len`` was lowered since. The record itself stays where it was."""
    body = b"x" * (3 << 20)
    name, before = "proto-max-bulk-len", "536870912"
    try:
        at = await site.add(0, b"key", b"k", b"body", body, b"small", b"kept")
        await site.client.config_set(name, 1 << 20)
        good = await site.good(0)
        await site.settled()
    except ResponseError:
        pytest.fail("the server does not let it be set")
    finally:
        await site.client.config_set(name, before)
    assert set(good) <= await site.rows()
    letter = (await site.letters())[f"0/{at}"]
    headers = dict(zip(letter["header_names"], letter["header_values"], strict=True))
    assert headers[b"small"] == b"kept"
    told = json.loads(headers[b"crossfade.cut"])
    assert told["valueBytes"] == len(body)
    assert "cut" in letter["error"]
    assert body.startswith(letter["body"])
    assert letter["body"]


async def test_a_letter_that_is_cut_keeps_no_letter_beside_it_from_the_log(site: Site) -> None:
    name, before = "proto-max-bulk-len", "536870912"
    try:
        async with site.client.pipeline(transaction=True) as both:
            both.xadd("msg:stream:0", {"odd": "1"})
            both.xadd("msg:stream:0", {"body": b"x" * (3 << 20)})
            both.config_set(name, 1 << 20)
            small, large, _ = await both.execute()
        await site.settled()
    except ResponseError:
        pytest.fail("the server does not let it be set")
    finally:
        await site.client.config_set(name, before)
    letters = await site.letters()
    assert list(letters) == [f"0/{small.decode()}", f"0/{large.decode()}"]
    assert [b"crossfade.cut" in letter["header_names"] for letter in letters.values()] == [
        False,
        True,
    ]


async def test_records_too_large_to_be_read_together_are_read_one_by_one(site: Site) -> None:
    for _ in range(4):
        await site.add(0, b"body", b"x" * (5 << 20))
    good = await site.good(0)
    await site.settled()
    assert set(good) <= await site.rows()
    assert len(await site.letters()) == 4
