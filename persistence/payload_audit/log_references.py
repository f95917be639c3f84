"""The payloads that records in the logs name, as far as the logs still hold them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from persistence.database.pool import Pool
from persistence.dead_letters.position import indexed_through
from persistence.ownership.settled import settled_through
from transport.contract import DLQ_GROUP, WORKER_GROUP, Record, Topic, Transport
from transport.errors import DecodeError
from transport.message.dead_letters import dead_letter_of
from transport.message.envelope import HEADER_MESSAGE_ID, Message, decode
from transport.progress import progress_everywhere

__all__ = ["LogReferences"]

_PAGE = 1000
# A body that this version can't decode may be of the next version, which names its payload too.
_MESSAGE = re.compile(rb'"payloadKey"\s*:\s*"([^"/]+)/')


class LogReferences:
    """Reads logs from their beginning, and later the records appended since.

    Settled records count as well: an audit restores rows from them.

    Args:
        pool: Connections to PostgreSQL.
        logs: Every log that may hold records of this database.
    """

    def __init__(self, pool: Pool, logs: Sequence[Transport]) -> None:
        self._pool = pool
        self._logs = logs
        self._read: dict[tuple[str, Topic, int], str] = {}
        self._first = True
        self._keys: set[str] = set()
        self._messages: set[str] = set()  # of records that can't be decoded
        self.oldest = time.time()
        """The time of the oldest record that was unread at first, or of the beginning: seconds
        since the epoch, by the logs' clocks."""

    def needs(self, key: str, message_id: str) -> bool:
        """Return whether a record names the object, or may name it."""
        return key in self._keys or message_id in self._messages

    async def look(self) -> None:
        """Read on: first the messages, then the dead letters.

        A message moves from messages to dead letters and then to the database, so only a reader in
        another order could miss it.

        Raises:
            TransportUnavailable: a log can't read some partition.
            Outage: PostgreSQL can't say which records are settled.
        """
        for topic, group in ((Topic.MESSAGES, WORKER_GROUP), (Topic.DEAD_LETTERS, DLQ_GROUP)):
            for log in self._logs:
                parts = await progress_everywhere(log, topic, group=group)
                numbers = [part.partition for part in parts]
                settled = await self._settled(log, topic, numbers) if self._first else {}
                for partition in numbers:
                    if self._first:
                        await self._date(log, topic, partition, settled.get(partition))
                    await self._read_on(log, topic, partition)
        self._first = False

    async def _settled(
        self, log: Transport, topic: Topic, partitions: Sequence[int]
    ) -> Mapping[int, str | None]:
        if topic is Topic.MESSAGES:
            return await settled_through(self._pool, log, partitions)
        return dict.fromkeys(partitions, await indexed_through(self._pool, log))

    async def _date(
        self, log: Transport, topic: Topic, partition: int, through: str | None
    ) -> None:
        unread = await log.read(topic, partition, after=through or None, limit=1)
        for record in unread:
            self.oldest = min(self.oldest, record.appended_at)

    async def _read_on(self, log: Transport, topic: Topic, partition: int) -> None:
        at = (log.name, topic, partition)
        while page := await log.read(topic, partition, after=self._read.get(at), limit=_PAGE):
            for record in page:
                self._note(record, topic)
            self._read[at] = page[-1].offset

    def _note(self, record: Record, topic: Topic) -> None:
        try:
            if topic is Topic.DEAD_LETTERS:
                return self._note(dead_letter_of(record).record, Topic.MESSAGES)
            event = decode(record)
        except DecodeError:
            named = [*_MESSAGE.findall(record.body), record.headers.get(HEADER_MESSAGE_ID, b"")]
            self._messages.update(name.decode("ascii", "replace") for name in named)
        else:
            if isinstance(event, Message) and event.payload:
                self._keys.add(event.payload.key)
        return None
