"""Positions that PostgreSQL keeps, shown as a group's: by ``XINFO GROUPS``, and by exporters."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from redis.exceptions import OutOfMemoryError

from transport.contract import Topic
from transport.errors import TransportError
from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys, trimmed
from transport.redis.rescue.last_seen import LastSeen

__all__ = ["PublishedPositions"]

_log = logging.getLogger(__name__)

_LOST = (
    "%s lost its tail: a replica that was behind was promoted, or an older file restored. "
    "Confirmed records are gone, at least %d of them not yet persisted. Run `crossfade audit`, and "
    "have clients retry"
)
_MOST_TRIMS = 100
"""Calls that trim a partition at one time. A call ends after 10,000 records, so that the server is
not kept for long."""
_FULL_SECONDS = 60
"""The seconds that a settled record stays even on a full server. PostgreSQL may fail over to a
standby that lacks its row; then the row is restored from the log."""
_SHARD_SECONDS = 1.0  # a server of a cluster that takes longer fails, and the others' replies count


class PublishedPositions:
    """Publishes positions, counts what was lost, and trims what the positions have passed.

    Args:
        functions: calls Crossfade's functions.
        last_seen: the last records that this process knows of, by topic and group.
        retention_seconds: how long a record stays after its position was published.
        retention_records: the most such records that stay.
    """

    def __init__(
        self,
        functions: Functions,
        last_seen: Mapping[tuple[Topic, str], LastSeen],
        *,
        retention_seconds: int,
        retention_records: int,
    ) -> None:
        self._functions = functions
        self._last_seen = last_seen
        self._seconds = retention_seconds
        self._records = retention_records

    async def publish(self, log: TopicKeys, positions: Mapping[int, str], *, group: str) -> None:
        """Set the group's position in each partition; see ``Transport.publish_positions``.

        Raises:
            TransportError: a partition's position may not be published, or its records not trimmed;
                those of all other partitions are.
        """
        due = {p: through for p, through in positions.items() if p < len(log.streams)}
        if not due:
            return
        errors: list[TransportError] = []
        full = await self._full(log, due)
        shown: list[int] = []
        replies = await self._show(log, due, group)
        for partition, reply in zip(due, replies, strict=True):
            if isinstance(reply, Exception):
                errors.append(translate(reply))
            elif reply is not None:  # otherwise there is no such stream
                shown.append(partition)
                if reply:
                    _log.error(_LOST, log.streams[partition], reply)
        errors += await self._trim(log, shown, group, full)
        if errors:
            raise errors[0]

    async def _full(self, log: TopicKeys, partitions: Collection[int]) -> Collection[int]:
        """Return the partitions whose server refuses appends since it is out of memory."""
        are_apart = self._functions.by_slot
        probes = [log.probing_at(p) for p in partitions] if are_apart else [log.probing]
        replies = await self._functions.exchange(probes, within=_SHARD_SECONDS)
        refused = [isinstance(reply, OutOfMemoryError) for reply in replies]
        if are_apart:
            return {p for p, is_full in zip(partitions, refused, strict=True) if is_full}
        return partitions if refused[0] else ()

    async def _show(self, log: TopicKeys, due: Mapping[int, str], group: str) -> list[Reply]:
        calls = []
        for partition, through in due.items():
            known: Sequence[str] = ()
            if seen := self._last_seen.get((log.topic, group)):
                seen.note_settled(partition, through)
                _, *known = seen.known(partition)
            keys = self._keys(log, partition, group)
            calls.append(self._functions.command("show", keys, group, through, *known))
        return await self._functions.exchange(calls, within=_SHARD_SECONDS)

    async def _trim(
        self, log: TopicKeys, partitions: Collection[int], group: str, full: Collection[int]
    ) -> list[TransportError]:
        errors, early, due = [], 0, list(partitions)
        for _ in range(_MOST_TRIMS):
            if not due:
                break
            replies = await self._functions.exchange(
                [self._trim_command(log, p, group, is_full=p in full) for p in due],
                within=_SHARD_SECONDS,
            )
            more = []
            for partition, reply in zip(due, replies, strict=True):
                if isinstance(reply, Exception):
                    errors.append(translate(reply))
                elif reply:
                    more.append(partition)
                    early += reply if partition in full else 0
            due = more
        if early:
            _log.warning(
                "Redis is full (maxmemory): %d settled records were removed before their "
                "retention was over; give it memory, or set STREAM_RETENTION_SECONDS lower",
                early,
            )
        return errors

    def _keys(self, log: TopicKeys, partition: int, group: str) -> Sequence[str]:
        stream, accounts, generations = log.figures(partition, group)
        return stream, accounts, trimmed(stream), generations

    def _trim_command(
        self, log: TopicKeys, partition: int, group: str, *, is_full: bool
    ) -> Command:
        seconds = min(self._seconds, _FULL_SECONDS) if is_full else self._seconds
        return self._functions.command(
            "trim", self._keys(log, partition, group), group, seconds, self._records
        )
