"""The watchdog: notices a client that has stopped without an error (aiokafka issue 1154)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from transport.kafka.delivery.claim import KafkaClaim

__all__ = ["StalledError", "Stalls", "Watchdog"]

_EVERY_MOST = 2.0
_PATIENCE_LEAST = 5.0
_PATIENCE_MOST = 600.0
_JOINS_BORNE = 3  # times the limit of a rebalance


class StalledError(KafkaError):  # type: ignore[misc] # aiokafka is not typed
    """The log has more records, but the client gets none. It must be replaced."""


class Stalls:
    """The offsets at which the clients of one consumer stopped, one client after the other.

    If the next client stops at the same offset, the client is not at fault: Kafka can't send the
    record (the length of a batch changed on its disk, for example). Replacing clients again and
    again would keep the other partitions from being read, so the time to the next replacement
    doubles.
    """

    def __init__(self) -> None:
        self._stops: dict[int, tuple[int, int]] = {}

    def patience(self, partition: int, offset: int, usual: float) -> float:
        """Return the seconds after which to replace a client that has stopped at ``offset``."""
        at, times = self._stops.get(partition, (offset, 0))
        return min(usual * 2**times, max(_PATIENCE_MOST, usual)) if at == offset else usual

    def note(self, partition: int, offset: int) -> None:
        """Note that a client is replaced because it stopped at ``offset``."""
        at, times = self._stops.get(partition, (offset, 0))
        self._stops[partition] = (offset, times + 1 if at == offset else 1)


class Watchdog:
    """Compares the ends of the log with the fetched records.

    Args:
        lease: seconds after which a silent member loses its partitions.
        rebalance: seconds that a rebalance may take.
        stalls: the stalls so far, over the lives of the consumer's clients.
    """

    def __init__(self, lease: float, rebalance: float, stalls: Stalls) -> None:
        self._stalls = stalls
        self.every = min(_EVERY_MOST, lease / 4)
        self._patience = max(_PATIENCE_LEAST, lease)
        self._rebalance = rebalance
        self._joining_since: float | None = None
        self._seen: dict[int, tuple[int, float]] = {}

    def joining(self) -> None:
        """Note that the client is joining the group, or joining again."""
        self._joining_since = asyncio.get_running_loop().time()
        self._seen.clear()

    def joined(self) -> None:
        """Note that the group has let the client in."""
        self._joining_since = None

    def is_kept_out(self) -> bool:
        """Return whether the group has not let the client in for longer than a rebalance takes.

        A member that died with longer time limits than ours may be the reason.
        """
        return self._joining_for() > self._rebalance

    def _joining_for(self) -> float:
        since = self._joining_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    def check(
        self,
        claims: Mapping[int, KafkaClaim],
        ends: Mapping[int, int],
        *,
        throttled: bool = False,
    ) -> None:
        """Check every claim once. While the client is ``throttled``, none has stalled.

        Raises:
            StalledError: a claim was behind for too long without progress, or the group has not let
                the client in for too long.
        """
        now = asyncio.get_running_loop().time()
        if (seconds := self._joining_for()) > _JOINS_BORNE * self._rebalance:
            raise StalledError(f"the group has not let us in for {seconds:.0f} s")
        for partition, claim in claims.items():
            fetched = claim.window.fetched
            behind = claim.reading and not claim.window.full and fetched < ends.get(partition, 0)
            position, seen_at = self._seen.get(partition, (-1, now))
            if throttled or not behind or position != fetched:
                self._seen[partition] = (fetched, now)
            elif now - seen_at > self._stalls.patience(partition, fetched, self._patience):
                self._stalls.note(partition, fetched)
                raise StalledError(
                    f"partition {partition} has records from {fetched} on, and none came for "
                    f"{now - seen_at:.0f} s"
                )
