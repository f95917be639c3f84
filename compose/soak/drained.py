"""Whether the service has persisted all that a log had at a moment, with its dead letters."""

from __future__ import annotations

from compose.harness.waiting import wait_until
from transport.contract import DLQ_GROUP, WORKER_GROUP, Topic, Transport
from transport.errors import TransportError

__all__ = ["drained"]

_WITHIN = 300.0


async def drained(log: Transport, *, within: float = _WITHIN) -> None:
    """Return once all that the log has now is acknowledged by the service's groups.

    The end of the dead letters is read when the messages are acknowledged and not before: what the
    workers refuse meanwhile becomes a dead letter first, and is acknowledged then.

    Raises:
        StuckError: one of the two topics was not acknowledged ``within`` seconds.
    """
    for topic, group in ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)):
        await _acknowledged(log, topic, group, within)


async def _acknowledged(log: Transport, topic: Topic, group: str, within: float) -> None:
    """Return once a group has passed what stands at a topic's ends now, whatever follows there."""
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
        otherwise=lambda: f"not all of its records in {topic} were acknowledged",
        every=0.5,
    )


async def _positions(log: Transport, topic: Topic, group: str) -> dict[int, tuple[int, int]] | None:
    """Return how much each partition was ever given, and how much of that is acknowledged."""
    found: dict[int, tuple[int, int]] = {}
    for part in await log.progress(topic, group=group):
        if part.appended is None or part.lag is None:
            return None
        found[part.partition] = part.appended, part.appended - part.lag
    return found
