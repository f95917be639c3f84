"""Reads backwards, from an offset, and from a time."""

from __future__ import annotations

import contextlib
import re

import pytest

from transport.conformance.backend import Backend
from transport.conformance.envelopes import contents, message, messages, until
from transport.contract import READ_BYTES, Record, Topic, Transport
from transport.lookup import record_at


async def _appended(transport: Transport, count: int) -> list[Record]:
    """Append ``count`` messages to the first partition, and return their records."""
    texts = [str(number) for number in range(count)]
    await transport.publish(messages(texts, partition=0, of=transport))
    return list(await transport.read(Topic.MESSAGES, 0))


@pytest.mark.asyncio
async def test_reading_back_gives_what_stands_before_an_offset_in_log_order(
    backend: Backend,
) -> None:
    async with backend.create() as transport:
        records = await _appended(transport, 12)
        back = await transport.read_back(Topic.MESSAGES, 0, before=records[10].offset, limit=4)
        assert list(back) == records[6:10]
        back = await transport.read_back(Topic.MESSAGES, 0, before=records[2].offset, limit=4)
        assert list(back) == records[:2]
        assert not await transport.read_back(Topic.MESSAGES, 0, before=records[0].offset)


@pytest.mark.asyncio
async def test_reading_back_begins_with_the_last_of_the_log(backend: Backend) -> None:
    async with backend.create() as transport:
        assert not await transport.read_back(Topic.MESSAGES, 0)
        records = await _appended(transport, 12)
        assert list(await transport.read_back(Topic.MESSAGES, 0, limit=3)) == records[-3:]
        assert list(await transport.read_back(Topic.MESSAGES, 0, limit=100)) == records
        assert not await transport.read_back(Topic.MESSAGES, 1)


@pytest.mark.asyncio
async def test_one_read_returns_so_many_bytes_and_the_next_goes_on(backend: Backend) -> None:
    """Otherwise a page of a thousand large records could fill the memory of a process."""
    large = "x" * (900 * 1024)
    async with backend.create() as transport:
        texts = [str(number) + large for number in range(8)]
        await transport.publish(messages(texts, partition=0, of=transport))
        stands: list[Record] = []
        pages = 0
        while page := await transport.read(
            Topic.MESSAGES, 0, after=stands[-1].offset if stands else None
        ):
            assert sum(len(record.body) for record in page[:-1]) < READ_BYTES
            stands += page
            pages += 1
        assert contents(stands) == texts
        assert pages == 2
        back = await transport.read_back(Topic.MESSAGES, 0)
        assert sum(len(record.body) for record in back[1:]) < READ_BYTES
        assert 0 < len(back) < len(texts)
        assert list(back) == stands[-len(back) :]
        rest = await transport.read_back(Topic.MESSAGES, 0, before=back[0].offset)
        assert list(rest) == stands[-len(back) - len(rest) : -len(back)]


@pytest.mark.asyncio
async def test_a_log_is_read_from_an_offset_on(backend: Backend) -> None:
    async with backend.create() as transport:
        records = await _appended(transport, 11)
        for index, record in enumerate(records):
            after = transport.offset_before(record.offset)
            read = await transport.read(Topic.MESSAGES, 0, after=after, limit=2)
            assert list(read) == records[index : index + 2]


@pytest.mark.asyncio
async def test_a_log_is_read_from_a_time_on(backend: Backend) -> None:
    async with backend.create() as transport:
        (early,) = await _appended(transport, 1)

        async def later() -> bool:
            """Append a message; return whether the log's clock has moved on."""
            await transport.publish([message("later", partition=0, of=transport)])
            (last,) = await transport.read_back(Topic.MESSAGES, 0, limit=1)
            return last.appended_at > early.appended_at

        await until(later, patience=backend.patience)
        (last,) = await transport.read_back(Topic.MESSAGES, 0, limit=1)

        async def texts(time: float) -> list[str]:
            after = await transport.offset_before_time(Topic.MESSAGES, 0, time)
            return contents(await transport.read(Topic.MESSAGES, 0, after=after))

        assert (await texts(0.0))[0] == "0"
        assert (await texts(early.appended_at))[0] == "0"
        assert await texts(last.appended_at) == ["later"]
        assert await texts(last.appended_at + 3600) == []


@pytest.mark.asyncio
async def test_sort_keys_order_all_offsets_as_the_log_does(backend: Backend) -> None:
    async with backend.create() as transport:
        records = await _appended(transport, 12)
        keys = [transport.sort_key(record.offset) for record in records]
        assert sorted(set(keys)) == keys
        assert max(map(len, keys)) <= 16
        before = transport.offset_before(records[5].offset)
        assert before is not None
        assert keys[4] <= transport.sort_key(before) < keys[5]


@pytest.mark.asyncio
async def test_a_record_is_found_where_it_stands_and_nowhere_else(backend: Backend) -> None:
    async with backend.create() as transport:
        records = await _appended(transport, 12)
        for record in records:
            assert await record_at(transport, Topic.MESSAGES, 0, record.offset) == record
            assert await record_at(transport, Topic.MESSAGES, 1, record.offset) is None
        if (before := transport.offset_before(records[0].offset)) is not None:
            assert await record_at(transport, Topic.MESSAGES, 0, before) is None
        beyond = f"9{records[-1].offset}"
        with contextlib.suppress(ValueError):  # offsets that are no numbers don't begin with one
            assert await record_at(transport, Topic.MESSAGES, 0, beyond) is None


_EDGES = ("0", "0-0", f"{2**63 - 1}", f"{2**64 - 1}-{2**64 - 1}")
"""The lowest and the highest offsets of logs whose offsets are numbers, and of Redis."""


@pytest.mark.asyncio
async def test_a_read_from_the_lowest_or_the_highest_offset_returns_what_is_there(
    backend: Backend,
) -> None:
    async with backend.create() as transport:
        records = await _appended(transport, 3)
        lowest, highest = (transport.sort_key(records[n].offset) for n in (0, -1))
        for edge in _EDGES:
            try:
                key = transport.sort_key(edge)
            except ValueError:
                continue  # no offset of this log
            before = await transport.read_back(Topic.MESSAGES, 0, before=edge)
            after = await transport.read(Topic.MESSAGES, 0, after=edge)
            if key <= lowest:
                assert list(before) == []
                assert list(after) == records[1 if key == lowest else 0 :]
            else:
                assert key > highest
                assert (list(before), list(after)) == (records, [])


_NO_OFFSETS = (
    "", " ", "x", "-1", "1-2-3", "1-", "-", "+", "(1", "1e3", " 1", "1_0", "\u0661", "9" * 40,
)  # fmt: skip
_SAID = re.compile("offset|entry id")


@pytest.mark.asyncio
async def test_what_is_no_offset_is_refused(backend: Backend) -> None:
    async with backend.create() as transport:
        for text in _NO_OFFSETS:
            with pytest.raises(ValueError, match=_SAID):
                transport.offset_before(text)
            with pytest.raises(ValueError, match=_SAID):
                await transport.read_back(Topic.MESSAGES, 0, before=text)
            with pytest.raises(ValueError, match=_SAID):
                transport.sort_key(text)


@pytest.mark.asyncio
async def test_a_log_that_nothing_left_reaches_back_to_every_record(backend: Backend) -> None:
    async with backend.create() as transport:
        assert await transport.reaches(Topic.MESSAGES, 0, after=None)
        records = await _appended(transport, 5)
        assert await transport.reaches(Topic.MESSAGES, 0, after=None)
        for record in records:
            assert await transport.reaches(Topic.MESSAGES, 0, after=record.offset)
