"""Where to begin to read the partitions of a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from migration_guide.parity.facts import accepted_at
from transport.contract import WORKER_GROUP, Record, Topic, Transport
from transport.errors import ConfigurationError
from transport.progress import progress_everywhere

__all__ = ["NOWHERE", "Beginning", "both_beginnings", "first_record"]

NOWHERE = b"\xff" * 17
"""The place at which an empty partition begins: after every record that it may have had."""

# By their own log's clock, copies may be appended this many seconds before ``since``.
_CLOCKS = 2.0


class Beginning(NamedTuple):
    """Extent of one partition in one log, and the offset after which to read it.

    ``after``: the offset after which to read; ``None``: from the beginning. ``read_after``: its
    place. ``first_held``: the place of the first record, empty if there is none. ``held_from``: the
    log holds everything that came to it from this time on. ``untrimmed``: no record that it ever
    had is gone.
    """

    after: str | None
    read_after: bytes
    first_held: bytes
    held_from: float
    untrimmed: bool


async def both_beginnings(
    primary: Transport, shadow: Transport, *, since: float | None
) -> tuple[Sequence[Beginning], Sequence[Beginning]]:
    """Find where to begin in both logs, by partition.

    ``since`` is in seconds since the epoch; ``None``: as far back as the logs reach.

    Raises:
        ConfigurationError: the two can't be compared.
        TransportUnavailable: a log can't be read.
    """
    if primary.name == shadow.name:
        raise ConfigurationError(
            f"{primary.name} can't be compared with itself; set TRANSPORT_SHADOW to another log"
        )
    early = None if since is None else since - _CLOCKS
    return await _beginnings(primary, since=early), await _beginnings(shadow, since=early)


async def first_record(log: Transport, partition: int) -> Record | None:
    """Return the first record that a partition holds now, ``None`` where it is empty.

    Raises:
        TransportUnavailable: the log can't be read.
    """
    records = await log.read(Topic.MESSAGES, partition, limit=1)
    return records[0] if records else None


async def _beginnings(log: Transport, *, since: float | None) -> Sequence[Beginning]:
    moment = time.time()
    firsts = [await first_record(log, partition) for partition in range(log.partitions)]
    progress = await progress_everywhere(log, Topic.MESSAGES, group=WORKER_GROUP)
    # An untrimmed log is complete from the time at which the earliest of its partitions' first
    # messages was accepted. (That message's copy may have come much later.)
    times = [accepted_at(first) for first in firsts if first]
    began = min(times, default=float("inf")) if since is None else since
    found = []
    for first, of in zip(firsts, progress, strict=True):
        known_from = first.appended_at if first else moment
        after = None
        if since is not None and first is not None and first.appended_at < since:
            after = await log.offset_before_time(Topic.MESSAGES, of.partition, since)
        found.append(
            Beginning(
                after,
                log.sort_key(after) if after else b"",
                log.sort_key(first.offset) if first else b"",
                began if of.untrimmed else known_from,
                of.untrimmed,
            )
        )
    return found
