"""The chain as one process knows it.

PostgreSQL may go back to an earlier moment, and the chain would go back with it. So each process
keeps the chain in memory, and records it again if PostgreSQL has an older one.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from persistence.chain.links import Chain, ChainLink
from persistence.chain.table import change, read
from persistence.database.pool import Connection, Pool, using
from persistence.store.positions import known_positions
from transport.contract import Transport

__all__ = ["KnownChain"]

_log = structlog.get_logger(__name__)


class KnownChain:
    """The chain that this process saw last. Methods raise ``Outage`` if PostgreSQL can't answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.now = Chain()

    async def load(self) -> bool:
        """Read the chain, and record again what PostgreSQL lost; return whether it is a new one."""
        before = self.now.version
        async with using(self._pool) as connection:
            await self._load(connection)
        return self.now.version != before

    async def begin(self, log: str) -> None:
        """Read the chain; where there is none yet, begin it with a log."""
        await self.update(lambda now: now if now.links else Chain(links=(ChainLink(log),)))

    async def update(self, changed: Callable[[Chain], Chain]) -> bool:
        """Read the chain; if ``changed`` makes another one of it, record that one.

        Returns:
            Whether the chain was changed.
        """
        while True:
            async with using(self._pool) as connection:
                await self._load(connection)
                found = changed(self.now)
                if found == self.now:
                    return False
                recorded = await change(connection, found, seen=self.now.version)
            if recorded is not None:
                self.now = recorded
                return True

    async def open_after(self, log: Transport, identity: str) -> None:
        """Open the links that follow passed links of a log, which has this identity."""
        waiting = self.now.waits_for(log.name)
        if not waiting:
            return
        async with using(self._pool) as connection, connection.transaction():
            known = await known_positions(connection, log.name, sorted(waiting))
            settled = {number: at.through for number, at in known.items() if at.log == identity}
            opened = self.now.opened(log.name, identity, settled, log.sort_key)
            if opened == self.now:
                return
            # In one transaction with the positions: if PostgreSQL goes back, both do.
            recorded = await change(connection, opened, seen=self.now.version)
        self.now = recorded or self.now

    async def _load(self, connection: Connection) -> None:
        found = await read(connection)
        while found.version < self.now.version:
            again = self.now.open_as(found)
            recorded = await change(connection, again, seen=found.version)
            if recorded is not None:
                _log.warning(
                    "PostgreSQL lost the last changes of the chain, in a failover or a restore: "
                    "recorded again the order in which logs are read",
                    logs=[link.log for link in again.links],
                )
            found = recorded or await read(connection)
        self.now = found
