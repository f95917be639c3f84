"""Whether a Redis or Valkey server may hold a log, as far as our user may ask.

Asked before the log is made, when it is opened, and while it is used.
"""

from __future__ import annotations

from collections.abc import Mapping

from transport.errors import ConfigurationError
from transport.redis.cluster.primary import ServerPool

__all__ = ["evicting_policy", "must_keep_records", "told_by"]

_SECTIONS = ("server", "memory", "persistence")
_LOSES_KEYS = ("9.0.0", "9.0.1")
"""Versions of Valkey that put keys into wrong slots as they load the append-only file of a cluster:
streams are gone after a restart (valkey-io/valkey issue 2995, mended by 3004)."""


async def told_by(server: ServerPool) -> dict[str, str]:
    """Return the fields of the server's ``INFO``; none where our user may not ask.

    Raises:
        TransportUnavailable: the server can't be reached.
    """
    told: dict[str, str] = {}
    for reply in await server.exchange([("INFO", section) for section in _SECTIONS]):
        if isinstance(reply, bytes):
            lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
            told |= {name: value for name, _, value in lines}
    return told


def evicting_policy(told: Mapping[str, str]) -> str | None:
    """Return the ``maxmemory-policy`` of a server that evicts records when it is full.

    The policies of keys with a time to live evict no record: no stream has one.
    """
    policy = told.get("maxmemory_policy", "")
    is_limited = told.get("maxmemory", "0") != "0"
    return policy if is_limited and policy.startswith("allkeys") else None


def must_keep_records(told: Mapping[str, str]) -> None:
    """Return if the server neither evicts records nor loses them as it restarts.

    Raises:
        ConfigurationError: it evicts them when it is full, or a cluster's server would lose them.
    """
    if policy := evicting_policy(told):
        raise ConfigurationError(
            f"this Redis has maxmemory-policy {policy}: when full it would throw away messages "
            "that were acknowledged and are not persisted yet; set it to noeviction"
        )
    version = told.get("valkey_version", "")
    is_cluster = "cluster" in (told.get("server_mode"), told.get("redis_mode"))
    if is_cluster and told.get("aof_enabled") == "1" and version in _LOSES_KEYS:
        raise ConfigurationError(
            f"this cluster has Valkey {version}, which loses streams as it restarts: it loads its "
            "append-only file, which is right, into wrong slots; upgrade it to 9.0.2 or later"
        )
