"""Facts that a log tells: its features, its location, its groups and their progress."""

from __future__ import annotations

import msgspec

from transport.contract.records import Topic

__all__ = [
    "Features",
    "GroupStanding",
    "Holding",
    "LogLocation",
    "Progress",
]


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
    worthwhile: int = 32
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
