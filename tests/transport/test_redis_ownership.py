"""Workers in processes of their own, killed and suspended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.fault_proxy import FaultProxy
from tests.transport.redis_backend import short_settings, silence
from transport.conformance.member import (
    ConformanceWorker,
    Member,
    contents,
    drain,
    message,
    messages,
    until,
)
from transport.contract import WORKER_GROUP, HandingClaim, Record, Topic
from transport.errors import PartitionLost
from transport.redis import RedisTransport
from transport.redis.delivery.claim import RedisClaim
from transport.redis.delivery.membership import RedisMembership
from transport.settings import TransportSettings

PATIENCE = 20.0


class _Process:
    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.told: list[dict[str, Any]] = []

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def step(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(b"\n")

    def count(self, word: str) -> int:
        return sum(word in line for line in self.told)

    async def listen(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            self.told.append(json.loads(line))


@asynccontextmanager
async def _worker(settings: TransportSettings, name: str, *options: str) -> AsyncIterator[_Process]:
    reach = settings.model_dump(
        include={"redis_host", "redis_port", "stream_partitions", "stream_lease_ms"}
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.transport.worker_process"),
        *(name, json.dumps(reach), *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    process = _Process(child)
    listening = asyncio.create_task(process.listen())
    try:
        yield process
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        await listening
        assert child.stdin is not None
        child.stdin.close()  # or its pipe warns


async def test_what_a_killed_worker_had_not_acknowledged_is_delivered_to_another(
    near: RedisTransport,
    settings: TransportSettings,
) -> None:
    texts = [str(i) for i in range(40)]
    for partition in range(near.partitions):
        await near.publish(messages(texts, partition=partition, of=near))
    async with _worker(settings, "killed", "--step") as killed:
        await until(lambda: killed.count("got") >= 5 * near.partitions, patience=PATIENCE)
        killed.step()  # one partition acknowledges, the others stay in the middle of a batch
        await until(lambda: killed.count("acked") == 1, patience=PATIENCE)
        killed.signal(signal.SIGKILL)
        await killed.child.wait()
        heir = ConformanceWorker(near, "heir")
        async with heir.working():
            expected = 40 * near.partitions - 5
            await until(lambda: len(heir.records) >= expected, patience=PATIENCE)
        assert len(heir.records) == expected
        for partition in range(near.partitions):
            got = contents([r for r in heir.records if r.partition == partition])
            assert got in (texts, texts[5:])


async def test_a_worker_suspended_past_its_lease_does_no_harm_when_it_wakes(
    near: RedisTransport,
    settings: TransportSettings,
) -> None:
    await near.publish(messages(list("abc"), partition=0, of=near))
    async with _worker(settings, "sleeper", "--step") as sleeper:
        await until(lambda: sleeper.count("got") == 3, patience=PATIENCE)
        sleeper.signal(signal.SIGSTOP)
        async with Member(near, "heir") as heir:
            claim = await heir.claim(0)
            records = await drain(claim, 3, patience=PATIENCE)
            assert contents(records) == list("abc")
            sleeper.signal(signal.SIGCONT)
            sleeper.step()  # it acknowledges what it had before it fell asleep

            def refused() -> bool:
                return any(line.get("lost") == 0 for line in sleeper.told)

            await until(refused, patience=PATIENCE)
            assert sleeper.count("acked") == 0
            progress = (await near.progress(Topic.MESSAGES, group=WORKER_GROUP))[0]
            assert (progress.lag, progress.pending) == (3, 3)
            await claim.ack(records[-1].offset)


async def test_a_read_of_a_suspended_worker_takes_nothing_from_its_heir(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    """It wakes inside ``next``; what the server hands it then comes to the heir, in order."""
    async with _worker(settings, "sleeper") as sleeper:
        await until(lambda: sleeper.count("claimed") == near.partitions, patience=PATIENCE)
        sleeper.signal(signal.SIGSTOP)
        heir = ConformanceWorker(near, "heir", batch=3)
        async with heir.working():
            await until(lambda: len(heir.owned) == near.partitions, patience=PATIENCE)
            sleeper.signal(signal.SIGCONT)
            for i in range(60):
                await near.publish([message(str(i), partition=0, of=near)])

            def together() -> bool:
                return sleeper.count("got") + len(heir.records) >= 60

            await until(together, patience=PATIENCE)
        mine = contents(heir.records)
        theirs = [line["got"] for line in sleeper.told if "got" in line]
        assert sorted(mine + theirs, key=int) == [str(i) for i in range(60)], "each once"
        assert mine == sorted(mine, key=int)
        assert theirs == sorted(theirs, key=int)


async def test_an_owner_of_whose_records_another_reader_was_given_some_moves_no_group(
    near: RedisTransport, client: Redis
) -> None:
    """Another program read with our group. The owner's epoch is still the one of the lease."""
    async with Member(near, "one") as member:
        claim = await member.claim(0)
        assert isinstance(claim, HandingClaim)
        handed: list[Record] = []

        def take(records: Sequence[Record]) -> bool:
            handed.extend(records)
            return True

        claim.hand_over(take)
        await silence(member.consumer)  # or it gives up the partition, and takes it anew

        async def is_handed() -> bool:
            if not handed and await nothing_left():
                await near.publish([message("a", partition=0, of=near)])
            return bool(handed)

        async def nothing_left() -> bool:
            return (await near.progress(Topic.MESSAGES, group=WORKER_GROUP))[0].lag == 0

        async def work() -> None:
            while True:
                if records := await claim.next(max_records=10, max_wait=PATIENCE):
                    await claim.ack(records[-1].offset)

        working = asyncio.create_task(work())
        try:
            await until(is_handed, patience=PATIENCE)
            await client.xreadgroup(WORKER_GROUP, "another", {"msg:stream:0": ">"})
            (before,) = await client.xinfo_groups("msg:stream:0")
            claim.passed(handed[-1].offset)
        finally:
            working.cancel()
            await asyncio.wait([working])
        await claim.__aexit__(None, None, None)  # once that has its answer
        (after,) = await client.xinfo_groups("msg:stream:0")
        assert after["entries-read"] == before["entries-read"]
        assert after["pending"] == before["pending"] == 1


