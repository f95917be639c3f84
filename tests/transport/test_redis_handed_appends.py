"""What a process appends is handed to its own reader only where nothing is in between.

The server keeps the id that it appended last to each stream, and asks for what came after it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis

from tests.support.eventually import eventually
from transport.conformance.envelopes import contents, message, messages, stored
from transport.contract import WORKER_GROUP, Topic
from transport.errors import AppendUnknown
from transport.message.envelope import Message
from transport.redis import RedisTransport
from transport.settings import TransportSettings

PATIENCE = 20.0
ROUNDS = 3
STREAM = "msg:stream:0"
AHEAD = "9000000000000-5"  # as of a server whose clock was two centuries ahead


class Work:
    """What the reader of a partition got, in order, and which of it came from memory."""

    def __init__(self, transport: RedisTransport) -> None:
        self.got: list[str] = []
        self.handed: list[str] = []
        self.events: list[object] = []
        self._transport = transport

    async def run(self) -> None:
        """Read as a worker does: from the last record on, or from the end of a log that lost it."""
        log, after = self._transport, None
        while True:
            if records := await log.read(Topic.MESSAGES, 0, after=after, wait=0.2):
                self.got += contents(records)
                # Envelopes here have a fingerprint, which the server never gets.
                self.handed += contents([it for it in records if it.fingerprint])
                self.events += [it.event for it in records if it.event is not None]
                after = records[-1].offset
            else:
                (progress, *_) = await log.progress(Topic.MESSAGES, group=WORKER_GROUP)
                if after and log.sort_key(progress.end or "0") < log.sort_key(after):
                    after = None

    async def is_handed(
        self, transport: RedisTransport, beside: RedisTransport | None = None
    ) -> None:
        """Append until it is handed that, and forget what it got.

        ``beside`` gets as many records between these.
        """
        deadline = time.monotonic() + PATIENCE
        for number in itertools.count():
            text = f"before {number}"
            if beside is not None:
                await append(beside, text)
            await append(transport, text)
            await eventually(lambda t=text: t in self.got)  # type: ignore[misc]
            if text in self.handed:
                break
            assert time.monotonic() < deadline, "it has to read each"
        self.got.clear()
        self.handed.clear()

    async def has(self, *texts: str) -> None:
        """Wait until it got these, in this order."""
        await eventually(lambda: texts[-1] in self.got)
        assert [text for text in self.got if text in texts] == list(texts)


@asynccontextmanager
async def running(work: Work) -> AsyncIterator[None]:
    """Read the partition while the block runs."""
    task = asyncio.create_task(work.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def working(transport: RedisTransport) -> AsyncIterator[Work]:
    """Read the partition; the next append is handed over."""
    work = Work(transport)
    async with running(work):
        await work.is_handed(transport)
        yield work


async def append(transport: RedisTransport, *texts: str) -> None:
    await transport.publish(messages(texts, partition=0, of=transport))


async def append_as_stranger(
    near: RedisTransport, client: Redis, text: str, *, at: str = "*"
) -> None:
    """Append with a plain command, which no function of ours knows of."""
    body = message(text, partition=0, of=near).body
    await client.xadd(STREAM, {"body": body}, id=at)


async def delete_last(client: Redis) -> None:
    last = str((await client.xinfo_stream(STREAM))["last-generated-id"], "ascii")
    assert await client.xdel(STREAM, last) == 1


@pytest.mark.parametrize("last", ["there", "deleted", "trimmed", "forgotten by the server"])
async def test_a_strangers_record_between_two_of_ours_is_read_in_its_place(
    near: RedisTransport, client: Redis, *, last: str
) -> None:
    async with working(near) as work:
        for _ in range(ROUNDS):
            await work.is_handed(near)
            if last == "deleted":
                await delete_last(client)
            elif last == "trimmed":
                await client.xtrim(STREAM, maxlen=0, approximate=False)
            elif last != "there":
                await client.function_flush()
            await append_as_stranger(near, client, "a stranger's")
            await append(near, "ours")
            await work.has("a stranger's", "ours")


async def test_a_record_after_one_that_was_deleted_is_handed_over(
    near: RedisTransport, client: Redis
) -> None:
    """Nothing stands in between, so nothing has to be read."""
    async with working(near) as work:
        for _ in range(ROUNDS):
            await work.is_handed(near)
            await delete_last(client)
            await append(near, "next")
            await work.has("next")
            if work.handed:
                return
        raise AssertionError("it had to read each")


async def test_a_record_that_is_handed_over_has_the_event_that_was_encoded(
    near: RedisTransport,
) -> None:
    async with working(near) as work:
        for _ in range(ROUNDS):
            await work.is_handed(near)
            envelope = message("encoded", partition=0, of=near)
            event = msgspec.json.decode(envelope.body, type=Message)
            await near.publish([msgspec.structs.replace(envelope, event=event)])
            await work.has("encoded")
            if work.handed:
                assert work.events[-1] is event
                return
        raise AssertionError("it had to read each")


async def test_two_databases_of_a_server_have_logs_of_the_same_name(
    near: RedisTransport, settings: TransportSettings
) -> None:
    other = settings.model_copy(update={"redis_stream_db": settings.redis_stream_db + 1})
    async with (
        RedisTransport.from_settings(other) as beside,
        working(near) as work,
        working(beside) as work_beside,
    ):
        for _ in range(ROUNDS):
            await work.is_handed(near, beside)
            await work_beside.is_handed(beside, near)


@pytest.mark.parametrize("how", ["stream", "server"])
async def test_a_log_that_was_deleted_takes_and_delivers_records(
    near: RedisTransport, client: Redis, *, how: str
) -> None:
    async with working(near) as work:
        await (client.delete(STREAM) if how == "stream" else client.flushall())
        await append(near, "one", "two")
        await eventually(lambda: {"one", "two"} <= set(work.got))
        await append_as_stranger(near, client, "a stranger's")
        await append(near, "three")
        await eventually(lambda: "three" in work.got)
        assert work.got.index("two") < work.got.index("a stranger's") < work.got.index("three")
        await work.is_handed(near)


async def test_a_deleted_log_whose_ids_were_ahead_of_the_clock_is_read(
    near: RedisTransport, client: Redis
) -> None:
    """New ids are later than those before the deletion."""
    async with working(near) as work:
        await append_as_stranger(near, client, "ahead", at=AHEAD)
        await work.is_handed(near)  # with ids after that
        await client.delete(STREAM)
        await append(near, "ours")
        await work.has("ours")


@pytest.mark.parametrize("wait", [0.0, PATIENCE])
async def test_what_is_handed_over_is_what_the_log_has(
    near: RedisTransport, settings: TransportSettings, *, wait: float
) -> None:
    async with working(near) as work, RedisTransport.from_settings(settings) as other:
        pass
    last = (await near.read_back(Topic.MESSAGES, 0, limit=1))[0].offset
    await append(near, "plain")
    traced = message("with more headers", partition=0, of=near)
    more = {**traced.headers, "another": "\u00e9", "content-type": "text/plain"}
    await near.publish([msgspec.structs.replace(traced, headers=more)])
    handed = await near.read(Topic.MESSAGES, 0, after=last, wait=wait)
    assert all(record.fingerprint for record in handed), work.handed
    stands = await other.read(Topic.MESSAGES, 0, after=last)
    assert contents(stands) == ["plain", "with more headers"]
    assert stored(handed) == stands


async def test_two_readers_of_a_partition_both_get_each_record(near: RedisTransport) -> None:
    other = Work(near)
    async with working(near) as one, running(other):
        for number in range(ROUNDS):
            await append(near, f"for both {number}")
        expected = [f"for both {number}" for number in range(ROUNDS)]
        await one.has(*expected)
        await other.has(*expected)


async def test_a_reader_that_is_behind_gets_what_was_appended_meanwhile(
    near: RedisTransport,
) -> None:
    """More than the process keeps: the first from the server, the rest from memory or from it."""
    async with working(near):
        pass
    last = (await near.read_back(Topic.MESSAGES, 0, limit=1))[0].offset
    texts = [f"{number} {'x' * 20_000}" for number in range(600)]
    for first in range(0, len(texts), 50):
        await append(near, *texts[first : first + 50])
    got: list[str] = []
    while len(got) < len(texts):
        records = await near.read(Topic.MESSAGES, 0, after=last, limit=70, wait=PATIENCE)
        assert 1 <= len(records) <= 70
        got += contents(records)
        last = records[-1].offset
    assert got == texts


async def test_what_too_few_replicas_confirmed_is_not_handed_over(
    settings: TransportSettings,
) -> None:
    """The server has no replica. Its reader may get the record, as any reader may."""
    waits = settings.model_copy(update={"redis_wait_replicas": 1, "redis_timeout_ms": 500})
    async with RedisTransport.from_settings(waits) as log:
        reading = asyncio.create_task(log.read(Topic.MESSAGES, 0, wait=PATIENCE))
        await asyncio.sleep(0.1)
        (outcome,) = await log.publish([message("unconfirmed", partition=0, of=log)])
        assert isinstance(outcome, AppendUnknown)
        (record,) = await reading
        assert not record.fingerprint
