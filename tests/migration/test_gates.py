"""Each gate can be red for each of its causes, on real servers, and is never green for nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from redis.asyncio import Redis

from migration_guide.gates import GATES, judge
from migration_guide.gates import durability as durability_gate
from migration_guide.gates import parity as parity_gate
from migration_guide.gates import start as start_gate
from migration_guide.parity import order
from migration_guide.parity.check import PartitionReport, Report
from migration_guide.parity.result import Result as Found
from migration_guide.parity.result import Tally
from migration_guide.phases import STEPS
from persistence.when import rfc3339
from persistence.writer import Writer
from tests.persistence.mirrors import append, copy_of, mirror, seal
from tests.persistence.samples import message, placed
from transport.contract import WORKER_GROUP, Progress, Topic, Transport
from transport.durability import Durability
from transport.forwarding import Forwarding

SHADOW = {
    "name": "kafka", "mode": "sync", "breaker": "closed", "waiting": 0, "error": "", "dropped": 0,
    "dropped_at": None,
}  # fmt: skip


class Telling(Forwarding):
    """A log that says of every partition's progress what a test wants it to."""

    def __init__(self, inner: Transport, *, parts: int | None = None, **changes) -> None:
        super().__init__(inner)
        self.changes = changes
        self.parts = parts

    async def progress(self, topic: Topic, *, group: str) -> list[Progress]:
        told = await self.inner.progress(topic, group=group)
        return [msgspec.structs.replace(one, **self.changes) for one in told][: self.parts]


async def ask(scene, name: str):
    (result,) = await judge(scene, [name])
    assert result.name == name
    return result


async def acknowledge(log) -> None:
    """Let the workers' group acknowledge everything that is there."""
    left = {p.partition: p.end for p in await log.progress(Topic.MESSAGES, group=WORKER_GROUP)}
    async with log.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader") as consumer:
        async for claim in consumer.claims():
            end = left.pop(claim.partition)
            while end is not None:
                records = await claim.next(max_records=500, max_wait=5)
                if records:
                    await claim.ack(records[-1].offset)
                    end = None if records[-1].offset == end else end
            if not left:
                return


async def persist(pool, *events) -> None:
    writer = Writer(pool)
    fence = await writer.take("redis", 0, time.time_ns(), "test")
    await writer.write([placed(event) for event in events], fence)


def test_every_step_has_gates_that_exist():
    assert {name for step in STEPS for name in step.gates} == set(GATES)
    assert all(step.gates[0] == "processes" for step in STEPS)


@pytest.mark.parametrize(
    ("others", "verdict", "reason"),
    [
        ([], "green", "all 2 are on phase 1"),
        ([("old", 0, 0)], "red", "old (serve, phase 0)"),
        ([("ahead", 2, 0)], "red", "ahead (serve, phase 2)"),
        ([("odd", None, 0)], "red", "TRANSPORT=memory"),
        ([("lost", 1, 11)], "unknown", "crossfade migrate forget lost"),
        ([("lost", 0, 11)], "unknown", "silent for 11 s"),
    ],
)
async def test_processes(scene, process, others, verdict, reason):
    for member in ("a", "b"):
        await process(member, 1)
    for member, phase, silent in others:
        await process(member, phase, silent=silent)
    result = await ask(await scene(1, 2), "processes")
    assert result.verdict == verdict
    assert reason in result.reason


async def test_no_process_is_not_every_process(scene):
    assert (await ask(await scene(1, 2), "processes")).verdict == "unknown"


@pytest.mark.parametrize(
    ("told", "verdict", "reason"),
    [
        (SHADOW, "green", "no copy waits"),
        ({**SHADOW, "waiting": 3, "oldest_age": 0.1}, "red", "3 copies wait in a"),
        ({**SHADOW, "mode": "async", "waiting": 3, "oldest_age": 5.0}, "red", "3 copies wait in a"),
        ({**SHADOW, "mode": "async", "waiting": 3, "oldest_age": 0.1}, "green", "no copy waits"),
        ({**SHADOW, "breaker": "open", "error": "refused"}, "red", "a can't write to the shadow"),
        (None, "unknown", "no word of the shadow from a"),
    ],
)
async def test_shadow(scene, process, told, verdict, reason):
    await process("a", 2, shadow=told)
    result = await ask(await scene(2, 3), "shadow")
    assert result.verdict == verdict
    assert reason in result.reason


