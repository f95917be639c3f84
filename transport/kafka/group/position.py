"""The position of a group in a partition, from its commit and the current log."""

from __future__ import annotations

import msgspec

from transport.kafka.group.groups import Committed
from transport.kafka.loss.mark import Mark, now_ms
from transport.kafka.loss.tails import TailLoss

__all__ = ["group_position"]


def group_position(
    committed: Committed | None,
    *,
    topic_id: str,
    begin: int,
    end: int,
    lost_before: int,
    tail_loss: TailLoss | None = None,
) -> Committed:
    """Return the group's position: the next offset, and the mark with the losses before it.

    Args:
        committed: The group's commit, if there is one.
        topic_id: The current id of the topic.
        begin: The first offset of the log.
        end: The end of the log.
        lost_before: The number of known losses, which the commit may not count yet.
        tail_loss: The loss of the log's tail, if there was one.
    """
    if committed is None:
        committed = Committed(begin, Mark())
    offset, mark = committed
    lost, seen = max(mark.lost, lost_before), mark.seen
    if mark.topic_id not in ("", topic_id):
        offset, seen = begin, None
    else:
        lost += max(0, begin - offset)
        if tail_loss is not None:
            offset = min(offset, tail_loss.offset)
            lost, seen = lost + tail_loss.lost, None
    lost_at = now_ms() if lost > mark.lost else mark.lost_at
    return Committed(
        max(begin, min(offset, end)),
        msgspec.structs.replace(mark, topic_id=topic_id, lost=lost, seen=seen, lost_at=lost_at),
    )
