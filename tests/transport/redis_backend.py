"""Backends of the conformance suite for Redis servers."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.containers import RedisContainer
from transport.conformance import Backend
from transport.redis import RedisTransport
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["backend_on", "short_settings"]


def short_settings(
    server: ValkeyServer | RedisContainer | None, **changes: Any
) -> TransportSettings:
    """Return settings for ``server`` with short times, so that tests don't wait long."""
    few: dict[str, Any] = {
        "redis_host": server.host if server else "127.0.0.1",
        "redis_port": server.port if server else 6379,
        "stream_partitions": 4,
        "redis_timeout_ms": 2000,
    }
    return TransportSettings(**(few | changes))


def backend_on(
    server: ValkeyServer | RedisContainer, name: str = "redis", **changes: Any
) -> Backend:
    """Return the backend of a log on a running, empty server; ``changes`` override its settings."""
    settings = short_settings(server, **changes)
    stream = create(name, settings).location.messages

    async def run(*command: str | bytes | int) -> None:
        async with Redis(
            host=server.host, port=server.port, db=settings.redis_stream_db, protocol=2
        ) as client:
            await client.execute_command(*command)

    async def append_raw(partition: int, body: bytes) -> None:
        await run("XADD", f"{stream}:{partition}", "*", "body", body)

    async def remove(partition: int) -> None:
        await run("DEL", f"{stream}:{partition}")

    async def remove_group(partition: int, group: str) -> None:
        await run("XGROUP", "DESTROY", f"{stream}:{partition}", group)

    return Backend(
        create=lambda: create(name, settings),
        features=RedisTransport.features,
        append_raw=append_raw,
        stop=server.stop,
        start=server.start,
        remove=remove,
        remove_group=remove_group,
        create_other=lambda: create(f"{name.partition('@')[0]}@5", settings),
    )
