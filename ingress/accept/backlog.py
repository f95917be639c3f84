"""The conversations that have unacknowledged records in the log.

A message of such a conversation has to be queued behind those records, even if the canary chose it
to be persisted directly: it would overtake them (promise 3). So this is checked after the message
came in, and "perhaps" counts as yes: a queued message is always in order, and only later.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable

from transport.contract import WORKER_GROUP, Progress, Topic, Transport

__all__ = ["Backlog"]

_PAGE = 1000
_ID_MOST = 256  # characters of a conversation's id


class _PartitionTail:
    """One partition's unacknowledged records that have been read so far, oldest first."""

    __slots__ = ("conversations", "lost", "read_to", "records")

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.records: deque[tuple[str, str]] = deque()
        self.conversations: Counter[str] = Counter()
        self.read_to: str | None = None

    def add(self, offset: str, key: str) -> None:
        self.records.append((offset, key))
        self.conversations[key] += 1
        self.read_to = offset

    def drop_oldest(self) -> None:
        _, key = self.records.popleft()
        self.conversations[key] -= 1
        if not self.conversations[key]:
            del self.conversations[key]

    def clear(self) -> None:
        self.records.clear()
        self.conversations.clear()


class Backlog:
    """Follows the unacknowledged records of each partition. It reads each record once.

    Args:
        transport: The log that workers read.
        limit: The most unacknowledged records of a partition to follow.
    """

    def __init__(self, transport: Transport, *, limit: int) -> None:
        self._transport = transport
        self._limit = limit
        self._tails: dict[int, _PartitionTail] = {}
        self._turn = asyncio.Lock()

    async def behind(self, conversations: Iterable[tuple[int, str]]) -> set[str]:
        """Return the conversations that have, or may have, unacknowledged records.

        Args:
            conversations: Pairs of a partition and a conversation in it.

        Raises:
            TransportUnavailable: The log does not answer.
        """
        wanted: dict[int, set[str]] = {}
        for partition, conversation in conversations:
            wanted.setdefault(partition, set()).add(conversation)
        found: set[str] = set()
        # One caller at a time: two that read the same tail would each add its records.
        async with self._turn:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            for partition, names in wanted.items():
                if progress[partition].lag == 0:
                    self._tails.pop(partition, None)
                elif progress[partition].held or progress[partition].unavailable:
                    found |= names  # the unreadable records may be of any conversation
                elif await self._follow(partition, progress[partition]):
                    counts = self._tails[partition].conversations
                    found.update(name for name in names if name in counts)
                else:
                    found |= names
        return found

    async def _follow(self, partition: int, progress: Progress) -> bool:
        """Bring the partition's tail up to date; return ``False`` if it is too long to follow."""
        if progress.lag is not None and progress.lag > self._limit:
            self._tails.pop(partition, None)
            return False
        tail = self._tails.get(partition)
        key = self._transport.sort_key
        if (
            tail is None
            or progress.lost > tail.lost
            or (
                tail.read_to is not None
                and progress.end is not None
                and key(progress.end) < key(tail.read_to)
            )
        ):
            # This is the first reading, or the log lost data. Then the records that were read no
            # longer count: other records may be at their offsets by now.
            tail = self._tails[partition] = _PartitionTail(progress.lost)
        if progress.floor is not None:
            floor = key(progress.floor)
            while tail.records and key(tail.records[0][0]) <= floor:
                tail.drop_oldest()
            if tail.read_to is None or key(tail.read_to) < floor:
                tail.read_to = progress.floor
        return await self._read_on(partition, tail, progress)

    async def _read_on(self, partition: int, tail: _PartitionTail, progress: Progress) -> bool:
        key = self._transport.sort_key
        end = None if progress.end is None else key(progress.end)
        while end is not None and (tail.read_to is None or key(tail.read_to) < end):
            if len(tail.records) >= self._limit:
                return False
            records = await self._transport.read(
                Topic.MESSAGES, partition, after=tail.read_to, limit=_PAGE
            )
            if not records:
                break
            for record in records:
                # A longer key is no conversation's id, and may be megabytes.
                tail.add(record.offset, record.key if len(record.key) <= _ID_MOST else "")
        return True
