"""The rescue: processes append records that a failover lost again, in their order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from compose.local.valkey import ValkeyServer
from tests.support.appends import append, append_at_last, texts
from tests.support.eventually import eventually
from tests.transport.redis_backend import short_settings
from tests.transport.redis_failover import Failover, log_of, run
from tests.transport.settler import Settler
from transport.conformance.envelopes import contents, message, messages
from transport.contract import Appended, Record, Topic
from transport.errors import TransportError, TransportUnavailable
from transport.redis import RedisTransport
from transport.redis.rescue.recent_appends import RecentAppends

AGAIN = "were appended again"


async def test_what_each_process_lost_is_appended_in_its_order_before_all_that_is_new_of_it(
    failover: Failover,
) -> None:
    async with log_of(failover) as one, log_of(failover) as other:
        both = {"one": one, "other": other}
        for name, log in both.items():
            await append(log, messages([f"{name} kept"], partition=0, of=log))
        await failover.cut()
        lost = {name: [f"{name} lost {n}" for n in range(20)] for name in both}
        for texts_of_both in zip(*lost.values(), strict=True):
            for log, text in zip(both.values(), texts_of_both, strict=True):
                await append(log, messages([text], partition=0, of=log))
        elsewhere = [f"elsewhere-{n}" for n in range(2500)]  # three calls
        await append(one, messages(elsewhere, partition=3, of=one))
        await failover.promote()
        await asyncio.gather(*(append_at_last(log, f"{name} new") for name, log in both.items()))
        found = await texts(one)
        assert found[:2] == ["one kept", "other kept"]
        for name in both:
            own = [text for text in found[2:] if text.startswith(f"{name} ")]
            assert own == [*lost[name], f"{name} new"]
        assert len(found) == 2 + 42
        records: list[Record] = []
        while page := await one.read(
            Topic.MESSAGES, 3, after=records[-1].offset if records else None, limit=500
        ):
            records += page
        assert contents(records) == elsewhere


async def test_workers_get_what_was_rescued_and_no_repeat_is_appended_beside_it(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_of(failover) as log:
        worker = Settler(log)
        async with worker.working():
            await append(log, messages(["kept"], partition=0, of=log))
            await eventually(lambda: len(worker.records) == 1)
            await failover.cut()
            lost = messages([f"lost-{n}" for n in range(20)], partition=0, of=log)
            await append(log, lost)
            await failover.promote()
            await append_at_last(log, "new")
            await log.publish(lost)
            assert (await texts(log)).count("lost-7") == 1
            await eventually(lambda: "new" in contents(worker.records))
        assert list(dict.fromkeys(contents(worker.records))) == [
            "kept",
            *(f"lost-{n}" for n in range(20)),
            "new",
        ]
    assert f"20 acknowledged records that this process still had: they {AGAIN}" in caplog.text


async def test_who_hears_of_it_late_still_brings_what_it_had(failover: Failover) -> None:
    """The process was suspended, or sent nothing to the server; here it only appends."""
    async with log_of(failover) as log, log_of(failover) as late:
        await append(late, messages(["kept"], partition=0, of=late))
        await failover.cut()
        await append(late, messages(["late"], partition=0, of=late))
        await append(log, messages(["lost"], partition=0, of=log))
        await failover.promote()
        await append_at_last(log, "new")
        await append_at_last(late, "newer")
        assert await texts(log) == ["kept", "lost", "new", "late", "newer"]


async def test_a_restart_that_lost_nothing_appends_nothing(
    own_redis: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisTransport.from_settings(short_settings(own_redis)) as log:
        await append(log, messages([f"{n}" for n in range(50)], partition=0, of=log))
        await own_redis.restart()
        await append_at_last(log, "new")
        assert await texts(log) == [*(f"{n}" for n in range(50)), "new"]
    assert AGAIN not in caplog.text


async def test_what_was_trimmed_is_not_taken_for_lost(
    own_redis: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = short_settings(own_redis, stream_retention_records=0, stream_retention_seconds=0)
    async with RedisTransport.from_settings(settings) as log:
        worker = Settler(log)
        async with worker.working():
            await append(log, messages(["x"] * 500, partition=0, of=log))
            await eventually(lambda: len(worker.records) >= 500)

            async def trimmed() -> bool:
                return len(await log.read(Topic.MESSAGES, 0)) < 400

            await eventually(trimmed)
        await own_redis.restart()
        await append_at_last(log, "new")
        assert len(await log.read(Topic.MESSAGES, 0)) < 400
    assert AGAIN not in caplog.text


async def test_a_record_that_is_there_does_not_hide_one_that_is_gone(
    failover: Failover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concurrent round trips may end in any order."""
    add = RecentAppends.add
    trips: list[Callable[[], None]] = []

    def held(*some: Any, **how: Any) -> None:
        trips.append(partial(add, *some, **how))

    async with log_of(failover) as log:
        monkeypatch.setattr(RecentAppends, "add", held)
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost-0"], partition=0, of=log))
        await append(log, messages(["lost-1"], partition=0, of=log))
        monkeypatch.undo()
        for i in (1, 0, 2):
            trips[i]()
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost-0", "lost-1", "new"]


