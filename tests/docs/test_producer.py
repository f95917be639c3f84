"""The producer that ``docs/use_from_your_application.md`` shows stores a message once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from crossfade import Client
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]


async def test_the_producer_of_the_page_repeats_with_the_same_key(up) -> None:
    page = (ROOT / "docs" / "use_from_your_application.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    _, api, _ = await up()
    names: dict[str, Any] = {}
    for _ in range(2):
        exec(program.replace("http://localhost:3000", api), names)
    with Client(api) as client:
        rows = await eventually(lambda: list(client.messages("order-1042")))
        (message,) = rows
    assert message.client_message_id == "order-1042-paid"


@pytest.mark.parametrize("asked", ["0", "Thu, 26 Nov 2026 08:30:00 GMT", "soon"])
async def test_the_producer_of_the_page_takes_any_retry_after(asked: str) -> None:
    page = (ROOT / "docs" / "use_from_your_application.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program.partition("with httpx.Client")[0], names)
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        if len(bodies) == 1:
            return web.Response(status=503, headers={"Retry-After": asked}, text="away")
        return web.json_response({"messageId": "m"}, status=202)

    app = web.Application()
    app.router.add_post("/api/messages", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        with httpx.Client(base_url=url) as http:
            accepted = await asyncio.to_thread(names["send"], http, {"content": "Paid"})
    finally:
        await runner.cleanup()
    assert accepted == {"messageId": "m"}
    assert len(bodies) == 2
    assert len(set(bodies)) == 1
