"""Opening the log: checks of the server, our functions, the streams and their groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import uuid4

from redis.exceptions import MovedError

from transport.errors import ConfigurationError, TransportUnavailable
from transport.redis.administration.allocator import allocator
from transport.redis.administration.fitness import must_keep_records, told_by
from transport.redis.client.connections import RedisConnections
from transport.redis.client.functions import Functions
from transport.redis.cluster.primary import ServerPool
from transport.redis.connection.errors import translate
from transport.redis.connection.rights import IN_CLUSTER
from transport.redis.keys import TopicKeys

__all__ = ["identity", "open_logs"]

_log = logging.getLogger(__name__)


async def open_logs(
    connections: RedisConnections, functions: Functions, logs: Sequence[tuple[TopicKeys, str]]
) -> None:
    """Load the functions and create the streams and groups that are missing.

    Existing ones are not written again, so that a full server can be opened: workers have to drain
    it, and it refuses other writes.

    Raises:
        TransportUnavailable: the server can't be reached or won't take writes.
        ConfigurationError: the log was made with another number of partitions; or a server is too
            old, or evicts records when it is full; or it has only a part of a cluster's slots, and
            our user may not ask where the others are.
    """
    await connections.look_for_cluster()
    for pool in connections.pools:
        await _check_server(pool)
    try:
        await _check_partitions(connections, logs[0][0])
        # Now, since workers ask for it, and a full server refuses it later.
        await identity(connections, logs[0][0])
        replies = await functions.exchange(
            [
                functions.command("open", log.figures(partition, group), group)
                for log, group in logs
                for partition in range(len(log.streams))
            ]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply)
    except TransportUnavailable as error:
        if connections.cluster is None and isinstance(error.__cause__, MovedError):
            raise ConfigurationError(
                "this Redis has a part of a cluster's slots, and its user may not ask where the "
                f"others are: ACL SETUSER <name> {IN_CLUSTER}; or set REDIS_HOST to the primary"
            ) from error
        raise


async def identity(connections: RedisConnections, messages: TopicKeys) -> str:
    """Return the log's UUID, and set it if there is none.

    Raises:
        TransportError: the server can't be asked now, or refuses to set it.
    """
    return (await connections.set_once(messages.identity, str(uuid4()))).decode()


async def _check_server(server: ServerPool) -> None:
    """Refuse a server that evicts records.

    Warn if the server keeps nothing on disk, or uses the C library's allocator.
    """
    told = await told_by(server)
    must_keep_records(told)
    if told.get("aof_enabled") == "0":
        _log.warning(
            "This Redis has no append-only file: acknowledged messages are lost when its process "
            "ends; set appendonly yes and appendfsync always"
        )
    if allocator(told) == "libc":
        _log.warning(
            "This Redis was built with the C library's malloc: expect a third fewer appends a "
            "second than with jemalloc, and memory that is kept after a backlog was drained; "
            "install your distribution's or the official image's, which have jemalloc"
        )


async def _check_partitions(connections: RedisConnections, messages: TopicKeys) -> None:
    partitions = len(messages.streams)
    known = await connections.set_once(messages.count, partitions)
    if int(known) != partitions:
        raise ConfigurationError(
            f"STREAM_PARTITIONS={partitions}, but this Redis database holds a log of "
            f"{int(known)} partitions: set STREAM_PARTITIONS={int(known)}, or name another log, "
            f"redis@{partitions}"
        )
