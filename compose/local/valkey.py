"""A real Valkey or Redis on loopback, as durable as promise 1 needs it.

Beside the default user, which needs no password, it has one whose password is made for this
process. A client that uses it is refused by any other server, so it can neither read nor write
another one's log: not when two servers are started at once, and not when this one has ended and
another has got its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path

from compose.local.binaries import Binary, find_redis
from compose.local.ports import free_port, pick
from compose.local.process import ServerPortTakenError, ServerProcess

__all__ = ["ValkeyServer"]

# fsync before every reply: what is acknowledged is on disk. Nothing is ever evicted: a full memory
# refuses appends, which the ingress answers with 503, and loses none.
_DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    # Redis rewrites its append-only file whenever it has doubled, from 64 MB on by its default:
    # that is every few seconds of a busy log, and takes a fifth of the throughput while it lasts.
    # The price of rewriting from here on: up to 3 s more to read it at a start (330 MB took 1.6 s).
    "auto-aof-rewrite-min-size": "512mb",
    # What a busy log remembers, once nobody appends any more, is millions of fields that expire as
    # one key: let go of beside the work (Valkey's default) instead of in its way (Redis's; 0.3 s a
    # million).
    "lazyfree-lazy-expire": "yes",
}
_PORT_RACES = 20
_USER = "crossfade"
_PATIENCE = 5.0  # seconds for one reply while starting


class ValkeyServer:
    """One server on ``data_dir``. ``config`` adds to or replaces the durable defaults.

    ``port`` is the one it must have; ``near`` the one that it has where that is free, else another.
    """

    username = _USER
    host = "127.0.0.1"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        near: int | None = None,
        binary: Binary | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = binary or find_redis()
        self.name = self.binary.product
        self.password = secrets.token_urlsafe(16)
        self._near = near
        self.port = port or self._another_port()
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir.parent / f"{self.data_dir.name}.log"
        self._port_is_fixed = port is not None
        self._config = {**_DURABLE, **(config or {})}
        self._process = ServerProcess(self.name, data_dir=self.data_dir, log_path=self.log_path)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives (suspended counts)."""
        return self._process.running

    async def start(self) -> None:
        """Start it; return once its data is loaded and it answers PING."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(_PORT_RACES):
            try:
                await self._process.start(self._command(), self._answers)
            except ServerPortTakenError:
                if self._port_is_fixed or attempt + 1 == _PORT_RACES:
                    raise
                self.port = self._another_port()
            else:
                self._port_is_fixed = True  # clients know it now: a restart keeps it
                return

    async def stop(self) -> None:
        """Stop it in good order."""
        await self._process.stop()

    async def kill(self) -> None:
        """SIGKILL it."""
        await self._process.kill()

    async def suspend(self) -> None:
        """SIGSTOP it: connections stay, answers don't come."""
        await self._process.suspend()

    async def resume(self) -> None:
        """SIGCONT it."""
        await self._process.resume()

    async def restart(self) -> None:
        """Stop and start on the same port and data."""
        await self.stop()
        await self.start()

    def _another_port(self) -> int:
        return pick(self._near) if self._near else free_port()

    def _command(self) -> list[str]:
        fixed = {
            "port": str(self.port),
            "bind": self.host,
            "dir": str(self.data_dir),
            "daemonize": "no",
            "logfile": "",
        }
        options = [
            part for key, value in {**self._config, **fixed}.items() for part in (f"--{key}", value)
        ]
        ours = ("--user", self.username, "on", f">{self.password}", "~*", "&*", "+@all")
        return [str(self.binary.path), *options, *ours]

    async def _answers(self) -> bool:
        """Tell whether our server, and not another on the same port, takes requests.

        The password is sent before anything else, and no other server knows it. Spoken by hand, so
        that starting a server needs no client library.
        """
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        try:
            writer.write(f"AUTH {self.username} {self.password}\r\n".encode())
            if await asyncio.wait_for(reader.readline(), _PATIENCE) != b"+OK\r\n":
                return False
            writer.write(b"PING\r\n")  # an error while it loads its data
            return await asyncio.wait_for(reader.readline(), _PATIENCE) == b"+PONG\r\n"
        except (OSError, ValueError, TimeoutError):  # ValueError: a line without an end
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
