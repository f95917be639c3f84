"""Two logs of different partition counts: followers and dead letters find the right partition.

Redis has four partitions, the log in memory eight or two. The promise of dead letters is also
broken once, by taking a copy's own partition for its original's, as if the counts were equal.
"""

from __future__ import annotations

from functools import partial

import pytest

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from tests.persistence.loglib import indexed
from tests.persistence.samples import message
from tests.support.mirrors import append, drained, mirror
from transport.contract import Topic
from transport.memory import MemoryTransport
from transport.message.partitioner import partition_for
from transport.settings import TransportSettings
from transport.shadow import origin as origins


@pytest.fixture(params=[8, 2])
async def other(request):
    settings = TransportSettings(transport="memory", stream_partitions=request.param)
    async with MemoryTransport.from_settings(settings) as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["right", "own partition"])
def naive(request, monkeypatch) -> bool:
    """Whether a copy's partition is taken for its original's."""
    if request.param:
        monkeypatch.setattr(origins, "_partition", lambda record: record.partition)
    return request.param


def conversation_at(*homes: tuple[int, int]) -> str:
    """Find a conversation that is at home in partitions of logs, each given with its count."""
    names = (f"conversation {n}" for n in range(10_000))
    return next(n for n in names if all(partition_for(n, count) == p for p, count in homes))


async def contents(database_pool) -> list[str]:
    rows = await database_pool.fetch("SELECT content FROM messages ORDER BY seq")
    return [row["content"] for row in rows]


async def lose(transport, database_pool, start, eventually, *lost) -> list[str]:
    """Let the workers pass messages and then have nothing come of them."""
    offsets = await append(transport, *lost)
    worker = start()
    await eventually(partial(drained, transport))
    await worker.stop()
    await database_pool.execute("DELETE FROM messages")
    return offsets


async def test_copies_of_lost_originals_are_persisted_from_whatever_partition(
    start, follow, mirrored, transport, other, database_pool, eventually
):
    lost = [message(f"lost{i}", f"conversation {i}", content=f"{i:02}") for i in range(30)]
    offsets = await lose(transport, database_pool, start, eventually, *lost)
    await mirror(transport, other, *lost, offsets=offsets, mode="async")
    follow()
    start(member="w2")
    await mirrored(transport, other)
    await eventually(partial(drained, other))
    assert sorted(await contents(database_pool)) == [f"{i:02}" for i in range(30)]


async def test_one_message_has_one_dead_letter_though_both_logs_have_it(
    start, mirrored, transport, other, database_pool, eventually, naive
):
    await mirrored(transport, other)
    # Its home differs in all three counts.
    name = conversation_at((3, 4), (1, 2), (7, 8))
    first, second = message("c1", name, content="first"), message("c1", name, content="second")
    await mirror(transport, other, first, second)
    for log in (transport, other):
        start(log=log, member=f"w {log.name}")
        start(DeadLetterIndexer, member=f"i {log.name}", log=log)
        await eventually(partial(drained, log))
    for log in (transport, other):
        await eventually(partial(indexed, log))
    assert await DeadLetters(database_pool).count() == {"idempotency_conflict": 1 + naive}


async def test_a_dead_letter_settles_the_copy_in_another_partition(
    start, follow, transport, other, database_pool, eventually
):
    name = conversation_at((3, 4), (1, 2), (7, 8))
    first, second = message("c1", name, content="first"), message("c1", name, content="second")
    await mirror(transport, other, first, second)
    follower = follow()  # the indexer's row settles it
    start()
    start(DeadLetterIndexer, member="i1")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first"]
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert follower.consumer.status().waiting == []
