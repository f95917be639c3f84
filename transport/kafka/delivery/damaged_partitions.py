"""Partitions that stand still, since what comes next in them is damaged.

Another replica may have it whole: so it is read again for a while, in which a leader can move. Then
it is passed over, for what was accepted behind it must not wait for ever: it goes to the dead
letters as it stands, and its records count as lost. Where the batch no longer tells where it ends,
nothing can be passed over: the partition waits until it reads well. No other partition waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NamedTuple

from transport.contract import Blockage
from transport.kafka.client.damaged import Damage

__all__ = ["DamagedPartitions"]

log = logging.getLogger(__name__)

_AGAIN = 1.0  # seconds between two looks
_LOG_AGAIN = 60.0


class _Hold(NamedTuple):
    offset: int
    since: float
    until: float
    logged: float
    passable: bool


class DamagedPartitions:
    """Of the partitions of Kafka's topic ``name``. ``patience`` is in seconds."""

    def __init__(self, name: str, *, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._holds: dict[int, _Hold] = {}

    def __contains__(self, partition: int) -> bool:
        """Return whether nothing of the partition is wanted now."""
        hold = self._holds.get(partition)
        return hold is not None and _now() < hold.until

    def any(self) -> bool:
        """Return whether a partition stands still."""
        return bool(self._holds)

    def waits(self, partition: int) -> bool:
        """Return whether the partition stands still, also while it is looked at again."""
        return partition in self._holds

    def must_read_again(self, partition: int, offset: int, damage: Damage) -> bool:
        """Return whether the damage at ``offset`` is to be read again; else pass over it."""
        now = _now()
        hold = self._holds.get(partition)
        if hold is None or hold.offset != offset:
            hold = _Hold(offset, now, now, now, damage.end is not None)
            log.warning(
                "Kafka sent a damaged batch; will read it again",
                extra=self._where(partition, offset),
            )
        elif damage.end is not None and now - hold.since >= self._patience:
            del self._holds[partition]
            log.error(
                "A damaged batch is passed over: it is a dead letter now, and its records count as "
                "lost. See docs/durability.md, Kafka",
                extra={**self._where(partition, offset), "records": damage.records},
            )
            return False
        elif damage.end is None and now - hold.logged >= min(_LOG_AGAIN, self._patience):
            hold = hold._replace(logged=now)
            log.error(
                "A partition waits at a damaged batch whose end is unknown: let another replica "
                "lead it, or move the group's offset past it. See docs/durability.md, Kafka",
                extra=self._where(partition, offset),
            )
        self._holds[partition] = hold._replace(until=now + _AGAIN)
        return True

    def blockage(self, partition: int) -> Blockage:
        """Return what a partition that stands still waits for."""
        hold = self._holds[partition]
        then = (
            "it is passed over soon"
            if hold.passable
            else "its end is unknown: let another replica lead the partition, or move the group's "
            "offset past it"
        )
        return Blockage(
            time.time() - (_now() - hold.since),
            f"partition {partition} of topic {self._name} has a damaged batch at offset "
            f"{hold.offset}; {then} (docs/durability.md, Kafka)",
        )

    def forget(self, partition: int) -> None:
        """Note that the partition reads well, or is no longer ours."""
        self._holds.pop(partition, None)

    def clear(self) -> None:
        """Note that no partition is ours any longer."""
        self._holds.clear()

    def _where(self, partition: int, offset: int) -> dict[str, object]:
        return {"topic": self._name, "partition": partition, "offset": offset}


def _now() -> float:
    return asyncio.get_running_loop().time()
