"""A running service over both logs, another over Kafka alone, and a browser to look at them with.

What a test does, it does in conversations of its own: the services are shared by this folder and
stopped after it: three idle services, two logs and a browser take a tenth of a processor.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from compose.local.ports import free_port
from compose.local.valkey import ValkeyServer
from tests.support.chromium import run_chromium
from tests.support.crossfade import Crossfade
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.kafka import KafkaNode, mended
from transport.contract import Transport
from transport.registry import create
from transport.settings import TransportSettings

PARTITIONS = 4
ADMIN, READER = "cf_admin_of_the_tests", "cf_reader_of_the_tests"
OPERATOR = "cf_operator_of_the_tests"
"""A key with the scope admin alone."""
# A page of a busy machine may take its time; a right one needs a fraction of this.
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)


_MIRRORED = {
    "TRANSPORT": "redis",
    "TRANSPORT_SHADOW": "kafka",
    "TRANSPORT_SHADOW_MODE": "sync",
}


def _entry(name: str, scopes: str, key: str) -> str:
    return f"{name}:{scopes}:{sha256(key.encode()).hexdigest()}"


@dataclass
class Place:
    """One running service. Browsers and PostgreSQL are reached through proxies that misbehave."""

    url: str
    api: httpx.AsyncClient
    log: Transport
    browser_side: FaultProxy
    database_side: FaultProxy
    settings: dict[str, str] = field(repr=False)
    key: str | None = None
    """The key that an administrator signs in with; ``None``: no key is needed."""
    who: str = "console"
    """Under what name the console's own actions are recorded."""

    async def post(self, conversation: str, client: str, content: str = "Hello") -> dict[str, Any]:
        """Post a message; return its acknowledgement."""
        answer = await self.api.post(
            "/api/messages",
            json={
                "conversationId": conversation,
                "senderId": "ann",
                "content": content,
                "clientMessageId": client,
                "recipientIds": ["bob"],
            },
        )
        assert answer.status_code == 202, answer.text
        acknowledged: dict[str, Any] = answer.json()
        return acknowledged

    async def persisted(self, message_id: str) -> None:
        """Return once the message is a row."""

        async def is_row() -> bool:
            found = await self.api.get(f"/api/messages/{message_id}")
            return found.status_code == 200 and found.json()["state"] == "persisted"

        await eventually(is_row)


@pytest_asyncio.fixture(scope="package")
async def chromium() -> AsyncIterator[Browser]:
    async with run_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="package")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey") / "data")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="package")
