"""A real Valkey or Redis on loopback, with the durability that promise 1 needs.

A server that was built with the C library's malloc runs with mimalloc instead: with malloc it
publishes a third less, and keeps the memory of a backlog after it was drained.

Besides the default user, which has no password, the server has a user whose password is made for
this process. Any other server refuses that user, so its clients can't read or write another
server's log: not when two servers start at once, and not when another server gets the port of one
that ended.
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

# fsync before every reply, so that an acknowledged record is on disk. No eviction: with its memory
# full, the server refuses appends (the ingress answers 503), and loses no record.
_DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    # Redis rewrites its append-only file each time it has doubled, by default from 64 MB on. On a
    # busy log that is every few seconds, and a rewrite takes a fifth of the throughput while it
    # lasts. The price of 512 MB: a start reads up to 3 s longer (330 MB took 1.6 s).
    "auto-aof-rewrite-min-size": "512mb",
    # The record of recent appends has millions of fields, which expire as one key when appends
    # stop. Free them in the background (Valkey's default): by Redis's default, commands would wait
    # (0.3 s per million).
    "lazyfree-lazy-expire": "yes",
}
_USER = "crossfade"
_PATIENCE = 5.0  # seconds for one reply while starting


class ValkeyServer(LocalServer):
    """One Valkey or Redis server on ``data_dir``.

    Args:
        data_dir: The data.
        port: The port that the server must have.
        near: The preferred port; if it is taken, the server gets another.
        binary: By default the first one found.
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
        """Return the command prefix that makes the server use mimalloc; empty without it."""
        if self._mimalloc is None:
            return []
        own = os.environ.get("LD_LIBRARY_PATH")
        # Only the file's name: LD_PRELOAD splits a path at its spaces.
        return [
            "/usr/bin/env",
            ":".join(filter(None, (f"LD_LIBRARY_PATH={self._mimalloc.parent}", own))),
            f"LD_PRELOAD={self._mimalloc.name}",
            "MIMALLOC_PURGE_DELAY=10",  # ms; without a delay, small appends cost system calls
        ]

    async def _is_ready(self) -> bool:
        """Return whether our server, and not another on the same port, takes requests.

        The first command sends the password, which no other server knows. The commands are written
        by hand, so that starting a server needs no client library.
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
