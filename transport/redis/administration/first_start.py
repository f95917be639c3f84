"""The first start on a Redis or Valkey that holds no log yet, foreseen without making one."""

from __future__ import annotations

from redis.exceptions import NoPermissionError

from transport.first_start import FirstStart
from transport.redis.administration.durability import durability_and_partitions
from transport.redis.administration.fitness import must_keep_records, told_by
from transport.redis.administration.lacking_rights import lacking_rights
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import must_have_functions
from transport.redis.cluster.primary import ServerPool
from transport.rights import LackingRights
from transport.settings import TransportSettings

__all__ = ["first_start"]

# No server loads it, and a user's rights are looked at before the code.
_NO_LIBRARY = ("FUNCTION", "LOAD", "no library")
_TO_LOAD = "+function|load"


async def first_start(
    connections: RedisConnections, settings: TransportSettings, name: str
) -> FirstStart:
    """Return the durability, and the lacking rights, of a log whose streams begin with ``name``.

    In a cluster every primary is asked.

    Raises:
        ConfigurationError: a server is too old, evicts records when it is full, or loses them as
            it restarts.
        TransportUnavailable: a server can't be reached.
    """
    may_load = [await _check(pool) for pool in connections.pools]
    rights = await lacking_rights(connections.pools, name)
    if not all(may_load):
        rights = LackingRights(needed=(*rights.needed, _TO_LOAD), useful=rights.useful)
    found = await durability_and_partitions(connections, settings)
    return FirstStart(durability=found, rights=rights)


async def _check(server: ServerPool) -> bool:
    """Check a server; return whether our user may load functions there."""
    (reply,) = await server.exchange([_NO_LIBRARY])
    must_have_functions(reply)
    must_keep_records(await told_by(server))
    return not isinstance(reply, NoPermissionError)
