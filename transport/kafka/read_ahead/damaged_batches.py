"""Damaged batches: how long a reader waits at one, and what it does then.

Another replica may have the batch whole. So it is fetched again for a while, in which the leader
may move. Then it is passed over, since the records after it must not wait for ever: the raw batch
is returned as one record, which becomes a dead letter, and its records count as lost. If the batch
no longer shows where it ends, it can't be passed over: the partition waits until the batch is
fetched whole. No other partition waits.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.kafka.client.damaged import Damage

__all__ = ["DamagedBatchWait", "begin_wait"]

log = logging.getLogger(__name__)

_LOG_AGAIN = 60.0


class DamagedBatchWait(NamedTuple):
    """The wait of one partition at a damaged batch. Times are of the event loop's clock."""

    at: TopicPartition
    offset: int
    since: float
    logged: float

    def is_over(self, damage: Damage, now: float, *, patience: float) -> bool:
        """Return whether to pass over the batch, after ``patience`` seconds."""
        if damage.end is None or now - self.since < patience:
            return False
        log.error(
            "A damaged batch is passed over: it becomes a dead letter, and its records count as "
            "lost. See docs/durability.md, Kafka",
            extra={**_where(self.at, self.offset), "records": damage.records},
        )
        return True

    def logged_again(self, damage: Damage, now: float, *, patience: float) -> DamagedBatchWait:
        """Log each minute that the partition waits, if the end of the batch is unknown."""
        if damage.end is not None or now - self.logged < min(_LOG_AGAIN, patience):
            return self
        log.error(
            "A partition waits at a damaged batch whose end is unknown: let another replica lead "
            "it. See docs/durability.md, Kafka",
            extra=_where(self.at, self.offset),
        )
        return self._replace(logged=now)

    def reason(self) -> str:
        """Return what the partition waits for, and the remedy."""
        return (
            f"partition {self.at.partition} of topic {self.at.topic} has a damaged batch at offset "
            f"{self.offset}: let another replica lead the partition (docs/durability.md, Kafka)"
        )


def begin_wait(at: TopicPartition, offset: int, now: float) -> DamagedBatchWait:
    """Return the wait that begins now at the batch at ``offset``."""
    log.warning("Kafka sent a damaged batch; will fetch it again", extra=_where(at, offset))
    return DamagedBatchWait(at, offset, now, now)


def _where(at: TopicPartition, offset: int) -> dict[str, object]:
    return {"topic": at.topic, "partition": at.partition, "offset": offset}
