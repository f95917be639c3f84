"""What the logs still have to become: the records that no group has acknowledged."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import msgspec

from transport.contract import DLQ_GROUP, WORKER_GROUP, Record, Topic, Transport
from transport.dead_letters import dead_letter_of
from transport.envelope import HEADER_MESSAGE_ID, Message, decode
from transport.errors import DecodeError
from transport.progress import progress_everywhere

__all__ = ["Unread", "unread_in"]

_PAGE = 1000
# A body that this version can't decode may be one of the next version, which names its payload too.
_KEY = re.compile(rb'"payloadKey"\s*:\s*"([^"/]+)/')


class Unread(msgspec.Struct):
    """The messages of unread records, and the time of the oldest of those records (of now: none).

    Times are seconds since the epoch, by the logs' clocks.
    """

    messages: set[str]
    oldest: float


async def unread_in(logs: Sequence[Transport]) -> Unread:
    """Return what is unread in all of ``logs``: of the messages first, then of the dead letters.

    A message moves from the one to the other and then to the database, so it is missed only by who
    looks in another order.

    Raises:
        TransportUnavailable: a log can't tell of some partition.
    """
    found = Unread(set(), time.time())
    for topic, group in ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)):
        for log in logs:
            await _look(log, topic, group, found)
    return found


async def _look(log: Transport, topic: Topic, group: str, found: Unread) -> None:
    for progress in await progress_everywhere(log, topic, group=group):
        after = progress.floor
        while page := await log.read(topic, progress.partition, after=after, limit=_PAGE):
            for record in page:
                found.oldest = min(found.oldest, record.appended_at)
                found.messages |= _named_by(record, topic)
            after = page[-1].offset


def _named_by(record: Record, topic: Topic) -> set[str]:
    """Return every message that the record may be of."""
    named = {match.decode("ascii", "replace") for match in _KEY.findall(record.body)}
    if header := record.headers.get(HEADER_MESSAGE_ID):
        named.add(header.decode("ascii", "replace"))
    try:
        if topic is Topic.DEAD_LETTERS:
            return named | _named_by(dead_letter_of(record).record, Topic.MESSAGES)
        event = decode(record)
    except DecodeError:
        return named
    return named | {event.message_id} if isinstance(event, Message) else named
