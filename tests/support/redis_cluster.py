"""A Redis Cluster of real servers on loopback: three primaries, a replica of each if wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError

from compose.local.binaries import Binary, find_redis_servers
from compose.local.ports import free_port
from compose.local.valkey import ValkeyServer
from tests.support.eventually import eventually
from tests.support.requirements import absent

__all__ = ["RedisCluster", "must_keep_keys"]

_SLOTS = 16_384
_NODE_TIMEOUT_MS = 1000


def must_keep_keys(binary: Binary) -> None:
    """Skip the test on a Valkey that loses keys of a cluster as it restarts: we refuse it."""
    if binary.product == "valkey" and (9, 0, 0) <= binary.version < (9, 0, 2):
        absent(f"{binary.label} loses keys of a cluster as it restarts (valkey issue 2995)")


class RedisCluster:
    """Servers of a cluster, each with its id.

    Args:
        folder: The folder of their data.
        primaries: Number of primaries, which share the slots equally at the start.
        replicas: Number of replicas of each primary.
        config: Further settings of every server.
    """

    def __init__(
        self, folder: Path, *, primaries: int = 3, replicas: int = 0, **config: str
    ) -> None:
        self._folder = folder
        self._config = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            # The slots of other servers stay available while one server is down.
            "cluster-require-full-coverage": "no",
            # A replica may be promoted no matter how long it was cut off.
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            **{name.replace("_", "-"): value for name, value in config.items()},
        }
        self._primaries = primaries
        self._replicas = replicas
        self.servers: list[ValkeyServer] = []
        self._ids: dict[ValkeyServer, str] = {}
        self._buses: dict[ValkeyServer, int] = {}

    @property
    def addresses(self) -> str:
        """The addresses of all servers, for ``REDIS_URL``."""
        return ",".join(f"{server.host}:{server.port}" for server in self.servers)

    @staticmethod
    def binary() -> Binary:
        """The binary of its servers."""
        return find_redis_servers().binaries[0]

    async def start(self) -> None:
        """Start and join all servers, assign the slots, and wait until all servers agree."""
        must_keep_keys(self.binary())
        count = self._primaries * (1 + self._replicas)
        self.servers = [self._make(n) for n in range(count)]
        await asyncio.gather(*(server.start() for server in self.servers))
        for n, server in enumerate(self.servers):
            self._ids[server] = str(await self.run(server, "CLUSTER", "MYID"))
            await self.run(server, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n in range(self._primaries):
            first, after = (_SLOTS * i // self._primaries for i in (n, n + 1))
            await self.run(self.servers[n], "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for server in self.servers[1:]:
            await self.meet(server)
        for n, server in enumerate(self.servers[self._primaries :]):
            await self.follow(server, self.servers[n % self._primaries])
        await self.is_whole()

    async def add(self) -> ValkeyServer:
        """Start one more server without slots, and join it to the cluster."""
        server = self._make(len(self.servers))
        self.servers.append(server)
        await server.start()
        self._ids[server] = str(await self.run(server, "CLUSTER", "MYID"))
        await self.meet(server)
        await self.is_whole()
        return server

    async def remove(self, server: ValkeyServer) -> None:
        """Have all servers forget one that has no slots, and stop it."""
        self.servers.remove(server)
        for other in self.servers:
            await self.run(other, "CLUSTER", "FORGET", self.id_of(server))
        await server.stop()

    async def stop(self) -> None:
        """Stop all servers."""
        await asyncio.gather(*(server.stop() for server in self.servers))

    async def meet(self, server: ValkeyServer) -> None:
        """Join a server to the first server's cluster."""
        first = self.servers[0]
        bus = self._buses[first]
        await self.run(server, "CLUSTER", "MEET", first.host, first.port, bus)

        async def know_each_other() -> bool:
            here, there = [str(await self.run(it, "CLUSTER", "NODES")) for it in (first, server)]
            return self.id_of(server) in here and self.id_of(first) in there

        await eventually(know_each_other)

    async def follow(self, replica: ValkeyServer, primary: ValkeyServer) -> None:
        """Make a server a replica of another."""

        async def takes_it() -> bool:
            nodes = str(await self.run(replica, "CLUSTER", "NODES"))
            if self.id_of(primary) not in nodes:
                return False
            await self.run(replica, "CLUSTER", "REPLICATE", self.id_of(primary))
            return True

        await eventually(takes_it)

    async def is_whole(self) -> None:
        """Wait until all running servers agree that every slot is served, and by which replicas.

        A replica's link is up before the others have heard whose replica it is.
        """

        async def agree() -> bool:
            running = [server for server in self.servers if server.running]
            told = [await self.run(it, "CLUSTER", "SLOTS") for it in running]
            views = {
                server.port: sorted(
                    (first, last, primary[1], sorted(it[1] for it in replicas))
                    for first, last, primary, *replicas in slots
                )
                for server, slots in zip(running, told, strict=True)
            }
            view = views[running[0].port]
            assert all(it == view for it in views.values()), f"they disagree: {views}"
            assert sum(last - first + 1 for first, last, *_ in view) == _SLOTS, view
            for server in running:
                state = str(await self.run(server, "CLUSTER", "INFO"))
                assert "cluster_state:ok" in state, f"{server.port}: {state}"
                link = str(await self.run(server, "INFO", "replication"))
                if "role:master" not in link:
                    assert "master_link_status:up" in link, f"{server.port}: {link}"
                    assert any(server.port in it for *_, it in view), f"no {server.port}: {view}"
            return True

        await eventually(agree)

    async def run(self, server: ValkeyServer, *command: str | bytes | int) -> Any:
        """Return the reply of one server."""
        async with Redis(
            host=server.host, port=server.port, protocol=2, decode_responses=True
        ) as client:
            client.response_callbacks.clear()
            return await client.execute_command(*command)

    async def run_at(self, key: str, *command: str | bytes | int) -> Any:
        """Return the reply of the server that has ``key``."""
        return await self.run(await self.primary_of(key), *command)

    async def primaries(self, *, but: ValkeyServer | None = None) -> list[ValkeyServer]:
        """Return the servers that have slots, according to a server other than ``but``."""
        seen = next(it for it in self.servers if it.running and it is not but)
        ports = {it[2][1] for it in await self.run(seen, "CLUSTER", "SLOTS")}
        return [server for server in self.servers if server.port in ports]

    async def replicas_of(self, primary: ValkeyServer) -> list[ValkeyServer]:
        """Return the servers that follow ``primary``."""
        told = await self.run(primary, "CLUSTER", "NODES")
        following = {
            line.split()[0] for line in told.splitlines() if line.split()[3] == self.id_of(primary)
        }
        return [server for server in self.servers if self.id_of(server) in following]

    async def primary_of(self, key: str) -> ValkeyServer:
        """Return the server that has the slot of ``key``."""
        return await self._owner(key_slot(key.encode()))

    async def cut(self, key: str) -> ValkeyServer:
        """Cut replication from the server that has ``key``, and return that server's replica."""
        primary = await self.primary_of(key)
        (replica,) = await self.replicas_of(primary)
        await self.run(primary, "WAIT", 1, 5000)
        # The primary has no password, so the replica does not get in again.
        await self.run(replica, "CONFIG", "SET", "masterauth", "nonsense")
        await self.run(primary, "CLIENT", "KILL", "TYPE", "replica")

        async def is_alone() -> bool:
            return "connected_slaves:0" in str(await self.run(primary, "INFO", "replication"))

        await eventually(is_alone)
        return primary

    async def begin_anew(self) -> None:
        """Start stopped servers, reconnect the replica that was cut off, and empty all servers."""
        for server in self.servers:
            if not server.running:
                await server.start()
            await self.run(server, "CONFIG", "SET", "masterauth", "")
        await self.is_whole()
        await self.flush()

    async def flush(self) -> None:
        """Remove every key and function."""
        for server in await self.primaries():
            await self.run(server, "FLUSHALL")

    def id_of(self, server: ValkeyServer) -> str:
        """Return the cluster's id of a server."""
        return self._ids[server]

    async def begin_move(self, slot: int, to: ValkeyServer) -> ValkeyServer:
        """Begin to move a slot by hand, and return the server that has it."""
        source = await self._owner(slot)
        await self._set_slot(to, slot, "IMPORTING", self.id_of(source))
        await self._set_slot(source, slot, "MIGRATING", self.id_of(to))
        return source

    async def move_keys(
        self, slot: int, source: ValkeyServer, to: ValkeyServer, *, most: int = 1000
    ) -> Sequence[str]:
        """Move up to ``most`` keys of a slot; return them."""
        keys: list[str] = await self.run(source, "CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            await self.run(
                source, "MIGRATE", to.host, to.port, "", 0, 10_000, "REPLACE", "KEYS", *keys
            )
        return keys

    async def end_move(self, slot: int, source: ValkeyServer, to: ValkeyServer) -> None:
        """Assign the slot to its new server: first on the new server, then on the old one.

        A server that learned already that it has no slot left is a replica, and needs no telling.
        """
        await self._set_slot(to, slot, "NODE", self.id_of(to))
        try:
            await self._set_slot(source, slot, "NODE", self.id_of(to))
        except ResponseError as error:
            if "only with masters" not in str(error):
                raise

    async def move(self, slot: int, to: ValkeyServer) -> None:
        """Move a slot as ``redis-cli --cluster reshard`` does: key by key."""
        source = await self.begin_move(slot, to)
        while await self.move_keys(slot, source, to, most=1):
            pass
        await self.end_move(slot, source, to)

    async def move_whole(self, slot: int, to: ValkeyServer) -> None:
        """Have the servers move a slot by themselves, in one step for clients.

        Valkey does so from 9.0 on, and Redis from 8.4 on. The test is skipped on older ones.
        """
        source = await self._owner(slot)
        try:
            if self.binary().product == "valkey":
                job = ("SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
                await self.run(source, "CLUSTER", "MIGRATESLOTS", *job)
                asked, how = source, ("GETSLOTMIGRATIONS",)
            else:
                await self.run(to, "CLUSTER", "MIGRATION", "IMPORT", slot, slot)
                asked, how = to, ("MIGRATION", "STATUS", "ALL")
        except ResponseError as error:
            if "unknown subcommand" in str(error).lower():
                absent(f"{self.binary().label} does not move slots by itself")
            raise

        async def has_moved() -> bool:
            jobs = str(await self.run(asked, "CLUSTER", *how))
            assert "fail" not in jobs, jobs
            return await self._owner(slot) is to

        await eventually(has_moved)

    async def _set_slot(self, server: ValkeyServer, slot: int, *how: str) -> None:
        """Change a slot's state on a server, with retries.

        Valkey replicates the change first, and refuses it (NOREPLICAS) if the replicas are late, as
        on a busy machine.
        """

        async def is_set() -> bool:
            try:
                await self.run(server, "CLUSTER", "SETSLOT", slot, *how)
            except ResponseError as error:
                if "NOREPLICAS" not in str(error):
                    raise
                return False
            return True

        await eventually(is_set)

    async def _owner(self, slot: int) -> ValkeyServer:
        seen = next(server for server in self.servers if server.running)
        for first, last, primary, *_ in await self.run(seen, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(it for it in self.servers if self.id_of(it) == primary[2])
        raise AssertionError(f"nobody has slot {slot}")

    def _make(self, n: int) -> ValkeyServer:
        bus = free_port()
        server = ValkeyServer(
            self._folder / str(n) / "data",
            binary=self.binary(),
            config={**self._config, "cluster-port": str(bus)},
        )
        self._buses[server] = bus
        return server
