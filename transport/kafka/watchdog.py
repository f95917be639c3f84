"""Noticing a client that has stopped in silence (aiokafka issue 1154: nothing tells)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from transport.kafka.claim import KafkaClaim

__all__ = ["StalledError", "Watchdog"]

_EVERY_MOST = 2.0
_PATIENCE_LEAST = 5.0
_JOINS_BORNE = 3  # rebalances' worth of time


class StalledError(KafkaError):  # type: ignore[misc] # aiokafka is not typed
    """The log has more records, and they don't come. The client must be replaced."""


class Watchdog:
    """Compares what the log has with what has come. All times are in seconds."""

    def __init__(self, lease: float, rebalance: float) -> None:
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
            elif now - seen_at > self._patience:
                raise StalledError(
                    f"partition {partition} has records from {fetched} on, and none came for "
                    f"{now - seen_at:.0f} s"
                )
