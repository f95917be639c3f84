"""Repeated readings of one log's progress. Their differences give rates and stalled partitions."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from ingress.console.views import LogView, Part, PartitionView
from otel.losses import loss_of
from transport.contract import DLQ_GROUP, WORKER_GROUP, Progress, Topic, Transport
from transport.deadline import answer
from transport.errors import TransportError, one_line
from transport.features.alterations import tells_alterations
from transport.features.rescuing import rescuing
from transport.features.server_warnings import server_warnings

__all__ = ["Readings", "WatchedLog"]

_WINDOW = 5.0


class WatchedLog(msgspec.Struct, frozen=True):
    """A log, and its roles for the console."""

    transport: Transport
    roles: tuple[Part, ...]


class _Reading(msgspec.Struct, frozen=True):
    at: float
    progress: Sequence[Progress]


class Readings:
    """Reads one log's progress (``take``), and derives its state from the readings (``view``)."""

    def __init__(self, log: WatchedLog, *, timeout_seconds: float) -> None:
        self.log = log
        self._timeout = timeout_seconds
        self._past: deque[_Reading] = deque()
        self._waiting: dict[int, tuple[int | None, float]] = {}
        """The partitions where records wait: the number of settled records, and since when it has
        not changed."""
        self._unread: int | None = None
        self._rescued = 0
        self._altered: Sequence[str] = ()
        self._error: str | None = None

    async def take(self) -> None:
        """Ask the log for its workers' progress. An error is kept as part of the reading."""
        try:
            asked = await answer(self._ask(), within=self._timeout)
        except (TransportError, TimeoutError) as error:
            self._error = one_line(error, empty=f"no answer in {self._timeout:g} s")
            return
        progress, dead, self._rescued, self._altered = asked
        self._error, self._unread = None, _count([entry.lag for entry in dead])
        now = time.monotonic()
        self._past.append(_Reading(now, progress))
        while len(self._past) > 1 and self._past[1].at <= now - _WINDOW:
            self._past.popleft()
        for part in progress:
            self._watch(part, now)

    async def _ask(
        self,
    ) -> tuple[Sequence[Progress], Sequence[Progress], int, Sequence[str]]:
        transport = self.log.transport
        return await asyncio.gather(
            transport.progress(Topic.MESSAGES, group=WORKER_GROUP),
            transport.progress(Topic.DEAD_LETTERS, group=DLQ_GROUP),
            _rescued(transport),
            _altered(transport),
        )

    def view(self, owners: Mapping[int, str]) -> LogView:
        """Return the log's state at the latest reading. Unknown members are ``None``.

        ``owners`` are the processes that own partitions.
        """
        partitions = self._partitions(owners)
        return LogView(
            name=self.log.transport.name,
            roles=list(self.log.roles),
            error=self._error,
            lag=_count([partition.lag for partition in partitions]),
            in_rate=_total([partition.in_rate for partition in partitions]),
            out_rate=_total([partition.out_rate for partition in partitions]),
            dead_letters_unread=None if self._error else self._unread,
            partitions=partitions,
            loss=loss_of(self.log.transport.name, self._past[-1].progress) if self._past else None,
            rescued=self._rescued,
            altered=tuple(self._altered),
            primaries=tuple(server_warnings(self.log.transport) or ()),
        )

    def _partitions(self, owners: Mapping[int, str]) -> list[PartitionView]:
        if not self._past:
            return [_unknown(p) for p in range(self.log.transport.partitions)]
        first, last = self._past[0], self._past[-1]
        if self._error:
            return [_unknown(entry.partition, lost=entry.lost) for entry in last.progress]
        seconds = last.at - first.at
        return [
            PartitionView(
                partition=new.partition,
                lag=new.lag,
                oldest_age=new.oldest_age,
                in_rate=_rate(old.appended, new.appended, seconds),
                out_rate=_rate(_done(old), _done(new), seconds),
                owner=owners.get(new.partition),
                lost=new.lost,
                stalled_seconds=self._stalled(new, last.at),
            )
            for old, new in zip(first.progress, last.progress, strict=True)
        ]

    def _watch(self, progress: Progress, now: float) -> None:
        done = _done(progress)
        if not progress.lag:
            self._waiting.pop(progress.partition, None)
        elif (
            progress.partition not in self._waiting or self._waiting[progress.partition][0] != done
        ):
            self._waiting[progress.partition] = (done, now)

    def _stalled(self, progress: Progress, now: float) -> float | None:
        if progress.lag is None:
            return None
        if progress.lag == 0:
            return 0.0
        # The position has not moved for `watched` seconds, and no record waits longer than the
        # oldest one's age.
        watched = now - self._waiting[progress.partition][1]
        # (If records wait and the age is 0, our clock is behind the log's.)
        return min(watched, progress.oldest_age or watched)


async def _altered(transport: Transport) -> Sequence[str]:
    """Return the altered settings; none if the log can't tell: that must not hide the progress."""
    teller = tells_alterations(transport)
    if teller is None:
        return ()
    try:
        return await teller.alterations()
    except TransportError:
        return ()


async def _rescued(transport: Transport) -> int:
    rescuer = rescuing(transport)
    return await rescuer.rescued() if rescuer else 0


def _done(progress: Progress) -> int | None:
    """Return the number of records that were ever settled (or lost), if it is known."""
    if progress.appended is None or progress.lag is None:
        return None
    return progress.appended - progress.lag


def _rate(old: int | None, new: int | None, seconds: float) -> float | None:
    if old is None or new is None or seconds <= 0:
        return None
    # Below zero: the log was emptied or replaced in between, so the rate is not known.
    return None if new < old else round((new - old) / seconds, 2)


def _count(values: Sequence[int | None]) -> int | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if len(numbers) == len(values) else None


def _total(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return round(sum(numbers), 2) if len(numbers) == len(values) else None


def _unknown(partition: int, *, lost: int = 0) -> PartitionView:
    return PartitionView(
        partition=partition,
        lag=None,
        oldest_age=None,
        in_rate=None,
        out_rate=None,
        owner=None,
        lost=lost,
        stalled_seconds=None,
    )
