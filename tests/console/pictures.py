"""Take the pictures of the console that the documentation shows.

``python -m tests.console.pictures [--minutes 6]`` runs two processes of the service over real
servers, sends them messages, steps the migration to phase 2, and writes ``docs/images``. The
processes believe that their machines are called ``api-1`` and ``worker-1``. Look at the pictures
before you commit them: on a busy machine the latencies in them are those of a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import httpx

from compose.local.kafka import KafkaServer
from compose.local.postgres import PostgresServer
from compose.local.valkey import ValkeyServer
from lab.harness.service import RehearsedService
from persistence.migrate import upgrade
from tests.support.chromium import run_chromium
from tests.support.eventually import eventually

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_RATE = 30.0  # messages a second
_CONVERSATIONS = 40
_PARITY = 330.0  # seconds: parity has to have held for five minutes
_REDIS = {"TRANSPORT": "redis"}
_SHADOW = {**_REDIS, "TRANSPORT_SHADOW": "kafka"}
_PHASES = (
    _REDIS,
    {**_SHADOW, "TRANSPORT_SHADOW_MODE": "async"},
    {**_SHADOW, "TRANSPORT_SHADOW_MODE": "sync"},
)
_NAMED = (
    "import socket; socket.gethostname = lambda: {name!r}; from compose.cli import main; main()"
)


class _NamedService(RehearsedService):
    """A process of the service on a machine of another name."""

    def _command(self) -> list[str]:
        return [sys.executable, "-c", _NAMED.format(name=self.name), self._service]


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[list[RehearsedService]]:
    """Run the servers and, on phase 0, the processes."""
    servers = (
        valkey := ValkeyServer(folder / "valkey"),
        kafka := KafkaServer(folder / "kafka"),
        postgres := PostgresServer(folder / "postgres"),
    )
    async with AsyncExitStack() as stack:
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
        settings = {
            "DATABASE_URL": await postgres.create_database("pictures"),
            "REDIS_HOST": valkey.host,
            "REDIS_PORT": str(valkey.port),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        }
        await upgrade(settings["DATABASE_URL"])
        roles: tuple[tuple[str, Literal["serve", "worker"]], ...] = (
            ("api-1", "serve"),
            ("worker-1", "worker"),
        )
        services: list[RehearsedService] = []
        for name, role in roles:
            service = _NamedService(name, role, folder, dict(settings))
            await service.start(**_PHASES[0])
            stack.push_async_callback(service.stop)
            services.append(service)
        yield services


async def _send(api: httpx.AsyncClient) -> None:
    """Send messages until cancelled, each with its key until it is answered."""
    began = time.monotonic()
    for number in count():
        await asyncio.sleep(max(0.0, began + number / _RATE - time.monotonic()))
        await _post(api, f"order-{number % _CONVERSATIONS}", "alice", f"Parcel {number} has left.")


async def _post(api: httpx.AsyncClient, conversation: str, sender: str, content: str) -> str:
    body = {
        "conversationId": conversation,
        "senderId": sender,
        "content": content,
        "clientMessageId": f"{conversation}-{time.time_ns()}",
        "recipientIds": ["bob"],
    }
    while True:
        try:
            answer = await api.post("/api/messages", json=body)
        except httpx.TransportError:
            await asyncio.sleep(0.2)  # it is being restarted
            continue
        if answer.is_success:
            return str(answer.json()["messageId"])
        await asyncio.sleep(1)


async def _step(api: httpx.AsyncClient, services: list[RehearsedService], phase: int) -> None:
    """Take the step to ``phase`` as an operator does: begin, restart, see that it is recorded."""

    async def begun() -> bool:
        step: dict[str, Any] = {"acceptUnknown": {}, "overrule": {}, "direction": "forward"}
        stand = (await api.get("/api/console/migration")).json()["stand"]
        step |= {"epoch": stand["epoch"], "why": "the log outgrows one machine"}
        return (await api.post("/api/console/migration/steps", json=step)).status_code == 202

    async def recorded() -> bool:
        answer = await api.post("/api/console/migration/complete")
        return answer.is_success and bool(answer.json()["recorded"])

    await eventually(begun, every=2)
    for service in services:
        await service.restart(**_PHASES[phase])
    await eventually(recorded, every=2)


async def _ask_and_read(api: httpx.AsyncClient) -> str:
    """Send the message of the picture; its recipient reads it. Return its id."""
    identifier = await _post(api, "order-7", "alice", "Is my parcel on its way?")
    await asyncio.sleep(3)
    receipt = {"userId": "bob", "state": "read"}
    answer = await api.post(f"/api/messages/{identifier}/receipts", json=receipt)
    assert answer.status_code == 202, answer.text
    await asyncio.sleep(2)
    return identifier


async def _take(url: str, message: str) -> None:
    pictures = (
        ("console-now", "#/", "light", 860),
        ("console-migration", "#/migration", "dark", 880),
        ("console-message", f"#/message/{message}", "light", 860),
    )
    async with run_chromium() as browser:
        for name, page_of, scheme, height in pictures:
            page = await browser.new_page(
                color_scheme="dark" if scheme == "dark" else "light",
                viewport={"width": 1280, "height": height},
            )
            await page.goto(f"{url}/console{page_of}")
            await page.wait_for_timeout(15_000)  # gates are judged, lines are drawn
            await page.screenshot(path=_IMAGES / f"{name}.png")
            await page.close()


async def _main(minutes: float) -> None:
    with TemporaryDirectory() as folder:
        async with _running(Path(folder)) as services:
            url = services[0].url
            async with httpx.AsyncClient(base_url=url, timeout=30) as api:
                sending = asyncio.create_task(_send(api))
                for phase in (1, 2):
                    await _step(api, services, phase)
                await asyncio.sleep(max(minutes * 60, _PARITY))
                await _take(url, await _ask_and_read(api))
                sending.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="of messages before them")
    asyncio.run(_main(parser.parse_args().minutes))
