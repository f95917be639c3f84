"""Facts about a log: its features and location, its groups and their published positions."""

from __future__ import annotations

import msgspec

from transport.contract.records import Topic

__all__ = [
    "DLQ_GROUP",
    "WORKER_GROUP",
    "Features",
    "GroupStanding",
    "Holding",
    "LogLocation",
    "Progress",
]

WORKER_GROUP = "persistence-workers"
"""The group that shows the workers' positions in the messages."""
DLQ_GROUP = "dlq-processors"
"""The group that shows the indexer's position in the dead letters."""


class Progress(msgspec.Struct, frozen=True):
    """The published position of a group in one partition. ``None`` is *unknown*, never zero.

    * ``floor``: the published position; ``None`` if there is none.
    * ``lag``: the number of records after it.
    * ``oldest_age``: seconds since the first of those was appended; 0.0 if there are none.
    * ``end``: the last offset that was appended, even if its record is gone; ``None`` if there is
      none.
    * ``lost``: the number of records that were removed although they were after it.
    * ``put_back``: the number of those that were appended again since.
    * ``lost_at``: when ``lost`` last rose, in seconds since the epoch; ``None`` if it never did, or
      if that is unknown.
    * ``lost_uncounted``: more records than ``lost`` may be gone; their number is unknown.
    * ``appended``: the number of records ever appended. Between two readings, the difference is the
      number of new records, and that of ``appended - lag`` the number of settled ones.
    * ``held``: the number of records at the end of the log that can't be read yet, because another
      producer's transaction is open (Kafka). ``lag`` includes them.
    * ``untrimmed``: the partition is known to have every record ever appended to it.
    * ``unavailable``: no server serves the partition now (in Kafka it has no leader), so all other
      figures are unknown.
    """

    partition: int
    lag: int | None
    oldest_age: float | None
    floor: str | None
    end: str | None
    lost: int = 0
    appended: int | None = None
    held: int = 0
    untrimmed: bool = False
    unavailable: bool = False
    put_back: int = 0
    lost_at: float | None = None
    lost_uncounted: bool = False


class GroupStanding(msgspec.Struct, frozen=True):
    """A group that reads a topic: this service's or another program's.

    ``group`` is its name at the server. ``ours``: it is this service's group for the topic. ``lag``
    is the number of records after its position; ``None`` if unknown. ``members`` is the
    number of members known to be alive; a program may read without being counted.
    """

    topic: Topic
    group: str
    ours: bool
    lag: int | None
    members: int


class Holding(msgspec.Struct, frozen=True):
    """A stream, topic, group or other object at the server that belongs to one log alone.

    ``records`` and ``bytes`` are ``None`` if they don't apply, or the server does not tell.
    """

    kind: str
    name: str
    records: int | None = None
    bytes: int | None = None


class Features(msgspec.Struct, frozen=True):
    """The features of a transport. Every flag is a promise that the conformance suite tests."""

    remembers: bool
    """A repeat of a remembered message id is answered with ``Remembered``, not appended."""
    durable: bool
    """Records survive a restart of the server."""
    shared: bool
    """Several processes can share the log and its groups."""
    worthwhile: int = 32
    """The number of waiting envelopes that justifies another call of ``publish`` while others are
    under way. It is higher for a transport whose calls cost more."""


class LogLocation(msgspec.Struct, frozen=True):
    """The location of a log and the names of its two topics there, for tracing spans.

    ``address`` and ``port`` are those of one server. The names don't include the partition, so that
    there are few names of spans. ``numbered``: offsets are decimal numbers.
    """

    address: str
    port: int | None = None
    messages: str = "messages"
    dead_letters: str = "dead_letters"
    numbered: bool = False
