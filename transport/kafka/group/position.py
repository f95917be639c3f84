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
    trust_seen_end: bool = False,
) -> Committed:
    """Return the group's position: the next offset to read, and the mark with the losses before it.

    After the last acknowledged record there may be offsets without a record. They are read again:
    if the log was cut there, they may have records by now.

    Args:
        committed: The group's commit, if there is one.
        topic_id: The current id of the topic.
        begin: The first offset of the log.
        end: The end of the log.
        lost_before: The number of known losses, which the commit may not count yet.
        tail_loss: The loss of the log's tail, if there was one.
        trust_seen_end: Don't read offsets without a record again if the log was seen, and compared,
            beyond them. (Looking through an aborted transaction can take minutes.)
    """
    mark = committed.mark if committed is not None else Mark()
    found = _position(
        committed,
        topic_id=topic_id,
        begin=begin,
        end=end,
        lost_before=lost_before,
        tail_loss=tail_loss,
        trust_seen_end=trust_seen_end,
    )
    lost_at = now_ms() if found.mark.lost > mark.lost else mark.lost_at
    return found._replace(mark=msgspec.structs.replace(found.mark, lost_at=lost_at))


def _position(
    committed: Committed | None,
    *,
    topic_id: str,
    begin: int,
    end: int,
    lost_before: int,
    tail_loss: TailLoss | None,
    trust_seen_end: bool,
) -> Committed:
    if committed is None:
        return Committed(begin, Mark(lost=lost_before))
    offset, mark = committed
    lost = max(mark.lost, lost_before)
    if mark.topic_id not in ("", topic_id):
        return Committed(begin, Mark(mark.epoch, lost))
    if tail_loss is not None:
        # If the lost tail was unread, the group's offset stays, and so does the last record before.
        last = mark.last if offset <= tail_loss.offset else tail_loss.last
        place = max(begin, min(offset, tail_loss.offset))
        through = None if mark.through is None else min(mark.through, place - 1)
        return Committed(
            place, Mark(mark.epoch, lost + tail_loss.lost, topic_id, last, through=through)
        )
    # Retention removes records at the beginning of the log, so the remembered tail stays.
    lost += max(0, begin - offset)
    vouched = trust_seen_end and mark.seen is not None and mark.seen.end >= offset
    if mark.last is not None and not vouched:
        # Read the offsets without a record after it again: the log may have been cut there.
        offset = min(offset, mark.last.at + 1)
    if offset > end:
        # It is unknown where the log was cut. Reading records twice is safe.
        return Committed(begin, Mark(mark.epoch, lost + offset - end))
    kept = Mark(mark.epoch, lost, topic_id, mark.last, mark.seen, through=mark.through)
    return Committed(max(offset, begin), kept)
