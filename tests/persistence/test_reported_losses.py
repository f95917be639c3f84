"""Lost records and lost rows in the audit, ``status`` and ``doctor``: one sentence, one status."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from compose.local.ports import free_port
from persistence.audit.audit import audit
from tests.compose.conftest import Start, commands
from tests.persistence.loglib import append, lag
from tests.persistence.samples import PARTITIONS, message
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from transport.contract import WORKER_GROUP, Topic
from transport.features.forwarding import Forwarding
from transport.message.partitioner import partition_for
from transport.redis.keys import trimmed

P = partition_for("conv", PARTITIONS)
STREAM = f"msg:stream:{P}"


@pytest.fixture
async def client(transport_settings):
    """A client of the server of the test's log."""
    at = transport_settings
    async with Redis(
        host=at.redis_host, port=at.redis_port, db=at.redis_stream_db, protocol=2
    ) as opened:
        yield opened


@pytest.fixture
async def crossfade(database_url, transport_settings, tmp_path) -> AsyncIterator[Start]:
    """Run a command on the test's log and database, until the test ends."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_HOST": transport_settings.redis_host,
        "REDIS_PORT": str(transport_settings.redis_port),
        "REDIS_STREAM_DB": str(transport_settings.redis_stream_db),
        "STREAM_PARTITIONS": str(PARTITIONS),
        "STREAM_LEASE_MS": "1000",
    }
    async with commands(partial(Crossfade.fork, **settings), tmp_path, []) as run:
        yield run


async def _ready(port: int) -> httpx.Response | None:
    """Return the readiness of the process at a port; ``None`` before it listens."""
    try:
        async with httpx.AsyncClient() as browser:
            return await browser.get(f"http://127.0.0.1:{port}/readyz")
    except httpx.TransportError:
        return None


async def _health(crossfade, command: str) -> tuple[int, list[str]]:
    """Return a command's exit status, and the facts with their remedies."""
    ran = await crossfade(command, "--json")
    status = await ran.ends()
    shown: Any = json.loads(ran.text)
    if command == "doctor":
        return status, [f"{it['found']} {it['remedy'] or ''}" for it in shown]
    return status, [f"{it['text']} {it['next'] or ''}" for it in shown["health"]]


async def _lose_unread(transport, client, count: int) -> None:
    """Delete a stream with unread records, after the log's accounts have noted them."""
    await append(transport, *(message(f"lost-{n}", "conv") for n in range(count)))
    assert await lag(transport) == count
    await client.delete(STREAM)
    (lost,) = {part.lost for part in await _progress(transport) if part.partition == P}
    assert lost == count


async def _progress(transport):
    return await transport.progress(Topic.MESSAGES, group=WORKER_GROUP)


async def test_the_audit_of_a_log_that_lost_records_finds_them_gone(
    transport, client, crossfade
) -> None:
    await _lose_unread(transport, client, 3)
    ran = await crossfade("audit")
    assert await ran.ends() == 3, ran.text
    assert "3 are gone" in ran.text
    assert "nothing is wrong" not in ran.text
    shown = await crossfade("audit", "--json")
    assert await shown.ends() == 3
    loss = json.loads(shown.text)["loss"]
    assert (loss["lost"], loss["putBack"], loss["gone"]) == (3, 0, 3)


async def test_one_sentence_is_in_status_doctor_and_audit_and_sets_their_status(
    transport, client, crossfade
) -> None:
    await _lose_unread(transport, client, 3)
    fact = "3 records left redis unread, the last "
    for command in ("status", "doctor"):
        status, sentences = await _health(crossfade, command)
        (told,) = [text for text in sentences if text.startswith(fact)]
        assert status == 1, command
        assert "none was put back, 3 are gone." in told
        assert "ends an hour after the last loss" in told
    ran = await crossfade("audit", "--json")
    await ran.ends()
    assert json.loads(ran.text)["loss"]["text"].startswith(fact)


