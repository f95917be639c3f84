"""The settings of a Redis or Valkey server that endanger records and were altered while we run.

An administrator alters them, or a failover makes a replica with other settings the primary.
"""

from __future__ import annotations

from collections.abc import Sequence

from transport.durability import Durability
from transport.redis.administration.durability import demanded_replicas, durability
from transport.redis.administration.fitness import evicting_policy, told_by
from transport.redis.client.connections import RedisConnections

__all__ = ["Alterations"]


class Alterations:
    """Compares a log's servers with what they were at the best since the first look."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections
        self._best = Durability(None, None, None, {})
        self._replicas = 0  # the most that an append had to be sent to

    async def look(self) -> Sequence[str]:
        """Return each setting that is not as wanted, as far as our user may ask.

        Raises:
            TransportUnavailable: a server can't be reached.
        """
        policies = [evicting_policy(await told_by(pool)) for pool in self._connections.pools]
        found = [
            f"maxmemory-policy is {policy}, wanted noeviction"
            for policy in sorted({policy for policy in policies if policy})
        ]
        best, present = self._best, await durability(self._connections)
        if best.crash and present.crash is False:
            found.append("appendonly is no, and was yes")
        elif best.power and present.power is False:
            found.append(f"appendfsync is {present.figures['appendfsync']}, and was always")
        replicas = demanded_replicas(present)
        if replicas is not None and replicas < self._replicas:
            found.append(f"min-replicas-to-write is {replicas}, and was {self._replicas}")
        self._replicas = max(self._replicas, replicas or 0)
        self._best = max(best, present, key=lambda it: (it.crash or False, it.power or False))
        return found
