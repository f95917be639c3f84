"""Waits until the service has settled all records that a log has at one time."""

from __future__ import annotations

from lab.harness.waiting import wait_until
from transport.contract import DLQ_GROUP, WORKER_GROUP, Topic, Transport
from transport.errors import TransportError

__all__ = ["drained"]

_WITHIN = 300.0


async def drained(log: Transport, *, within: float = _WITHIN) -> None:
    """Wait until the positions that the log shows have passed all records that it has now.

    Messages come first, then dead letters: until the messages are settled, the workers may
    turn some of them into dead letters.

    Args:
        log: The log.
        within: Seconds to wait for each of the two topics.

    Raises:
        StuckError: a topic was not settled in time.
    """
    for topic, group in ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)):
        await _settled(log, topic, group, within)


async def _settled(log: Transport, topic: Topic, group: str, within: float) -> None:
    """Wait until a group has passed the present ends of a topic; later records don't matter."""
    ends: dict[int, int] | None = None

    async def is_passed() -> bool:
        nonlocal ends
        try:
            now = await _positions(log, topic, group)
        except TransportError:
            return False
        if now is None:
            return False
        if ends is None:
            ends = {partition: appended for partition, (appended, _) in now.items()}
        return all(now[partition][1] >= end for partition, end in ends.items())

    await wait_until(
        is_passed,
        within=within,
        otherwise=lambda: f"not all of its records in {topic} were settled",
        every=0.5,
    )


async def _positions(log: Transport, topic: Topic, group: str) -> dict[int, tuple[int, int]] | None:
    """Return the numbers of records ever appended and settled, by partition.

    Returns ``None`` if one of them is unknown.
    """
    found: dict[int, tuple[int, int]] = {}
    for part in await log.progress(topic, group=group):
        if part.appended is None or part.lag is None:
            return None
        found[part.partition] = part.appended, part.appended - part.lag
    return found
