"""How far readers of committed records can read, asked for where it may have changed.

A log that could be read to its end has no open transaction in it, and gets one by records that are
appended. So where it ends as it did then, under the same leader, it can be read to its end. A
process asks each second, of all partitions, and most often nothing came to any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.structs import TopicPartition

from transport.kafka.loss.identity import Described, Leader
from transport.kafka.reader import KafkaReader

__all__ = ["ReadableEnds"]


class _Seen(NamedTuple):
    end: int
    topic_id: str
    leader: Leader


class ReadableEnds:
    """Remembers where a topic ended, and under which leaders, when all of it could be read."""

    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader
        self._whole: dict[TopicPartition, _Seen] = {}

    async def look(
        self, topic: Described, ends: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Return the end of each partition for readers of committed records.

        ``topic`` was described just before its ``ends`` were asked for.

        Raises:
            TransportUnavailable: Kafka can't say now.
        """
        known = {
            at: _Seen(end, topic.id, leader)
            for at, end in ends.items()
            if (leader := topic.leaders.get(at.partition)) is not None
        }
        unsure = [at for at in ends if at not in known or self._whole.get(at) != known[at]]
        if not unsure:
            return ends
        readable = {**ends, **await self._reader.readable_ends(unsure)}
        self._whole = {at: seen for at, seen in known.items() if readable[at] >= seen.end}
        return readable
