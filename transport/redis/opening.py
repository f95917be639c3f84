"""What must be there before the log is used: our functions, the streams and their groups."""

from __future__ import annotations

from collections.abc import Sequence

from transport.errors import ConfigurationError
from transport.redis.connections import Connections
from transport.redis.errors import translate
from transport.redis.functions import Functions
from transport.redis.keys import PARTITIONS_KEY, Log

__all__ = ["open_logs"]


async def open_logs(
    connections: Connections, functions: Functions, logs: Sequence[tuple[Log, str]]
) -> None:
    """Load the functions and create the streams and groups that are missing.

    Raises:
        TransportUnavailable: the server can't be reached or won't take writes.
        ConfigurationError: the log was made with another number of partitions, or the server is
            too old.
    """
    await functions.load()
    await _check_partitions(connections, len(logs[0][0].streams))
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


async def _check_partitions(connections: Connections, partitions: int) -> None:
    made, known = await connections.exchange(
        [("SET", PARTITIONS_KEY, partitions, "NX"), ("GET", PARTITIONS_KEY)]
    )
    for reply in (made, known):
        if isinstance(reply, Exception):
            raise translate(reply)
    if int(known) != partitions:
        raise ConfigurationError(
            f"STREAM_PARTITIONS={partitions}, but this Redis database holds a log of "
            f"{int(known)} partitions: set STREAM_PARTITIONS={int(known)}, or name an empty "
            "database with REDIS_STREAM_DB"
        )