async def test_the_shadow_of_no_process_is_not_every_process(scene):
    assert (await ask(await scene(2, 3), "shadow")).verdict == "unknown"


async def test_workers(scene, process, logs):
    """Red while one waits, or nobody reads a partition; green when all are owned and calm."""
    await process("a", 2, paused=[{"dependency": "postgresql", "since": "", "error": ""}])
    assert "a waits for postgresql" in (await ask(await scene(2, 3), "workers")).reason
    await process("a", 2)
    result = await ask(await scene(2, 3), "workers")
    assert (result.verdict, "nobody reads" in result.reason) == ("red", True)
    async with logs["redis"].consume(Topic.MESSAGES, group=WORKER_GROUP, member="w") as consumer:
        owned = []
        async for claim in consumer.claims():
            owned.append(claim)
            if len(owned) == logs["redis"].partitions:
                break
        assert (await ask(await scene(2, 3), "workers")).verdict == "green"


async def test_partitions(scene, both):
    assert (await ask(await scene(1, 2), "partitions")).verdict == "green"
    other = await scene(1, 2, settings=both.model_copy(update={"stream_partitions": 5}))
    other._logs.clear()
    result = await ask(other, "partitions")
    assert (result.verdict, "STREAM_PARTITIONS" in result.reason) == ("red", True)


async def test_what_cannot_be_looked_at_is_unknown(scene, both):
    gone = await scene(2, 3, settings=both.model_copy(update={"redis_port": 1}))
    gone._logs.clear()
    result = await ask(gone, "workers")
    assert (result.verdict, "can't be looked at" in result.reason) == ("unknown", True)
    assert (await ask(gone, "durability")).verdict == "unknown"


@pytest.mark.parametrize(
    ("gate", "log", "told", "verdict", "reason"),
    [
        ("workers", "redis", {"owner": "w", "lag": None}, "unknown", "can't say how far"),
        ("workers", "redis", {"owner": "w", "lag": 2501}, "red", "10004 messages wait in redis"),
        ("workers", "redis", {"owner": "w", "lag": 2500}, "green", "none waits"),
        ("partitions", "kafka", {"parts": 3}, "red", "redis has 4, kafka has 3"),
        ("start", "kafka", {"lost": 1}, "unknown", "kafka once lost 4 records unread"),
    ],
)
async def test_what_a_log_says_of_its_readers_decides(
    scene, logs, gate, log, told, verdict, reason
):
    asked = await scene(2, 3)
    asked._logs[log] = Telling(logs[log], **told)
    result = await ask(asked, gate)
    assert result.verdict == verdict
    assert reason in result.reason


@pytest.mark.parametrize("unclear", [{"lag": None}, {"oldest_age": None}])
async def test_drained_is_unknown_where_the_log_cannot_say(scene, logs, unclear):
    asked = await scene(4, 5)
    asked._logs["redis"] = Telling(logs["redis"], **{"lag": 3, "oldest_age": 1.0, **unclear})
    result = await ask(asked, "drained")
    assert (result.verdict, "can't say how far" in result.reason) == ("unknown", True)


