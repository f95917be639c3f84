"""The transport contract: a partitioned, replayable, acknowledged log. No HTTP, no SQL.

An ingress appends (``Transport.publish``); workers read through a consumer group, one owner to
a partition (``Transport.consume``); anyone may read without a group (``Transport.read``).
The conformance suite in ``transport.conformance`` is this file as tests.

Semantics every transport keeps:

* **Order.** Within a partition, records are delivered in append order; ``publish`` appends in the
  order of its argument.
* **Durable before return.** ``publish`` and ``dead_letter`` return after the log has the records
  with the durability the operator configured (fsync, replication).
* **Prefix acknowledgement.** ``ack(through)`` covers every record up to and including ``through``:
  the one meaning that Kafka's commit and Redis's XACK can share.
* **One owner.** A partition has one live claim per group. A claim that lost its partition can
  neither read, acknowledge nor hand back anything: every call raises ``PartitionLost``.
* **Beginning, never end.** A new group starts at the first record the log still holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, Self, runtime_checkable

import msgspec

from transport.durability import Durability
from transport.errors import TransportError

__all__ = [
    "DLQ_GROUP",
    "READ_BYTES",
    "WORKER_GROUP",
    "AckEnded",
    "Appended",
    "Blockage",
    "Claim",
    "Consumer",
    "DeadLetter",
    "Envelope",
    "Features",
    "GroupStanding",
    "HandingClaim",
    "Holding",
    "LogLocation",
    "Outcome",
    "Progress",
    "Reason",
    "Record",
    "Remembered",
    "RetainingClaim",
    "Taker",
    "Topic",
    "Transport",
    "WithdrawingConsumer",
]

WORKER_GROUP = "persistence-workers"
DLQ_GROUP = "dlq-processors"

READ_BYTES = 4 * 1024 * 1024
"""How much one read without a group returns: keys, bodies and headers' values, in bytes."""


class Topic(StrEnum):
    """The two logs a transport keeps. The messages log is partitioned; dead letters have one."""

    MESSAGES = "messages"
    DEAD_LETTERS = "dead_letters"


class Reason(StrEnum):
    """Why a record is a dead letter (the ``reason`` label of ``stream_dead_letter_total``)."""

    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ORPHAN_RECEIPT = "orphan_receipt"
    PAYLOAD_MISSING = "payload_missing"
    PAYLOAD_CORRUPT = "payload_corrupt"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message on its way into a log.

    ``body`` is what the codec wrote, identical in every log. ``headers`` travel beside it (Redis
    fields, Kafka headers) so that a consumer without our code can route and trace.
    ``fingerprint`` and ``accepted_at`` are what a transport that remembers keys gives back for a
    repeat; they are not sent otherwise.
    """

    message_id: str
    partition: int
    key: str
    body: bytes
    headers: Mapping[str, str]
    accepted_at: str = ""
    fingerprint: str = ""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it stands in a log.

    ``offset`` is opaque text (a Redis entry id, a decimal Kafka offset). Compare two with
    ``Transport.sort_key``. ``appended_at`` is the log's own clock in seconds since the epoch.
    ``delivery_count`` is ``None`` where the log keeps none.
    """

    topic: Topic
    partition: int
    offset: str
    key: str
    body: bytes
    headers: Mapping[str, bytes]
    appended_at: float
    delivery_count: int | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """``publish`` appended this envelope at ``offset``."""

    offset: str


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """``publish`` found the message id remembered and appended nothing. The first one's answer."""

    offset: str
    accepted_at: str
    fingerprint: str
    correlation_id: str


Outcome = Appended | Remembered | TransportError
"""What became of one envelope. Errors are returned: one item's can't hide the others'."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that can't be persisted for its own fault, bytes intact, with the reason.

    ``error`` is one line for people (no message content, no secrets). ``failed_at`` is RFC 3339.
    """

    record: Record
    reason: Reason
    error: str
    attempts: int
    failed_at: str


