"""Progress of a group, for callers that can't do with a part of it."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import Progress, Topic, Transport
from transport.errors import TransportUnavailable

__all__ = ["progress_everywhere"]


async def progress_everywhere(log: Transport, topic: Topic, *, group: str) -> Sequence[Progress]:
    """Return the group's progress, of which no partition is unavailable.

    Raises:
        TransportUnavailable: the log can't say now, or can't of some partition.
    """
    progress = await log.progress(topic, group=group)
    if missing := [part.partition for part in progress if part.unavailable]:
        raise TransportUnavailable(f"partitions {missing} of {log.name} have no leader")
    return progress