async def test_dropped(scene, process, database_pool):
    """Red for a gap since the phase was reached, and for one too young for the ledger."""
    await process("a", 2, shadow=SHADOW)
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green"
    gap = (
        "INSERT INTO shadow_gaps (transport, shadow, partition, kind, records, noted_by, noted_at)"
        " VALUES ('redis', 'kafka', 3, 'full', 7, 'a', now() + $1::int * interval '1 hour')"
    )
    await database_pool.execute(gap, -1)
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green", "of an earlier phase"
    await database_pool.execute(gap, 1)
    result = await ask(await scene(2, 3), "dropped")
    assert (result.verdict, "not given 7 messages (partitions [3])" in result.reason) == (
        "red", True,
    )  # fmt: skip
    await database_pool.execute("UPDATE shadow_gaps SET repaired_at = now()")
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green"
    just_now = {**SHADOW, "dropped_at": time.time() + 1}
    await process("a", 2, shadow=just_now)
    assert "a dropped copies" in (await ask(await scene(2, 3), "dropped")).reason
    await process("a", 2, shadow={**just_now, "unwritten": 2})
    assert "a dropped copies" in (await ask(await scene(2, 3), "dropped")).reason
    await process("a", 2, shadow={**just_now, "unwritten": 0})
    assert (await ask(await scene(2, 3), "dropped")).verdict == "green", "all of it is written"


async def test_watermark(scene, logs):
    """Red until the log that is read is acknowledged through where it ended; unknown without."""
    redis = logs["redis"]
    await append(redis, *(message(f"m{i}") for i in range(5)))
    ends = {
        str(one.partition): one.end
        for one in await redis.progress(Topic.MESSAGES, group=WORKER_GROUP)
    }
    assert (await ask(await scene(2, 3), "watermark")).verdict == "unknown"
    below = await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")
    assert (below.verdict, "is persisted through None" in below.reason) == ("red", True)
    await acknowledge(redis)
    await append(redis, message("later"))
    assert (await ask(await scene(2, 3, watermark={"redis": ends}), "watermark")).verdict == "green"


@pytest.mark.parametrize(("through", "verdict"), [(2, "red"), (3, "green"), (4, "green")])
async def test_the_watermark_is_met_where_the_readers_are_through_it(scene, logs, through, verdict):
    """Not where they have merely begun, and no later either: traffic goes on."""
    redis = logs["redis"]
    offsets = await append(redis, *(message(f"m{i}", "c") for i in range(6)))
    (stands,) = [one for one in await redis.progress(Topic.MESSAGES, group=WORKER_GROUP) if one.lag]
    async with redis.consume(Topic.MESSAGES, group=WORKER_GROUP, member="reader") as consumer:
        async for claim in consumer.claims():
            if claim.partition == stands.partition:
                await claim.next(max_records=6, max_wait=5)
                await claim.ack(offsets[through])
                break
    marks = {"redis": {str(stands.partition): offsets[3]}}
    assert (await ask(await scene(2, 3, watermark=marks), "watermark")).verdict == verdict


async def test_phase_3_waits_for_what_phase_5_left_out_of_redis(scene, logs):
    """There a standby of Redis may persist, and must find no hole before what it persists."""
    assert all("watermark" in step.gates for step in STEPS if step.to == 3)
    kafka, redis = logs["kafka"], logs["redis"]
    await append(kafka, message("of phase 5", "c"))
    ends = {
        str(one.partition): one.end
        for one in await kafka.progress(Topic.MESSAGES, group=WORKER_GROUP)
    }
    await mirror(kafka, redis, message("after it", "c"))
    back = await ask(await scene(4, 3, watermark={"kafka": ends}), "watermark")
    assert back.verdict == "red"
    await acknowledge(kafka)
    back = await ask(await scene(4, 3, watermark={"kafka": ends}), "watermark")
    assert back.verdict == "green"


async def test_parity(scene, both, logs, eventually):
    """Unknown for nothing, green for copies, red for one that is missing."""
    soon = both.model_copy(update={"transport_shadow_settle_ms": 300})
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    nothing = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
    assert (nothing.verdict, "100 % of nothing" in nothing.reason) == ("unknown", True)

    async def judged(verdict: str, count: str) -> int | None:
        result = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
        return result.verdict == verdict and result.evidence["counts"].get(count)

    sent = [message(f"m{i}", f"c{i}") for i in range(6)]
    await mirror(logs["redis"], logs["kafka"], *sent)
    assert await eventually(lambda: judged("green", "matched")) == 6
    lost = message("lost")
    await mirror(logs["redis"], logs["kafka"], lost, message("kept"), dropped=(lost,))
    assert await eventually(lambda: judged("red", "missing_in_shadow")) == 1