async def test_what_was_put_back_is_not_gone(transport, database_pool) -> None:
    class Healed(Forwarding):
        async def progress(self, topic, *, group):
            told = await self.inner.progress(topic, group=group)
            return [msgspec.structs.replace(part, lost=2, put_back=2) for part in told]

    report = await audit(database_pool, Healed(transport))
    assert report.loss is not None
    assert (report.loss.lost, report.loss.gone) == (2 * transport.partitions, 0)


async def _set_back(pool, through: list) -> None:
    """Take rows back, as a failover to a standby that was behind does."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM messages WHERE client_message_id LIKE 'lost-%'")
        await connection.executemany(
            "UPDATE log_positions SET through = $3 WHERE transport = $1 AND partition = $2",
            [(row["transport"], row["partition"], row["through"]) for row in through],
        )


async def _persisted(start, transport, pool, member: str = "w1") -> list:
    """Store five rows after one that is kept; return the positions before the five."""
    running = start(member=member)
    await append(transport, message("kept", "conv"))
    await eventually(lambda: _is_drained(transport), timeout=20)
    before = await pool.fetch("SELECT transport, partition, through FROM log_positions")
    await append(transport, *(message(f"lost-{n}", "conv") for n in range(5)))
    await eventually(lambda: _is_drained(transport), timeout=20)
    await running.stop()
    return before


async def _is_drained(transport) -> bool:
    return await lag(transport) == 0


async def test_rows_that_were_put_back_are_in_status_doctor_and_readiness(
    start, transport, database_pool, crossfade
) -> None:
    await _set_back(database_pool, await _persisted(start, transport, database_pool))
    running = start(member="w2")

    async def is_back() -> bool:
        return await database_pool.fetchval("SELECT count(*) FROM messages") == 6

    await eventually(is_back, timeout=20)
    await append(transport, message("later", "conv"))
    await eventually(lambda: _is_drained(transport), timeout=20)
    await running.stop()
    fact = "PostgreSQL had lost rows of acknowledged messages: 5 were put back from redis"
    for command in ("status", "doctor"):
        status, sentences = await _health(crossfade, command)
        assert [text for text in sentences if text.startswith(fact)], (command, sentences)
        assert status == 0, command
    port = free_port()
    serving = await crossfade("serve", PORT=str(port), METRICS_PORT=str(free_port()))

    async def told() -> bool:
        ready = await _ready(port)
        return ready is not None and fact in ready.text and ready.status_code == 200

    await eventually(told, timeout=60)
    assert await serving.terminate() == 0


async def test_partitions_that_wait_for_an_operator_are_an_alarm_everywhere(
    start, transport, database_pool, client, crossfade
) -> None:
    """Readiness is of an API without workers: it accepts, so it stays in the load balancer."""
    before = await _persisted(start, transport, database_pool)
    await _set_back(database_pool, before)
    last = (await transport.read(Topic.MESSAGES, P))[-1].offset
    await client.xtrim(STREAM, maxlen=0, approximate=False)
    await client.set(trimmed(STREAM), f"{last} 6")
    port = free_port()
    working = await crossfade("worker", METRICS_PORT=str(free_port()), PORT=str(free_port()))
    serving = await crossfade(
        "serve", PORT=str(port), METRICS_PORT=str(free_port()), ENABLE_STREAM_CONSUMERS="false"
    )

    async def waits() -> bool:
        paused = await database_pool.fetch("SELECT paused::text FROM processes")
        return any("an operator" in (row["paused"] or "") for row in paused)

    await eventually(waits, timeout=60)
    fact = f"Partition {P} of redis waits for an operator"
    remedy = "`crossfade db accept-gap redis --all-waiting --why ...`"
    for command in ("status", "doctor"):
        status, sentences = await _health(crossfade, command)
        (told,) = [text for text in sentences if text.startswith(fact)]
        assert remedy in told
        assert status == 1, command

    async def is_degraded() -> bool:
        ready = await _ready(port)
        return (
            ready is not None
            and (ready.status_code, ready.json()["status"]) == (200, "degraded")
            and fact in ready.text
            and remedy in ready.text
        )

    await eventually(is_degraded, timeout=60)
    assert await serving.terminate() == 0
    assert await working.terminate() == 0
