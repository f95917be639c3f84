"""Reads, and the progress of groups."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from redis.exceptions import ConnectionError as RedisConnectionError

from transport.contract import READ_BYTES, Progress, Record
from transport.errors import TransportUnavailable
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import is_of_one_key, translate
from transport.redis.entry_ids import id_before
from transport.redis.keys import TopicKeys, trimmed
from transport.redis.records import records
from transport.redis.rescue.last_seen import LastSeen
from transport.sizes import size_of

__all__ = ["check_position", "look_for", "progress", "reaches", "read", "read_back", "since"]

_NOWHERE = b"0-0"
_AT_ONCE = 100
"""Records per call. Appends wait while the server runs the call, and again while this process makes
records of the reply: a quarter of a millisecond each. A record costs the same in calls of 100 and
of 1000."""
_LEAST_BYTES = 64 << 10
"""The bytes of a call that is not repeated with fewer bytes."""
_SHARD_SECONDS = 1.0  # a server of a cluster that takes longer fails, and the others' replies count


async def read(
    functions: Functions, log: TopicKeys, partition: int, after: str | None, limit: int
) -> list[Record]:
    """Return up to ``limit`` records after ``after``; see ``Transport.read``."""

    def which(after: str | None) -> tuple[str, str, str]:
        return "XRANGE", f"({after}" if after else "-", "+"

    return await _range(functions, log, partition, which, after, limit)


async def read_back(
    functions: Functions, log: TopicKeys, partition: int, before: str | None, limit: int
) -> list[Record]:
    """Return the last ``limit`` records before ``before``; see ``Transport.read_back``."""

    def which(before: str | None) -> tuple[str, str, str]:
        return "XREVRANGE", f"({before}" if before else "+", "-"

    found = await _range(functions, log, partition, which, before, limit)
    return found[::-1]


async def reaches(functions: Functions, log: TopicKeys, partition: int, after: str | None) -> bool:
    """Return whether nothing after ``after`` was trimmed; see ``Transport.reaches``."""
    stream = log.streams[partition]
    asked = functions.command("reaches", (stream, trimmed(stream)), after or "0-0")
    (reply,) = await functions.exchange([asked])
    if isinstance(reply, Exception):
        raise translate(reply)
    return bool(reply)


async def _range(
    functions: Functions,
    log: TopicKeys,
    partition: int,
    which: Callable[[str | None], tuple[str, str, str]],
    beyond: str | None,
    limit: int,
) -> list[Record]:
    """Return up to ``limit`` records beyond an offset, in calls of up to ``_AT_ONCE`` records.

    ``which`` returns the Redis command and its range for an offset.
    """
    stream = log.streams[partition]
    found: list[Record] = []
    room, at_once = READ_BYTES, READ_BYTES
    while room > 0 and len(found) < limit:
        count, size = min(_AT_ONCE, limit - len(found)), min(room, at_once)
        call = functions.command("range", (stream,), *which(beyond), count, size)
        (reply,) = await functions.exchange([call])
        if isinstance(reply, RedisConnectionError) and size > _LEAST_BYTES:
            # A server that bounds its replies (client-output-buffer-limit, maxmemory-clients)
            # closes the connection.
            at_once = size // 8
            continue
        if isinstance(reply, Exception):
            raise translate(reply)
        some = records(log.topic, partition, reply)
        found += some
        if len(some) < count and (at_once == READ_BYTES or not some):
            break  # the end of the stream, or enough bytes
        beyond = some[-1].offset
        room -= sum(map(size_of, some))
    return found


async def progress(
    functions: Functions, log: TopicKeys, group: str, last_seen: LastSeen | None
) -> Sequence[Progress]:
    """Return the progress of ``group`` in every partition; see ``Transport.progress``.

    Where a server of a cluster does not answer, its partitions are marked as unavailable.

    Raises:
        TransportError: no server answers; without a cluster, also if any partition has an error,
            except that one of its keys is of another type.
    """
    partitions = range(len(log.streams))
    known = [last_seen.known(p) if last_seen else [""] for p in partitions]

    def call(name: str, partition: int) -> Command:
        return functions.command(name, log.figures(partition, group), group, *known[partition])

    replies = await functions.exchange(
        [call("inspect", partition) for partition in partitions], within=_SHARD_SECONDS
    )
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    general = [error for error in errors if not is_of_one_key(error)]
    if general and not (functions.are_of_several and len(errors) < len(replies)):
        raise translate(general[0])
    found = [_progress(partition, reply) for partition, reply in enumerate(replies)]
    if last_seen and (due := [it.partition for it, has_news in found if has_news]):
        # If no worker publishes positions, losses and unread records are noted here. If there is no
        # answer, they are noted at the next report.
        await functions.exchange([call("look", p) for p in due], within=_SHARD_SECONDS)
    return [progress for progress, _ in found]


async def look_for(
    functions: Functions, log: TopicKeys, group: str, last_seen: LastSeen, ends: Mapping[int, str]
) -> None:
    """Count lost records, by ``ends``; see ``KnowsEnds.look_for``."""
    calls = [
        functions.command(
            "look", log.figures(partition, group), group, *last_seen.known_of(partition, end)
        )
        for partition, end in ends.items()
        if partition < len(log.streams)
    ]
    for reply in await functions.exchange(calls) if calls else []:
        if isinstance(reply, Exception) and not is_of_one_key(reply):
            raise translate(reply)


async def check_position(
    functions: Functions, log: TopicKeys, partition: int, after: str, group: str
) -> None:
    """Check that the log does not have new records before a position that was lost.

    A server that was promoted may lack a whole generation. If its clock is behind, its new records
    have lower ids, and a reader that continues after the lost ones would skip them.

    Raises:
        TransportUnavailable: it may have such records, or can't be asked now.
    """
    asked = functions.command("is_lost", log.figures(partition, group), after)
    (reply,) = await functions.exchange([asked])
    if isinstance(reply, Exception):
        raise translate(reply)
    if reply:
        raise TransportUnavailable(
            f"{log.streams[partition]} lost its tail in a failover or a restore, with the record "
            f"{after} that was read last: read again from a settled position that it still has"
        )


async def since(functions: Functions, log: TopicKeys, partition: int, time: float) -> str | None:
    """Return the id before the first record appended at a time or later.

    See ``Transport.offset_before_time``.
    """
    stream = log.streams[partition]
    asked = functions.command("since", (stream,), math.ceil(max(0.0, time) * 1000))
    (reply,) = await functions.exchange([asked])
    if isinstance(reply, Exception):
        raise translate(reply)
    if reply:
        return id_before(reply.decode())
    last = await read_back(functions, log, partition, None, 1)
    return last[-1].offset if last else None


def _progress(partition: int, reply: Reply) -> tuple[Progress, bool]:
    """Return the progress, and whether there is anything to note in the accounts."""
    if isinstance(reply, Exception):  # a server of a cluster is away, or a key is of another type
        is_away = not is_of_one_key(reply)
        return Progress(partition, None, None, None, None, unavailable=is_away), False
    unread, oldest, at, end, lost, put_back, lost_at, uncounted, now_ms, appended, has_news = reply
    lag = unread if unread >= 0 else None
    progress = Progress(
        partition=partition,
        lag=lag,
        oldest_age=max(0.0, (int(now_ms) - int(oldest)) / 1000) if oldest else 0.0,
        floor=_position(at),
        end=_position(end),
        lost=lost,
        appended=appended,
        # Nothing was appended, or nothing is settled: then nothing was trimmed.
        untrimmed=appended in (0, lag),
        put_back=put_back,
        # By this process's clock, which may differ from the server's.
        lost_at=time.time() - (int(now_ms) - int(lost_at)) / 1000 if lost_at else None,
        lost_uncounted=bool(uncounted),
    )
    return progress, bool(has_news)


def _position(entry_id: bytes) -> str | None:
    return entry_id.decode() if entry_id not in (b"", _NOWHERE) else None
