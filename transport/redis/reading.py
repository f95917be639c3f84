"""Reads, and the progress of groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError

from transport.contract import READ_BYTES, Progress, Record
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Reply
from transport.redis.connection.errors import is_of_one_key, translate
from transport.redis.keys import TopicKeys, trimmed
from transport.redis.records import records
from transport.redis.rescue.last_seen import NOTHING_SEEN, LastSeen
from transport.sizes import size_of

__all__ = ["look_for", "progress", "reaches", "read", "read_back"]

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
    keys = [
        (stream, log.accounts(partition, group)) for partition, stream in enumerate(log.streams)
    ]
    connections = last_seen.connections() if last_seen else 0
    seen = [last_seen.arguments(p) if last_seen else NOTHING_SEEN for p in range(len(keys))]
    replies = await functions.exchange(
        [
            functions.command("inspect", key, group, *what)
            for key, what in zip(keys, seen, strict=True)
        ],
        within=_SHARD_SECONDS,
    )
    errors = [reply for reply in replies if isinstance(reply, Exception)]
    general = [error for error in errors if not is_of_one_key(error)]
    if general and not (functions.are_of_several and len(errors) < len(replies)):
        raise translate(general[0])
    found = [_progress(partition, reply) for partition, reply in enumerate(replies)]
    if last_seen is None:
        return [progress for progress, _ in found]
    uncounted = await _count_back(functions, keys, group, last_seen, seen, found)
    if unread := [progress.partition for progress, _ in found if progress.lag]:
        # If no worker publishes positions, the unread records are noted here. If there is no
        # answer, they are noted at the next report.
        await functions.exchange(
            [functions.command("look", keys[p], group) for p in unread],
            within=_SHARD_SECONDS,
        )
    for progress, _ in found:
        # Keep the figures of partitions whose loss is not counted yet: the next report needs them.
        if progress.lag is not None and progress.appended and progress.partition not in uncounted:
            last_seen.note_look(
                progress.partition,
                added=progress.appended,
                tail=progress.end or "0-0",
                unread=progress.lag,
                connections=connections,
            )
    return [
        msgspec.structs.replace(progress, lost=progress.lost + lost, lost_at=time.time())
        if lost > 0
        else progress
        for progress, lost in found
    ]


async def _count_back(
    functions: Functions,
    keys: Sequence[tuple[str, str]],
    group: str,
    last_seen: LastSeen,
    seen: Sequence[tuple[str, str, int, str, int]],
    found: list[tuple[Progress, int]],
) -> set[int]:
    """Count the losses of a log that went back in the accounts, which outlive this process.

    ``seen`` has the figures by which they were found. ``found`` gets the progress of the partitions
    after that: some of their records may have been put back already.

    Returns:
        The partitions whose losses could not be counted. They are reported anyway.
    """
    back = [progress.partition for progress, lost in found if lost >= 0]
    if not back:
        return set()
    replies = await functions.exchange(
        [functions.command("went_back", keys[p], *seen[p]) for p in back],
        within=_SHARD_SECONDS,
    )
    counted = [p for p, reply in zip(back, replies, strict=True) if isinstance(reply, int)]
    for partition in counted:
        last_seen.forget(partition)
    replies = await functions.exchange(
        [functions.command("inspect", keys[p], group, *NOTHING_SEEN) for p in counted],
        within=_SHARD_SECONDS,
    )
    for partition, reply in zip(counted, replies, strict=True):
        if not isinstance(reply, Exception):
            found[partition] = _progress(partition, reply)
    return set(back).difference(counted)


async def look_for(
    functions: Functions, log: TopicKeys, group: str, last_seen: LastSeen, ends: Mapping[int, str]
) -> None:
    """Count lost records, by this process's knowledge and by ``ends``.

    See ``KnowsEnds.look_for``.
    """
    partitions = [partition for partition in ends if partition < len(log.streams)]
    calls = []
    for partition in partitions:
        keys = (log.streams[partition], log.accounts(partition, group))
        # This process's knowledge goes first, since it has figures. One loss is counted once.
        calls.append(functions.command("went_back", keys, *last_seen.arguments(partition)))
        known = last_seen.arguments_for(partition, ends[partition])
        calls.append(functions.command("went_back", keys, *known))
    replies = await functions.exchange(calls) if calls else []
    for reply in replies:
        if isinstance(reply, Exception) and not is_of_one_key(reply):
            raise translate(reply)
    for partition, lost in zip(partitions, replies[::2], strict=True):
        if isinstance(lost, int) and lost >= 0:
            last_seen.forget(partition)


def _progress(partition: int, reply: Reply) -> tuple[Progress, int]:
    """Return the progress, and how many records were lost if the log went back (-1: it did not)."""
    if isinstance(reply, Exception):  # a server of a cluster is away, or a key is of another type
        is_away = not is_of_one_key(reply)
        return Progress(partition, None, None, None, None, unavailable=is_away), -1
    unread, oldest, at, end, lost, now_ms, added, back, put_back, lost_at, uncounted = reply
    lag = unread if unread >= 0 else None
    progress = Progress(
        partition=partition,
        lag=lag,
        oldest_age=max(0.0, (int(now_ms) - _ms(oldest)) / 1000) if oldest else 0.0,
        floor=_position(at),
        end=_position(end),
        lost=lost,
        appended=added,
        # Nothing was appended, or nothing is settled: then nothing was trimmed.
        untrimmed=added in (0, lag),
        put_back=put_back,
        # By this process's clock, which may differ from the server's.
        lost_at=time.time() - (int(now_ms) - int(lost_at)) / 1000 if lost_at else None,
        lost_uncounted=bool(uncounted),
    )
    return progress, back


def _position(entry_id: bytes) -> str | None:
    return entry_id.decode() if entry_id not in (b"", _NOWHERE) else None


def _ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-", 1)[0])