async def test_an_address_that_moves_before_the_promotion_gets_its_rescue(
    failover: Failover,
) -> None:
    async with log_of(failover) as log:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.in_step()
        await run(failover.replica, "REPLICAOF", "127.0.0.1", "1")  # still a replica, of nobody
        await append(log, messages(["lost-0", "lost-1"], partition=0, of=log))
        await failover.promote()
        loop = asyncio.get_running_loop()
        began, before = loop.time(), await _connections_to(failover.replica)
        for n in range(100):
            (refused,) = await log.publish(messages([f"refused-{n}"], partition=0, of=log))
            assert isinstance(refused, TransportUnavailable)
            assert "read-only replica" in str(refused)
        with pytest.raises(TransportUnavailable, match="read-only replica"):
            await log.ping()
        made = await _connections_to(failover.replica) - before
        assert made <= 5 + 10 * (loop.time() - began), "a connection for each call"
        await run(failover.replica, "REPLICAOF", "NO", "ONE")
        await append_at_last(log, "new")
        assert await texts(log) == ["kept", "lost-0", "lost-1", "new"]


async def _connections_to(server: ValkeyServer) -> int:
    told = await run(server, "INFO", "stats")
    return int(told["total_connections_received"])


async def test_what_is_appended_whatever_is_remembered_is_rescued_so(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    """A redriven dead letter, whose first record stands in the log."""
    async with log_of(failover) as log:
        poison = messages(["poison"], partition=0, of=log)
        await append(log, poison)
        await failover.cut()
        assert type((await log.publish(poison, remember=False))[0]) is Appended
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["poison", "poison", "new"]
    assert f"1 acknowledged records that this process still had: they {AGAIN}" in caplog.text


async def test_a_rescue_waits_as_long_as_the_new_server_refuses_writes(
    failover: Failover, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.redis.rescue.calls._MOST_SECONDS", 0.3)
    async with log_of(failover) as log, log_of(failover) as idle:
        await append(log, messages(["kept"], partition=0, of=log))
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        await run(failover.replica, "CONFIG", "SET", "min-replicas-to-write", "1")
        await failover.promote()
        began = time.monotonic()

        async def refused_for_long() -> bool:
            (outcome,) = await log.publish([message("new", partition=0, of=log)])
            assert isinstance(outcome, TransportError)
            with suppress(TransportError):
                await idle.ping()
            return "min-replicas-to-write" in str(outcome) and time.monotonic() > began + 1.5

        await eventually(refused_for_long)
        await run(failover.replica, "CONFIG", "SET", "min-replicas-to-write", "0")
        await append_at_last(log, "newer")
        assert await texts(log) == ["kept", "lost", "newer"]
        assert "given up" not in caplog.text


async def test_a_new_server_without_any_data_gets_what_each_process_has(
    failover: Failover,
) -> None:
    async with log_of(failover) as one, log_of(failover) as other:
        await failover.cut()
        await run(failover.replica, "FLUSHALL")
        await append(one, messages(["lost by one"], partition=0, of=one))
        await append(other, messages(["lost by other"], partition=0, of=other))
        await failover.promote()
        await append_at_last(other, "new of other")
        await append_at_last(one, "new of one")
        assert await texts(one) == ["lost by other", "new of other", "lost by one", "new of one"]


async def test_what_was_appended_again_does_not_come_back_at_the_next_restart(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_of(failover) as one, log_of(failover) as other:
        await append(one, messages(["kept-0"], partition=0, of=one))
        await append(other, messages(["kept-1"], partition=0, of=other))
        await failover.cut()
        for log in (one, other):  # whatever is remembered: a second one is not told by its id
            await log.publish(messages(["lost"], partition=0, of=log), remember=False)
        await failover.promote()
        await asyncio.gather(append_at_last(one, "new"), append_at_last(other, "new"))
        before = await texts(one)
        caplog.clear()
        await failover.replica.restart()
        await asyncio.gather(append_at_last(one, "newer"), append_at_last(other, "newer"))
        assert await texts(one) == [*before, "newer", "newer"]
    assert AGAIN not in caplog.text


async def test_what_is_too_old_is_dropped_when_the_server_takes_a_write(
    failover: Failover,
) -> None:
    async with log_of(failover, redis_rescue_seconds=0.05) as log:
        await failover.cut()
        await append(log, messages(["old"], partition=0, of=log))
        began = time.monotonic()

        async def aged() -> bool:
            await log.ping()
            return time.monotonic() > began + 0.1

        await eventually(aged)
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["new"]


async def test_no_replica_has_to_confirm_what_was_acknowledged_already(
    failover: Failover, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_of(failover, redis_wait_replicas=1) as log:
        await failover.in_step()
        await append(log, messages(["lost-0", "lost-1"], partition=0, of=log))
        await run(failover.replica, "REPLICAOF", "NO", "ONE")
        await run(failover.replica, "FLUSHALL")
        await failover.promote()

        async def rescued() -> bool:
            await log.publish(messages(["doubtful"], partition=1, of=log))
            return AGAIN in caplog.text or "given up" in caplog.text

        await eventually(rescued)
        assert await texts(log) == ["lost-0", "lost-1"]
    assert "given up" not in caplog.text


async def test_a_server_that_lives_on_under_another_id_has_nobody_wait(failover: Failover) -> None:
    """Its replica is away for as long as ``repl-backlog-ttl``, an hour unless it is set."""
    async with log_of(failover) as log, log_of(failover) as other:
        await append(log, messages(["kept"], partition=0, of=log))
        await append(other, messages(["kept"], partition=0, of=other))
        old = (await run(failover.primary, "INFO", "replication"))["master_replid"]
        await run(failover.primary, "CONFIG", "SET", "repl-backlog-ttl", "1")
        await failover.cut()

        async def changed() -> bool:
            told = await run(failover.primary, "INFO", "replication")
            return bool(told["master_replid"] != old)

        await eventually(changed)
        failover.proxy.reset()
        refusals = await append_at_last(log, "new")
        assert not [text for text in refusals if "appended again first" in text]


async def test_nothing_is_kept_where_that_is_not_wanted(failover: Failover) -> None:
    async with log_of(failover, redis_rescue_seconds=0) as log:
        await failover.cut()
        await append(log, messages(["lost"], partition=0, of=log))
        await failover.promote()
        await append_at_last(log, "new")
        assert await texts(log) == ["new"]
