"""Two logs of different partition counts: the standby and dead letters look in the right partition.

Redis has four partitions, the log in memory eight or two. Each promise is also broken once, by
taking a copy's own partition for its original's, as if the counts were equal.
"""

from __future__ import annotations

from functools import partial

import pytest

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.standby.takeover_rules import Originals
from tests.persistence.loglib import indexed
from tests.persistence.samples import message
from tests.support.mirrors import append, drained, lag, mirror
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


@pytest.fixture
def looks(monkeypatch) -> list[bool]:
    """What was found each time that an original was looked for."""
    found, passed = [], Originals.passed

    async def look(self, record, *, since):
        found.append(await passed(self, record, since=since))
        return found[-1]

    monkeypatch.setattr(Originals, "passed", look)
    return found


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
    start, stand_by, transport, other, database_pool, eventually
):
    lost = [message(f"lost{i}", f"conversation {i}", content=f"{i:02}") for i in range(30)]
    offsets = await lose(transport, database_pool, start, eventually, *lost)
    await mirror(transport, other, *lost, offsets=offsets, mode="async")
    stand_by()
    await eventually(partial(drained, other))
    assert sorted(await contents(database_pool)) == [f"{i:02}" for i in range(30)]


@pytest.mark.parametrize("other", [8], indirect=True)
@pytest.mark.parametrize("naive", [True], indirect=True)
async def test_an_original_looked_for_in_the_copys_partition_stalls_for_ever(
    start, stand_by, transport, other, database_pool, eventually, naive, looks
):
    """4 -> 8: that partition is not there, so nothing is ever known of the original."""
    lost = message("lost", conversation_at((2, 4), (6, 8)))
    offsets = await lose(transport, database_pool, start, eventually, lost)
    await mirror(transport, other, lost, offsets=offsets, mode="async")
    standby = stand_by()
    await eventually(lambda: standby.consumer.status().stalled)
    await eventually(lambda: len(looks) > 1)
    assert await contents(database_pool) == []
    assert await lag(other) == 1


@pytest.mark.parametrize("other", [2], indirect=True)
async def test_an_original_that_waits_is_not_called_lost(
    start, stand_by, transport, other, database_pool, eventually, naive, looks
):
    """4 -> 2: the copy's partition is there, and another conversation's place in it is further."""
    await append(transport, message("c0", conversation_at((1, 4)), content="another"))
    worker = start(member="w0")
    await eventually(partial(drained, transport))
    await worker.stop()
    name = conversation_at((3, 4), (1, 2))
    first, second = message("c1", name, content="first"), message("c2", name, content="second")
    await mirror(transport, other, first, second, mode="async", dropped=(first,))
    standby = stand_by()
    await eventually(lambda: standby.consumer.status().stalled)
    if naive:

        async def is_a_row() -> bool:
            return "second" in await contents(database_pool)

        await eventually(is_a_row)
    else:
        await eventually(lambda: len(looks) > 1)
    start()
    await eventually(partial(drained, transport))
    await eventually(partial(drained, other))
    expected = ["second", "first"] if naive else ["first", "second"]
    assert await contents(database_pool) == ["another", *expected]


async def test_one_message_has_one_dead_letter_though_both_logs_have_it(
    start, transport, other, database_pool, eventually, naive
):
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
    start, stand_by, transport, other, database_pool, eventually
):
    name = conversation_at((3, 4), (1, 2), (7, 8))
    first, second = message("c1", name, content="first"), message("c1", name, content="second")
    await mirror(transport, other, first, second)
    standby = stand_by(patience=60)  # the indexer's row settles it
    start()
    start(DeadLetterIndexer, member="i1")
    await eventually(partial(drained, other))
    assert await contents(database_pool) == ["first"]
    assert await other.read(Topic.DEAD_LETTERS, 0) == []
    assert standby.consumer.status().stalled == []
