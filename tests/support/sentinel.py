"""A Sentinel, from the same binary as the servers that it watches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from compose.local.binaries import find_redis
from compose.local.server import LocalServer
from tests.support.eventually import eventually

__all__ = ["MASTER", "SentinelServer"]

MASTER = "messages"
"""The sentinel's name for the primary."""


class Addressed(Protocol):
    """A server, or a proxy before it."""

    host: str
    port: int


class SentinelServer(LocalServer):
    """One sentinel. ``password`` is its own, not that of the servers.

    Args:
        data_dir: Its data.
        primary: The primary.
        password: Its password.
        quorum: How many sentinels have to miss the primary.
        source: The address that it connects from.
        down_after: Seconds without an answer of a server until it counts as down.
    """

    def __init__(
        self,
        data_dir: Path,
        primary: Addressed,
        *,
        password: str = "sesame",
        quorum: int = 1,
        source: str = "127.0.0.1",
        down_after: float = 1.0,
    ) -> None:
        super().__init__("sentinel", data_dir)
        self.password = password
        self._primary = primary
        self._quorum = quorum
        self._source = source
        self._down_after = int(down_after * 1000)
        self._config = data_dir / "sentinel.conf"

    @property
    def url(self) -> str:
        """The ``REDIS_URL`` that leads to the primary."""
        return f"redis+sentinel://{self.host}:{self.port}/{MASTER}/1"

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._config.exists() and f"port {self.port}\n" in self._config.read_text():
            return  # the sentinel writes its state to this file
        self._config.write_text(
            f"port {self.port}\nbind {self.host}\ndir {self.data_dir}\n"
            f"requirepass {self.password}\nbind-source-addr {self._source}\n"
            f"sentinel sentinel-pass {self.password}\nsentinel announce-ip {self.host}\n"
            f"sentinel monitor {MASTER} {self._primary.host} {self._primary.port} "
            f"{self._quorum}\n"
            f"sentinel down-after-milliseconds {MASTER} {self._down_after}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )

    def _command(self) -> list[str]:
        return [str(find_redis().path), str(self._config), "--sentinel"]

    async def _is_ready(self) -> bool:
        try:
            return bool(await self.run("SENTINEL", "MASTER", MASTER))
        except (RedisConnectionError, OSError):
            return False

    async def run(self, *command: str) -> Any:
        """Return the sentinel's reply to a command."""
        async with Redis(
            host=self.host, port=self.port, password=self.password, protocol=2
        ) as client:
            for name in ("SENTINEL MASTER", "SENTINEL FAILOVER", "SENTINEL REPLICAS"):
                client.response_callbacks.pop(name, None)
            return await client.execute_command(*command)

    async def knows_replicas(self, count: int, *, sentinels: int = 0) -> None:
        """Wait until it knows ``count`` replicas, and so many other sentinels.

        Before that it has no replica to promote, or can't be elected to do it.
        """

        async def knows() -> bool:
            told = await self._told()
            others = int(told[b"num-other-sentinels"])
            return int(told[b"num-slaves"]) >= count and others == sentinels

        await eventually(knows)

    async def primary_port(self) -> int:
        """Return the port of the primary, according to the sentinel."""
        return int((await self._told())[b"port"])

    async def fail_over(self) -> None:
        """Promote a replica, and return when that is done."""
        before = await self.primary_port()

        async def is_begun() -> bool:
            try:
                await self.run("SENTINEL", "FAILOVER", MASTER)
            except ResponseError as error:
                # On a busy machine it may not have heard from its replicas for some seconds.
                if str(error).startswith("NOGOODSLAVE"):
                    return False
                raise
            return True

        async def is_another() -> bool:
            return await self.primary_port() != before

        await eventually(is_begun)
        await eventually(is_another)

    async def _told(self) -> dict[bytes, bytes]:
        reply = await self.run("SENTINEL", "MASTER", MASTER)
        return dict(zip(reply[::2], reply[1::2], strict=True))
