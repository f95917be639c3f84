"""Where a group stands in a partition, by what it has committed and what the log is now."""

from __future__ import annotations

from transport.kafka.group.groups import Committed
from transport.kafka.loss.mark import Mark
from transport.kafka.loss.tails import Regress

__all__ = ["standing"]


def standing(
    committed: Committed | None,
    *,
    topic_id: str,
    begin: int,
    end: int,
    lost_before: int,
    regress: Regress | None = None,
    trust_seen_end: bool = False,
) -> Committed:
    """Return the group's place: the next offset to read, and the losses before it.

    ``regress`` says where the log went back, if it did. Behind the last record that the group has
    acknowledged there may be offsets without a record, which are read again: if the log was cut
    there they may have records by now. With ``trust_seen_end`` they are not read again where the
    log was seen, and compared, beyond them: looking through an aborted transaction can take
    minutes.
    """
    if committed is None:
        return Committed(begin, Mark(lost=lost_before))
    offset, mark = committed
    lost = max(mark.lost, lost_before)
    if mark.topic_id not in ("", topic_id):
        return Committed(begin, Mark(mark.epoch, lost))
    if regress is not None:
        # If the lost tail was unread, the group's place stays, and so do the records before it.
        last = mark.last if offset <= regress.offset else regress.last
        place = max(begin, min(offset, regress.offset))
        return Committed(place, Mark(mark.epoch, lost + regress.lost, topic_id, last))
    # Records that were removed as old went from the head: the remembered tail stays.
    lost += max(0, begin - offset)
    vouched = trust_seen_end and mark.seen is not None and mark.seen.end >= offset
    if mark.last is not None and not vouched:
        # Behind it are offsets without a record, unless the log was cut there and has some now.
        offset = min(offset, mark.last.at + 1)
    if offset > end:
        # The place of the cut is not known. Reading records twice is safe.
        return Committed(begin, Mark(mark.epoch, lost + offset - end))
    return Committed(max(offset, begin), Mark(mark.epoch, lost, topic_id, mark.last, mark.seen))