class Progress(msgspec.Struct, frozen=True):
    """How far a group is in one partition.

    ``lag`` counts records appended and not yet acknowledged by the group; ``pending`` those of them
    delivered already. ``oldest_age`` is seconds since the oldest unacknowledged record was
    appended (0.0 when there is none). ``None`` means *unknown*, never zero. ``floor`` is the offset
    through which everything is acknowledged, ``end`` the last offset in the log; either is ``None``
    when there is no such record. ``lost`` counts records that were removed unread. ``appended``
    counts the records ever appended: the difference of two readings is what came in between, and
    that of ``appended - lag`` what was acknowledged. ``held`` counts the records at the end of the
    log that are not readable yet, because another producer's transaction is open (Kafka); they are
    part of ``lag``. ``untrimmed``: the partition is known to hold every record ever appended to it.
    ``unavailable``: nothing is known of the partition now, because no server serves it (Kafka has
    no leader for it); every other figure is unknown then. ``acknowledged`` is the last record that
    was acknowledged, where the log knows it, and empty where it knows of none: ``floor`` is beyond
    it where offsets hold no record, or somebody moved the group, and before it where records were
    removed.
    """

    partition: int
    lag: int | None
    pending: int | None
    oldest_age: float | None
    floor: str | None
    end: str | None
    owner: str | None = None
    lost: int = 0
    appended: int | None = None
    held: int = 0
    untrimmed: bool = False
    unavailable: bool = False
    acknowledged: str | None = None


class GroupStanding(msgspec.Struct, frozen=True):
    """A group that reads a topic, as the server tells it: another program's too.

    ``group`` is the server's name of it. ``ours``: it is the group that this service has for the
    topic. ``lag`` counts the records that it has not acknowledged, ``None`` where that is unknown.
    ``members`` counts those that are known to live; a program may read without being counted.
    """

    topic: Topic
    group: str
    ours: bool
    lag: int | None
    members: int


class Holding(msgspec.Struct, frozen=True):
    """A thing that the server keeps of one log and of no other: a stream, a topic, a group.

    ``records`` and ``bytes`` are ``None`` where it has none, or the server does not say.
    """

    kind: str
    name: str
    records: int | None = None
    bytes: int | None = None


class Features(msgspec.Struct, frozen=True):
    """Features of a transport. Every flag is a promise, which the conformance suite then tests."""

    remembers: bool
    """A repeat of a remembered message id is answered with ``Remembered``, not appended."""
    durable: bool
    """Records survive a restart of the server."""
    counts_deliveries: bool
    """``Record.delivery_count`` is kept by the log."""
    shared: bool
    """Several processes can share the log and its groups."""
    hands_over: bool = False
    """Its claims are ``HandingClaim``s."""
    worthwhile: int = 16
    """How many envelopes make a call of ``publish`` worth beginning while others are under way:
    the dearer a call is, whatever it carries, the more."""


class LogLocation(msgspec.Struct, frozen=True):
    """Where a log is, and what its two topics are called there, for spans.

    ``address`` and ``port`` are those of one server. The names are without the partition: a span's
    name must not multiply. ``numbered``: offsets are decimal numbers.
    """

    address: str
    port: int | None = None
    messages: str = "messages"
    dead_letters: str = "dead_letters"
    numbered: bool = False


