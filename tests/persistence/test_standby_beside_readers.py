"""A standby of a log that other processes read, as while a step changes which log is read.

Nobody may read a conversation then: its home in each log may be a standby's. In a real rolling
restart: ``tests/faults/test_reader_change.py``.
"""

from __future__ import annotations

from functools import partial

import pytest

from persistence.standby.takeover_rules import LogRole
from tests.persistence.loglib import contents
from tests.persistence.samples import PARTITIONS, message
from tests.support.mirrors import drained, mirror
from transport.message.partitioner import partition_for

PATIENCE = 60  # far longer than a test waits

PROCESS = """
INSERT INTO processes (member, role, host, pid, version, api_url, metrics_url, transport,
    consume_from, owned, started_at)
VALUES ('another', 'worker', 'h', 1, '1', 'u', 'u', 'redis', $1, $2, now())
"""
READS = '{"redis": {}}'
# The standby's process is "w1". The other one reads half of the log, and not the conversation.
SHARES = """
INSERT INTO fences (transport, partition, epoch, owner)
SELECT 'redis', ($1 + n) % $2, 1, CASE WHEN n < $2 / 2 THEN 'w1' ELSE 'another' END
FROM generate_series(0, $2 - 1) AS n
"""


@pytest.fixture
def stand_by(stand_by, transport):
    """Start a standby of Redis, the primary; its copies are in memory, where nobody reads them."""
    return partial(stand_by, transport, LogRole.MIRRORED, patience=PATIENCE)


async def another_reads(pool) -> None:
    await pool.execute(PROCESS, "redis", READS)
    await pool.execute(SHARES, partition_for("conv", PARTITIONS), PARTITIONS)


async def test_what_no_worker_reads_becomes_rows_without_patience(
    stand_by, transport, other, database_pool, eventually
):
    await another_reads(database_pool)
    stand_by()
    for number in range(5):
        sent = message(f"c{number}", "conv", str(number))
        await mirror(transport, other, sent)

        async def is_a_row(sent=sent) -> bool:
            await database_pool.execute("UPDATE processes SET seen_at = now()")
            return sent.content in await contents(database_pool)

        await eventually(is_a_row)
    await eventually(partial(drained, transport))
    assert await contents(database_pool) == list("01234")


async def test_what_a_worker_persisted_meanwhile_is_not_written_again(
    start, stand_by, transport, other, database_pool, eventually
):
    """The other log's partitions are read after all."""
    await another_reads(database_pool)
    await mirror(transport, other, *(message(f"c{n}", "conv", str(n)) for n in range(3)))
    start(log=other)
    await eventually(partial(drained, other))
    stand_by()
    await eventually(partial(drained, transport))
    rows = await database_pool.fetch("SELECT DISTINCT transport FROM messages")
    assert [row["transport"] for row in rows] == ["memory"]


@pytest.mark.parametrize(
    ("consumed", "owned"), [("memory", '{"memory": {}, "redis": {}}'), ("redis", "{}")]
)
async def test_where_no_other_process_reads_the_log_a_standby_is_patient(
    stand_by, transport, other, database_pool, eventually, consumed, owned
):
    """It reads another log, or none: it only accepts."""
    await database_pool.execute(PROCESS, consumed, owned)
    standby = stand_by()
    await mirror(transport, other, message("c1"))
    await eventually(standby.consumer.waiting)
    assert await contents(database_pool) == []