@pytest.mark.parametrize("how", ["revoked", "lost"])
async def test_a_claim_that_goes_while_it_waits_for_acknowledgements_reads_no_more(
    near: RedisTransport, how: str
) -> None:
    """Its next owner waits for all that it was given; and its own, whatever is not passed."""
    async with Member(near, "one") as member:
        claim = await member.claim(0)
        assert isinstance(claim, RedisClaim)
        handed: list[Record] = []

        def take(records: Sequence[Record]) -> bool:
            handed.extend(records)
            return True

        claim.hand_over(take)

        async def is_handed() -> bool:
            waiting = asyncio.create_task(claim.next(max_records=10, max_wait=0.2))
            await until(lambda: claim.is_waiting or waiting.done(), patience=PATIENCE)
            await near.publish([message("a", partition=0, of=near)])
            if records := await waiting:
                await claim.ack(records[-1].offset)
            return bool(handed)

        await until(is_handed, patience=PATIENCE)
        await near.publish([message("more", partition=0, of=near)])
        reading = asyncio.create_task(claim.next(max_records=10, max_wait=0))
        await until(lambda: claim.awaits_acks, patience=PATIENCE)
        if how == "revoked":
            claim.revoke()
            claim.passed(handed[-1].offset)
        else:
            claim.lose()
        why = "moves to another member" if how == "revoked" else "has another owner"
        with pytest.raises(PartitionLost, match=why):
            await asyncio.wait_for(reading, PATIENCE)


async def test_one_stream_that_something_is_wrong_with_fails_no_other_ack(
    near: RedisTransport, client: Redis
) -> None:
    """What was handed over is acknowledged for all partitions in one call."""
    async with Member(near, "one") as member:
        claims = [await member.claim(p) for p in (0, 1)]
        await silence(member.consumer)
        handed: dict[int, str] = {}

        def take(records: Sequence[Record]) -> bool:
            handed[records[0].partition] = records[-1].offset
            return True

        async def work(claim: HandingClaim) -> None:
            claim.hand_over(take)
            while True:
                if records := await claim.next(max_records=10, max_wait=PATIENCE):
                    await claim.ack(records[-1].offset)

        async def are_handed() -> bool:
            progress = await near.progress(Topic.MESSAGES, group=WORKER_GROUP)
            for p in (0, 1):
                if p not in handed and progress[p].lag == 0:
                    await near.publish([message("a", partition=p, of=near)])
            return len(handed) == 2

        working = [asyncio.create_task(work(claim)) for claim in claims]  # type: ignore[arg-type]
        try:
            await until(are_handed, patience=PATIENCE)
            await client.set(f"{{msg:stream:0}}:lease:{WORKER_GROUP}", "not a hash")
            for claim in claims:
                claim.passed(handed[claim.partition])  # type: ignore[attr-defined]
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working)
        await claims[1].__aexit__(None, None, None)  # once that has its answer
        (group,) = await client.xinfo_groups("msg:stream:1")
        assert group["last-delivered-id"].decode() == handed[1]


