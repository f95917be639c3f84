"""Lost records and rows in the audit, ``status``, ``doctor`` and readiness: one sentence."""

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
from tests.transport.settler import settle
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
    }
    async with commands(partial(Crossfade.fork, **settings), tmp_path, []) as run:
        yield run


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
    await append(transport, *(message(f"lost-{n}", "conv") for n in range(count + 1)))
    await settle(transport, 1, partition=P)
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


async def _is_drained(transport) -> bool:
    return await lag(transport) == 0


async def _lose_rows(start, transport, pool) -> None:
    """Take five of six rows back, as a failover to a standby that was behind does."""
    running = start(member="w1")
    await append(transport, message("kept", "conv"))
    await eventually(lambda: _is_drained(transport))
    before = await pool.fetch("SELECT transport, partition, through FROM log_positions")
    await append(transport, *(message(f"lost-{n}", "conv") for n in range(5)))
    await eventually(lambda: _is_drained(transport))
    await running.stop()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM messages WHERE client_message_id LIKE 'lost-%'")
        await connection.executemany(
            "UPDATE log_positions SET through = $3 WHERE transport = $1 AND partition = $2",
            [(row["transport"], row["partition"], row["through"]) for row in before],
        )


async def test_rows_that_were_put_back_are_a_notice_in_status_and_doctor(
    start, transport, database_pool, crossfade
) -> None:
    await _lose_rows(start, transport, database_pool)
    running = start(member="w2")

    async def is_back() -> bool:
        return bool(await database_pool.fetchval("SELECT count(*) = 6 FROM messages"))

    await eventually(is_back)
    await running.stop()
    fact = "PostgreSQL lost rows of acknowledged messages, the last "
    for command in ("status", "doctor"):
        status, sentences = await _health(crossfade, command)
        (told,) = [text for text in sentences if text.startswith(fact)]
        assert "put them back from redis, in 1 partition" in told
        assert status == 0, command
    ran = await crossfade("audit")
    assert await ran.ends() == 0, ran.text


async def test_rows_whose_records_are_gone_are_an_alarm_everywhere(
    start, transport, database_pool, client, crossfade
) -> None:
    """Readiness is of an API, which accepts messages: it stays in the load balancer."""
    await _lose_rows(start, transport, database_pool)
    held = [record.offset for record in await transport.read(Topic.MESSAGES, P)]
    await client.xtrim(STREAM, minid=held[3], approximate=False)
    await client.set(trimmed(STREAM), held[2])
    running = start(member="w2")

    async def is_passed() -> bool:
        return bool(await database_pool.fetchval("SELECT count(*) = 4 FROM messages"))

    await eventually(is_passed)
    await running.stop()
    fact = "Records of redis that had no row are gone, in 1 partition, the last "
    for command in ("status", "doctor"):
        status, sentences = await _health(crossfade, command)
        (told,) = [text for text in sentences if text.startswith(fact)]
        assert "This alarm ends an hour after the last loss" in told
        assert status == 1, command
    ran = await crossfade("audit")
    assert await ran.ends() == 3, ran.text
    assert fact in ran.text
    assert "nothing is wrong" not in ran.text
    port = free_port()
    serving = await crossfade("serve", PORT=str(port), METRICS_PORT=str(free_port()))

    async def is_degraded() -> bool:
        try:
            async with httpx.AsyncClient() as browser:
                ready = await browser.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.TransportError:
            return False
        return fact in ready.text and (ready.status_code, ready.json()["status"]) == (
            200,
            "degraded",
        )

    await eventually(is_degraded)
    assert await serving.terminate() == 0
