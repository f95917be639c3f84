"""Processes and servers as they are: two Redis under one name, and one Redis under two names."""

from __future__ import annotations

import json

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from compose.local.ports import free_port
from persistence.fleet.log_identities import known_identities
from persistence.fleet.processes import processes
from tests.support.eventually import eventually


def _beside(places: dict[str, str]) -> dict[str, str]:
    """Return ``places`` with ports of another process."""
    return {**places, "PORT": str(free_port()), "METRICS_PORT": str(free_port())}


async def _gate(crossfade, places) -> tuple[str, str]:
    """Return what the gate says of the next step."""
    ran = await crossfade("migrate", "check", "--json", **places)
    await ran.ends()
    (gate,) = [gate for gate in json.loads(ran.text)["gates"] if gate["name"] == "identity"]
    return gate["verdict"], gate["reason"]


async def _component(places) -> tuple[str, str]:
    async with httpx.AsyncClient() as client:
        ready = await client.get(f"http://127.0.0.1:{places['PORT']}/readyz")
    (one,) = [
        component for component in ready.json()["components"] if component["name"] == "identity"
    ]
    return one["status"], one["detail"]


async def _alarm(places) -> str | None:
    """Return what the console says of another log, if anything."""
    async with httpx.AsyncClient() as client:
        status = await client.get(f"http://127.0.0.1:{places['PORT']}/api/console/status")
    told = (it["text"] for it in status.json()["health"] if it["level"] == "alarm")
    return next((text for text in told if "another log" in text), None)


async def _replaced(places) -> float:
    """Return the gauge that the alert LogReplaced reads."""
    async with httpx.AsyncClient() as client:
        scraped = await client.get(f"http://127.0.0.1:{places['METRICS_PORT']}/metrics")
    (family,) = [
        family
        for family in text_string_to_metric_families(scraped.text)
        if family.name == "stream_log_replaced"
    ]
    (sample,) = family.samples
    assert sample.labels == {"transport": "redis"}
    return sample.value


async def _seen(pool, count: int) -> bool:
    """Whether so many processes have said which log theirs is."""
    said = [process.logs or {} for process in await processes(pool)]
    return len(said) == count and all(all(logs.values()) for logs in said)


async def test_two_servers_under_one_name_are_told_by_process_readiness_and_gate(
    crossfade, places, new_redis, database_pool
):
    first = await crossfade("serve", **places)
    await eventually(lambda: _seen(database_pool, 1))

    async def knows_its_log() -> bool:
        """It is seen before it listens."""
        try:
            return await _component(places) == ("up", "Each log is the one its name means.")
        except httpx.TransportError:
            return False

    await eventually(knows_its_log)
    assert (await _gate(crossfade, places))[0] == "green"
    other = await new_redis()
    astray = {**_beside(places), "REDIS_HOST": other.host, "REDIS_PORT": str(other.port)}
    second = await crossfade("serve", **astray)
    await second.says("Another log than the one that its name means")
    await eventually(lambda: _seen(database_pool, 2))
    verdict, reason = await _gate(crossfade, places)
    assert verdict == "red"
    assert "redis is 2 logs" in reason
    status, detail = await _component(astray)
    assert status == "degraded"
    assert "a label" in detail
    assert (await _component(places))[0] == "up"
    assert (await _replaced(astray), await _replaced(places)) == (1, 0)
    told = await eventually(lambda: _alarm(places))
    assert "than for the other processes" in told
    assert second.text.count("Another log than the one that its name means") == 1
    assert await second.terminate() == 0
    assert await first.terminate() == 0


async def test_one_server_under_two_names_is_told_by_the_gate(crossfade, places, database_pool):
    """As text the addresses differ, so no setting is refused."""
    first = await crossfade("serve", **places)
    await eventually(lambda: _seen(database_pool, 1))  # it says which log is the first
    alias = {
        **_beside(places), "TRANSPORT": "redis.eu", "LOG_EU_REDIS_PORT": places["REDIS_PORT"],
        "LOG_EU_REDIS_HOST": "127.0.0.1" if places["REDIS_HOST"] == "localhost" else "localhost",
    }  # fmt: skip
    second = await crossfade("serve", **alias)
    await eventually(lambda: _seen(database_pool, 2))
    verdict, reason = await _gate(crossfade, places)
    assert verdict == "red"
    assert "redis and redis.eu are one log" in reason
    assert await second.terminate() == 0
    assert await first.terminate() == 0


async def test_an_emptied_log_is_accepted_by_name(crossfade, places, database_pool):
    running = await crossfade("serve", **places)
    await eventually(lambda: _seen(database_pool, 1))
    before = await known_identities(database_pool)
    async with Redis(host=places["REDIS_HOST"], port=int(places["REDIS_PORT"]), db=1) as client:
        await client.delete("{msg:stream}:identity")
    await running.says("Another log than the one that its name means")

    async def is_red() -> bool:
        """The process may say so a heartbeat before its row does."""
        return (await _gate(crossfade, places))[0] == "red"

    await eventually(is_red)
    told = await eventually(lambda: _alarm(places))
    assert "redis is another log than before" in told
    forget = await crossfade(
        "migrate", "forget-log", "redis", "--why", "emptied for a test", "--yes", **places
    )
    assert await forget.ends() == 0

    async def known() -> bool:
        return (await known_identities(database_pool)).get("redis") not in {None, before["redis"]}

    await eventually(known)

    async def calm() -> bool:
        return (await _component(places))[0] == "up"

    await eventually(calm)
    assert (await _gate(crossfade, places))[0] == "green"
    (done,) = await database_pool.fetch("SELECT action, target, why FROM operator_actions")
    assert tuple(done) == ("forget log", "redis", "emptied for a test")
    assert await running.terminate() == 0
