"""A real Valkey or Redis on loopback, as durable as promise 1 needs it.

A server that was built with the C library's malloc gets mimalloc in its place: with the former it
publishes a third less, and keeps the memory of a backlog that has been drained.

Beside the default user, which needs no password, it has one whose password is made for this
process. A client that uses it is refused by any other server, so it can neither read nor write
another one's log: not when two servers are started at once, and not when this one has ended and
another has got its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from compose.local.binaries import LIBC, Binary, find_mimalloc, find_redis
from compose.local.server import LocalServer

__all__ = ["ValkeyServer"]

# fsync before every reply: an acknowledged record is on disk. Nothing is ever evicted: a full
# memory refuses appends, which the ingress answers with 503, and loses none.
_DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    # Redis rewrites its append-only file whenever it has doubled, from 64 MB on by its default:
    # that is every few seconds of a busy log, and takes a fifth of the throughput while it lasts.
    # The price of rewriting from here on: up to 3 s more to read it at a start (330 MB took 1.6 s).
    "auto-aof-rewrite-min-size": "512mb",
    # The memory of a busy log is millions of fields, which expire as one key when appends stop.
    # They are freed in the background (Valkey's default), not in the way of commands (Redis's
    # default; 0.3 s a million).
    "lazyfree-lazy-expire": "yes",
}
_USER = "crossfade"
_PATIENCE = 5.0  # seconds for one reply while starting


class ValkeyServer(LocalServer):
    """One server on ``data_dir``.

    Args:
        data_dir: Its data.
        port: The port that it must have.
        near: The port that it has where that is free, else another.
        binary: By default the first that can be found.
        config: Adds to or replaces the durable defaults.
    """

    username = _USER

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
        super().__init__(self.binary.product, data_dir, port=port, near=near)
        self.password = secrets.token_urlsafe(16)
        self._config = {**_DURABLE, **(config or {})}
        self._mimalloc = find_mimalloc() if _needs_mimalloc(self.binary) else None

    @property
    def allocator(self) -> str:
        """The allocator that this server uses, for people: ``mimalloc``, ``jemalloc-5.3.0``."""
        return "mimalloc" if self._mimalloc else self.binary.allocator

    @property
    def description(self) -> str:
        """Name, version and allocator, for people."""
        return ", ".join(filter(None, (self.binary.label, self.allocator)))

    async def cut_connections(self) -> None:
        """End every client's connection, as a network or an administrator does."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            for command in (
                f"AUTH {self.username} {self.password}",
                "CLIENT KILL TYPE normal SKIPME yes",
                "CLIENT KILL TYPE pubsub",
            ):
                writer.write(f"{command}\r\n".encode())
                await asyncio.wait_for(reader.readline(), _PATIENCE)
        finally:
            writer.close()

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

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
        return [*self._preloaded(), str(self.binary.path), *options, *ours]

    def _preloaded(self) -> list[str]:
        """Return the program that runs the server with another allocator, where there is one."""
        if self._mimalloc is None:
            return []
        own = os.environ.get("LD_LIBRARY_PATH")
        # By its name: LD_PRELOAD would cut a path at its spaces.
        return [
            "/usr/bin/env",
            ":".join(filter(None, (f"LD_LIBRARY_PATH={self._mimalloc.parent}", own))),
            f"LD_PRELOAD={self._mimalloc.name}",
            "MIMALLOC_PURGE_DELAY=10",  # ms; at once, small appends pay with system calls
        ]

    async def _is_ready(self) -> bool:
        """Return whether our server, and not another on the same port, takes requests.

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


def _needs_mimalloc(binary: Binary) -> bool:
    # A user's own LD_PRELOAD is left as it is: it may choose an allocator.
    return (
        binary.allocator == LIBC
        and sys.platform.startswith("linux")
        and "LD_PRELOAD" not in os.environ
    )
