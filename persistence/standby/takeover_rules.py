"""When the standby of a log may persist a record itself, instead of waiting for the other log.

To persist a record too early would reorder a conversation, and the standby's log may have holes: a
message that an asynchronous shadow dropped is in the other log only, before messages that were
copied. So there are three reasons, and no other:

``stalled``
    Every message of this log is in the consumed log too, before it is acknowledged, and this is
    the log that has each of them first. Both orders agree on every pair that a client can observe
    (``docs/order.md``), so it makes no difference which of the two logs a row comes from.
``unshadowed``
    The record is an original in a log of which the consumed one gets no copies: a message from
    before ``TRANSPORT`` was changed, or after that but not ``CONSUME_FROM``, or a foreign
    producer's. No other log is known to bring it.
``orphaned``
    The record is a copy, and the position in the other log has passed its original without anything
    coming of it: that log lost it. The copy is all there is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum

from persistence.database.pool import Pool, using
from persistence.errors import Outage
from persistence.store.positions import known_positions
from transport.contract import Record, Topic, Transport
from transport.errors import TransportError
from transport.shadow.origin import is_original, is_sync_copy, origin_of

__all__ = ["LogRole", "Originals", "TakeoverReason"]


class TakeoverReason(StrEnum):
    """The reason why a standby persisted records (a label of ``stream_standby_takeover_total``)."""

    STALLED = "stalled"
    UNSHADOWED = "unshadowed"
    ORPHANED = "orphaned"


class LogRole(StrEnum):
    """The role of a log that is not consumed."""

    MIRRORED = "mirrored"
    """The primary; each of its messages is in the consumed log before it is acknowledged."""
    PRIMARY = "primary"
    """The primary; the consumed log, an asynchronous shadow, may lack some messages."""
    OTHER = "other"
    """The shadow, a log that is no longer configured, or a primary without a consumed shadow.

    (The last by hand only: ``TRANSPORT`` changed, and ``CONSUME_FROM`` not.)
    """

    def why(self, record: Record) -> TakeoverReason | None:
        """Return the rule that lets this log's standby persist ``record``, if there is one."""
        if self is LogRole.MIRRORED and (is_original(record) or is_sync_copy(record)):
            return TakeoverReason.STALLED
        if self is LogRole.OTHER and is_original(record):
            return TakeoverReason.UNSHADOWED
        return None


class Originals:
    """Tells whether a copy's original is still to come. Shared by a process's standbys.

    ``logs`` are the logs that this process can ask, by name.
    """

    def __init__(self, logs: Mapping[str, Transport], pool: Pool) -> None:
        self._logs = logs
        self._pool = pool
        self._known: dict[str, tuple[float, Mapping[int, str]]] = {}

    async def passed(self, record: Record, *, since: float) -> bool:
        """Return whether the position of its log has passed the original of the copy ``record``.

        The position is as of ``since`` or later, by the monotonic clock. ``False`` also if nothing
        is known. After ``True``, ask PostgreSQL once more: what a position has passed was settled
        before.
        """
        origin = origin_of(record)
        log = self._logs.get(origin.transport) if origin else None
        if origin is None or log is None:
            return False
        try:
            through = (await self._settled(log, since)).get(origin.partition)
            if through and log.sort_key(origin.offset) <= log.sort_key(through):
                return True
            # Nothing is after the position: the log lost the original with its end.
            return through is not None and not await log.read(
                Topic.MESSAGES, origin.partition, after=through or None, limit=1
            )
        except (TransportError, Outage, ValueError):
            return False

    async def _settled(self, log: Transport, since: float) -> Mapping[int, str]:
        """Return the position of each partition that has one in this log."""
        asked, settled = self._known.get(log.name, (0.0, {}))
        if asked >= since:
            return settled
        asked = time.monotonic()
        identity = await log.identity()
        async with using(self._pool) as connection:
            known = await known_positions(connection, log.name, range(log.partitions))
        settled = {number: at.through for number, at in known.items() if at.log == identity}
        self._known[log.name] = asked, settled
        return settled
