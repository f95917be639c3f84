"""The conversations that have records without a row in the log.

A message of such a conversation has to be queued behind those records, even if the canary chose it
to be persisted directly: it would overtake them (promise 3). So this is checked after the message
came in, and "perhaps" counts as yes: a queued message is always in order, and only later.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable

from persistence.database.pool import Pool
from persistence.errors import Outage
from persistence.ownership.settled import settled_through
from transport.contract import WORKER_GROUP, Progress, Topic, Transport

__all__ = ["Backlog"]

_PAGE = 1000
_ID_MOST = 256  # characters of a conversation's id


class _PartitionTail:
    """One partition's records without a row that have been read so far, oldest first."""

    __slots__ = ("conversations", "lost", "read_to", "records", "settled")

    def __init__(self, lost: int, settled: str) -> None:
        self.lost = lost
        self.settled = settled
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
    """Follows the records of each partition after PostgreSQL's position. It reads each one once.

    Args:
        transport: The log that workers read.
        pool: Connections to PostgreSQL.
        limit: The most records of a partition to follow.
        timeout_seconds: The longest wait for PostgreSQL.
    """

    def __init__(
        self, transport: Transport, pool: Pool, *, limit: int, timeout_seconds: float = 5.0
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._limit = limit
        self._timeout = timeout_seconds
        self._tails: dict[int, _PartitionTail] = {}
        self._turn = asyncio.Lock()

    async def behind(self, conversations: Iterable[tuple[int, str]]) -> set[str]:
        """Return the conversations that have, or may have, records without a row.

        Args:
            conversations: Pairs of a partition and a conversation in it.

        Raises:
            TransportUnavailable: The log does not answer.
            Outage: PostgreSQL does not answer.
        """
        wanted: dict[int, set[str]] = {}
        for partition, conversation in conversations:
            wanted.setdefault(partition, set()).add(conversation)
        found: set[str] = set()
        # One caller at a time: two that read the same tail would each add its records.
        async with self._turn:
            progress = await self._transport.progress(Topic.MESSAGES, group=WORKER_GROUP)
            settled = await self._settled(list(wanted))
            for partition, names in wanted.items():
                part, through = progress[partition], settled.get(partition, "")
                if part.held or part.unavailable:
                    found |= names  # the unreadable records may be of any conversation
                elif self._is_settled(part, through):
                    self._tails.pop(partition, None)
                elif await self._follow(part, through):
                    counts = self._tails[partition].conversations
                    found.update(name for name in names if name in counts)
                else:
                    found |= names
        return found

    async def _settled(self, partitions: list[int]) -> dict[int, str]:
        try:
            async with asyncio.timeout(self._timeout):
                return await settled_through(self._pool, self._transport, partitions)
        except TimeoutError as error:
            raise Outage("PostgreSQL did not say in time up to where rows are") from error

    def _is_settled(self, progress: Progress, through: str) -> bool:
        key, end = self._transport.sort_key, progress.end
        return end is None or (through != "" and key(through) >= key(end))

    async def _follow(self, progress: Progress, through: str) -> bool:
        """Bring a partition's tail up to date; return ``False`` if it is too long to follow."""
        partition = progress.partition
        if progress.lag is not None and progress.lag > self._limit:
            self._tails.pop(partition, None)
            return False
        tail = self._tails.get(partition)
        if tail is None or self._went_back(tail, progress, through):
            tail = self._tails[partition] = _PartitionTail(progress.lost, through)
        tail.settled = through
        if through:
            key = self._transport.sort_key
            while tail.records and key(tail.records[0][0]) <= key(through):
                tail.drop_oldest()
            if tail.read_to is None or key(tail.read_to) < key(through):
                tail.read_to = through
        return await self._read_on(partition, tail, progress)

    def _went_back(self, tail: _PartitionTail, progress: Progress, through: str) -> bool:
        """Return whether the log or PostgreSQL lost data since the tail was read.

        Then other records may be at the offsets that were read, or records have no row any more.
        """
        key, end = self._transport.sort_key, progress.end
        return (
            progress.lost > tail.lost
            or (tail.read_to is not None and end is not None and key(end) < key(tail.read_to))
            or (tail.settled != "" and (not through or key(through) < key(tail.settled)))
        )

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
