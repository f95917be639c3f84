"""Make the prerequisites of the log: our functions, the streams and their groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from transport.errors import ConfigurationError
from transport.redis.allocator import is_replaced
from transport.redis.connections import RedisConnections
from transport.redis.errors import translate
from transport.redis.functions import Functions
from transport.redis.keys import TopicKeys

__all__ = ["open_logs"]

_log = logging.getLogger(__name__)
_SECTIONS = ("server", "memory", "persistence", "cluster")


async def open_logs(
    connections: RedisConnections, functions: Functions, logs: Sequence[tuple[TopicKeys, str]]
) -> bool:
    """Load the functions and create the streams and groups that are missing.

    Nothing is written that is there already: a full server, which workers are to drain, takes no
    write of ours but those.

    Returns whether the server is a cluster's, where no call may touch two slots.

    Raises:
        TransportUnavailable: the server can't be reached or won't take writes.
        ConfigurationError: the log was made with another number of partitions, or the server is
            too old, or one of several of a cluster, or it throws records away when it is full.
    """
    clustered = await _check_server(connections)
    await _check_partitions(connections, logs[0][0])
    replies = await functions.exchange(
        [
            functions.command("open", (stream, log.lease(partition, group)), group)
            for log, group in logs
            for partition, stream in enumerate(log.streams)
        ]
    )
    for reply in replies:
        if isinstance(reply, Exception):
            raise translate(reply)
    return clustered


async def _check_server(connections: RedisConnections) -> bool:
    """Refuse a server that evicts records or has a part of the slots; tell if it is a cluster's.

    Warn of one that keeps nothing on disk, and of one that has the C library's allocator.
    """
    replies = await connections.exchange(
        [*(("INFO", section) for section in _SECTIONS), ("CLUSTER", "INFO")]
    )
    told: dict[str, str] = {}
    for reply in replies:
        # Users can be forbidden INFO, then we can't know; and a server alone has no CLUSTER INFO.
        if isinstance(reply, bytes):
            lines = (line.partition(":") for line in reply.decode().splitlines())
            told |= {name: value for name, _, value in lines}
    clustered = told.get("cluster_enabled") == "1"
    if clustered and told.get("cluster_size", "1") not in {"0", "1"}:
        raise ConfigurationError(
            f"this Redis is one of {told['cluster_size']} of a cluster, each with a part of the "
            "slots, and the log has to be on one: set REDIS_HOST to a server of its own"
        )
    policy = told.get("maxmemory_policy", "")
    if told.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        raise ConfigurationError(
            f"this Redis has maxmemory-policy {policy}: when full it would throw away messages "
            "that were acknowledged and are not persisted yet; set it to noeviction"
        )
    if told.get("aof_enabled") == "0":
        _log.warning(
            "This Redis has no append-only file: acknowledged messages are lost when its process "
            "ends; set appendonly yes and appendfsync always"
        )
    if told.get("mem_allocator") == "libc" and not is_replaced(told.get("process_id", "")):
        _log.warning(
            "This Redis was built with the C library's malloc: expect a third fewer appends a "
            "second than with jemalloc, and memory that is kept after a backlog was drained; "
            "install your distribution's or the official image's, which have jemalloc"
        )
    return clustered


async def _check_partitions(connections: RedisConnections, messages: TopicKeys) -> None:
    partitions = len(messages.streams)
    known = await connections.set_once(messages.count, partitions)
    if int(known) != partitions:
        raise ConfigurationError(
            f"STREAM_PARTITIONS={partitions}, but this Redis database holds a log of "
            f"{int(known)} partitions: set STREAM_PARTITIONS={int(known)}, or name another log, "
            f"redis@{partitions}"
        )
