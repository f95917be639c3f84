"""Positions that PostgreSQL keeps, shown as a group's: by ``XINFO GROUPS``, and by exporters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from transport.contract import Topic
from transport.redis.client.functions import Functions
from transport.redis.connection.errors import translate
from transport.redis.delivery.trimming import Retention
from transport.redis.keys import TopicKeys
from transport.redis.rescue.last_seen import LastSeen

__all__ = ["PublishedPositions"]

_TRIM_SECONDS = 1.0


class PublishedPositions:
    """Publishes positions, and trims what they have passed.

    Args:
        functions: calls our functions.
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
        self._kept: dict[tuple[str, str], Retention] = {}
        self._trimmed_at: dict[tuple[str, str], float] = {}

    async def publish(self, log: TopicKeys, positions: Mapping[int, str], *, group: str) -> None:
        """Set the group's position in each partition; see ``Transport.publish_positions``.

        Raises:
            TransportError: a partition's position may not be published; the others' may be.
        """
        shown = {p: through for p, through in positions.items() if p < len(log.streams)}
        replies = await self._functions.exchange(
            [
                self._functions.command(
                    "show", (log.streams[p], log.lease(p, group)), group, through
                )
                for p, through in shown.items()
            ]
        )
        errors = []
        for (partition, through), reply in zip(shown.items(), replies, strict=True):
            if isinstance(reply, Exception):
                errors.append(translate(reply))
                continue
            self._retention(log.streams[partition], group).acked(max(0, int(reply)), through)
            if seen := self._last_seen.get((log.topic, group)):
                seen.note_acknowledged(partition, through)
        if errors:
            raise errors[0]
        await self._trim(log, shown, group)

    def _retention(self, stream: str, group: str) -> Retention:
        if (stream, group) not in self._kept:
            self._kept[stream, group] = Retention(seconds=self._seconds, records=self._records)
        return self._kept[stream, group]

    async def _trim(self, log: TopicKeys, positions: Mapping[int, str], group: str) -> None:
        now = asyncio.get_running_loop().time()
        due = [
            stream
            for stream in (log.streams[partition] for partition in positions)
            if now - self._trimmed_at.get((stream, group), float("-inf")) >= _TRIM_SECONDS
        ]
        if not due:
            return
        self._trimmed_at.update({(stream, group): now for stream in due})
        replies = await self._functions.exchange(
            [self._retention(stream, group).command(self._functions, stream) for stream in due]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise translate(reply)
