"""An ingress in this process whose log is memory and whose PostgreSQL is away.

What is tested here comes before either: bytes, and what is made of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import structlog

from ingress.build import build
from ingress.http1.bounds import Bounds
from ingress.http1.listener import Listener
from ingress.metrics import IngressMetrics
from ingress.settings import IngressSettings
from otel.metrics import Metrics
from persistence.database.pool import connect
from persistence.settings import PersistenceSettings
from tests.support.uvicorn_server import run_uvicorn
from transport.registry import create
from transport.settings import TransportSettings

_NOWHERE = "postgresql://nobody@127.0.0.1:1/none"

DOORS = ["fast", "asgi"]


class Answered(NamedTuple):
    """One answer on a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def body(number: int = 1) -> bytes:
    """Return a message that is accepted."""
    return json.dumps(
        {
            "conversationId": "c1",
            "senderId": "u1",
            "content": "hello",
            "contentType": "text",
            "clientMessageId": f"m{number:06}",
            "recipientIds": ["u2"],
        }
    ).encode()


def post(*headers: str, content: bytes | None = None, path: str = "/api/messages") -> bytes:
    """Return a POST with its length told."""
    content = body() if content is None else content
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def answers(data: bytes) -> list[Answered]:
    """Split what a server sent into its answers; fail where it is not whole ones."""
    found = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, data
        first, *lines = head.decode().split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", first)
        assert match, first
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        status = int(match[1])
        if status == 100:
            data = rest
            continue
        length = int(headers.get("content-length", "0"))
        assert len(rest) >= length, data
        found.append(Answered(status, headers, rest[:length]))
        data = rest[length:]
    return found


async def exchange(
    port: int, pieces: Iterable[bytes], *, strict: bool = True
) -> tuple[list[Answered], bool]:
    """Send ``pieces`` each in a packet of its own; return all answers, and whether it was closed.

    After the last piece comes a request that ends the connection, so that what is not closed for
    another reason ends at once; its answer is not among those returned. Not ``strict``: the answers
    are not looked at.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    last = b"GET /problems HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Last: 1\r\n\r\n"
    try:
        nodelay = writer.get_extra_info("socket")
        nodelay.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in [*pieces, last]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        try:
            got = await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            got = b""
    finally:
        writer.close()
    found = answers(got) if strict else []
    if found and found[-1].status == 200 and b'"items"' in found[-1].body:
        return found[:-1], False
    return found, True


@asynccontextmanager
async def listening(
    app: Any, door: str, bounds: Bounds, *, whole: bool = False
) -> AsyncIterator[Any]:
    """Serve ``app``, with its hot path or through ASGI alone; give the port.

    ``whole``: give the listener too.
    """
    asgi = Listener(bounds, Metrics().of(IngressMetrics).connections_ended)
    listener = app.listener if door == "fast" else asgi
    async with run_uvicorn(app, http=listener.connection, ws="auto") as port:
        yield (port, listener) if whole else port


@asynccontextmanager
async def ingress_app(**settings: Any) -> AsyncIterator[Any]:
    """Make an ingress."""
    pool = await connect(PersistenceSettings(database_url=_NOWHERE))
    transport = create("memory", TransportSettings(transport="memory"))
    # Under any name: what is tested here is bytes, and many of them name hosts at will.
    made = IngressSettings(**{"ingress_allowed_hosts": "*"} | settings)
    async with transport:
        yield build(settings=made, transport=transport, pool=pool, metrics=Metrics())
    pool.terminate()


@asynccontextmanager
async def ingress(door: str, **settings: Any) -> AsyncIterator[int]:
    """Run an ingress and give its port."""
    bounds = Bounds.of(IngressSettings(**settings))
    async with ingress_app(**settings) as app, listening(app, door, bounds) as port:
        yield port


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Where each of a hundred requests fails, to draw their tracebacks takes minutes."""
    before = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*before[:-1], plain])
    yield
    structlog.configure(processors=before)


@pytest_asyncio.fixture(scope="module", params=DOORS)
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of an ingress with the default settings; one for a module and door."""
    async with ingress(request.param) as found:
        yield found


@pytest.fixture
def split() -> Any:
    """Return every way to cut a request that a test tries."""

    def ways(data: bytes) -> list[list[bytes]]:
        byte_by_byte = [data[i : i + 1] for i in range(len(data))]
        middle = len(data) // 2
        return [[data], [data[:middle], data[middle:]], byte_by_byte]

    return ways
