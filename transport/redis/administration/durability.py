"""The durability of an acknowledged append, as the configuration of Redis says."""

from __future__ import annotations

import re

import msgspec

from transport.durability import Durability
from transport.redis.client.connections import RedisConnections
from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.errors import translate
from transport.settings import TransportSettings

__all__ = ["demanded_replicas", "durability", "durability_and_partitions"]

# Forbidden by the user's rights, or by a provider that renames the command.
_FORBIDDEN = re.compile(r"no permissions|NOPERM|unknown command", re.IGNORECASE)
_REPLICAS = "min-replicas-to-write"
_MOST_LAG = "min-replicas-max-lag"
_ASKED = ("appendonly", "appendfsync", _REPLICAS, _MOST_LAG)
_GOOD_LAG = 5
_LATE_SECONDS = 2  # a replica reports once a second, and the server counts them once a second
_CONNECTED = re.compile(rb"^connected_slaves:[1-9]", re.MULTILINE)


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


async def durability_and_partitions(
    connections: RedisConnections, settings: TransportSettings
) -> Durability:
    """Return ``durability``, and what a primary that is cut off from its replicas can lose.

    It refuses appends only if ``min-replicas-to-write`` demands it, and after a lag within which
    our processes still have what it acknowledged. A server without replicas or sentinels is not
    replaced, and loses nothing.

    Raises:
        TransportUnavailable: the server can't be reached.
    """
    found = await durability(connections)
    demanded = demanded_replicas(found)
    if demanded is None or settings.redis_wait_replicas:
        return found
    lag = int(found.figures.get(_MOST_LAG, "0"))
    longest = max(_GOOD_LAG, settings.redis_rescue_seconds - _LATE_SECONDS)
    is_bounded = demanded > 0 and 0 < lag <= longest
    if is_bounded or not (settings.redis.master or await _have_replicas(connections)):
        return found
    return msgspec.structs.replace(
        found,
        cut_off="a partition of the network can take what a primary acknowledges while it is cut "
        f"off from its replicas: on each server, redis-cli CONFIG SET {_REPLICAS} 1 {_MOST_LAG} "
        f"{_GOOD_LAG} (now {demanded} and {lag}), then CONFIG REWRITE",
    )


async def _have_replicas(connections: RedisConnections) -> bool:
    for pool in connections.pools:
        (reply,) = await pool.exchange([("INFO", "replication")])
        if isinstance(reply, bytes) and _CONNECTED.search(reply):
            return True
    return False


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
