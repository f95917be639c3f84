"""Where a log ends now."""

from __future__ import annotations

from persistence.chain.links import Marks
from transport.contract import WORKER_GROUP, Topic, Transport
from transport.progress import progress_everywhere

__all__ = ["end_of"]


async def end_of(log: Transport) -> Marks:
    """Return the last offset of each partition of a log, as marks of a link.

    Raises:
        TransportUnavailable: the log can't be asked now, or a partition is unavailable.
    """
    identity = await log.identity()
    progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    return Marks(identity, {part.partition: part.end for part in progress if part.end})
