"""Two ``crossfade up`` at the same instant, in two folders: both run, each with its own servers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import httpx

from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually

_MESSAGES = 5


async def _address(running: Crossfade, pattern: str) -> str:
    return (await running.says(pattern))[1]


async def test_two_ups_at_once_both_run_and_keep_their_own_messages(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    ups = await asyncio.gather(*(Crossfade.start("up", cwd=folder) for folder in folders))
    try:
        for number, up in enumerate(ups):
            await up.says("Ctrl-C stops everything")
            api = await _address(up, r"API +(http://\S+)")
            async with httpx.AsyncClient(base_url=api) as client:
                for nth in range(_MESSAGES):
                    body = {
                        "conversationId": f"{number}-{nth}",
                        "senderId": f"of {number}",
                        "content": "hello",
                        "contentType": "text",
                        "clientMessageId": str(nth),
                    }
                    assert (await client.post("/api/messages", json=body)).status_code == 202
        for number, up in enumerate(ups):
            url = await _address(up, r"psql (postgresql://\S+)")
            rows = await eventually(lambda url=url: _senders(url))
            assert rows == {f"of {number}"}
        for pattern in (r"API +(\S+)", r"Metrics +(\S+)", r"redis-cli -p (\d+)", r"psql (\S+)"):
            assert len({re.search(pattern, up.text)[1] for up in ups}) == 2
        assert [await up.interrupt() for up in ups] == [0, 0]
        assert not any("Traceback" in up.text for up in ups)
    finally:
        for up in ups:
            await up.kill()


async def _senders(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT sender_id FROM messages")
    finally:
        await connection.close()
    assert len(rows) == _MESSAGES
    return {row["sender_id"] for row in rows}
