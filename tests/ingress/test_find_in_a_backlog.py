"""A message that may be in the log is never said not to exist."""

from __future__ import annotations

from uuid import uuid4

import pytest

from ingress.messages import Messages
from ingress.schema.problems import Problem
from persistence.database.pool import Pool
from tests.persistence.samples import message
from tests.support.mirrors import seal
from transport.contract import Transport
from transport.identity import partition_of


async def _unknown_in_the_partition_of(log: Transport, waiting: int) -> str:
    """Append records that wait; return the id of a message that the log does not remember."""
    await log.publish([seal(message(f"c{n}"), log.partitions) for n in range(waiting)])
    partition = seal(message(), log.partitions).partition
    while partition_of(found := str(uuid4()), log.partitions) != partition:
        pass
    return found


async def test_more_records_than_are_looked_through_leave_it_open(
    log: Transport, database_pool: Pool
) -> None:
    unknown = await _unknown_in_the_partition_of(log, waiting=3)
    messages = Messages(transport=log, pool=database_pool, scan=2, timeout_seconds=5)
    with pytest.raises(Problem, match="More than 2 records") as caught:
        await messages.find(unknown, content=False)
    assert caught.value.kind.status == 503
    assert caught.value.headers["Retry-After"]


async def test_where_all_was_looked_through_there_is_none(
    log: Transport, database_pool: Pool
) -> None:
    unknown = await _unknown_in_the_partition_of(log, waiting=3)
    messages = Messages(transport=log, pool=database_pool, scan=1000, timeout_seconds=5)
    assert await messages.find(unknown, content=False) is None
