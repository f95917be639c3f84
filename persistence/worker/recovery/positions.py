"""Compare each partition's position in PostgreSQL with the position of the workers' group.

Both are the same while all goes well, except for records under way. PostgreSQL's is behind if rows
of acknowledged records are gone: a standby that lagged was promoted, or a backup was restored.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from otel.metrics import Metrics
from persistence.database.outage import Paused
from persistence.metrics import PersistenceMetrics
from persistence.worker.recovery.log_begin import before_first, holds_all
from persistence.worker.recovery.metrics import PositionMetrics
from transport.clock import timestamp
from transport.contract import WORKER_GROUP, Progress, Record, Topic, Transport
from transport.errors import TransportUnavailable

__all__ = ["Floor", "Positions", "acknowledged_through", "is_behind", "waiting_partition"]

_REMEDY = (
    "PostgreSQL lost rows whose records {log} no longer holds (its position is {through}, and the "
    "workers had acknowledged through {floor}). If a server with the rows can still be had, point "
    "DATABASE_URL to it, unless others have written to this one since. Missing are the records "
    "after that position and before the first that the log holds; another log or a backup may have "
    "them. To accept the loss: `crossfade db accept-gap {log} {partition} --why ...`, or "
    "--all-waiting for every partition that waits"
)
_WAIT = "an operator, for partition {partition} of {log}"
_WAITING = re.compile(r"an operator, for partition (\d+) of (.+)")


def waiting_partition(paused: Paused) -> tuple[str, int] | None:
    """Return the log and the partition that wait for an operator; ``None``: it is another wait."""
    found = _WAITING.fullmatch(paused.dependency)
    return (found[2], int(found[1])) if found else None


class Floor(NamedTuple):
    """The position of the workers' group in a partition.

    ``offset`` is that of the last acknowledged record: empty before the first one, ``None`` if it
    is not known. ``moved_to`` is the last offset before the group if the log knows of no
    acknowledged record there: the group was moved from outside. ``log`` is the identity of the log,
    ``None`` if it was not asked for.
    """

    offset: str | None
    moved_to: str | None = None
    log: str | None = None


class Positions:
    """The positions of one log, shared by all its workers in this process."""

    def __init__(self, transport: Transport, metrics: Metrics) -> None:
        self._transport = transport
        self._turn = asyncio.Lock()
        self._asked = float("-inf")
        self._progress: Sequence[Progress] = ()
        self._identity: str | None = None
        self._waiting: dict[int, Paused] = {}
        counts = metrics.of(PositionMetrics)
        self._restored = counts.restored.labels(transport.name)
        self._lost = counts.lost
        self._rows_lost = counts.rows_lost.labels(transport.name)
        metrics.of(PersistenceMetrics).paused.labels(
            f"rows that {transport.name} no longer holds"
        ).set_function(lambda: len(self._waiting))

    async def floor(self, partition: int) -> Floor:
        """Return the group's position in a partition, as of this call or later.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """
        wanted = time.monotonic()
        async with self._turn:  # one query answers all callers that wait for their turn
            if self._asked <= wanted:
                asked = time.monotonic()
                self._progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
                self._identity = await self._transport.identity()
                self._asked = asked
        told = {progress.partition: progress for progress in self._progress}
        if partition not in told:
            return Floor(None, log=self._identity)
        if told[partition].unavailable:
            raise TransportUnavailable(f"no server of the log has partition {partition} now")
        return _floor(told[partition])._replace(log=self._identity)

    def is_behind(self, through: str, floor: Floor) -> bool:
        """Return whether records between the two are acknowledged and may have no row."""
        return is_behind(self._transport, through, floor.offset)

    async def reaches(self, partition: int, through: str) -> bool:
        """Return whether the log still holds everything after a position."""
        return await holds_all(self._transport, Topic.MESSAGES, partition, through)

    async def begin(self, partition: int) -> str:
        """Return the position just before the first record of the log; empty if it has none."""
        return await before_first(self._transport, Topic.MESSAGES, partition) or ""

    async def read(self, partition: int, through: str, floor: Floor, limit: int) -> list[Record]:
        """Return the next records after ``through``, none beyond ``floor``.

        Raises:
            TransportUnavailable: the log can't be read now.
        """
        last = self._transport.sort_key(floor.offset) if floor.offset else b""
        records = await self._transport.read(
            Topic.MESSAGES, partition, after=through or None, limit=limit
        )
        return [record for record in records if self._transport.sort_key(record.offset) <= last]

    def restored(self, rows: int) -> None:
        """Count rows that PostgreSQL had lost."""
        self._restored.inc(rows)

    def lost(self) -> None:
        """Count a loss of rows that the log no longer has. Their number is unknown."""
        self._rows_lost.inc()

    def wait(self, partition: int, through: str, floor: Floor) -> Paused:
        """Record that a partition waits for an operator; return the wait, with its remedy."""
        why = _REMEDY.format(
            log=self._transport.name,
            partition=partition,
            through=through or "the beginning",
            floor=floor.offset or "one that is gone",
        )
        self.lost()
        about = _WAIT.format(partition=partition, log=self._transport.name)
        waits = self._waiting[partition] = Paused(about, timestamp(time.time()), why)
        self._lost.labels(self._transport.name, str(partition)).set(1)
        return waits

    def go_on(self, partition: int, waits: Paused) -> None:
        """Record that a partition waits no more, unless a newer claim of it waits by now."""
        if self._waiting.get(partition) is waits:
            del self._waiting[partition]
            self._lost.labels(self._transport.name, str(partition)).set(0)

    def paused(self) -> list[Paused]:
        """Return the partitions that wait for an operator."""
        return [waits for _, waits in sorted(self._waiting.items())]


def acknowledged_through(progress: Progress) -> str | None:
    """Return the offset of the last record that a group acknowledged; ``None`` if unknown.

    The group's own offset is beyond it where offsets hold no record (markers of transactions, for
    example). Those offsets have no row.
    """
    return progress.floor if progress.acknowledged is None else progress.acknowledged


def is_behind(log: Transport, through: str, acknowledged: str | None) -> bool:
    """Return whether records between the two offsets are acknowledged and may have no row."""
    if not acknowledged:
        return False
    return not through or log.sort_key(through) < log.sort_key(acknowledged)


def _floor(progress: Progress) -> Floor:
    known = acknowledged_through(progress)
    if known is not None:
        return Floor(known, moved_to=None if known else progress.floor)
    if progress.lag is None or progress.appended is None:
        return Floor(None)
    return Floor(None if progress.appended > progress.lag else "")
