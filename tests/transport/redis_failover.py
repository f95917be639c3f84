"""A Redis and its replica behind one address, and a failover that loses the tail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from compose.local.binaries import find_redis
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.stepped_clock import SteppedClock
from tests.transport.redis_backend import short_settings
from transport.redis import RedisTransport

__all__ = ["Failover", "log_of", "pair", "run"]


class Failover:
    """A primary, its replica, and a proxy whose address leads to the present primary."""

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer, proxy: FaultProxy) -> None:
        self.primary, self.replica, self.proxy = primary, replica, proxy

    async def in_step(self) -> None:
        """Wait until the replica has everything."""
        ours = await run(self.primary, "INFO", "replication")

        async def has_it() -> bool:
            told = await run(self.replica, "INFO", "replication")
            up = told.get("master_link_status") == "up"
            return up and told["slave_repl_offset"] >= ours["master_repl_offset"]

        await eventually(has_it)

    async def cut(self) -> None:
        """Cut replication."""
        await self.in_step()
        await run(self.replica, "REPLICAOF", "NO", "ONE")

    async def promote(self) -> None:
        """Stop the primary, then lead clients to the replica.

        The order matters: a client that gets there before the reset may begin a rescue, which the
        reset would cut off.
        """
        await self.primary.kill()
        self.proxy.lead_to(self.replica.host, self.replica.port)
        self.proxy.reset()


def log_of(failover: Failover, **changes: object) -> RedisTransport:
    """Return the log at the address that leads to the primary."""
    proxy = failover.proxy
    at: dict[str, Any] = {"redis_host": proxy.host, "redis_port": proxy.port}
    # Long limits: servers end here and never hang, so a short timeout would only fail slow calls of
    # a busy machine, and records kept for only ten seconds would be too old there.
    patient: dict[str, Any] = {"redis_timeout_ms": 20_000, "redis_rescue_seconds": 60}
    return RedisTransport.from_settings(short_settings(None, **at, **{**patient, **changes}))


async def run(server: ValkeyServer, *command: str | bytes) -> Any:
    """Return the server's reply to one command."""
    async with Redis(host=server.host, port=server.port, db=1, protocol=2) as client:
        return await client.execute_command(*command)


@asynccontextmanager
async def pair(folder: Path, clock: SteppedClock | None) -> AsyncIterator[Failover]:
    """Start both servers; ``clock`` is the replica's clock, if it has its own."""
    real = find_redis()
    primary = ValkeyServer(
        folder / "primary" / "data", binary=real, config={"repl-diskless-sync-delay": "0"}
    )
    replica = ValkeyServer(
        folder / "replica" / "data", binary=clock.binary(real) if clock else real
    )
    try:
        for server in (primary, replica):
            await server.start()
        await run(replica, "REPLICAOF", primary.host, str(primary.port))
        async with FaultProxy(primary.host, primary.port) as proxy:
            yield Failover(primary, replica, proxy)
    finally:
        for server in (primary, replica):
            await server.stop()
