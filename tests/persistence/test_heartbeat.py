"""Each process's own row: there while it runs, gone when it stops, and never in the way."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime

import msgspec
import pytest

from compose.process.scrape_targets import described
from persistence.database.outage import Paused
from persistence.database.pool import connect
from persistence.fleet.append_outage import AppendOutage
from persistence.fleet.heartbeat import _WITHIN, Heartbeat, HeartbeatReport, Identity, machine
from persistence.fleet.processes import forget, processes
from persistence.fleet.used_logs import note_drained, used_logs
from persistence.settings import PersistenceSettings
from tests.support.eventually import eventually
from transport.errors import ConfigurationError


def identity(member: str, **changes) -> Identity:
    values = {
        "member": member, "role": "serve", "host": "here", "machine": machine(), "pid": os.getpid(),
        "version": "1", "api_url": "http://a", "metrics_url": "http://m",
        "transport": "redis", "transport_shadow": "kafka", "transport_shadow_mode": "sync",
        "consume_from": "redis", "started_at": datetime.now(UTC),
    }  # fmt: skip
    return Identity(**{**values, **changes})


# What a mirror says of itself (transport.shadow.status.ShadowStatus.summary).
SHADOW = {
    "name": "kafka", "mode": "sync", "breaker": "closed", "waiting": 1, "waiting_bytes": 7,
    "oldest_age": 0.5, "error": "", "since": 1.0, "dropped": 0, "dropped_at": None,
    "partitions": [], "unwritten": None,
}  # fmt: skip


async def nothing(_state) -> None:
    return None


def presence(pool, who: Identity, report=HeartbeatReport, heard=nothing, **options) -> Heartbeat:
    return Heartbeat(pool, who, report, heard, **options)


async def names(pool) -> list[str]:
    return [process.member for process in await processes(pool)]


async def age(pool, member: str, seconds: float) -> None:
    await pool.execute(
        "UPDATE processes SET seen_at = now() - make_interval(secs => $2) WHERE member = $1",
        member, seconds,
    )  # fmt: skip


async def test_a_process_is_seen_as_it_is_and_gone_when_it_stops(database_pool):
    reports = [HeartbeatReport(owned={"redis": {"3": 17}}, shadow=SHADOW)]
    stop = asyncio.Event()
    me = presence(database_pool, identity("one"), lambda: reports[-1], interval=0.02)
    running = asyncio.create_task(me.run(stop))
    await eventually(lambda: names(database_pool))
    (seen,) = await processes(database_pool)
    assert (seen.member, seen.phase, seen.transport_shadow_mode) == ("one", 2, "sync")
    assert (seen.owned, seen.shadow, seen.followers) == ({"redis": {"3": 17}}, SHADOW, None)
    assert seen.live
    waits = {"kafka": 9.2}
    reports.append(HeartbeatReport(paused=[Paused("redis", "now", "gone")], throttled=waits))
    full = AppendOutage("redis", "2026-11-25T11:59:20Z", "2026-11-25T11:59:58Z", "it is full")
    reports.append(msgspec.structs.replace(reports[-1], append_outage=full))

    async def paused():
        return (await processes(database_pool))[0].paused

    assert (await eventually(paused))[0].dependency == "redis"
    (seen,) = await processes(database_pool)
    assert (seen.throttled, seen.append_outage) == (waits, full)
    stop.set()
    await running
    assert await names(database_pool) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"owned": '{"redis": {"x": 1}}'}, {"owned": "[]"}, {"paused": '["redis"]'},
        {"paused": '[{"dependency": 1}]'}, {"shadow": '{"breaker": "closed"}'}, {"shadow": "7"},
        {"followers": '{"redis": []}'}, {"figures": '{"ack": "many"}'},
        {"throttled": '{"kafka": "long"}'}, {"append_outage": '{"log": "redis"}'}, {"metrics_url": "http://["},
        {"metrics_url": "http://a:99999"}, {"host": "'\u202e'"},
    ],
)  # fmt: skip
async def test_a_row_of_another_shape_is_read_as_far_as_it_says_something(database_pool, odd):
    me = presence(database_pool, identity("one"), lambda: HeartbeatReport(shadow=SHADOW))
    await me.beat()
    (good,) = await processes(database_pool)
    for name, value in odd.items():
        written = value if name == "host" else f"'{value}'"
        await database_pool.execute(f"UPDATE processes SET {name} = {written}")
    (seen,) = await processes(database_pool)
    for name in {
        "owned",
        "paused",
        "followers",
        "figures",
        "throttled",
        "append_outage",
    } & odd.keys():
        assert not getattr(seen, name)
    assert seen.shadow == (None if "shadow" in odd else SHADOW)
    assert seen.member == good.member
    assert described([seen]) == ([] if "metrics_url" in odd else described([good]))


async def test_the_log_that_it_writes_is_known_when_it_is_gone(database_pool):
    """Its messages may be unread: workers look for them although no process names the log."""
    one, stop = presence(database_pool, identity("one")), asyncio.Event()
    await one.beat()
    stop.set()
    await one.run(stop)
    assert await names(database_pool) == []
    assert await used_logs(database_pool) == ["redis"]
    assert await note_drained(database_pool, "redis")
    assert await used_logs(database_pool) == []
    await one.beat()
    assert not await note_drained(database_pool, "redis"), "a process writes it"
    assert await used_logs(database_pool) == ["redis"]


async def test_a_process_does_not_go_on_with_a_log_that_was_retired(database_pool):
    me = presence(database_pool, identity("me"), writes={"redis", "kafka"})
    reader = presence(database_pool, identity("reader"))
    await me.beat()
    await database_pool.execute("INSERT INTO retired_logs VALUES ('kafka', 'op', 'moved')")
    with pytest.raises(ConfigurationError, match=r"kafka was retired by op on .*: moved\. "):
        await me.run(asyncio.Event())
    await reader.beat()
    assert set(await names(database_pool)) == {"me", "reader"}, "it may write until it has stopped"
    await me.leave()
    assert await names(database_pool) == ["reader"]


async def test_a_beat_ends_in_time_however_long_it_waited_for_a_connection(
    database_url, database_pool
):
    """``migrate retire`` waits for as long as a beat can take, before it looks a last time."""
    pool = await connect(PersistenceSettings(database_url=database_url, database_pool_size=6))
    async with pool, database_pool.acquire() as other, other.transaction():
        await other.execute("LOCK processes")
        held = [await pool.acquire() for _ in range(6)]
        began = time.monotonic()
        beat = asyncio.create_task(presence(pool, identity("me")).beat())
        await asyncio.sleep(0.8 * _WITHIN)
        for connection in held:
            await pool.release(connection)
        await beat
        assert time.monotonic() - began < 1.6 * _WITHIN


async def test_silence_is_seen_and_only_proof_of_death_buries(database_pool):
    """Of three silent processes one is proven dead: the other two stay, as missing."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await child.wait()
    dead = child.pid
    deaths: list[int] = []
    for who in (
        identity("dead", pid=dead),
        identity("suspended"),
        identity("elsewhere", machine="another/1", pid=dead),
    ):
        await presence(database_pool, who, died=deaths.append).beat()
        await age(database_pool, who.member, 11)
    await presence(database_pool, identity("me"), died=deaths.append).beat()
    assert deaths == [1]
    found = {process.member: process.live for process in await processes(database_pool)}
    assert found == {"suspended": False, "elsewhere": False, "me": True}


