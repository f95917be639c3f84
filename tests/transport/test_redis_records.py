"""Entries of foreign programs, as odd as they come, go into a dead letter untouched."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.persistence.samples import message
from tests.transport.settler import settle
from transport.clock import now
from transport.conformance.envelopes import messages
from transport.contract import (
    WORKER_GROUP,
    Appended,
    DeadLetter,
    Reason,
    Remembered,
    Topic,
)
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import seal_message
from transport.redis import RedisTransport
from transport.redis.records import records, sort_key
from transport.shadow.copies import mirrored
from transport.shadow.origin import Origin


async def test_an_entry_of_any_bytes_dies_intact(near: RedisTransport, client: Redis) -> None:
    fields = [b"key", b"\xff\xfe", b"body", b"\x00\x01", b"\xc3(", b"\x80", b"empty", b""]
    await client.execute_command("XADD", "msg:stream:0", "*", *fields)
    (record,) = await near.read(Topic.MESSAGES, 0)
    await near.dead_letter([DeadLetter(record, Reason.UNDECODABLE, "why", 1, now())])
    ((_, stands),) = await client.xrange("msg:dlq")
    assert dict(zip(fields[::2], fields[1::2], strict=True)).items() <= stands.items()
    (letter,) = await near.read(Topic.DEAD_LETTERS, 0)
    back = dead_letter_of(letter).record
    assert (back.key, back.body, back.headers) == (record.key, record.body, record.headers)


@pytest.mark.parametrize("traceparent", [None, f"00-{'ab' * 16}-{'cd' * 8}-01"])
@pytest.mark.parametrize("home", [3, 1])
async def test_a_copy_has_its_headers_in_their_order(
    near: RedisTransport, client: Redis, home: int, traceparent: str | None
) -> None:
    """An append names the first headers of nearly every record once, and a copy has more."""
    original = seal_message(message(), partitions=16, traceparent=traceparent)
    original = msgspec.structs.replace(original, partition=3)
    copy = mirrored(original, Origin("redis", 3, "7-1"), "sync", home=home)
    other = msgspec.structs.replace(
        copy, message_id=f"{copy.message_id[:-1]}0", headers={**copy.headers, "contentType": "x"}
    )
    outcomes = await near.publish([copy, other, copy])
    assert [type(outcome) for outcome in outcomes] == [Appended, Appended, Remembered]
    stands = await client.xrange(f"msg:stream:{home}")
    for sent, (_, fields) in zip((copy, other), stands, strict=True):
        wanted = {"key": sent.key, "body": sent.body.decode(), **sent.headers}
        found = [(k.decode(), v.decode()) for k, v in fields.items()]
        assert found[0][0] == "appendedAt"
        assert found[1:] == list(wanted.items())


async def test_an_entry_without_a_body_is_a_record_with_an_empty_one(
    near: RedisTransport, client: Redis
) -> None:
    await client.xadd("msg:stream:0", {"payload": "in another field"})
    (record,) = await settle(near, 1)
    assert (record.key, record.body) == ("", b"")
    assert record.headers == {"payload": b"in another field"}


@pytest.mark.parametrize(
    ("one", "next_one"),
    [
        (f"{2**53}-0", f"{2**53 + 1}-0"),
        (f"1-{2**53}", f"1-{2**53 + 1}"),
        ("18446744073709551614-18446744073709551614", "18446744073709551614-18446744073709551615"),
    ],
)
async def test_ids_that_a_lua_number_can_not_tell_apart_are_counted_one_by_one(
    near: RedisTransport, client: Redis, one: str, next_one: str
) -> None:
    async def lag() -> tuple[int | None, str | None]:
        (progress, *_) = await near.progress(Topic.MESSAGES, group=WORKER_GROUP)
        return progress.lag, progress.floor

    await client.execute_command("XADD", "msg:stream:0", one, "body", "1")
    (record,) = await settle(near, 1)
    await client.execute_command("XADD", "msg:stream:0", next_one, "body", "2")
    for _ in range(2):
        assert await lag() == (1, one)
        (following,) = await near.read(Topic.MESSAGES, 0, after=one)
        assert following.offset == next_one
        await near.publish_positions(Topic.MESSAGES, {0: one}, group=WORKER_GROUP)
    await settle(near, 1, after=record)
    assert await lag() == (0, next_one)


async def test_the_time_of_an_append_is_the_servers(near: RedisTransport) -> None:
    before = time.time()
    await near.publish(messages(["x"], partition=0, of=near))
    (record,) = await near.read(Topic.MESSAGES, 0)
    assert before - 1 < record.appended_at < time.time() + 1


@given(st.dictionaries(st.binary(max_size=10), st.binary(max_size=20), max_size=8))
def test_any_fields_become_a_record_that_still_has_them_all(fields: dict[bytes, bytes]) -> None:
    flat = [part for pair in fields.items() for part in pair]
    (record,) = records(Topic.MESSAGES, 0, [(b"1700000000123-7", flat)])
    kept = {
        name.encode("utf-8", "surrogateescape"): value for name, value in record.headers.items()
    }
    if b"body" in fields:
        kept[b"body"] = record.body
    if b"key" in fields:
        kept[b"key"] = record.key.encode("utf-8", "surrogateescape")
    assert kept == fields
    assert record.appended_at == pytest.approx(1_700_000_000.123)


@given(st.lists(st.tuples(st.integers(0, 2**48), st.integers(0, 2**60)), min_size=2))
def test_offsets_sort_as_redis_sorts_ids(ids: list[tuple[int, int]]) -> None:
    offsets = [f"{ms}-{sequence}" for ms, sequence in ids]
    assert [sort_key(offset) for offset in sorted(offsets, key=sort_key)] == sorted(ids)
