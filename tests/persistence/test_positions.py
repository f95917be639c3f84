"""How far a partition is settled, committed with its rows."""

from __future__ import annotations

import pytest

from persistence.errors import FenceLost
from persistence.fleet.used_logs import note_drained
from tests.persistence.fences import owned
from tests.persistence.samples import message, placed


async def test_the_position_is_that_of_the_last_record_written(writer, fence):
    batch = [placed(message("a")), placed(message("b"))]
    await writer.write(batch, fence)
    newer = await owned(writer, "redis", 0, 2, "other")
    assert newer.through == batch[-1].offset
    repeat = placed(message("a"))
    await writer.write([repeat], newer)
    assert (await owned(writer, "redis", 0, 2, "other")).through == repeat.offset


async def test_nothing_is_written_where_the_database_is_not_where_its_owner_left_it(
    writer, fence, database_pool
):
    await writer.write([placed(message("a"))], fence)
    before = await database_pool.fetchrow("SELECT * FROM log_positions")
    await writer.write([placed(message("b"))], fence)
    await database_pool.execute("DELETE FROM messages WHERE client_message_id = 'b'")
    await database_pool.execute("UPDATE log_positions SET through = $1", before["through"])
    with pytest.raises(FenceLost, match="another position or another chain"):
        await writer.write([placed(message("c"))], fence)
    with pytest.raises(FenceLost):
        await writer.move(fence, "99999999-0")
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1
    again = await owned(writer, "redis", 0, 1, "test")
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
    with pytest.raises(FenceLost, match="another position or another chain"):
        await writer.write([placed(message("b"))], fence)
    assert await database_pool.fetchval("SELECT count(*) FROM messages") == 1


async def test_a_statement_whose_answer_was_lost_may_be_sent_again(writer, fence):
    stored = placed(message("a"))
    await writer.write([placed(message("first"))], fence)
    left = fence.through
    await writer.write([stored], fence)
    fence.through = left  # as the writer knows it that heard nothing
    taken = await owned(writer, "redis", 0, 1, "test")
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


async def test_a_log_that_is_forgotten_has_no_position(writer, fence, database_pool):

    await writer.write([placed(message("a"))], fence)
    assert await note_drained(database_pool, "redis")
    assert not (await owned(writer, "redis", 0, 2, "new")).through


async def test_a_position_of_another_log_is_none(writer, fence):
    await writer.write([placed(message("a"))], fence)
    other = await writer.open("redis", 0, 1, "another log")
    assert (other.through, other.is_new) == ("", True)
    again = await writer.open("redis", 0, 1, "another log")
    assert (again.through, again.is_new) == ("", False)


async def test_the_table_is_vacuumed_whatever_its_size(database_pool):
    """Each statement leaves dead versions of rows, and each look-up of a position reads them."""
    options = await database_pool.fetchval(
        "SELECT reloptions FROM pg_class WHERE oid = 'log_positions'::regclass"
    )
    assert options == ["autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=1000"]
