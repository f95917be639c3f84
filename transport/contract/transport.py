"""The log itself: every call that the service makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from transport.contract.claims import Consumer
from transport.contract.facts import Features, GroupStanding, Holding, LogLocation, Progress
from transport.contract.records import DeadLetter, Envelope, Outcome, Record, Remembered, Topic
from transport.durability import Durability

__all__ = [
    "READ_BYTES",
    "Transport",
]

READ_BYTES = 4 * 1024 * 1024
"""How much one read without a group returns: keys, bodies and headers' values, in bytes."""


class Transport(Protocol):
    """A log. Enter it before use; it connects, and creates topics and groups that are missing."""

    name: str
    """The log's name (``transport.log_name``): metrics, positions and fences have it."""
    system: str
    """OpenTelemetry's name of the broker (``messaging.system``)."""
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
