"""Listings from the newest row on, of a table that is too large to be read whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from persistence.errors import TooSlow
from persistence.reads import recent
from persistence.reads.recent import latest
from tests.persistence.samples import message, placed

ROWS = 12_000
_FILL = """
INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,
    client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at, created_at,
    transport, partition, log_offset, seq)
OVERRIDING SYSTEM VALUE
SELECT gen_random_uuid(), n::text, n::text, 'c' || n % 7,
    CASE n % 4000 WHEN 2000 THEN 'rare' ELSE 's' END,
    n::text, '{}', repeat('x', 400), 'text', '', at, at, 'redis', 0, n::text, n
FROM (
    SELECT n, now() - interval '10 days' * (1 - n::float / $1) AS at
    FROM generate_series(1, $1::int) AS n
) AS made ORDER BY made.n
"""


@pytest.fixture
async def full(database_pool):
    """Ten days of rows, three of them of one sender, as the index has them after a while."""
    async with database_pool.acquire() as connection:
        await connection.execute(_FILL.replace("$1", str(ROWS)))
        await connection.execute("SELECT brin_summarize_new_values('messages_created_at_idx')")
    return database_pool


async def test_a_slice_of_time_reads_a_small_part_of_a_large_table(full):
    now = datetime.now(UTC)
    async with full.acquire() as connection:
        pages = await connection.fetchval(
            "SELECT pg_relation_size('messages') / current_setting('block_size')::int"
        )
        plan = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {recent.SLICE}",
            now - timedelta(hours=1), now, recent.LAST, None, 51,
        )  # fmt: skip
    text = "\n".join(row[0] for row in plan)
    assert "Bitmap Index Scan on messages_created_at_idx" in text
    (read,) = re.findall(r"Heap Blocks: lossy=(\d+)", text)
    assert pages > 500
    # The last range may be a second one, which the index has not summarized yet.
    assert int(read) <= 2 * 128


async def test_pages_of_all_rows_skip_none_and_give_none_twice(full):
    async with full.acquire() as connection:
        wanted = [
            row["seq"]
            for row in await connection.fetch(
                "SELECT seq FROM messages ORDER BY seq DESC LIMIT 500"
            )
        ]
    seen, before = [], None
    while len(seen) < 500:
        looked = await latest(full, before=before, limit=100)
        seen += [row.seq for row in looked.rows]
        before = looked.next
        assert before
    assert seen[:500] == wanted


async def test_a_senders_rows_are_found_however_old_they_are(full):
    looked = await latest(full, sender="rare", limit=50)
    assert [row.client_message_id for row in looked.rows] == ["10000", "6000", "2000"]
    assert looked.next is None


async def test_nothing_older_than_asked_for_is_given(full):
    since = datetime.now(UTC) - timedelta(days=4)
    looked = await latest(full, sender="rare", since=since, limit=50)
    assert [row.client_message_id for row in looked.rows] == ["10000"]
    assert looked.next is None
    of_conversation = await latest(full, conversation="c4", sender="rare", since=since, limit=50)
    assert of_conversation.rows == looked.rows
    assert of_conversation.next is None


async def test_rows_of_one_batch_have_one_time_and_are_paged_all_the_same(
    writer, fence, database_pool
):
    events = [message(f"{n}", sender="ann") for n in range(25)]
    await writer.write([placed(event) for event in events], fence)
    for chosen in ({}, {"sender": "ann"}, {"conversation": "conv"}):
        seen, before = [], None
        while True:
            looked = await latest(database_pool, before=before, limit=10, **chosen)
            seen += [int(row.client_message_id) for row in looked.rows]
            before = looked.next
            if before is None:
                break
        assert seen == list(range(24, -1, -1))


async def test_what_can_not_be_read_at_all_is_told_and_is_no_page(full, monkeypatch):
    place = recent.RecentPlace(datetime.now(UTC), 1)
    monkeypatch.setattr(recent, "SECONDS", 0.5)
    monkeypatch.setattr(recent, "SLICE_SECONDS", 0.1)
    async with full.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TooSlow, match="read no slice of the messages"):
            await latest(full, before=place, limit=50)
    assert len((await latest(full, before=place, limit=50)).rows) == 50


async def test_slices_that_take_long_are_narrowed_until_one_is_read(full, monkeypatch):
    """As of a busy day on a cold disk: PostgreSQL takes a second for each second of rows."""
    slow = "AND (SELECT pg_sleep(extract(epoch FROM $2::timestamptz - $1))) IS NOT NULL ORDER"
    monkeypatch.setattr(recent, "SLICE", recent.SLICE.replace("ORDER", slow))
    place = recent.RecentPlace(datetime.now(UTC), 1)
    looked = await latest(full, before=place, limit=50)
    assert looked.next is not None
    assert looked.next.at < place.at


async def test_a_clock_that_was_set_back_hides_no_row_of_a_conversation(
    writer, fence, database_pool
):
    await writer.write([placed(message(f"{n}")) for n in range(3)], fence)
    await database_pool.execute(
        "UPDATE messages SET created_at = now() - interval '20 minutes' "
        "WHERE client_message_id = '1'"
    )
    since = datetime.now(UTC) - timedelta(minutes=10)
    looked = await latest(database_pool, conversation="conv", since=since, limit=10)
    assert [row.client_message_id for row in looked.rows] == ["2", "0"]
    assert looked.next is None