async def places(
    tmp_path_factory: pytest.TempPathFactory,
    chromium: Browser,  # first: without a browser nothing need be started
    kafka_node: KafkaNode,
    valkey: ValkeyServer,
    postgres_server: Any,
    database_template: str,
) -> AsyncIterator[Callable[..., Awaitable[Place]]]:
    """Start services by name, each once."""
    kafka = await mended(kafka_node)
    started: dict[str, Place] = {}
    ends: list[Callable[[], Awaitable[Any]]] = []

    async def start(name: str, **settings: str) -> Place:
        if name in started:
            return started[name]
        database = f"console_{os.getpid()}_{name}"
        url = httpx.URL(await postgres_server.create_database(database, template=database_template))
        ends.append(lambda: postgres_server.drop_database(database))
        database_side = FaultProxy(url.host, url.port or 5432)
        port = free_port()
        browser_side = FaultProxy("127.0.0.1", port)
        for proxy in (database_side, browser_side):
            await proxy.__aenter__()
            ends.append(lambda proxy=proxy: proxy.__aexit__())
        environment = {
            "DATABASE_URL": str(url.copy_with(host="127.0.0.1", port=database_side.port)),
            "REDIS_HOST": valkey.host,
            "REDIS_PORT": str(valkey.port),
            "REDIS_STREAM_DB": str(len(started) + 1),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
            "KAFKA_TOPIC": f"console.{name}",
            "KAFKA_DLQ_TOPIC": f"console.{name}.dlq",
            "STREAM_PARTITIONS": str(PARTITIONS),
            "STREAM_POLL_INTERVAL_MS": "1000",
            "PORT": str(port),
            "METRICS_PORT": str(free_port()),
            "INGRESS_TRACE_URL": "http://traces.test/{traceId}",
            **settings,
        }
        process = await Crossfade.fork("serve", cwd=tmp_path_factory.mktemp(name), **environment)

        async def stop() -> None:
            assert process.process.returncode is None, f"it died:\n{process.text}"
            assert await process.terminate() == 0, process.text

        ends.append(stop)
        api = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=20, headers={"X-API-Key": ADMIN}
        )
        ends.append(api.aclose)
        log = create(
            settings["TRANSPORT"],
            TransportSettings(
                **{
                    key.lower(): value
                    for key, value in environment.items()
                    if key.lower() in TransportSettings.model_fields
                }
            ),
        )
        await log.__aenter__()
        ends.append(lambda: log.__aexit__(None, None, None))

        async def ready() -> bool:
            try:
                owned = (await api.get("/api/console/status")).json()["logs"]
            except httpx.TransportError:
                return False
            return all(
                partition["owner"]
                for log in owned
                if "consumed" in log["roles"]
                for partition in log["partitions"]
            )

        try:
            await eventually(ready, every=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{process.text}") from None
        started[name] = Place(
            f"http://127.0.0.1:{browser_side.port}",
            api,
            log,
            browser_side,
            database_side,
            environment,
        )
        return started[name]

    yield start
    for end in reversed(ends):
        await end()


@pytest_asyncio.fixture
async def both(places: Callable[..., Awaitable[Place]]) -> Place:
    """A service that writes to Redis, mirrors to Kafka, and asks for keys."""
    return await _both(places)


async def _both(places: Callable[..., Awaitable[Place]]) -> Place:
    keys = [
        _entry("ops", "admin+read+produce", ADMIN),
        _entry("watcher", "read", READER),
        _entry("deputy", "admin", OPERATOR),
    ]
    place = await places("both", **_MIRRORED, API_KEYS=",".join(keys))
    place.key, place.who = ADMIN, "console:ops"
    return place


@pytest_asyncio.fixture
async def on_kafka(places: Callable[..., Awaitable[Place]]) -> Place:
    """A service on Kafka alone that asks for no keys."""
    return await places("alone", TRANSPORT="kafka")


@pytest_asyncio.fixture
async def unequal(places: Callable[..., Awaitable[Place]]) -> Place:
    """A service of its own over both logs, on which they may come to differ."""
    return await places("unequal", **_MIRRORED)


@pytest_asyncio.fixture(params=["redis", "kafka"])
async def either(request: pytest.FixtureRequest, places: Callable[..., Awaitable[Place]]) -> Place:
    """The one, then the other."""
    if request.param == "redis":
        return await _both(places)
    return await places("alone", TRANSPORT="kafka")


Open = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture
async def look(chromium: Browser) -> AsyncIterator[Open]:
    """Open a page of a place's console; where it needs a key, sign in (without one: ``key=""``).

    A script that fails, or a policy that is broken, fails the test.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    async def show(
        place: Place, address: str = "#/", *, key: str | None = None, **options: Any
    ) -> Page:
        context = await chromium.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _matters(said) else None)
        await page.goto(f"{place.url}/console{address}")
        if key := place.key if key is None else key:
            await page.get_by_label("API key").fill(key)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("link", name="Now", exact=True)).to_be_visible()
        return page

    yield show
    for context in contexts:
        await context.close()
    assert wrong == []


def _matters(said: Any) -> bool:
    # What the network does, and requests that are refused, are what some tests are about.
    expected = ("Failed to load resource", "blocked by CORS policy")
    return said.type == "error" and not any(text in said.text for text in expected)


@pytest.fixture
def name() -> str:
    """A name that nothing else in the session has."""
    return f"t{uuid4().hex[:12]}"
