"""How far a group is: what the log has, against what the group has committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.contract import Progress
from transport.kafka.claim import KafkaClaim
from transport.kafka.groups import Committed, Groups
from transport.kafka.identity import TopicIds
from transport.kafka.losses import Losses
from transport.kafka.membership import Log, standing
from transport.kafka.reader import Reader
from transport.kafka.tails import Known, Tails

__all__ = ["progress_of"]


async def progress_of(
    source: Log,
    group: str,
    *,
    reader: Reader,
    groups: Groups,
    ids: TopicIds,
    losses: Losses,
    tails: Tails,
    ours: Mapping[int, KafkaClaim],
) -> list[Progress]:
    """Return the group's progress in each partition. ``ours`` are this process's own claims.

    Raises:
        TransportUnavailable: Kafka can't say now.
    """
    where = source.all()
    topic = await ids.describe(source.name)
    topic_id = topic.id
    # Committed before ends: a record appended and acknowledged in between then counts as neither.
    committed = await groups.committed(group, source.name, source.partitions)
    begins, ends, owners = await asyncio.gather(
        reader.begins(where), reader.ends(where), groups.owners(group, source.name)
    )
    # Before its next claim a group may stand where a log that lost its tail has other records.
    known = {
        at: Known.by(found.mark, topic_id)
        for at in where
        if (found := committed.get(at.partition)) is not None
    }
    regressed = await tails.since_elections(known, topic.leaders)
    stands = {
        at: standing(
            committed.get(at.partition),
            topic_id=topic_id,
            begin=begins[at],
            end=ends[at],
            lost_before=losses.before(at.partition, topic_id),
            regress=regressed.get(at),
        )
        for at in where
    }
    for at, (start, mark) in stands.items():
        losses.note(at.partition, topic_id, unread=ends[at] - start, lost=mark.lost)
    waiting = await _waiting(reader, {at: stands[at].offset for at in where}, ends)
    now = time.time()
    return [
        Progress(
            partition=at.partition,
            lag=(lag := ends[at] - waiting[at].start),
            pending=_pending(ours.get(at.partition), lag),
            oldest_age=max(0.0, now - waiting[at].since) if lag else 0.0,
            floor=_offset_before(waiting[at].start, begins[at], committed.get(at.partition)),
            end=str(ends[at] - 1) if ends[at] > begins[at] else None,
            owner=owners.get(at.partition),
            lost=stands[at].mark.lost,
            appended=ends[at],
            held=waiting[at].held,
        )
        for at in where
    ]


class _Waiting(NamedTuple):
    """What of a partition is not acknowledged: from which offset on, appended since when.

    ``held`` of it can't be read.
    """

    start: int
    since: float
    held: int = 0


async def _waiting(
    reader: Reader, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, _Waiting]:
    """Look past what stands at each of ``starts`` and is no record: markers, aborted records.

    Offsets between two records are counted as records: to tell takes reading all of them.
    """
    found = {at: _Waiting(start, 0.0) for at, start in starts.items()}
    behind = {at: start for at, start in starts.items() if start < ends[at]}
    if not behind:
        return found
    # Asked after the ends: what is appended in between must not look as if it could not be read.
    readable = await reader.readable_ends(list(behind))
    stops = {at: min(readable[at], ends[at]) for at in behind}
    ahead = {at: start for at, start in behind.items() if start < stops[at]}
    first = await reader.first_of_each(ahead, stops) if ahead else {}
    stuck = {
        at: max(stops[at], start)
        for at, start in behind.items()
        if at not in first and stops[at] < ends[at]
    }
    held = await reader.first_of_each(stuck, ends, committed=False) if stuck else {}
    for at, start in behind.items():
        record = first.get(at, held.get(at))
        begin = first[at].offset if at in first else max(stops[at], start)
        since = record.timestamp / 1000 if record is not None else time.time()
        found[at] = _Waiting(begin, since, held=ends[at] - max(stops[at], begin))
    return found


def _pending(claim: KafkaClaim | None, lag: int) -> int | None:
    """Kafka keeps no count of what a member was given; we know of our own only."""
    if lag == 0:
        return 0
    return claim.window.delivered if claim is not None else None


def _offset_before(start: int, begin: int, committed: Committed | None) -> str | None:
    """Return the last acknowledged offset, if any was ever acknowledged."""
    if committed is None or start <= 0 or (start == begin and committed.offset != start):
        return None
    return str(start - 1)