async def test_a_process_that_is_heard_of_is_not_forgotten(database_pool):
    await presence(database_pool, identity("one")).beat()
    assert not await forget(database_pool, "one")
    await age(database_pool, "one", 11)
    assert await forget(database_pool, "one")
    assert await names(database_pool) == []


async def test_it_comes_back_after_an_outage_and_does_no_harm_meanwhile(new_postgres):
    """With PostgreSQL gone a beat ends in about a second and raises nothing."""
    from persistence.migrate import upgrade  # noqa: PLC0415

    postgres = await new_postgres()
    url = await postgres.create_database("present")
    await upgrade(url)
    pool = await connect(PersistenceSettings(database_url=url))
    me = presence(pool, identity("one"))
    await me.beat()
    await postgres.kill()
    async with asyncio.timeout(5):
        await me.beat()
    await postgres.restart()
    await age_when_up(pool)

    async def back() -> bool:
        await me.beat()
        return (await processes(pool))[0].live

    await eventually(back)
    pool.terminate()


async def age_when_up(pool) -> None:
    async def aged() -> bool:
        await age(pool, "one", 100)
        return True

    await eventually(aged)


@pytest.mark.parametrize("known", [False, True])
async def test_it_hears_where_the_migration_stands(database_pool, known):
    if known:
        await database_pool.execute(
            "INSERT INTO migration (id, phase, target, epoch, changed_by, why)"
            " VALUES (1, 1, 2, 7, 'somebody', 'a test')"
        )
    heard = []

    async def hear(state) -> None:
        heard.append(state)

    await presence(database_pool, identity("one"), heard=hear).beat()
    (state,) = heard
    if not known:
        assert state is None
        return
    assert (state.phase, state.target, state.epoch, state.under_way) == (1, 2, 7, True)
    assert state.expected == {1, 2}


async def test_who_was_seen_before_the_clock_was_set_back_is_missing_all_the_same(database_pool):
    """PostgreSQL's clock was an hour ahead when a process died: it must not live for an hour."""
    await presence(database_pool, identity("dead", machine="another")).beat()
    await presence(database_pool, identity("alive")).beat()
    for member in ("dead", "alive"):
        await age(database_pool, member, -3600)
    await presence(database_pool, identity("alive")).beat()
    assert {process.member: process.live for process in await processes(database_pool)} == {
        "dead": False,
        "alive": True,
    }
    assert await forget(database_pool, "dead")
    assert await names(database_pool) == ["alive"]