class Blockage(msgspec.Struct, frozen=True):
    """What keeps a claimed partition from being read. ``reason`` says where, and the remedy.

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


class Transport(Protocol):
    """A log. Enter it before use; it connects, and creates topics and groups that are missing."""

    name: str
    """The log's name (``transport.log_name``): metrics, positions and fences have it."""
    system: str
    """What OpenTelemetry calls the broker (``messaging.system``)."""
    partitions: int
    """How many partitions this log has; another may have more, or fewer."""
    features: Features
    location: LogLocation

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append envelopes, in order, and return one outcome for each, in the same order.

        A ``TransportError`` is the outcome of the envelopes that it
        concerns, and is not raised. Cancelling the call may leave any of the envelopes appended.

        Args:
            envelopes: what to append; none is allowed.
            remember: do not append a message id again that was seen within the idempotency window
                (needs ``Features.remembers``). Redrives pass ``False``: always append.

        Returns:
            ``Appended``, ``Remembered`` or an error for each envelope.
        """

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Look up message ids among those appended within the idempotency window.

        Args:
            message_ids: the ids, as ``Envelope.message_id`` has them.

        Returns:
            The first append of each id, in the order of the ids. ``None`` proves nothing: the
            window may have passed, and a transport that does not remember returns it for all.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Append dead letters, bytes and headers intact, durable before return.

        Args:
            letters: the letters, each with its record.

        Raises:
            TransportUnavailable: not written, or not surely. Do not acknowledge the source.
        """

    def consume(self, topic: Topic, *, group: str, member: str, linger: float = 0.0) -> Consumer:
        """Return a member of a group, not yet entered.

        Args:
            topic: the log to read.
            group: the group to join; a new one begins at the first record that the log holds.
            member: a name for this member, unique among live processes.
            linger: for how many seconds a record may wait at the log for others to be read with it.
        """

    async def read(
        self, topic: Topic, partition: int, *, after: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return records in log order, without a group.

        Args:
            topic: the log to read.
            partition: its partition, from 0.
            after: the offset to read after; ``None`` reads from the start.
            limit: the most records to return.

        Returns:
            The records; fewer where their bytes come to ``READ_BYTES`` (the one that passes it
            is the last). Empty at the end of the log, and only there.
        """

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return the last records before an offset, in log order, without a group.

        Args:
            topic: the log to read.
            partition: its partition, from 0.
            before: the offset to read before; ``None`` reads the last records of the log.
            limit: the most records to return.

        Returns:
            The records; fewer where their bytes come to ``READ_BYTES``. Empty at the log's
            beginning, and only there.

        Raises:
            ValueError: ``before`` is no offset of this transport.
        """

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """Return whether the log still holds everything that was appended after an offset.

        As far as its own retention goes: what somebody deleted counts as lost elsewhere.

        Args:
            topic: the log.
            partition: its partition, from 0.
            after: the offset, whether or not its record is still held; ``None`` is the beginning.

        Returns:
            ``False`` also where that can't be told.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    def offset_before(self, offset: str) -> str | None:
        """Return the offset to ``read`` after, to read from ``offset`` on.

        The log is not asked: no record need stand there.

        Args:
            offset: the offset of the first record to read.

        Returns:
            An offset; ``None`` is the beginning of the log.

        Raises:
            ValueError: ``offset`` is no offset of this transport.
        """

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """Return the offset to ``read`` after, to read from the first record at ``time`` on.

        Args:
            topic: the log to read.
            partition: its partition, from 0.
            time: seconds since the epoch, compared with ``Record.appended_at``.

        Returns:
            An offset; ``None`` is the beginning of the log.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    def time_in(self, offset: str) -> float | None:
        """Return the time of a record's append, as its offset alone tells it.

        Args:
            offset: the record's place.

        Returns:
            Seconds since the epoch; ``None`` where offsets tell no time, or this is no offset.
        """

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """Return the group's progress.

        Args:
            topic: the log.
            group: the group that reads it.

        Returns:
            One entry for each partition, in their order.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    def sort_key(self, offset: str) -> bytes:
        """Return a key that orders this transport's offsets as its log does.

        Args:
            offset: an offset of this transport.

        Returns:
            At most 16 bytes, to compare and to store. Nothing else can be read from it.

        Raises:
            ValueError: ``offset`` is no offset of this transport.
        """

    async def identity(self) -> str:
        """Return what tells this log from any other, whatever its name is.

        All who use the log get the same, also after a restart. A log that is made anew, as after
        somebody deleted it, has another.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def forget_group(self, group: str) -> None:
        """Forget a group: how far it is in both topics, its members and its owners.

        Whoever joins it later begins at the first record that the log holds. A group that there is
        not is forgotten already.

        Args:
            group: the group's name. No member of it may live, or join meanwhile.

        Raises:
            TransportError: it has members. Those that were killed stay until their lease has run
                out.
            TransportUnavailable: it may not be forgotten, or in part only; call again.
        """

    async def groups(self) -> Sequence[GroupStanding]:
        """Return every group that reads a topic of this log, other programs' among them.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """Remove everything that the server keeps of this log, and nothing of another one.

        Nothing is asked but whether somebody is in its groups: records and dead letters go
        unread. Where it fails halfway, call it again on a transport that was opened anew. This one
        may only be left then.

        Args:
            dry_run: return the same, and remove nothing.

        Returns:
            What was removed; nothing where the log is not there.

        Raises:
            TransportError: a group of the log has members; nothing was removed.
            TransportUnavailable: it may not be removed, or in part only.
        """

    async def durability(self) -> Durability:
        """Return the durability of an acknowledged append, by the server's own configuration.

        Raises:
            TransportUnavailable: the server can't be asked now.
        """

    async def ping(self) -> None:
        """Return if the log can be reached and takes writes.

        Raises:
            TransportUnavailable: it can't, or doesn't.
        """
