"""Redrive: to the primary log, at a rate, watched, cancelled, and never doubling a row."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from uuid import uuid4

import msgspec
import pytest

from persistence.dead_letters.dead_letters import DeadLetters
from persistence.dead_letters.indexer import DeadLetterIndexer
from persistence.dead_letters.pending import RedriveOrder
from persistence.dead_letters.redrive import Redriver
from persistence.dead_letters.rows import HEADER_REDRIVES, insert
from persistence.dead_letters.selection import Selection
from persistence.tables.states import JobKind, JobState
from tests.persistence.loglib import append, broken, contents
from tests.persistence.samples import PARTITIONS, message, raw_record, record
from transport.clock import now
from transport.contract import Appended, DeadLetter, Reason, Topic
from transport.errors import ConfigurationError, TransportUnavailable
from transport.memory import MemoryTransport
from transport.message.dead_letters import dead_letter_headers
from transport.message.partitioner import partition_for
from transport.settings import TransportSettings

EVERYTHING = Selection()


@pytest.fixture
def dead_letters(database_pool) -> DeadLetters:
    return DeadLetters(database_pool)


@pytest.fixture
async def redriver(database_pool, transport, metrics):
    made = Redriver(database_pool, transport, metrics)
    yield made
    await made.close()


@pytest.fixture
def bury(database_pool):
    """Make letters of records as the indexer would; several at once."""

    async def make(*records, redrives: int = 0) -> None:
        dead = []
        for buried in records:
            letter = DeadLetter(buried, Reason.REJECTED, "why", 3, now())
            headers = dead_letter_headers(letter)
            if redrives:
                headers[HEADER_REDRIVES] = str(redrives).encode()
            dead.append(raw_record(buried.body, 0, key=buried.key, headers=headers))
        async with database_pool.acquire() as connection:
            await insert(connection, "redis", dead)

    return make


class Log:
    """The real log, with something done before or instead of a publish."""

    def __init__(self, inner, before) -> None:
        self._inner = inner
        self._before = before

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def publish(self, envelopes, *, remember=True):
        replaced = await self._before(envelopes)
        return replaced or await self._inner.publish(envelopes, remember=remember)


async def logged(transport) -> list:
    pages = [await transport.read(Topic.MESSAGES, p) for p in range(PARTITIONS)]
    return [record for page in pages for record in page]


async def test_a_preview_says_what_a_redrive_would_take_and_takes_nothing(
    redriver, bury, dead_letters, transport
):
    await bury(*(record(message(f"c{i}")) for i in range(5)))
    await bury(record(message("often")), redrives=3)
    preview = await redriver.preview(EVERYTHING)
    assert (preview.letters, preview.redriven_too_often) == (5, 1)
    assert preview.by_reason == {"rejected": 5}
    assert (await redriver.preview(EVERYTHING, most_redrives=None)).letters == 6
    assert sum((await dead_letters.count()).values()) == 6
    assert await logged(transport) == []


async def test_redriven_records_are_appended_in_order_with_bytes_intact_and_persisted_once(
    redriver, bury, dead_letters, transport, start, database_pool, eventually
):
    sent = [message(f"c{i}", content=f"{i}") for i in range(250)]
    await bury(*(record(m) for m in sent))
    identifier = await redriver.start(EVERYTHING, by="ann")
    await redriver.wait(identifier)
    progress = await redriver.progress(identifier)
    assert (progress.state, progress.total, progress.redriven) == ("done", 250, 250)
    assert progress.started_by == "ann"
    appended = await logged(transport)
    assert [r.body for r in appended] == [record(m).body for m in sent]
    assert appended[0].headers[HEADER_REDRIVES] == b"1"
    worker = start()
    await eventually(lambda: worker.count("persisted") == 250)
    assert await contents(database_pool) == [m.content for m in sent]
    [row] = await dead_letters.list(state="redriven", limit=1)
    assert (row.resolved_by, row.resolved_why) == ("ann", f"redrive {identifier}")


async def test_redriving_what_is_a_row_already_changes_nothing(
    redriver, bury, transport, start, database_pool, eventually
):
    await append(transport, message("a"))
    worker = start()
    await eventually(lambda: worker.count("persisted") == 1)
    await bury(record(message("a")))
    await redriver.wait(await redriver.start(EVERYTHING, by="ann"))
    await eventually(lambda: worker.count("duplicate") == 1)
    assert len(await contents(database_pool)) == 1


async def test_one_letter_and_a_selection(redriver, bury, dead_letters):
    await bury(*(record(message(f"c{i}", f"conv{i % 2}")) for i in range(6)))
    newest = (await dead_letters.list(limit=1))[0]
    await redriver.wait(await redriver.start(Selection(ids=(newest.id,)), by="ann"))
    assert [row.id for row in await dead_letters.list(state="redriven")] == [newest.id]
    await redriver.wait(await redriver.start(Selection(conversation_id="conv0"), by="ann"))
    assert {row.conversation_id for row in await dead_letters.list()} == {"conv1"}


async def test_a_crash_between_append_and_settling_leaves_the_letter_pending_and_one_row(
    redriver, bury, dead_letters, transport, database_pool, metrics, start, eventually
):
    await bury(*(record(message(f"c{i}")) for i in range(3)))
    appended = asyncio.Event()

    async def crash(envelopes):
        await transport.publish(envelopes, remember=False)
        appended.set()
        await asyncio.Event().wait()

    dying = Redriver(database_pool, Log(transport, crash), metrics)
    identifier = await dying.start(EVERYTHING, by="ann")
    await appended.wait()
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == f"job {identifier}"]
    task.cancel()
    await asyncio.wait([task])
    assert len(await dead_letters.list()) == 3
    assert await redriver.resume(identifier)
    await redriver.wait(identifier)
    assert (await redriver.progress(identifier)).redriven == 3
    assert len(await logged(transport)) == 6
    worker = start()
    await eventually(lambda: worker.count("persisted") + worker.count("duplicate") == 6)
    assert len(await contents(database_pool)) == 3


async def test_two_redrives_at_once_append_each_letter_once(
    redriver, bury, transport, database_pool, metrics
):
    await bury(*(record(message(f"c{i}")) for i in range(400)))
    other = Redriver(database_pool, transport, metrics)
    mine, theirs = await asyncio.gather(
        redriver.start(EVERYTHING, by="ann"), other.start(EVERYTHING, by="bob")
    )
    await asyncio.gather(redriver.wait(mine), other.wait(theirs))
    assert len(await logged(transport)) == 400
    counts = [(await redriver.progress(i)).redriven for i in (mine, theirs)]
    assert sum(counts) == 400


async def test_a_rate_is_kept(redriver, bury):
    await bury(*(record(message(f"c{i}")) for i in range(30)))
    began = time.monotonic()
    await redriver.wait(await redriver.start(EVERYTHING, by="ann", rate=20))
    assert time.monotonic() - began >= 1.0


async def test_any_process_can_cancel_and_the_rest_stays_pending(
    redriver, bury, dead_letters, database_pool, transport, metrics, eventually
):
    await bury(*(record(message(f"c{i}")) for i in range(300)))
    identifier = await redriver.start(EVERYTHING, by="ann", rate=1)
    await eventually(lambda: _redriven(redriver, identifier))
    watching = Redriver(database_pool, transport, metrics)
    assert await watching.cancel(identifier)
    assert not await watching.cancel(identifier)
    await redriver.wait(identifier)
    progress = await watching.progress(identifier)
    assert progress.state == "cancelled"
    assert progress.redriven + len(await dead_letters.list(limit=1000)) == 300
    assert not await watching.resume(identifier)


@pytest.mark.parametrize("is_sent_again", [False, True])
async def test_a_process_that_stops_leaves_a_redrive_that_another_resumes(
    bury, dead_letters, database_pool, transport, metrics, eventually, is_sent_again
):
    await bury(*(record(message(f"c{i}")) for i in range(50)))
    stopping = Redriver(database_pool, transport, metrics)
    chosen = uuid4() if is_sent_again else None
    identifier = await stopping.start(EVERYTHING, by="ann", rate=1, identifier=chosen)
    await eventually(lambda: _redriven(stopping, identifier))
    await stopping.close()
    assert (await stopping.progress(identifier)).state == "interrupted"
    await database_pool.execute("UPDATE jobs SET rate = 0")
    other = Redriver(database_pool, transport, metrics)
    if is_sent_again:  # the process stopped before it answered
        assert await other.start(EVERYTHING, by="ann", identifier=chosen) == identifier
    else:
        assert await other.resume(identifier)
    await other.wait(identifier)
    assert (await other.progress(identifier)).redriven == 50
    assert await dead_letters.list() == []


async def test_an_outage_of_the_log_is_waited_out(bury, database_pool, transport, metrics):
    await bury(record(message("a")))
    outages = [TransportUnavailable("full"), TransportUnavailable("full")]

    async def fail(envelopes):
        return [outages.pop()] * len(envelopes) if outages else None

    redriver = Redriver(database_pool, Log(transport, fail), metrics)
    identifier = await redriver.start(EVERYTHING, by="ann")
    await redriver.wait(identifier)
    assert (await redriver.progress(identifier)).redriven == 1
    assert len(await logged(transport)) == 1


async def test_a_letter_the_log_refuses_for_good_stays_pending_and_the_rest_goes_on(
    bury, database_pool, transport, metrics, dead_letters
):
    await bury(*(record(message(f"c{i}", content=f"{i}")) for i in range(5)))

    async def refuse(envelopes):
        refusal = ConfigurationError("too large for the topic")
        return [refusal if b'"2"' in e.body else Appended("1-0") for e in envelopes]

    redriver = Redriver(database_pool, Log(transport, refuse), metrics)
    identifier = await redriver.start(EVERYTHING, by="ann")
    await redriver.wait(identifier)
    progress = await redriver.progress(identifier)
    assert (progress.state, progress.redriven, progress.failed) == ("done", 4, 1)
    assert len(await dead_letters.list()) == 1


async def test_a_letter_refused_for_good_counts_once_however_long_others_wait(
    bury, database_pool, transport, metrics
):
    """It is tried again with those that wait, in the same batch."""
    await bury(*(record(message(f"c{i}", content=f"{i}")) for i in range(3)))
    outages = [TransportUnavailable("full")] * 4

    async def answer(envelopes):
        others = outages.pop() if outages else Appended("1-0")
        refusal = ConfigurationError("too large for the topic")
        return [refusal if b'"0"' in e.body else others for e in envelopes]

    redriver = Redriver(database_pool, Log(transport, answer), metrics)
    identifier = await redriver.start(EVERYTHING, by="ann")
    await redriver.wait(identifier)
    progress = await redriver.progress(identifier)
    assert (progress.total, progress.redriven, progress.failed) == (3, 2, 1)


async def test_a_record_that_fails_again_does_not_go_round_for_ever(
    redriver, transport, start, dead_letters, eventually
):
    await append(transport, broken(message("bad", content="xyzzy")))
    worker, _ = start(), start(DeadLetterIndexer, member="i1")
    for turn in range(3):
        await eventually(partial(_pending, dead_letters, turn))
        await redriver.wait(await redriver.start(EVERYTHING, by="ann"))
    await eventually(lambda: _pending(dead_letters, 3))
    assert worker.count("dead_lettered") == 4
    assert (await redriver.preview(EVERYTHING)).redriven_too_often == 1
    guarded = await redriver.start(EVERYTHING, by="ann")
    await redriver.wait(guarded)
    assert (await redriver.progress(guarded)).redriven == 0
    assert len(await dead_letters.list()) == 1


async def test_a_redrive_goes_to_whichever_log_is_primary_now(bury, database_pool, metrics):
    settings = TransportSettings(transport="memory", stream_partitions=7)
    undecodable = raw_record(b"\xff garbage", 9, headers={"odd": b"\xff"})
    decodable = record(message("a", "somewhere"))
    await bury(decodable, undecodable)
    async with MemoryTransport.from_settings(settings) as primary:
        redriver = Redriver(database_pool, primary, metrics)
        await redriver.wait(await redriver.start(EVERYTHING, by="ann"))
        found = {}
        for p in range(7):
            found |= {r.body: p for r in await primary.read(Topic.MESSAGES, p)}
    assert found[decodable.body] == partition_for("somewhere", 7)
    assert b"\xff garbage" in found


async def test_a_redrive_without_a_runner_is_seen_to_be_stalled(database_pool, redriver, bury):
    await bury(record(message()))
    order = msgspec.json.encode(RedriveOrder(EVERYTHING, 1)).decode()
    identifier = await database_pool.fetchval(
        "INSERT INTO jobs (id, kind, state, request, started_by) "
        "VALUES (gen_random_uuid(), $1, $2, $3, 'ann') RETURNING id",
        JobKind.REDRIVE,
        JobState.RUNNING,
        order,
    )
    assert not (await redriver.progress(identifier)).stalled
    await database_pool.execute("UPDATE jobs SET seen_at = now() - interval '2 minutes'")
    assert (await redriver.recent())[0].stalled
    # Seen before PostgreSQL's clock was set back by an hour.
    await database_pool.execute("UPDATE jobs SET seen_at = now() + interval '1 hour'")
    assert (await redriver.progress(identifier)).stalled


async def _redriven(redriver, identifier) -> bool:
    return (await redriver.progress(identifier)).redriven > 0


async def _pending(dead_letters, redrives: int) -> bool:
    rows = await dead_letters.list()
    return [row.redrives for row in rows] == [redrives]


async def test_a_redrive_that_failed_says_so_and_is_resumed(
    bury, database_pool, transport, dead_letters
):
    await bury(*(record(message(f"c{i}", content=f"{i}")) for i in range(150)))
    redriver = Redriver(database_pool, transport, _CountsNothingOnce())
    identifier = await redriver.start(EVERYTHING, by="ann")
    with pytest.raises(RuntimeError):
        await redriver.wait(identifier)
    progress = await redriver.progress(identifier)
    assert (progress.state, progress.resumable) == (JobState.FAILED, True)
    assert progress.error.startswith("RuntimeError: ")
    assert "not understood" not in progress.error  # it may quote what a message says
    assert await redriver.resume(identifier)
    await redriver.wait(identifier)
    progress = await redriver.progress(identifier)
    assert (progress.state, progress.resumable) == (JobState.DONE, False)
    assert (progress.redriven, progress.error) == (150, None)
    assert not await dead_letters.list()


class _CountsNothingOnce:
    """Metrics with a fault: the first count raises what no rule of ours knows."""

    def __init__(self) -> None:
        self.redriven = self
        self.broken = True

    def of(self, _kind: type) -> _CountsNothingOnce:
        return self

    def inc(self, _number: float) -> None:
        broken, self.broken = self.broken, False
        if broken:
            raise RuntimeError("not understood")
