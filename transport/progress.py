"""The progress of a group, for callers that need it for every partition."""

from __future__ import annotations

from collections.abc import Sequence

from transport.contract import Progress, Topic, Transport
from transport.errors import TransportUnavailable

__all__ = ["progress_everywhere"]


async def progress_everywhere(log: Transport, topic: Topic, *, group: str) -> Sequence[Progress]:
    """Return the group's progress in every partition.

    Raises:
        TransportUnavailable: the log can't be asked now, or a partition is unavailable.
    """
    progress = await log.progress(topic, group=group)
    if missing := [part.partition for part in progress if part.unavailable]:
        raise TransportUnavailable(f"partitions {missing} of {log.name} have no leader")
    return progress
