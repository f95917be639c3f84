"""Noticing a client that has stopped in silence (aiokafka issue 1154: nothing tells)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from transport.kafka.delivery.claim import KafkaClaim

__all__ = ["StalledError", "Stalls", "Watchdog"]

_EVERY_MOST = 2.0
_PATIENCE_LEAST = 5.0
_PATIENCE_MOST = 600.0
_JOINS_BORNE = 3  # rebalances' worth of time


class StalledError(KafkaError):  # type: ignore[misc] # aiokafka is not typed
    """The log has more records, and they don't come. The client must be replaced."""


class Stalls:
    """Where clients came to a stop, over the lives of all that one consumer has had.

    Where the next one stops too, the client is not at fault: Kafka can't send what stands there
    (the length of a batch changed on its disk, say). To replace it again and again would keep the
    other partitions of the group from being read, so each time is twice as far from the last.
    """

    def __init__(self) -> None:
        self._stops: dict[int, tuple[int, int]] = {}

    def patience(self, partition: int, offset: int, usual: float) -> float:
        """Return after how long to replace a client that has stopped there."""
        at, times = self._stops.get(partition, (offset, 0))
        return min(usual * 2**times, max(_PATIENCE_MOST, usual)) if at == offset else usual

    def note(self, partition: int, offset: int) -> None:
        """Note that a client is replaced since it stopped there."""
        at, times = self._stops.get(partition, (offset, 0))
        self._stops[partition] = (offset, times + 1 if at == offset else 1)


class Watchdog:
    """Compares the ends of the log with the records that have come.

    Args:
        lease: seconds after which a silent member loses its partitions.
        rebalance: seconds that a rebalance may take.
        stalls: the stalls so far, over the lives of the consumer's clients.
    """

    def __init__(self, lease: float, rebalance: float, stalls: Stalls) -> None:
        self._stalls = stalls
        self.every = min(_EVERY_MOST, lease / 4)
        self._patience = max(_PATIENCE_LEAST, lease)
        self._join_patience = _JOINS_BORNE * rebalance
        self._joining_since: float | None = None
        self._seen: dict[int, tuple[int, float]] = {}

    def joining(self) -> None:
        """Note that the client asked to be let in, or to be assigned partitions anew."""
        self._joining_since = asyncio.get_running_loop().time()
        self._seen.clear()

    def joined(self) -> None:
        """Note that the group answered."""
        self._joining_since = None

    def check(self, claims: Mapping[int, KafkaClaim], ends: Mapping[int, int]) -> None:
        """Look at every claim once.

        Raises:
            StalledError: one of them has been behind for too long without any progress.
        """
        now = asyncio.get_running_loop().time()
        since = self._joining_since
        if since is not None and now - since > self._join_patience:
            raise StalledError(f"the group has not let us in for {now - since:.0f} s")
        for partition, claim in claims.items():
            fetched = claim.window.fetched
            behind = claim.reading and not claim.window.full and fetched < ends.get(partition, 0)
            position, seen_at = self._seen.get(partition, (-1, now))
            if not behind or position != fetched:
                self._seen[partition] = (fetched, now)
            elif now - seen_at > self._stalls.patience(partition, fetched, self._patience):
                self._stalls.note(partition, fetched)
                raise StalledError(
                    f"partition {partition} has records from {fetched} on, and none came for "
                    f"{now - seen_at:.0f} s"
                )
