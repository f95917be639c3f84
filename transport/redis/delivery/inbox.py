"""The inbox of one partition: reads and acknowledges for one owner, and skips no record."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NoReturn

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.contract import Record
from transport.errors import PartitionLost, TopicMissing, TransportUnavailable
from transport.redis.client.functions import Functions
from transport.redis.client.pipelines import Pipelines
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import translate
from transport.redis.connection.wire import ReplyTooLargeError
from transport.redis.keys import TopicKeys, consumer
from transport.redis.records import Entry, records, sort_key
from transport.redis.rescue.last_seen import LastSeen

__all__ = ["Inbox"]

_BEGINNING = "0-0"
_MOST = 10_000
_REPLY_BYTES = 256 << 20
"""The most bytes of one read: Redis bounds the number of records, but not their size."""


class Inbox:
    """Delivers the records of one partition, in order, to the owner with one epoch.

    It remembers only the last record it was given. Each read is one transaction. It returns the
    lease's epoch; then the records after the last one that were already delivered to the
    partition's one consumer name, received or not; and only then new records. So a takeover, a lost
    reply, a cancelled call, a command that the server executed late, and the last read of a former
    owner all end in the same way: their records come first, in order.

    It is no function, since passing records through Lua costs the server more than twice as much. A
    transaction can't refuse an old epoch, and need not: the records that it delivered stay pending
    for the new owner, and the caller gets none.
    """

    def __init__(
        self,
        reads: Pipelines,
        functions: Functions,
        log: TopicKeys,
        partition: int,
        *,
        group: str,
        epoch: int,
        position: str,
        last_seen: LastSeen,
    ) -> None:
        self.topic = log.topic
        self.partition = partition
        self.epoch = epoch
        self.stream = log.streams[partition]
        self.lease = log.lease(partition, group)
        self.heard = position
        """The id up to which the group was given all records, as far as this process knows."""
        self._connections = reads.connections
        self._functions = functions
        self._reads = reads
        self._is_large = True  # whether a read is too large to share a trip with other partitions
        self._group = group
        self._epoch = _text(epoch)
        self._consumer = consumer(partition)
        self._source = ("GROUP", group, self._consumer, "COUNT")
        self._last = _BEGINNING
        self._most = _MOST  # the records that a read may ask for; fewer if a reply was too large
        self._behind = True  # whether pending records may have to be delivered again
        self._unacked: deque[str] = deque()
        self._last_seen = last_seen
        self._is_unsure = False  # whether the last read failed or was cut off
        self._made = -1  # how many connections had been made before the last read

    @property
    def is_at_end(self) -> bool:
        """Whether only new records come next: none has to be delivered again."""
        return not self._behind and not self._is_unsure

    def may_follow(self, before: str) -> bool:
        """Return whether the next read would begin with the record right after ``before``.

        That is certain only if no connection was made since the last read, which has seen that the
        log did not go back.
        """
        return (
            before == self.heard
            and self.is_at_end
            and not self._unacked
            and self._made == self._connections.made
        )

    def follow(self, through: str) -> None:
        """Note that the caller was handed the records through ``through``, without a read."""
        self.heard = through
        self._last_seen.note_seen(self.partition, through)

    def go_back(self, position: str) -> None:
        """Continue after ``position``, the group's position."""
        self.heard = position

    def note_ack(self, through: str) -> None:
        """Record that the handed-over records through ``through`` are acknowledged."""
        self._last_seen.note_acknowledged(self.partition, through)

    async def read(self, count: int) -> list[Record]:
        """Return up to ``count`` records, or none if there are none now.

        Raises:
            PartitionLost: the partition has another owner, or the log went back.
            TopicMissing: the stream or the group was gone; it was made again, and reading begins
                at its beginning.
            TransportUnavailable: the log can't be read now.
        """
        while True:
            await self._be_sure()
            was_behind = self._behind
            limit = min(count, self._most)
            try:
                before, fresh = await self._transaction(limit)
            except TransportUnavailable as error:
                if not self._asks_for_less(limit, error):
                    raise
                continue
            self._most = min(_MOST, 2 * self._most)
            is_full = len(before) == limit
            self._is_large = is_full or len(before) + len(fresh) >= limit
            self._behind = bool(before)  # all of these are pending if the next call fails
            found = await self._again(before) if before else []
            self._behind = is_full
            if not is_full:
                found += records(self.topic, self.partition, fresh)
            if len(found) > limit:
                # Both together can exceed the limit. Records that are cut off are pending and come
                # next, so until they were read nothing may be handed over.
                del found[limit:]
                self._behind = True
            if found:
                self._last = found[-1].offset
                self._unacked.extend([record.offset for record in found])
                return found
            if not was_behind:
                return found

    def _asks_for_less(self, limit: int, error: TransportUnavailable) -> bool:
        """Ask for fewer records in the next reads, if this one may have failed for its size.

        Returns whether to read again at once. A read of one record has no limit of size.
        """
        if not isinstance(error.__cause__, RedisTimeoutError | RedisConnectionError):
            return False
        was_large, self._is_large = self._is_large, True
        if was_large:
            if limit == 1:
                return False
            self._most = max(1, limit // 8)
        # In a shared trip, the reads of other partitions may have been too large. A server that
        # bounds its replies (client-output-buffer-limit, maxmemory-clients) closes the connection.
        return isinstance(error.__cause__, ReplyTooLargeError | RedisConnectionError)

    async def ack(self, through: str) -> int:
        """Acknowledge the records through ``through``; return how many these were.

        Raises:
            PartitionLost: the partition has another owner.
            TransportUnavailable: it is unknown whether they are acknowledged.
        """
        await self._be_sure()
        delivered = self._unacked_through(through)
        count: int = await self._call("ack", self._consumer, through, *delivered)
        for offset in delivered:
            if self._unacked and self._unacked[0] == offset:  # not rewound in the meantime
                self._unacked.popleft()
        self._last_seen.note_acknowledged(self.partition, through)
        return count

    def rewind(self) -> None:
        """Continue with the oldest unacknowledged record."""
        self._last = _BEGINNING
        self._behind = True
        self._unacked.clear()

    async def raise_epoch(self, above: int) -> int:
        """Raise the epoch of this ownership above ``above``, and return it.

        Raises:
            PartitionLost: the partition has another owner.
            TransportUnavailable: it is unknown whether the epoch was raised; if it was, this inbox
                is fenced.
        """
        raised = await self._functions.call("raise_epoch", (self.lease,), self.epoch, above)
        self.epoch = int(raised)
        self._epoch = _text(self.epoch)
        return self.epoch

    async def _be_sure(self) -> None:
        """After a failed read, check that the log did not go back.

        A server that went back (transport/redis/rescue/last_seen.py), and whose clock is behind,
        may give new records lower ids than those already read here. If a read of such records
        failed, they would be pending where this inbox no longer looks, and the next acknowledgement
        would include them undelivered.

        Raises:
            PartitionLost: the log went back. The next claim begins with all pending records.
        """
        if not self._is_unsure:
            return
        position: bytes = await self._functions.call("position", (self.stream,), self._group)
        if position and sort_key(position.decode()) < sort_key(self.heard):
            raise self._gone_back(position.decode())
        self._is_unsure = False

    def _gone_back(self, to: str) -> PartitionLost:
        return PartitionLost(
            f"the log of partition {self.partition} went back from {self.heard} to {to}"
        )

    async def _transaction(self, count: int) -> tuple[list[Entry], list[Entry]]:
        """Return the entries to deliver again, and the new ones."""
        self._is_unsure = True
        made = self._connections.made
        after = (self._last,) if self._behind else (self._last, ">")
        read: Command = ("XREADGROUP", *self._source, count, "STREAMS", self.stream)
        transaction: list[Command] = [
            ("MULTI",),
            ("HGET", self.lease, "epoch"),
            *((*read, place) for place in after),
            ("EXEC",),
        ]
        if self._is_large:
            most = _REPLY_BYTES if count > 1 else 0
            replies = await self._connections.exchange(transaction, most=most)
        else:
            replies = await self._reads.exchange(transaction)
        refusal = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if isinstance(refusal, OutOfMemoryError):
            # A full server refuses transactions. The function costs more, but works there.
            epoch, *found = await self._read_on_a_full_server(count, after)
        elif refusal:
            raise translate(refusal)
        else:
            epoch, *found = replies[-1]
        if epoch != self._epoch:
            raise PartitionLost(f"partition {self.partition} has another owner")
        for reply in found:
            if isinstance(reply, Exception):
                await self._failed(reply)
        before, fresh = [reply[0][1] if reply else [] for reply in (*found, None)][:2]
        if fresh:
            first, last = fresh[0][0].decode(), fresh[-1][0].decode()
            if sort_key(first) <= sort_key(self.heard):
                raise self._gone_back(first)
            self.heard = last
            self._last_seen.note_seen(self.partition, last)
        self._is_unsure = False
        self._made = made
        return before, fresh

    async def _read_on_a_full_server(self, count: int, after: Sequence[str]) -> list[Reply]:
        call = self._functions.command(
            "read",
            (self.stream, self.lease),
            self._group,
            self.epoch,
            self._consumer,
            count,
            *after,
        )
        (reply,) = await self._functions.exchange([call])
        if isinstance(reply, Exception):
            await self._failed(reply)
        found: list[Reply] = reply
        return found

    async def _failed(self, error: Exception) -> NoReturn:
        translated = translate(error)
        if isinstance(translated, TopicMissing):
            await self._call("reopen")
            self.rewind()
            self.heard = _BEGINNING
        raise translated

    async def _again(self, entries: Sequence[Entry]) -> list[Record]:
        """Return the records of redelivered entries, with their delivery counts."""
        if gone := [entry_id for entry_id, fields in entries if fields is None]:
            await self._call("gone", *gone)
            entries = [entry for entry in entries if entry[1] is not None]
            if not entries:
                return []
        first, last = entries[0][0], entries[-1][0]
        if sort_key(last.decode()) > sort_key(self.heard):
            self.heard = last.decode()
        pending = await self._connections.call(
            "XPENDING", self.stream, self._group, first, last, len(entries), self._consumer
        )
        counts = {entry_id: count for entry_id, _, _, count in pending}
        return records(self.topic, self.partition, entries, counts)

    def _unacked_through(self, through: str) -> list[str]:
        offsets = []
        for offset in self._unacked:
            offsets.append(offset)
            if offset == through:
                return offsets
        limit = sort_key(through)
        return [offset for offset in offsets if sort_key(offset) <= limit]

    async def _call(self, function: str, *arguments: str | bytes) -> Reply:
        return await self._functions.call(
            function, (self.stream, self.lease), self._group, self.epoch, *arguments
        )


def _text(epoch: int) -> bytes:
    return str(epoch).encode()
