"""One batch, one statement: duplicates, conflicts, receipts, all or nothing."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from persistence.errors import Rejected
from persistence.reads.messages import conversation
from persistence.store import classification
from persistence.store.batch import Written
from persistence.tables.columns import message_of, receipt_of
from tests.persistence.samples import message, placed, receipt
from transport.contract import Reason

NOTHING = """
SELECT id::text, idempotency_key, fingerprint FROM messages WHERE id = ANY($1::uuid[]) AND false
"""


async def contents(pool, conversation="conv"):
    rows = await pool.fetch(
        "SELECT content FROM messages WHERE conversation_id = $1 ORDER BY seq", conversation
    )
    return [row["content"] for row in rows]


async def test_a_message_becomes_a_row_with_everything_it_came_with(writer, fence, database_pool):
    event = message(recipient_ids=("b,ob", 'quo"te', "back\\slash", "", "NULL", "{}", "ünï"))
    stored = placed(event)
    assert await writer.write([stored], fence) == Written([0], [], [])
    row = await database_pool.fetchrow("SELECT * FROM messages")
    assert str(row["id"]) == event.message_id
    assert row["idempotency_key"] == event.idempotency_key
    assert tuple(row["recipient_ids"]) == event.recipient_ids
    assert (row["transport"], row["partition"], row["log_offset"]) == ("redis", 0, stored.offset)
    assert row["accepted_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ") == event.accepted_at
    assert (row["content"], row["correlation_id"]) == (event.content, event.correlation_id)


async def test_a_row_has_the_usual_values_also_where_none_of_its_batch_was_sent(
    writer, fence, database_pool
):
    """A column in which each record has the usual value is sent empty."""
    usual = [placed(message("a")), placed(message("b"))]
    mixed = [
        msgspec.structs.replace(placed(message("c")), attempts=3),
        msgspec.structs.replace(placed(message("d")), trace_id="f" * 32),
    ]
    assert await writer.write(usual, fence) == Written([0, 1], [], [])
    assert await writer.write(mixed, fence) == Written([0, 1], [], [])
    rows = await database_pool.fetch(
        "SELECT attempts, trace_id, payload_key, payload_bytes FROM messages ORDER BY seq"
    )
    assert [tuple(row) for row in rows] == [
        (1, None, None, None),
        (1, None, None, None),
        (3, None, None, None),
        (1, "f" * 32, None, None),
    ]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "text", ["", " ", "NULL", "{}", '{"a","b"}', '"', "\\", ",", "\x1f", "\x1fa\x1f", "ünï\x1f😀"]
)
async def test_a_row_has_each_text_as_it_came(writer, fence, database_pool, text, count):
    """Texts of a batch go as one, with a separator that none of them has."""
    events = [
        message(
            f"{number}{text}",
            f"conv{text}",
            text,
            sender=f"{text}alice",
            correlation_id=text,
            recipient_ids=(text,),
        )
        for number in range(count)
    ]
    receipts = [receipt(event, f"{text}bob") for event in events]
    records = [msgspec.structs.replace(placed(event), offset="") for event in [*events, *receipts]]
    written = await writer.write(records, fence)
    assert written == Written(list(range(2 * count)), [], [])
    assert await writer.write(records, fence) == Written([], list(range(2 * count)), [])
    rows = await database_pool.fetch("SELECT * FROM messages ORDER BY seq")
    assert [message_of(row) for row in rows] == events
    assert {row["log_offset"] for row in rows} == {""}
    rows = await database_pool.fetch("SELECT * FROM message_receipts")
    assert {receipt_of(row) for row in rows} == set(receipts)


async def test_a_repeat_is_a_duplicate_across_batches_and_inside_one(writer, fence, database_pool):
    first, second = placed(message("a")), placed(message("b"))
    assert await writer.write([first, first, second], fence) == Written([0, 2], [1], [])
    assert await writer.write([second, placed(message("c")), first], fence) == Written(
        [1], [0, 2], []
    )
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 3


async def test_the_same_key_with_another_body_is_a_conflict_and_the_first_stays(
    writer, fence, database_pool
):
    batch = [
        placed(message("a", content="first")),
        placed(message("a", content="second")),
        placed(message("a", content="first")),
    ]
    assert await writer.write(batch, fence) == Written([0], [2], [1])
    again = await writer.write([placed(message("a", content="third"))], fence)
    assert again == Written([], [], [0])
    assert await contents(database_pool) == ["first"]


async def test_an_id_that_belongs_to_another_key_is_a_conflict(writer, fence):
    mine = message("a")
    await writer.write([placed(mine)], fence)
    thief = message("b", message_id=mine.message_id)
    assert await writer.write([placed(thief)], fence) == Written([], [], [0])


async def test_a_key_whose_row_has_an_id_of_its_own_is_settled_by_that_row(
    writer, fence, database_pool
):
    """Releases before this one made such rows of other producers' records."""
    await writer.write([placed(message("a", content="first"))], fence)
    await database_pool.execute("UPDATE messages SET id = gen_random_uuid()")
    batch = [
        placed(message("a", content="first")),
        placed(message("b")),
        placed(message("a", content="second")),
    ]
    assert await writer.write(batch, fence) == Written([1], [0], [2])


