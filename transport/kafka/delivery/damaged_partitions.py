"""Partitions that wait because their next batch is damaged.

Another replica may have the batch whole. So it is read again for a while, in which the leader may
move. Then it is skipped, since the records after it must not wait for ever: the raw batch becomes a
dead letter, and its records count as lost. If the batch no longer tells where it ends, it can't be
skipped: the partition waits until the batch reads well. No other partition waits.
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
    """Decides how long the damaged partitions of Kafka's topic ``name`` wait.

    ``patience``: seconds for which a damaged batch is read again before it is skipped.
    """

    def __init__(self, name: str, *, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._holds: dict[int, _Hold] = {}

    def __contains__(self, partition: int) -> bool:
        """Return whether the partition must not be fetched now."""
        hold = self._holds.get(partition)
        return hold is not None and _now() < hold.until

    def any(self) -> bool:
        """Return whether any partition waits."""
        return bool(self._holds)

    def waits(self, partition: int) -> bool:
        """Return whether the partition waits, also while its batch is being read again."""
        return partition in self._holds

    def must_read_again(self, partition: int, offset: int, damage: Damage) -> bool:
        """Return whether to read the damaged batch at ``offset`` again; if not, skip it."""
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
        """Return the blockage of a partition that waits."""
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
        """Forget all partitions: the member has lost its claims."""
        self._holds.clear()

    def _where(self, partition: int, offset: int) -> dict[str, object]:
        return {"topic": self._name, "partition": partition, "offset": offset}


def _now() -> float:
    return asyncio.get_running_loop().time()