@pytest.mark.parametrize(("mode", "verdict"), [("sync", "green"), ("async", "red")])
async def test_parity_knows_that_every_process_mirrored_since_the_phase_was_reached(
    scene, both, logs, monkeypatch, eventually, mode, verdict
):
    """So what a long outage of the shadow exchanged had overlapped; async copies still show it."""
    soon = both.model_copy(update={"transport_shadow_settle_ms": 300})
    monkeypatch.setattr(order, "SAME_REQUEST", 0.0)  # any outage is a long one
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    sent = [message("first", "c"), message("second", "c")]
    offsets = await append(logs["redis"], *sent)
    copies = [copy_of(seal(m), "redis", at, mode) for m, at in zip(sent, offsets, strict=True)]
    await append(logs["kafka"], *reversed(copies))

    async def judged() -> dict | None:
        result = await ask(await scene(2, 3, reached_at=before, settings=soon), "parity")
        ready = result.evidence["counts"].get("matched") == 2
        return ready and (result.verdict, result.evidence["counts"])

    found, counted = await eventually(judged)
    assert found == verdict, counted


async def test_parity_of_a_phase_that_was_reached_just_now_is_unknown(scene):
    result = await ask(await scene(2, 3, reached_at=rfc3339(datetime.now(UTC))), "parity")
    assert (result.verdict, "a moment ago" in result.reason) == ("unknown", True)


async def test_parity_of_the_tenth_that_could_be_compared_is_unknown(scene, logs, monkeypatch):
    class Mostly:
        """A comparison that could compare one of ten."""

        async def __call__(self, *_args, **_options):
            return Report("redis", "kafka", None, "", [PartitionReport(0, tally, 0, 0)], [])

    tally = Tally()
    tally.add(Found.MATCHED, 1)
    tally.add(Found.TRIMMED, 9)
    monkeypatch.setattr(parity_gate, "check", Mostly())
    before = rfc3339(datetime.now(UTC) - timedelta(minutes=10))
    result = await ask(await scene(2, 3, reached_at=before), "parity")
    assert (result.verdict, "only 10%" in result.reason) == ("unknown", True)


async def test_start_is_green_when_what_is_unpersisted_is_ahead(scene, logs, database_pool):
    """Rows or not: what is a row needs nothing, and the rest is where the new reader will come."""
    sent = [message(f"m{i}", f"c{i % 5}") for i in range(40)]
    await mirror(logs["redis"], logs["kafka"], *sent)
    await persist(database_pool, *sent[:15])
    result = await ask(await scene(2, 3), "start")
    assert result.verdict == "green"
    assert sum(part["unpersisted"] for part in result.evidence.values()) == 25


async def test_start_is_red_for_a_message_that_the_new_log_lacks(scene, logs, monkeypatch):
    monkeypatch.setattr(start_gate, "_AGAIN_SECONDS", (0.05,))
    lost = message("lost")
    await mirror(logs["redis"], logs["kafka"], message("a"), lost, message("b"), dropped=(lost,))
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, lost.message_id in result.reason) == ("red", True)


async def test_start_is_red_when_the_new_reader_has_passed_it(scene, logs, monkeypatch):
    """The group of the log that is to be read acknowledged a message that is no row."""
    monkeypatch.setattr(start_gate, "_AGAIN_SECONDS", (0.05,))
    passed = message("passed")
    await mirror(logs["redis"], logs["kafka"], passed)
    await acknowledge(logs["kafka"])
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, passed.message_id in result.reason) == ("red", True)
    # And the way back likewise.
    back = await ask(await scene(3, 2), "start")
    assert back.verdict == "green", "kafka has nothing unread, so redis may be read"


