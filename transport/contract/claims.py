"""Consumers and claims: the members of a group, and the partitions that they own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, Self, runtime_checkable

import msgspec

from transport.contract.records import Record, Topic

__all__ = [
    "DLQ_GROUP",
    "WORKER_GROUP",
    "AckEnded",
    "Blockage",
    "Claim",
    "Consumer",
    "HandingClaim",
    "RetainingClaim",
    "Taker",
    "WithdrawingConsumer",
]

WORKER_GROUP = "persistence-workers"
DLQ_GROUP = "dlq-processors"


class Blockage(msgspec.Struct, frozen=True):
    """An obstacle that keeps a claimed partition from being read.

    ``reason`` says where it is and what to do. ``since`` is in seconds since the Unix epoch.
    """

    since: float
    reason: str


class Claim(Protocol):
    """The ownership of one partition, used by one task.

    ``async with`` hands the partition back when the block ends.

    ``epoch`` is the fencing number. It is greater than that of every earlier claim of the partition
    in the group, even after the log lost its data: it is seeded from a clock in milliseconds. Other
    stores keep the highest epoch that they have seen, and refuse writes with a lower one.
    """

    topic: Topic
    partition: int

    @property
    def epoch(self) -> int:
        """The current fencing number."""

    @property
    def blocked(self) -> Blockage | None:
        """The obstacle if ``next`` returns nothing although records wait, else ``None``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def raise_epoch(self, above: int) -> None:
        """Raise ``epoch`` above a number, in the log too, if this claim is still the owner.

        Call it if another store has a higher epoch than the owner. That happens if the log lost its
        data, with all epochs, and the clock that seeds them was behind. Later claims get higher
        epochs than the raised one.

        Args:
            above: the epoch that the other store has.

        Raises:
            PartitionLost: the partition has another owner, to which the higher epoch belongs.
            TransportUnavailable: it is unknown whether the epoch was raised. Call again; at worst
                the claim is lost.
        """

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the records after the last one delivered to this claim, in order.

        An append wakes a waiting call at once, or after some milliseconds if appends follow each
        other. The first calls after a takeover deliver the records that earlier owners left
        unacknowledged, in order. The caller may ask for the next batch before it has acknowledged
        the last.

        Args:
            max_records: the most records to return.
            max_wait: seconds to wait if there is no record yet; 0 does not wait.

        Returns:
            The records; none if none came in time.

        Raises:
            PartitionLost: the partition has, or will get, another owner. Leave the block.
            TransportUnavailable: the log can't be read now. Back off and call again; no record is
                skipped.
        """

    async def ack(self, through: str) -> None:
        """Acknowledge every delivered record up to and including one.

        Args:
            through: the offset of a record that this claim delivered.

        Raises:
            PartitionLost: the records are not acknowledged: the partition has another owner.
            TransportUnavailable: it is unknown whether they are acknowledged. Call again, or accept
                that they are delivered again.
        """

    async def nack(self) -> None:
        """Rewind: ``next`` delivers every unacknowledged record again, in order."""


Taker = Callable[[Sequence[Record]], bool]
"""Takes records that were just appended, or returns false. It must not raise."""
AckEnded = Callable[[int | None], None]
"""Called when an acknowledgement has succeeded, with the time at which it began, in nanoseconds
since the Unix epoch; or with ``None`` if it failed: the records are delivered again. It must not
raise."""


@runtime_checkable
class HandingClaim(Claim, Protocol):
    """A claim that hands over records of its own process without reading them from the log.

    A transport need not have it. The log stays authoritative: the records are in the log with full
    durability, they are those that ``next`` would have returned, and until they are acknowledged
    the next owner gets them.
    """

    def hand_over(self, take: Taker) -> None:
        """Call ``take`` with records that this process has just appended.

        ``take`` is called while a call of ``next`` waits, and only with records that it would
        return. ``next`` does not return these records. It returns the records after them that are
        not handed over, once all taken ones are acknowledged or refused.
        """

    def passed(self, through: str, ended: AckEnded | None = None) -> None:
        """Acknowledge taken records soon, up to and including the one at ``through``.

        Args:
            through: the last offset of one or of several calls of ``take``.
            ended: called once, when it is known whether the acknowledgement succeeded.
        """

    def refused(self) -> None:
        """Make ``next`` return all records that were taken and not passed.

        The caller must not work on these records any more, until ``next`` returns them.
        """


@runtime_checkable
class RetainingClaim(Claim, Protocol):
    """A claim that trims acknowledged records, and whose owner can hold that off.

    A transport need not have it.
    """

    def retain(self, is_needed: Callable[[], bool]) -> None:
        """Remove no acknowledged record of the partition while ``is_needed`` returns true.

        Use it if another store may have lost acknowledged records. If the log has no room for
        appends, it may remove records all the same, and logs that.

        Args:
            is_needed: called each time before records would be removed. It must not raise.
        """


class Consumer(Protocol):
    """A member of a group. It gets a ``Claim`` for each partition that is assigned to it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None:
        """Leave the group: open claims are lost, and others may take the partitions at once."""

    def claims(self) -> AsyncIterator[Claim]:
        """Yield each partition as it is assigned to this member, until the consumer is closed."""


@runtime_checkable
class WithdrawingConsumer(Consumer, Protocol):
    """A member that can give up its partitions one by one.

    A transport need not have it: others get the partitions at the latest when it is closed.
    """

    async def withdraw(self) -> None:
        """Take no more partitions, and give each to others as soon as its claim is handed back.

        It does not raise. If the log can't be told now, it is told when the consumer is closed.
        """
