"""Samples everything that could grow: processes, PostgreSQL, the log, folders and the load."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

import asyncpg

from lab.harness.service import RehearsedService
from lab.rehearsal.stage import Stage
from lab.soak.posts import PostMeter
from lab.soak.reading import AWAY
from lab.soak.system import figures_of, folder_bytes
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.errors import TransportError

__all__ = ["Looker"]

_MB = 1e6
_WITHIN = 5.0  # seconds for a server's answer; a suspended server gives none
_OWN = ("ingress", "worker")
_SELF = "soak"
# Tables that grow by design, with archived rows and dead letters; judged per message.
_KEPT = ("tombstones", "dead_letters", "row_archives", "archive_tombstones")
_DATABASE = "disk/postgres"
_SMALL = 0.2  # MB; smaller tables are left out

_TABLES = """
SELECT relname, pg_table_size(oid) AS bytes, pg_indexes_size(oid) AS index_bytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
"""


class Looker:
    """Takes samples; a source that can't be read is left out.

    Args:
        stage: The processes and servers.
        log: The log that the service uses.
        meter: Has the figures of the POSTs.
        load: Returns the process id of the running load.
    """

    def __init__(
        self, stage: Stage, log: Transport, meter: PostMeter, load: Callable[[], int | None]
    ) -> None:
        self._stage = stage
        self._log = log
        self._meter = meter
        self._load = load
        self._shown: set[str] = set()
        self._kept: dict[str, float] = {}

    async def look(self) -> dict[str, float]:
        """Return the values of all series that can be known now."""
        values = self._processes() | self._meter.take()
        for found in await asyncio.gather(
            self._objects(), self._database(), self._progress(), self._holdings(), self._folders()
        ):
            values |= found
        if _DATABASE in values:  # tables that grow by design have series and limits of their own
            values[_DATABASE] -= sum(self._kept.values())
        return values

    def _processes(self) -> dict[str, float]:
        pids = {part.name: (part.pid, part.kind not in _OWN) for part in self._stage.parts}
        pids[_SELF] = os.getpid(), False
        pids["load"] = self._load(), False
        values = {}
        for name, (pid, children) in pids.items():
            if pid is None or not (figures := figures_of(pid, children=children)):
                continue
            values[f"memory/{name}"] = figures.memory / _MB
            values[f"descriptors/{name}"] = figures.descriptors
            values[f"threads/{name}"] = figures.threads
        return values

    async def _objects(self) -> dict[str, float]:
        """Return the number of small objects in each service process that answers."""
        services = (*self._stage.ingresses, *self._stage.workers)
        counts = await asyncio.gather(*map(_count, services))
        return {
            f"objects/{service.name}": count
            for service, count in zip(services, counts, strict=True)
            if count
        }

    async def _database(self) -> dict[str, float]:
        values: dict[str, float] = {}
        with suppress(*AWAY):
            async with asyncio.timeout(_WITHIN):
                connection = await asyncpg.connect(self._stage.database_url)
                try:
                    values["connections/PostgreSQL"] = await connection.fetchval(_SESSIONS)
                    for name, size, index in await connection.fetch(_TABLES):
                        values |= self._table(name, size / _MB, index / _MB)
                finally:
                    connection.terminate()
        return values

    def _table(self, name: str, size: float, index: float) -> Mapping[str, float]:
        """Return the sizes of a table, if it is or ever was large enough to show."""
        if size + index >= _SMALL:
            self._shown.add(name)
        if name not in self._shown:
            return {}
        if name in _KEPT:
            self._kept[name] = size + index
            return {f"kept/{name}": size + index}
        return {f"table/{name}": size, f"index/{name}": index}

    async def _progress(self) -> dict[str, float]:
        try:
            async with asyncio.timeout(_WITHIN):
                progress = await self._log.progress(Topic.MESSAGES, group=WORKER_GROUP)
        except (TransportError, TimeoutError):
            return {}
        values: dict[str, float] = {}
        if all(part.lag is not None for part in progress):
            values[f"lag/{self._log.name}"] = sum(part.lag or 0 for part in progress)
        if all(part.oldest_age is not None for part in progress):
            values[f"age/{self._log.name}"] = max(part.oldest_age or 0.0 for part in progress)
        return values

    async def _holdings(self) -> dict[str, float]:
        try:
            async with asyncio.timeout(_WITHIN):
                holdings = await self._log.remove(dry_run=True)
        except (TransportError, TimeoutError):
            return {}
        values = {f"records/{self._log.name}": float(sum(held.records or 0 for held in holdings))}
        sizes = [held.bytes for held in holdings if held.bytes is not None]
        return values | ({f"bytes/{self._log.name}": sum(sizes) / _MB} if sizes else {})

    async def _folders(self) -> dict[str, float]:
        folders = self._stage.folders
        sizes = await asyncio.to_thread(
            lambda: {name: folder_bytes(folder) / _MB for name, folder in folders.items()}
        )
        return {f"disk/{name}": size for name, size in sizes.items()}


async def _count(service: RehearsedService) -> float:
    """Return the number of a process's small objects; 0 if it does not answer."""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_WITHIN):
            return await service.metric("python_allocated_blocks")
    return 0.0
