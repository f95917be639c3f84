"""The durability of an acknowledged append, as the configuration of Redis says."""

from __future__ import annotations

import re

from transport.durability import Durability
from transport.redis.client.connections import RedisConnections
from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.errors import translate

__all__ = ["demanded_replicas", "durability"]

# Forbidden by the user's rights, or by a provider that renames the command.
_FORBIDDEN = re.compile(r"no permissions|NOPERM|unknown command", re.IGNORECASE)
_REPLICAS = "min-replicas-to-write"
_ASKED = ("appendonly", "appendfsync", _REPLICAS)


async def durability(connections: RedisConnections) -> Durability:
    """Return the faults that an append survives; unknown where ``CONFIG`` is forbidden.

    In a cluster the weakest primary counts.

    Raises:
        TransportUnavailable: the server can't be reached.
    """
    found = [await _of(pool) for pool in connections.pools]
    return min(
        found, key=lambda it: (it.crash or False, it.power or False, demanded_replicas(it) or 0)
    )


def demanded_replicas(found: Durability) -> int | None:
    """Return the number of replicas in step without which the server refuses appends.

    ``None`` where it is unknown.
    """
    told = found.figures.get(_REPLICAS, "")
    return int(told) if told.isdecimal() else None


async def _of(server: ServerPool) -> Durability:
    replies = await server.exchange([("CONFIG", "GET", name) for name in _ASKED])
    figures: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, Exception):
            if _FORBIDDEN.search(str(reply)):
                return Durability(None, None, None, {"CONFIG GET": str(reply)})
            raise translate(reply)
        pairs = list(reply.items()) if isinstance(reply, dict) else [tuple(reply)]
        figures |= {_text(name): _text(value) for name, value in pairs if name}
    on_disk = figures.get("appendonly") == "yes"
    # Replicas are asynchronous, so a lost disk loses the last records however many there are.
    return Durability(
        crash=on_disk,
        power=on_disk and figures.get("appendfsync") == "always",
        disk=False,
        figures=figures,
    )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
