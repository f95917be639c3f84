"""A primary that a partition of the network cuts off from its replicas and its sentinels.

Servers and sentinels connect from another address than clients, each to a proxy before the server.
So the proxy of the primary can cut them off, while clients go on reaching it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy
from tests.support.sentinel import MASTER, SentinelServer

__all__ = ["PartitionedRedis", "partitioned_redis"]

NewRedis = Callable[..., Awaitable[ValkeyServer]]
_INSIDE = "127.0.0.2"
_SENTINELS = 3


class PartitionedRedis:
    """Servers, a proxy before each, and three sentinels. The first server is the primary."""

    def __init__(
        self,
        servers: list[ValkeyServer],
        proxies: list[FaultProxy],
        sentinels: list[SentinelServer],
    ) -> None:
        self.servers, self.proxies, self.sentinels = servers, proxies, sentinels

    @property
    def replicas(self) -> range:
        """The numbers of the servers that are replicas at first."""
        return range(1, len(self.servers))

    def environment(self) -> dict[str, str]:
        """Return the settings that lead a process of ours to the primary."""
        at = ",".join(f"{it.host}:{it.port}" for it in self.sentinels)
        return {
            "REDIS_URL": f"redis+sentinel://{at}/{MASTER}/1",
            "REDIS_SENTINEL_PASSWORD": self.sentinels[0].password,
        }

    def address(self, number: int) -> str:
        """Return the address of a server, as the sentinels name it."""
        return f"{self.proxies[number].host}:{self.proxies[number].port}"

    async def run(self, number: int, *command: str) -> Any:
        """Return a server's reply to a command."""
        server = self.servers[number]
        async with Redis(host=server.host, port=server.port, db=1, protocol=2) as client:
            return await client.execute_command(*command)

    def cut(self) -> None:
        """Cut the primary off from its replicas and the sentinels; clients reach all of them."""
        self.proxies[0].cut_off(_INSIDE)

    def heal(self) -> None:
        """End the partition; the sentinels then make the former primary a replica."""
        self.proxies[0].heal()

    async def promoted(self) -> int:
        """Wait until all sentinels name the same replica, and return the number of its server.

        The primary is the first server.
        """
        ports = [proxy.port for proxy in self.proxies]

        async def named() -> int | None:
            (port, *others) = {await it.primary_port() for it in self.sentinels}
            return None if others else ports.index(port)  # 0: none is promoted yet

        return int(await eventually(named))

    async def in_step(self) -> None:
        """Wait until the replicas have everything, and each sentinel knows all the others."""

        async def follow() -> bool:
            ours = (await self.run(0, "INFO", "replication"))["master_repl_offset"]
            told = [await self.run(it, "INFO", "replication") for it in self.replicas]
            return all(
                it.get("master_link_status") == "up" and it["slave_repl_offset"] >= ours
                for it in told
            )

        await eventually(follow)
        for sentinel in self.sentinels:
            await sentinel.knows_replicas(len(self.replicas), sentinels=_SENTINELS - 1)


@asynccontextmanager
async def partitioned_redis(
    new_redis: NewRedis,
    folder: Path,
    *,
    replicas: int = 1,
    down_after: float = 1.0,
    **config: str,
) -> AsyncIterator[PartitionedRedis]:
    """Start the servers, the replicas in step.

    Args:
        new_redis: Starts a server.
        folder: For the sentinels' data.
        replicas: How many there are.
        down_after: Seconds until the sentinels count a silent server as down.
        **config: The configuration of all servers.
    """
    given = {"repl_diskless_sync_delay": "0", "bind_source_addr": _INSIDE, **config}
    servers = [await new_redis(**given) for _ in range(replicas + 1)]
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(FaultProxy(server.host, server.port))
            for server in servers
        ]
        sentinels = [
            SentinelServer(
                folder / f"sentinel-{number}" / "data",
                proxies[0],
                quorum=2,
                source=_INSIDE,
                down_after=down_after,
            )
            for number in range(_SENTINELS)
        ]
        redis = PartitionedRedis(servers, proxies, sentinels)
        for number, proxy in enumerate(proxies):
            await redis.run(number, "CONFIG", "SET", "replica-announce-ip", proxy.host)
            await redis.run(number, "CONFIG", "SET", "replica-announce-port", str(proxy.port))
        for number in redis.replicas:
            await redis.run(number, "REPLICAOF", proxies[0].host, str(proxies[0].port))
        for sentinel in sentinels:
            await stack.enter_async_context(sentinel)
        await redis.in_step()
        yield redis
