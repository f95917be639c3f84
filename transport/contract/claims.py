"""How workers read a log: a member of a group, and the partitions that it owns."""

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
    """An obstacle to the reading of a claimed partition. ``reason`` says where, and the remedy.

    ``since`` is in seconds since the epoch.
    """

    since: float
    reason: str


class Claim(Protocol):
    """One partition, owned. Used by one task; ``async with`` hands it back when the block ends.

    ``epoch`` is the fencing number: strictly greater than that of every earlier claim of the
    partition in the group, also after the log lost its data (so it is seeded from a clock in
    milliseconds). Writers to other stores keep the highest they have seen and refuse lower ones.
    """

    topic: Topic
    partition: int

    @property
    def epoch(self) -> int:
        """The fencing number, as it is now."""

    @property
    def blocked(self) -> Blockage | None:
        """Why ``next`` gives nothing although records wait; ``None`` while it reads well."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def raise_epoch(self, above: int) -> None:
        """Make ``epoch`` greater than ``above``, in the log too, if this claim is still the owner.

        For a store that holds a higher epoch than the owner's: the log lost its data, epochs and
        all, while the clock that it is seeded from was behind. Later claims have greater epochs.

        Args:
            above: the epoch that the other store holds.

        Raises:
            PartitionLost: the partition has another owner, so a higher epoch is rightly there.
            TransportUnavailable: it may not have counted. Call again; at worst the claim is lost.
        """

    async def next(self, *, max_records: int, max_wait: float) -> Sequence[Record]:
        """Return the records after the last one delivered to this claim, in order.

        An append wakes it at once; where one follows another, some milliseconds later at most. The
        first call after a takeover delivers the records that earlier owners left unacknowledged, in
        order. A caller may ask for the next batch before it has acknowledged the last.

        Args:
            max_records: the most records to return.
            max_wait: seconds to wait where there is no record yet; 0 does not wait.

        Returns:
            The records; none if none came in time.

        Raises:
            PartitionLost: the partition has, or is to have, another owner. Leave the block.
            TransportUnavailable: the log can't be read now. Back off and call again; nothing is
                skipped.
        """

    async def ack(self, through: str) -> None:
        """Acknowledge every delivered record up to and including one.

        Args:
            through: the offset of a record that this claim delivered.

        Raises:
            PartitionLost: the acknowledgement did not count.
            TransportUnavailable: it may not have counted; call again, or let redelivery happen.
        """

    async def nack(self) -> None:
        """Rewind: ``next`` delivers every unacknowledged record again, in order."""


Taker = Callable[[Sequence[Record]], bool]
"""Takes records that were just appended, and returns whether it did. It must not raise."""
AckEnded = Callable[[int | None], None]
"""Told when an acknowledgement that counts began, in nanoseconds since the epoch; or ``None`` where
none counts, and the records come again. It must not raise."""


@runtime_checkable
class HandingClaim(Claim, Protocol):
    """A claim that hands over what its own process appends, without reading it from the log.

    A transport need not have it. The log stays the truth: what is handed over is in the log, with
    its full durability; it is what ``next`` would have returned; and until it is acknowledged, the
    next owner is given it.
    """

    def hand_over(self, take: Taker) -> None:
        """Call ``take`` with records that this process has just appended.

        That is done while a call of ``next`` waits, and only with records that it would return.
        ``next`` does not return them then. It returns what comes next, where that is not handed
        over, once all that was taken is acknowledged or refused.
        """

    def passed(self, through: str, ended: AckEnded | None = None) -> None:
        """Acknowledge soon what was taken, up to and including the record at ``through``.

        Args:
            through: the last offset of one or of several calls of ``take``.
            ended: is called once, as soon as it is known whether that counts.
        """

    def refused(self) -> None:
        """Have ``next`` return everything that was taken and not passed.

        Nothing of it is done any more: the caller has withdrawn what it took after that, too.
        """


@runtime_checkable
class RetainingClaim(Claim, Protocol):
    """A claim whose owner has the log remove acknowledged records, and can hold that off.

    A transport need not have it.
    """

    def retain(self, is_needed: Callable[[], bool]) -> None:
        """Remove no acknowledged record of the partition while ``is_needed`` returns true.

        For a store that may have lost what was acknowledged, and is not known to have it. Where the
        log has no room for what is appended, it may remove records all the same, and logs that.

        Args:
            is_needed: is asked each time something would be removed. It must not raise.
        """


class Consumer(Protocol):
    """A member of a group. Partitions come and go; each arrival is a ``Claim``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None:
        """Leave the group: claims still open are lost, and others may take them at once."""

    def claims(self) -> AsyncIterator[Claim]:
        """Yield each partition as it is assigned to this member, until the consumer is closed."""


@runtime_checkable
class WithdrawingConsumer(Consumer, Protocol):
    """A member that can end partition by partition.

    A transport need not have it: at the latest, others get its partitions when it is closed.
    """

    async def withdraw(self) -> None:
        """Take no more partitions, and let others have each as soon as its claim is handed back.

        Does not raise: what the log could not be told now, closing the consumer tells it.
        """