async def test_a_record_whose_earlier_row_is_gone_by_now_is_a_row_and_no_conflict(
    writer, fence, database_pool, monkeypatch
):
    """It stood in the way of the insert, and a repair removed it before it was looked at."""
    await writer.write([placed(message("a"))], fence)
    monkeypatch.setattr(
        classification, "CLASSIFY", "WITH removed AS (DELETE FROM messages) " + NOTHING
    )
    assert await writer.write([placed(message("a"))], fence) == Written([0], [], [])
    assert await contents(database_pool) == ["hello"]


async def test_a_receipt_may_come_in_the_same_batch_as_its_message(writer, fence, database_pool):
    event = message()
    batch = [placed(event), placed(receipt(event)), placed(receipt(event))]
    assert await writer.write(batch, fence) == Written([0, 1], [2], [])
    assert await writer.write(batch, fence) == Written([], [0, 1, 2], [])
    assert await writer.write([placed(receipt(event, state="read"))], fence) == Written([0], [], [])
    assert await database_pool.fetchval("SELECT count(*) FROM message_receipts") == 2


async def test_a_receipt_without_its_message_refuses_the_batch_and_nothing_is_written(
    writer, fence, database_pool
):
    batch = [placed(message("a")), placed(receipt(message("never sent")))]
    with pytest.raises(Rejected) as refusal:
        await writer.write(batch, fence)
    assert refusal.value.reason is Reason.ORPHAN_RECEIPT
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"content": "secret \x00 nul"},
        {"message_id": "not a uuid"},
        {"accepted_at": "yesterday"},
        {"accepted_at": "2026-11-24T10:00:00"},
        {"idempotency_key": "".join(chr(0x10000 + i * 7) for i in range(3000))},
    ],
    ids=["nul", "id", "time", "no offset", "key too long for its index"],
)
async def test_a_record_that_can_not_be_stored_is_refused_without_quoting_it(writer, fence, broken):
    with pytest.raises(Rejected) as refusal:
        await writer.write([placed(message(**broken))], fence)
    assert refusal.value.reason is Reason.REJECTED
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_a_time_that_no_reader_can_hold_is_refused(writer, fence, database_pool, at):
    """PostgreSQL's years go further than Python's: no query could return such a row."""
    good = message("good")
    late = msgspec.structs.replace(receipt(good), at=at)
    for event in (message("late", accepted_at=at), late):
        with pytest.raises(Rejected, match="9999"):
            await writer.write([placed(good), placed(event)], fence)
    assert await writer.write([placed(good)], fence) == Written([0], [], [])
    rows, _ = await conversation(database_pool, "conv", None, 10, most_bytes=1000)
    assert [row.message for row in rows] == [good]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "2026-01-01T00:00:00+23:59"])
async def test_a_time_is_read_as_it_was_sent(writer, fence, database_pool, at):
    await writer.write([placed(message("c", accepted_at=at))], fence)
    found = await database_pool.fetchval("SELECT accepted_at FROM messages")
    assert found == datetime.fromisoformat(at)


async def test_a_direct_batch_spans_partitions_and_needs_no_fence(writer, database_pool):
    batch = [
        placed(message(f"c{i}"), partition=p, transport="direct")
        for i, p in enumerate((3, 1, 2, 1))
    ]
    assert (await writer.write(batch, None)).persisted == [0, 1, 2, 3]
    partitions = await database_pool.fetch("SELECT partition FROM messages ORDER BY seq")
    assert [row["partition"] for row in partitions] == [3, 1, 2, 1]


async def test_an_empty_batch_needs_no_database(writer, fence):
    assert await writer.write([], fence) == Written([], [], [])
