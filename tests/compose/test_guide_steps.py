"""The deployment guide's steps, done as it says, on ``crossfade up`` as a child process."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.requirements import program

# The body of steps 4 and 5, as it stands there.
BODY = """{
    "conversationId": "test_conv_001",
    "senderId": "user_001",
    "content": "Hello, Phase 3!",
    "contentType": "text",
    "clientMessageId": "client_msg_001",
    "recipientIds": ["user_002"]
  }"""
JSON = {"Content-Type": "application/json"}


async def _post(api: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{api}/api/messages", content=BODY, headers=JSON)


async def _get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


async def _rows(running: Crossfade) -> list[Any]:
    url = (await running.says(r"psql (postgresql://\S+)"))[1]
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(
            "SELECT id, content, idempotency_key FROM messages WHERE content = 'Hello, Phase 3!'"
        )
    finally:
        await connection.close()


def _started(running: Crossfade) -> list[int]:
    """Return the partitions whose workers started, once there are as many as the guide says."""
    lines = re.findall(r"Worker started for partition (\d+)", running.text)
    assert len(lines) == 16, lines
    return [int(partition) for partition in lines]


async def _streams(running: Crossfade) -> dict[str, int]:
    """Return the number of records in each stream that holds some."""
    port, db = (await running.says(r"redis-cli -p (\d+) -n (\d+)")).groups()
    async with Redis(port=int(port), db=int(db)) as client:
        names = [f"msg:stream:{p}" for p in range(16)]
        lengths = {name: await client.xlen(name) for name in names}
    return {name: length for name, length in lengths.items() if length}


async def test_steps_4_and_5_one_message_end_to_end_and_its_repeat(up, tmp_path: Path):
    running, api, metrics = await up()

    first = await _post(api)
    assert first.status_code == 202
    ack = first.json()
    assert ack["state"] == "pending"
    assert ack["idempotentHit"] is False
    assert sum((await _streams(running)).values()) == 1
    (row,) = await eventually(lambda: _rows(running))
    assert str(row["id"]) == ack["messageId"]
    assert row["idempotency_key"] == "user_001:test_conv_001:client_msg_001"

    repeat = await _post(api)
    assert repeat.status_code == 200
    again = repeat.json()
    assert again["messageId"] == ack["messageId"]
    assert again["acceptedAt"] == ack["acceptedAt"]
    assert again["idempotentHit"] is True
    assert len(await _rows(running)) == 1
    assert sum((await _streams(running)).values()) == 1

    async def is_counted() -> bool:
        """A row can be seen before the worker hears of it."""
        text = (await _get(metrics)).text
        return 'stream_consumer_processed_total{status="persisted"} 1.0' in text

    await eventually(is_counted)
    text = (await _get(metrics)).text
    assert re.search(r'^stream_enqueue_total\{.*transport="redis".*\} 1\.0$', text, re.MULTILINE)
    assert 'idempotency_hit_total{operation="ingress"} 1.0' in text
    assert await running.interrupt() == 0
    assert "Persisted" not in running.text  # the panel stays in sight
    lines = (tmp_path / ".crossfade" / "crossfade.log").read_text("utf-8").splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert {"Persisted", "Stopped", "Worker started for partition 7"} <= set(events)


async def test_steps_1_and_2_and_scenario_1_consumers_off_then_on(up):
    running, api, _ = await up("--verbose", ENABLE_STREAM_CONSUMERS="false")
    assert (await _get(f"{api}/readyz")).status_code == 200
    assert (await _post(api)).status_code == 202
    assert sum((await _streams(running)).values()) == 1  # safe in the queue ...
    assert await _rows(running) == []  # ... and no worker consumes it
    assert "Worker started" not in running.text
    assert '"level":"error"' not in running.text
    assert await running.interrupt() == 0

    running, api, _ = await up("-v", ENABLE_STREAM_CONSUMERS="true")
    assert sorted(await eventually(lambda: _started(running))) == list(range(16))
    assert len(await eventually(lambda: _rows(running))) == 1
    assert await running.says("Persisted")
    assert (await _post(api)).json()["idempotentHit"] is True
    assert await running.interrupt() == 0


@pytest.mark.parametrize("keys", ["", f"alice:produce:{'0' * 64}:sender=a"])
async def test_the_command_that_up_prints_works_as_printed(up, crossfade, keys: str):
    """Where keys are configured too: it carries one, and a request without a key is refused.

    A command in another terminal sends it, too.
    """
    program("curl", package="curl")
    running, api, _ = await up(API_KEYS=keys)
    async with httpx.AsyncClient() as client:
        other = BODY.replace("client_msg_001", "client_msg_002")
        answer = await client.post(f"{api}/api/messages", content=other, headers=JSON)
    assert answer.status_code == (401 if keys else 202)
    command = (await running.says(r"(?s)(curl -X POST .*?\}')"))[1]
    shell = await asyncio.create_subprocess_shell(
        f"{command} --silent --show-error", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await shell.communicate()
    assert json.loads(said)["messageId"]
    assert ("configured are alice (senders that begin with 'a')" in running.text) == bool(keys)
    produced = await crossfade("produce", "Hello", "--conversation", "c", "--wait")
    assert await produced.ends() == 0, produced.text