async def test_start_leaves_a_loss_of_long_ago_to_the_operator(scene, logs, both, database_pool):
    """Its count stays for ever: red, and nobody could ever go back to that log."""
    kept, gone = message("kept"), message("gone")
    await mirror(logs["redis"], logs["kafka"], kept)
    await persist(database_pool, kept)
    await acknowledge(logs["redis"])
    assert (await ask(await scene(3, 2), "start")).verdict == "green"
    (offset,) = await append(logs["redis"], gone)
    async with Redis(host=both.redis_host, port=both.redis_port, db=both.redis_stream_db) as client:
        assert await client.xdel(f"msg:stream:{seal(gone).partition}", offset) == 1
    result = await ask(await scene(3, 2), "start")
    assert (result.verdict, "once lost 1 records" in result.reason) == ("unknown", True)
    await mirror(logs["redis"], logs["kafka"], gone, dropped=())
    await acknowledge(logs["redis"])
    result = await ask(await scene(3, 2), "start")
    assert result.verdict == "red", "what nobody persisted counts for more than what was lost once"


async def test_start_waits_for_a_copy_that_is_on_its_way(scene, logs, monkeypatch):
    late = message("late")
    (offset,) = await append(logs["redis"], late)
    asked = await scene(2, 3)
    pauses = []

    class Arriving:
        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            await append(logs["kafka"], copy_of(seal(late), "redis", offset))

    monkeypatch.setattr(start_gate, "asyncio", Arriving())
    assert (await ask(asked, "start")).verdict == "green"
    assert len(pauses) == 1


async def test_start_refuses_more_than_it_can_look_at(scene, logs, monkeypatch):
    monkeypatch.setattr(start_gate, "MOST", 10)
    await mirror(logs["redis"], logs["kafka"], *(message(f"m{i}") for i in range(11)))
    result = await ask(await scene(2, 3), "start")
    assert (result.verdict, "catch up first" in result.reason) == ("red", True)


async def test_drained(scene, logs, monkeypatch):
    """Red for an old record that nothing came of; what came a moment ago is in somebody's hands."""
    from migration_guide.gates import drained  # noqa: PLC0415

    await mirror(logs["kafka"], logs["redis"], message("a"))
    assert (await ask(await scene(4, 5), "drained")).verdict == "green"
    monkeypatch.setattr(drained, "_IN_HAND_SECONDS", -1.0)
    result = await ask(await scene(4, 5), "drained")
    assert (result.verdict, "is not settled" in result.reason) == ("red", True)


async def test_durability_asks_the_servers(scene, both, new_redis):
    """Ours are equal; a Redis without fsync is weaker than Kafka, and Kafka no weaker than it."""
    assert (await ask(await scene(2, 3), "durability")).verdict == "green"
    weak = await new_redis(appendfsync="no")
    settings = both.model_copy(update={"redis_host": weak.host, "redis_port": weak.port})
    assert (await ask(await scene(2, 3, settings=settings), "durability")).verdict == "green"
    back = await scene(4, 3, settings=settings)
    result = await ask(back, "durability")
    assert (result.verdict, "power cut" in result.reason) == ("red", True)
    assert "appendfsync=no" in result.reason


async def test_durability_is_unknown_where_the_server_does_not_tell(scene, both, new_redis):
    mute = await new_redis()
    async with Redis(host=mute.host, port=mute.port) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-config")
    settings = both.model_copy(update={"redis_host": mute.host, "redis_port": mute.port})
    result = await ask(await scene(2, 3, settings=settings), "durability")
    assert (result.verdict, "does not tell" in result.reason) == ("unknown", True)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((True, True, False), (True, False, False), "red"),  # one Kafka node that does not flush
        ((True, True, False), (True, False, True), "green"),  # three that answer for one another
        ((True, False, True), (True, True, False), "red"),
        ((True, True, False), (None, None, None), "unknown"),
        ((None, None, None), (True, True, True), "unknown"),
    ],
)
def test_durability_is_judged_by_what_is_lost(before, after, verdict):
    result = durability_gate.judge(
        "redis", Durability(*before, {}), "kafka", Durability(*after, {})
    )
    assert result.verdict == verdict
