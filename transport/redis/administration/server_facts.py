"""Facts about a Redis or Valkey server, from its own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from redis.exceptions import NoPermissionError

from transport.redis.administration.allocator import allocator
from transport.redis.client.connections import RedisConnections
from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.errors import translate
from transport.redis_url import RedisUrl
from transport.server_facts import ServerFacts, is_far
from transport.settings import TransportSettings
from transport.tls_files import certificates_of

__all__ = ["server_facts"]

_MICROSECONDS = 1_000_000


async def server_facts(connections: RedisConnections, settings: TransportSettings) -> ServerFacts:
    """Return version, role, replicas, clock and memory of the server.

    Facts that our user may not ask for are unknown. In a cluster these are the facts of the first
    primary that is full or lacks replicas, or else of the first primary. The role names all.

    Raises:
        TransportUnavailable: a server can't be reached, or refuses to tell for another reason than
            our user's rights.
    """
    places = connections.cluster.places if connections.cluster else []
    found = [await _of(pool, settings) for pool in connections.pools]
    shown = certificates_of(connections.tls, own="REDIS_TLS_CERT_FILE")
    if connections.cluster is None:
        others = await _second_primaries(connections)
        return msgspec.structs.replace(found[0], certificates=shown, primaries=others)
    shards = ", ".join(
        f"{place} ({(it.replicas or 'unknown').partition(' ')[0]} replicas)"
        for place, it in zip(places, found, strict=True)
    )
    weakest = next((it for it in found if it.is_full or it.lacks_replicas), found[0])
    versions = ", ".join(dict.fromkeys(it.version for it in found))
    role = f"cluster of {len(found)} primaries: {shards}"
    return msgspec.structs.replace(weakest, version=versions, role=role, certificates=shown)


async def _second_primaries(connections: RedisConnections) -> Sequence[str] | None:
    if (sentinels := connections.sentinels) is None:
        return None
    await sentinels.find_others()
    return sentinels.warnings


async def _of(server: ServerPool, settings: TransportSettings) -> ServerFacts:
    info, when = await server.exchange([("INFO",), ("TIME",)])
    if isinstance(info, Exception) and not isinstance(info, NoPermissionError):
        raise translate(info)
    said, place = _fields(info), settings.redis
    role = said.get("role", "")
    replicas, wanted = int(said.get("connected_slaves", "0")), settings.redis_wait_replicas
    most = int(said.get("maxmemory", "0"))
    used = int(said.get("used_memory", "0")) - int(said.get("mem_not_counted_for_evict", "0"))
    clock = None
    if isinstance(when, list | tuple):
        seconds, microseconds = map(int, when)
        clock = seconds + microseconds / _MICROSECONDS
    return ServerFacts(
        version=_version(said),
        role=_role(role, place),
        replicas=f"{replicas} connected; an append waits for {wanted} (REDIS_WAIT_REPLICAS)"
        if role == "master"
        else None,
        lacks_replicas=role == "master" and replicas < wanted,
        writable=role != "slave" or said.get("slave_read_only") == "0",
        clock=clock,
        memory=f"{used / 1e6:,.1f} of {most / 1e6:,.1f} MB (maxmemory)" if most else None,
        is_full=0 < most <= used,
        unencrypted=None
        if place.tls
        else next((host for host, _ in place.servers if is_far(host)), None),
    )


def _role(role: str, place: RedisUrl) -> str | None:
    if not place.master:
        return role or None
    at = ", ".join(f"{host}:{port}" for host, port in place.servers)
    return f"{role}, which the sentinels {at} call {place.master}"


def _version(said: Mapping[str, str]) -> str:
    if "valkey_version" in said:
        product, version = "Valkey", said["valkey_version"]
    else:
        product, version = "Redis", said.get("redis_version", "of an unknown version")
    named = allocator(said)
    return f"{product} {version}" + (f", {named}" if named else "")


def _fields(info: object) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, colon, value in lines if colon}
