"""Every dead letter can be listed, read to the byte, and discarded with who and why (promise 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.rows import HEADER_REDRIVES, insert
from persistence.dead_letters.selection import Selection
from persistence.reads.messages import dead_letter_of, dead_lettered
from tests.persistence.loglib import lag
from tests.persistence.samples import message, raw_record, receipt, record
from transport.clock import now
from transport.contract import DeadLetter, Reason, Record, Topic
from transport.message.dead_letters import dead_letter_headers


@pytest.fixture
def dead_letters(database_pool) -> DeadLetters:
    return DeadLetters(database_pool)


def letter(of: Record, reason: Reason = Reason.REJECTED, **more) -> DeadLetter:
    fields = {"error": "why", "attempts": 3, "failed_at": now(), **more}
    return DeadLetter(of, reason, **fields)


@pytest.fixture
async def indexed(start, transport, dead_letters, eventually):
    """Append letters to the log and return their rows, oldest first, once they are there."""
    indexer = start(DeadLetterIndexer, member="i1")

    async def index(*letters: DeadLetter):
        before = sum((await dead_letters.count(state=None)).values())
        await transport.dead_letter(letters)
        await eventually(lambda: _acked(transport))
        rows = await dead_letters.list(state=None, limit=1000)
        return list(reversed(rows))[before:]

    index.indexer = indexer
    return index


async def _acked(transport) -> bool:
    return await lag(transport, Topic.DEAD_LETTERS) == 0


async def test_a_letter_is_listed_with_its_reason_and_read_to_the_byte(indexed, dead_letters):
    body = b"\xff\x00\x01 anything"
    source = raw_record(body, 3, key="k\udcff", headers={"odd": b"\xfe\x00", "plain": b"yes"})
    [row] = await indexed(letter(source, Reason.UNDECODABLE, error="not an envelope"))
    assert (row.reason, row.error, row.attempts) == ("undecodable", "not an envelope", 3)
    assert (row.topic, row.partition, row.offset) == ("messages", 3, source.offset)
    assert (row.kind, row.state, row.size) == ("unknown", "pending", len(body))
    _, contents = await dead_letters.get(row.id)
    assert (contents.body, contents.key) == (body, b"k\xff")
    assert dict(contents.headers) == {b"odd": b"\xfe\x00", b"plain": b"yes"}
    assert await dead_letters.get(row.id + 1) is None


async def test_a_letter_names_its_message_and_a_receipts_letter_is_not_its_messages(
    indexed, database_pool
):
    one, two = message("a"), message("b")
    rows = await indexed(letter(record(one)), letter(record(receipt(two)), Reason.ORPHAN_RECEIPT))
    assert [(r.kind, r.message_id) for r in rows] == [
        ("message", one.message_id),
        ("receipt", two.message_id),
    ]
    assert rows[0].conversation_id == "conv"
    assert (await dead_letter_of(database_pool, one.message_id)).reason == "rejected"
    assert await dead_letter_of(database_pool, two.message_id) is None
    asked = [one.message_id, two.message_id]
    assert await dead_lettered(database_pool, asked) == {one.message_id}


async def test_a_letter_appended_twice_or_delivered_twice_is_one_row(
    indexed, dead_letters, transport, database_pool
):
    twice = letter(record(message()))
    assert len(await indexed(twice, twice, letter(record(message("b"))))) == 2
    await indexed.indexer.stop()
    for dead in await transport.read(Topic.DEAD_LETTERS, 0):
        async with database_pool.acquire() as connection:
            await insert(connection, "redis", [dead])
    assert sum((await dead_letters.count()).values()) == 2


async def test_a_letter_that_stands_twice_in_the_log_is_one_row(database_pool, dead_letters):
    """A log that can't tell a repeated append has it twice; the record that died is one."""
    source = record(message())
    headers = dead_letter_headers(letter(source))
    twice = [raw_record(source.body, key=source.key, headers=headers) for _ in range(2)]
    other = raw_record(
        source.body, key=source.key, headers=dead_letter_headers(letter(record(message())))
    )
    async with database_pool.acquire() as connection:
        await insert(connection, "redis", [*twice, other])
        await insert(connection, "kafka", twice)
    assert await dead_letters.count() == {"rejected": 3}


async def test_filters_and_pages(indexed, dead_letters):
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    await indexed(
        *(letter(record(message(f"c{i}", f"conv{i % 2}")), Reason.REJECTED) for i in range(6)),
        letter(record(message("old", "conv0")), Reason.IDEMPOTENCY_CONFLICT, failed_at=old),
    )
    first = await dead_letters.list(limit=4)
    rest = await dead_letters.list(limit=4, before=first[-1].id)
    ids = [row.id for row in first + rest]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 7
    yesterday = datetime.now(UTC) - timedelta(days=1)

    async def count(**conditions) -> int:
        return len(await dead_letters.list(Selection(**conditions)))

    assert await count(conversation_id="conv0") == 4
    assert await count(reason=Reason.IDEMPOTENCY_CONFLICT) == 1
    assert await count(failed_before=yesterday) == 1
    assert await count(failed_after=yesterday, conversation_id="conv1") == 3
    assert await count(message_id=message("old", "conv0").message_id) == 1
    assert await count(ids=(ids[0], ids[3])) == 2
    assert await count(ids=()) == 0
    assert await dead_letters.count() == {"idempotency_conflict": 1, "rejected": 6}


async def test_what_is_discarded_says_by_whom_and_why_and_stays_listed(
    indexed, dead_letters, database_pool
):
    kept, gone = await indexed(letter(record(message("a"))), letter(record(message("b"))))
    one = Selection(ids=(gone.id,))
    assert await dead_letters.discard(one, by="ann", why="spam", up_to=gone.id) == 1
    assert await dead_letters.discard(one, by="bob", why="again", up_to=gone.id) == 0
    assert [row.id for row in await dead_letters.list()] == [kept.id]
    [row] = await dead_letters.list(state="discarded")
    assert (row.resolved_by, row.resolved_why, row.state) == ("ann", "spam", "discarded")
    assert row.resolved_at
    assert await dead_letter_of(database_pool, gone.message_id) is None


async def test_letters_of_others_with_nonsense_in_our_headers_are_indexed_all_the_same(
    dead_letters, database_pool
):
    """Whatever can stand in the dead-letter log can stand in the table."""
    oddities = [
        Record(Topic.DEAD_LETTERS, 0, f"{i}-0", "\udc80\x00", body, headers, 1.0)
        for i, (body, headers) in enumerate(
            [
                (b"", {}),
                (b"\x00", {"__connect.errors.partition": b"many"}),
                (b"x", {"crossfade.reason": b"whim", "\udcff": b""}),
                (
                    b"y",
                    {"crossfade.failedAt": b"soon", "__connect.errors.exception.message": b"\x00"},
                ),
                (b"z", {"__connect.errors.partition": b"9" * 30, "crossfade.attempts": b"9" * 30}),
                (b"r", {HEADER_REDRIVES: b"9" * 30, "messageId": b"\xff"}),
                (b"[" * 100_000, {"__connect.errors.offset": b"a\x00b"}),
            ]
        )
    ]
    async with database_pool.acquire() as connection:
        await insert(connection, "redis", oddities)
    assert sum((await dead_letters.count()).values()) == len(oddities)
