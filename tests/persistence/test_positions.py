"""How far a partition is settled, committed with its rows."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from persistence.errors import FenceLost, Outage
from persistence.fleet.used_logs import note_drained
from persistence.store.statement import TAKE
from tests.persistence.samples import message, placed


async def test_the_position_is_that_of_the_last_record_written(writer, fence):
    batch = [placed(message("a")), placed(message("b"))]
    await writer.write(batch, fence)
    assert await writer.position("redis", 0) == batch[-1].offset
    newer = await writer.take("redis", 0, 2, "other")
    assert newer.through == batch[-1].offset
    repeat = placed(message("a"))
    await writer.write([repeat], newer)
    assert (await writer.take("redis", 0, 2, "other")).through == repeat.offset


async def test_nothing_is_written_where_the_database_is_not_where_its_owner_left_it(
    writer, fence, database_pool
):
    await writer.write([placed(message("a"))], fence)
    before = await database_pool.fetchrow("SELECT * FROM log_positions")
    await writer.write([placed(message("b"))], fence)
    await database_pool.execute("DELETE FROM messages WHERE client_message_id = 'b'")
    await database_pool.execute("UPDATE log_positions SET through = $1", before["through"])
    with pytest.raises(FenceLost, match="not the one that this owner left"):
        await writer.write([placed(message("c"))], fence)
    with pytest.raises(FenceLost):
        await writer.move(fence, "99999999-0")
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1
    again = await writer.take("redis", 0, 1, "test")
    assert again.through == before["through"]
    assert (await writer.write([placed(message("c"))], again)).persisted == [0]


async def test_a_database_that_is_elsewhere_takes_nothing_where_the_row_has_the_same_place(
    writer, fence, database_pool
):
    """A standby that was promoted has rows of its own in the places that the owner knows."""
    await writer.write([placed(message("a"))], fence)
    fence.place = await database_pool.fetchval(
        "UPDATE log_positions SET through = '1-0' RETURNING ctid::text"
    )
    with pytest.raises(FenceLost, match="not the one that this owner left"):
        await writer.write([placed(message("b"))], fence)
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1


async def test_a_statement_whose_answer_was_lost_may_be_sent_again(writer, fence):
    stored = placed(message("a"))
    await writer.write([placed(message("first"))], fence)
    left = fence.through
    await writer.write([stored], fence)
    fence.through = left  # as the writer knows it that heard nothing
    taken = await writer.take("redis", 0, 1, "test")
    fence.place = taken.place
    assert (await writer.write([stored], fence)).duplicates == [0]


async def test_a_move_whose_answer_was_lost_may_be_made_again(writer, fence):
    await writer.move(fence, "1-0")
    left = fence.through
    await writer.move(fence, "2-0")
    fence.through = left  # as the writer knows it that heard nothing
    await writer.move(fence, "2-0")
    fence.through = left
    with pytest.raises(FenceLost):
        await writer.move(fence, "3-0")


async def test_who_keeps_no_position_leaves_it_unknown(writer, fence):
    await writer.write([placed(message("a"))], fence)
    fence.keeps = False
    await writer.write([placed(message("b"))], fence)
    assert await writer.position("redis", 0) is None


async def test_a_log_that_is_forgotten_has_no_position(writer, fence, database_pool):

    await writer.write([placed(message("a"))], fence)
    assert await note_drained(database_pool, "redis")
    assert not (await writer.take("redis", 0, 2, "new")).through


async def test_the_first_owner_begins_before_the_first_record(writer):
    """A standby that was promoted then lacks every row, and must not count them as settled."""
    first = await writer.take("redis", 0, 1, "w1")
    assert (first.through, first.is_first) == ("", True)
    again = await writer.take("redis", 0, 1, "w1")
    assert (again.through, again.is_first) == ("", False)
    elsewhere = await writer.take("redis", 1, 1, "standby", keeps=False)
    assert elsewhere.through is None, "its acknowledgements say nothing of rows"


async def test_an_owner_begins_where_it_says_if_no_position_is_known(writer, fence):
    """With the take, and not after it: a standby may be promoted that knows the owner alone."""
    second = await writer.take("kafka", 0, 1, "w1", begin="")
    assert (second.through, second.was_unknown, second.is_first) == ("", True, False)
    again = await writer.take("kafka", 0, 2, "w2", begin="7")
    assert (again.through, again.was_unknown) == ("", False)
    await writer.forget_position("kafka", 0, 2)
    assert (await writer.take("kafka", 0, 3, "standby", keeps=False)).through is None
    worker = await writer.take("kafka", 0, 4, "w1", begin="7")
    assert (worker.through, await writer.position("kafka", 0)) == ("7", "7")
    stored = placed(message("a"))
    stored = msgspec.structs.replace(stored, transport="kafka", offset="8")
    assert (await writer.write([stored], worker)).persisted == [0]


async def test_the_position_is_unknown_after_an_owner_that_keeps_none(writer, fence, database_pool):
    """An earlier release takes the fence alone, and leaves the position behind its rows."""
    await writer.write([placed(message("a"))], fence)
    assert await database_pool.fetchval(TAKE, "redis", 0, 2, "earlier release") == 2
    taken = await writer.take("redis", 0, 3, "w1", begin="99999999-0")
    assert (taken.through, taken.was_unknown) == ("99999999-0", True)
    assert (await writer.write([placed(message("b"))], taken)).persisted == [0]
    left = taken.through
    again = await writer.take("redis", 0, 4, "w2", begin="100000000-0")
    assert (again.through, again.was_unknown) == (left, False), "the owner before kept it"


async def test_partitions_that_ask_in_one_moment_are_answered_by_one_query(
    writer, fence, database_pool
):
    stored = placed(message("a"))
    await writer.write([stored], fence)
    asked: list[str] = []
    async with database_pool.acquire() as connection:
        connection.add_query_logger(lambda query: asked.append(query.query))
    connections = database_pool.get_size()
    found = await asyncio.gather(*(writer.position("redis", p) for p in range(100)))
    assert found == [stored.offset, *[None] * 99]
    assert (len(asked), database_pool.get_size()) == (1, connections)


async def test_an_outage_is_told_to_all_that_asked(writer, fence, database_pool):
    await database_pool.execute("ALTER TABLE log_positions RENAME TO away")
    asking = (writer.position("redis", p) for p in range(3))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(answer, Outage) for answer in answers)


async def test_the_table_is_vacuumed_whatever_its_size(database_pool):
    """Each statement leaves dead versions of rows, and each look-up of a position reads them."""
    options = await database_pool.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = 'log_positions'::regclass"
    )
    assert options == ["autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=1000"]
