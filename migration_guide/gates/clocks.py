"""Measure how far a log's clock is ahead of this machine's: then their times can't be compared.

A clock that is behind needs no check: recent messages then seem old and lie outside the window, and
a gate that sees no message says so. A clock that is ahead puts old messages into the window.
"""

from __future__ import annotations

import time

from transport.contract import Topic, Transport
from transport.message.envelope import HEADER_MESSAGE_ID

__all__ = ["ahead"]

_RECORDS = 100


async def ahead(log: Transport, *, by: float) -> float:
    """Measure by how many seconds the newest messages of ``log`` are ahead; 0 if less than ``by``.

    It uses messages only: a time from a foreign producer says nothing about the log's clock.

    Raises:
        TransportUnavailable: the log can't be read.
    """
    now, most = time.time(), 0.0
    for partition in range(log.partitions):
        after = await log.offset_before_time(Topic.MESSAGES, partition, now + by)
        records = await log.read(Topic.MESSAGES, partition, after=after, limit=_RECORDS)
        times = [record.appended_at for record in records if HEADER_MESSAGE_ID in record.headers]
        most = max([most, *(moment - now for moment in times if moment >= now + by)])
    return most
