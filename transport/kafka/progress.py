"""How far a group is: what the log has, against what the group has committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from transport.contract import Progress
from transport.kafka.claim import KafkaClaim
from transport.kafka.groups import Committed, Groups
from transport.kafka.identity import TopicIds
from transport.kafka.losses import Losses
from transport.kafka.membership import Log, standing
from transport.kafka.reader import Reader

__all__ = ["progress_of"]


async def progress_of(
    source: Log,
    group: str,
    *,
    reader: Reader,
    groups: Groups,
    ids: TopicIds,
    losses: Losses,
    ours: Mapping[int, KafkaClaim],
) -> list[Progress]:
    """Return the group's progress in each partition. ``ours`` are this process's own claims.

    Raises:
        TransportUnavailable: Kafka can't say now.
    """
    where = source.all()
    topic_id = await ids.now(source.name)
    # Committed before ends: a record appended and acknowledged in between then counts as neither.
    committed = await groups.committed(group, source.name, source.partitions)
    begins, ends, owners = await asyncio.gather(
        reader.begins(where), reader.ends(where), groups.owners(group, source.name)
    )
    stands = {
        at: standing(
            committed.get(at.partition),
            topic_id=topic_id,
            begin=begins[at],
            end=ends[at],
            lost_before=losses.before(at.partition, topic_id),
        )
        for at in where
    }
    for at, (start, mark) in stands.items():
        losses.note(at.partition, topic_id, unread=ends[at] - start, lost=mark.lost)
    behind = {at: start for at, (start, _) in stands.items() if start < ends[at]}
    oldest = await reader.first_of_each(behind) if behind else {}
    now = time.time()
    return [
        Progress(
            partition=at.partition,
            lag=ends[at] - stands[at].offset,
            pending=_pending(ours.get(at.partition), ends[at] - stands[at].offset),
            oldest_age=max(0.0, now - oldest[at].timestamp / 1000) if at in oldest else 0.0,
            floor=_offset_before(stands[at].offset, begins[at], committed.get(at.partition)),
            end=str(ends[at] - 1) if ends[at] > begins[at] else None,
            owner=owners.get(at.partition),
            lost=stands[at].mark.lost,
            appended=ends[at],
        )
        for at in where
    ]


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
