"""The measured payload stores, filled with the objects of the backlog."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
from obstore.store import S3Store

from compose.local.ports import free_port
from compose.local.seaweed import SeaweedServer
from lab.bench.payloads.samples import content, keys
from lab.bench.processes import Running

__all__ = ["DISTANT", "STORES", "Store", "folder"]

DISTANT = "S3 that answers in 1 ms"

_AT_ONCE = 16
_PREFIX = "payloads"
_PUT_SHARE = 3


class Store(msgspec.Struct, frozen=True):
    """A store: the service's settings for it, and the process id of its server."""

    settings: dict[str, str]
    pid: int | None
    count: int
    """Number of the backlog's objects that it has, beginning with the first."""


@asynccontextmanager
async def folder(path: Path, count: int) -> AsyncIterator[Store]:
    """Open a folder store whose objects are hard links to one file."""
    root = path / "payloads"
    await asyncio.to_thread(_link, root, count)
    yield Store({"PAYLOAD_STORE": root.as_uri()}, None, count)


def _link(root: Path, count: int) -> None:
    root.mkdir(parents=True)
    one = root.with_name("payload")
    one.write_bytes(content())
    for key in keys(count):
        target = root / key
        target.parent.mkdir()
        os.link(one, target)


@asynccontextmanager
async def _distant(path: Path, count: int) -> AsyncIterator[Store]:
    """Start the store that answers after a millisecond, and has every object."""
    port = free_port()
    settings = {
        "PAYLOAD_STORE": f"s3://bench/{_PREFIX}",
        "PAYLOAD_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "PAYLOAD_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    command = [sys.executable, "-m", "lab.bench.payloads.distant_store", str(port)]
    ready = f"http://127.0.0.1:{port}/ready"
    async with Running("distant-store", command, path, {}, port=port, ready=ready) as server:
        yield Store(settings, server.pid, count)


@asynccontextmanager
async def _seaweed(path: Path, count: int) -> AsyncIterator[Store]:
    """Start a real S3 server, and put objects into it; that takes longer than draining them."""
    count //= _PUT_SHARE
    async with SeaweedServer(path / "s3" / "data") as server:
        client = server.store()
        left, data = keys(count), content()
        await asyncio.gather(*(_put(client, left, data) for _ in range(_AT_ONCE)))
        yield Store(server.settings(_PREFIX), server.pid, count)


async def _put(client: S3Store, left: Iterable[str], data: bytes) -> None:
    for key in left:
        await client.put_async(f"{_PREFIX}/{key}", data, use_multipart=False)


STORES: dict[str, Callable[[Path, int], AbstractAsyncContextManager[Store]]] = {
    DISTANT: _distant,
    "folder": folder,
    "S3 (SeaweedFS), on the same cores": _seaweed,
}
"""By name in the figures: a function that opens the store in a folder with a number of objects."""