async def test_processes_that_come_share_and_processes_that_go_are_replaced(
    near: RedisTransport,
    settings: TransportSettings,
) -> None:
    async with _worker(settings, "one") as one:
        await until(lambda: one.count("claimed") == near.partitions, patience=PATIENCE)
        async with _worker(settings, "two") as two:
            await until(lambda: two.count("claimed") == near.partitions // 2, patience=PATIENCE)
            for i in range(50):
                await near.publish([message(str(i), partition=p, of=near) for p in range(4)])
            two.signal(signal.SIGKILL)
            await two.child.wait()

            def all_acked() -> bool:
                got = {(line["partition"], line["got"]) for line in one.told if "got" in line}
                got |= {(line["partition"], line["got"]) for line in two.told if "got" in line}
                return len(got) == 200

            await until(all_acked, patience=PATIENCE)

            async def nothing_left() -> bool:
                progress = await near.progress(Topic.MESSAGES, group=WORKER_GROUP)
                return all(part.lag == 0 for part in progress)

            await until(nothing_left, patience=PATIENCE)


async def _ends(client: Redis, partition: int) -> int:
    """Return when the lease on a partition ends, in milliseconds."""
    lease = f"{{msg:stream:{partition}}}:lease:{WORKER_GROUP}"
    return int(await client.hget(lease, "until"))  # type: ignore[misc, arg-type]


async def test_a_lease_is_renewed_when_a_quarter_of_it_is_over(
    own_redis: ValkeyServer, client: Redis
) -> None:
    """Not at each look: with 256 partitions that was half of what an idle process costs Redis."""
    settings = short_settings(own_redis, stream_lease_ms=10_000)
    async with RedisTransport.from_settings(settings) as transport, Member(transport) as member:
        await member.claim(0)
        ends = [await _ends(client, 0)]

        async def is_renewed() -> bool:
            ends.append(await _ends(client, 0))
            return len(set(ends)) == 3

        await until(is_renewed, patience=PATIENCE)
    _, renewed, again = sorted(set(ends))
    assert again - renewed >= 2400


async def test_one_stream_that_something_is_wrong_with_spoils_no_other(
    near: RedisTransport, client: Redis, settings: TransportSettings
) -> None:
    lease_ms = settings.stream_lease_ms
    await client.set("msg:stream:1", "not a stream")
    async with Member(near, "one") as member:
        claims = {p: await member.claim(p) for p in (0, 2, 3)}
        ends = {p: await _ends(client, p) for p in claims}

        async def renewed() -> bool:
            """Whether each lease ends later than the first one and another after it would."""
            return all([await _ends(client, p) > ends[p] + lease_ms for p in ends])

        await until(renewed, patience=PATIENCE)
        assert {p: member.claims[p] for p in (0, 2, 3)} == claims
        await near.publish([message("x", partition=3, of=near)])
        assert contents(await drain(claims[3], 1, patience=PATIENCE)) == ["x"]
        await client.delete("msg:stream:1")
        assert await member.claim(1), "put right, it is taken"


async def test_a_claim_that_is_asked_back_while_it_reads_leaves_at_once(
    own_redis: ValkeyServer, proxy: FaultProxy, settings: TransportSettings
) -> None:
    """Its wait had not begun when it was rung, so it must look before it waits."""
    settings = short_settings(own_redis, redis_host=proxy.host, redis_port=proxy.port)
    async with RedisTransport.from_settings(settings) as far, Member(far) as member:
        claim = await member.claim(0)
        proxy.hold(b"XREADGROUP")
        reading = asyncio.ensure_future(claim.next(max_records=1, max_wait=30.0))
        await proxy.held.wait()
        claim.revoke()  # type: ignore[attr-defined]
        proxy.release()
        async with asyncio.timeout(5.0):
            with pytest.raises(PartitionLost):
                await reading


async def test_a_mistake_in_keeping_leases_is_shown_and_not_swallowed(
    near: RedisTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisMembership, "look", None)
    async with near.consume(Topic.MESSAGES, group=WORKER_GROUP, member="one") as consumer:
        with pytest.raises(TypeError):
            async for _ in consumer.claims():
                pass


async def test_an_owner_is_told_of_though_the_clock_was_set_back_a_little(
    near: RedisTransport, client: Redis
) -> None:
    """By milliseconds, as NTP does; one set back further tells nothing of a lease's end."""
    lease = "{msg:stream:0}:lease:" + WORKER_GROUP
    for ahead_ms, owner in ((400, "worker"), (5000, None), (-2000, None)):
        seconds, microseconds = await client.time()
        until = seconds * 1000 + microseconds // 1000 + 1000 + ahead_ms
        await client.hset(lease, mapping={"owner": "worker", "until": until, "length": 1000})
        (progress, *_) = await near.progress(Topic.MESSAGES, group=WORKER_GROUP)
        assert progress.owner == owner, ahead_ms


@pytest.mark.parametrize(
    "key",
    [
        f"{{msg:stream}}:members:{WORKER_GROUP}",
        f"{{msg:stream}}:bell:{WORKER_GROUP}",
        f"{{msg:stream:1}}:lease:{WORKER_GROUP}",
    ],
)
async def test_a_key_of_another_type_keeps_no_member_from_other_partitions(
    near: RedisTransport, client: Redis, key: str
) -> None:
    await client.delete(key)
    await client.set(key, "x")
    async with Member(near) as member:
        claim = await member.claim(0)
        await near.publish([message("a", partition=0, of=near)])
        assert contents(await drain(claim, 1, patience=PATIENCE)) == ["a"]
