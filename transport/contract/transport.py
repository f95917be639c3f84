"""The protocol ``Transport``: every call that the service makes to a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from transport.contract.facts import Features, GroupStanding, Holding, LogLocation, Progress
from transport.contract.records import DeadLetter, Envelope, Outcome, Record, Remembered, Topic
from transport.durability import Durability

__all__ = [
    "CONTRACT",
    "READ_BYTES",
    "Transport",
]

CONTRACT = "1.0"
"""The version of this contract (https://semver.org). A new call or a new rule is a new major."""
READ_BYTES = 4 * 1024 * 1024
"""The bytes after which one read ends: keys, bodies and headers' values."""


class Transport(Protocol):
    """A log. Enter it before use: it connects, and creates missing topics and groups."""

    name: str
    """The log's name (``transport.log_name``), as metrics, positions and fences use it."""
    contract: str
    """The ``CONTRACT`` that the transport was written for. Another major is refused."""
    system: str
    """OpenTelemetry's name of the broker (``messaging.system``)."""
    partitions: int
    """The number of partitions of this log; other logs may have other numbers."""
    features: Features
    location: LogLocation

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append envelopes, in order, and return one outcome for each, in the same order.

        A ``TransportError`` is not raised: it is the outcome of the envelopes that it concerns. If
        the call is cancelled, any of the envelopes may have been appended.

        Args:
            envelopes: the envelopes to append; may be empty.
            remember: don't append a message id again that was appended within the idempotency
                window (needs ``Features.remembers``). Redrives pass ``False``, to append always.

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
        """Append dead letters with intact bytes and headers; they are durable on return.

        Args:
            letters: the letters, each with its record.

        Raises:
            TransportUnavailable: a letter was not appended, or it is unknown whether it was. Don't
                settle its record.
        """

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """Return records in log order.

        The records may come from this process's memory instead of the log: records that it has just
        appended, with full durability, if they directly follow ``after``.

        Args:
            topic: the log to read.
            partition: its partition, from 0.
            after: the offset to read after, which may be beyond the last record's; ``None`` reads
                from the start.
            limit: the most records to return.
            wait: the seconds to wait for a record if the log has none yet. An append ends the wait
                at once, or after some milliseconds if appends follow each other.

        Returns:
            The records. There are fewer if their bytes reach ``READ_BYTES``: the record that does
            so is the last. Empty only at the end of the log.

        Raises:
            TransportUnavailable: the log can't be read now.
        """

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return the last records before an offset, in log order.

        Args:
            topic: the log to read.
            partition: its partition, from 0.
            before: the offset to read before, which may be the first that the log has; ``None``
                reads the last records of the log.
            limit: the most records to return.

        Returns:
            The records; fewer if their bytes reach ``READ_BYTES``. Empty only at the beginning of
            the log.

        Raises:
            ValueError: ``before`` is no offset of this transport.
        """

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """Return whether the log still has all records that were appended after an offset.

        Only the log's own retention counts here. Records that somebody deleted are counted as lost
        (``Progress.lost``).

        Args:
            topic: the topic.
            partition: its partition, from 0.
            after: the offset; its record need not be there any more. ``None`` is the beginning.

        Returns:
            ``False`` also if the log can't tell.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    def offset_before(self, offset: str) -> str | None:
        """Return the offset to pass to ``read`` as ``after``, to read from ``offset`` on.

        The log is not asked, and need not have a record at that offset.

        Args:
            offset: the offset of the first record to read.

        Returns:
            An offset; ``None`` is the beginning of the log.

        Raises:
            ValueError: ``offset`` is no offset of this transport.
        """

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """Return the offset to pass to ``read`` as ``after``, to read from a time on.

        Args:
            topic: the topic to read.
            partition: its partition, from 0.
            time: seconds since the Unix epoch, compared with ``Record.appended_at``.

        Returns:
            An offset; ``None`` is the beginning of the log.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """Return a group's published positions, and the records after them.

        Args:
            topic: the log.
            group: the group's name.

        Returns:
            One entry for each partition, in their order.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def surplus(self) -> Sequence[int]:
        """Return the partitions of the messages that the log has beyond ``partitions``.

        Nothing is appended to them by this service. An operator may have added them, on Kafka.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """Show positions that PostgreSQL keeps as those of a group, for the log's own tools.

        Nothing that is published decides what is read. The log may remove records through a
        published position, by its retention, if no other group still has to read them. A position
        that is published late, twice, or after a later one, does no harm.

        Args:
            topic: the topic.
            positions: by partition, the offset through which every record is settled.
            group: the group that shows them; it is created if it is missing.

        Raises:
            TransportUnavailable: some may not be published; publish again.
            TransportError: the server refuses, because the group has members of another program,
                for example. Nothing depends on it.
        """

    def sort_key(self, offset: str) -> bytes:
        """Return a key that orders this transport's offsets as its log does.

        Args:
            offset: an offset of this transport.

        Returns:
            At most 16 bytes, to compare and to store. They have no other meaning.

        Raises:
            ValueError: ``offset`` is no offset of this transport.
        """

    async def identity(self) -> str:
        """Return an id of this log that no other log has, whatever its name.

        All processes get the same id, also after a restart. A log that was deleted and made anew
        has another one.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def forget_group(self, group: str) -> None:
        """Delete a group: its published positions in both topics. A missing group is no error.

        Args:
            group: the group's name.

        Raises:
            TransportError: the group has members, of another program.
            TransportUnavailable: the group may be deleted, in part or not at all; call again.
        """

    async def groups(self) -> Sequence[GroupStanding]:
        """Return every group that reads a topic of this log, also those of other programs.

        Raises:
            TransportUnavailable: the log can't be asked now.
        """

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """Remove everything that the server has of this log, and nothing of other logs.

        The only check is whether its groups have members, of other programs: unread records and
        dead letters are removed as well. If it fails halfway, open a new transport and call it
        again. After a removal, the only valid use of this transport is to leave it.

        Args:
            dry_run: only return what would be removed.

        Returns:
            The removed objects; none if there is no such log.

        Raises:
            TransportError: a group of the log has members; nothing was removed.
            TransportUnavailable: the log may be removed, in part or not at all.
        """

    async def durability(self) -> Durability:
        """Return the durability of an acknowledged append, by the server's configuration.

        Raises:
            TransportUnavailable: the server can't be asked now.
        """

    async def ping(self) -> None:
        """Return if the log can be reached and takes writes.

        Raises:
            PartlyUnavailable: some partitions take no writes.
            Unreadable: it takes writes, and this process can't read it.
            Unwritable: it takes no appends, and workers can go on.
            TransportUnavailable: it can't be reached, or takes no writes.
        """
