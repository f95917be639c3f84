"""The ``Transport`` on a log in memory."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Self

from transport.contract import (
    CONTRACT,
    DeadLetter,
    Envelope,
    Features,
    GroupStanding,
    Holding,
    LogLocation,
    Outcome,
    Progress,
    Record,
    Remembered,
    Topic,
)
from transport.durability import Durability
from transport.log_name import LogName
from transport.memory.log import MemoryLog
from transport.memory.partition import MemoryPartition
from transport.message.dead_letters import dead_letter_headers
from transport.numeric_offsets import offset_number, offset_sort_key
from transport.settings import TransportSettings
from transport.sizes import of_one_read

__all__ = ["MemoryTransport"]


_NAME = LogName("memory")


class MemoryTransport:
    """See ``transport.contract.Transport``."""

    contract = CONTRACT
    system = "memory"
    features = Features(remembers=True, durable=False, shared=False)
    location = LogLocation("memory", numbered=True)

    def __init__(
        self, settings: TransportSettings, name: LogName = _NAME, *, log: MemoryLog | None = None
    ) -> None:
        self.name = str(name)
        self.partitions = settings.stream_partitions
        self._log = log or MemoryLog(settings)

    @classmethod
    def from_settings(cls, settings: TransportSettings, name: LogName = _NAME) -> Self:
        """Return a transport on an empty log of its own."""
        return cls(settings, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append envelopes; see the contract."""
        return [self._log.append(envelope, remember=remember) for envelope in envelopes]

    async def recall(self, message_ids: Sequence[str]) -> Sequence[Remembered | None]:
        """Look up remembered message ids; see the contract."""
        return [self._log.known(identifier) for identifier in message_ids]

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Append dead letters; see the contract."""
        (partition,) = self._log.topics[Topic.DEAD_LETTERS]
        for letter in letters:
            partition.append(letter.record.key, letter.record.body, dead_letter_headers(letter))

    async def read(
        self,
        topic: Topic,
        partition: int,
        *,
        after: str | None = None,
        limit: int = 1000,
        wait: float = 0.0,
    ) -> Sequence[Record]:
        """Return records after an offset; see the contract."""
        start = int(after) + 1 if after is not None else 0
        log = self._log.topics[topic][partition]
        deadline = time.monotonic() + wait
        while True:
            found = log.since(start, limit)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return of_one_read(found)
            await log.wait(left)

    async def read_back(
        self, topic: Topic, partition: int, *, before: str | None = None, limit: int = 1000
    ) -> Sequence[Record]:
        """Return the last records before an offset; see the contract."""
        log = self._log.topics[topic][partition]
        end = log.end if before is None else min(offset_number(before), log.end)
        start = max(log.first, end - limit)
        return of_one_read(log.since(start, max(0, end - start)), last=True)

    async def reaches(self, topic: Topic, partition: int, *, after: str | None) -> bool:
        """Return whether nothing after an offset was dropped; see the contract."""
        return self._log.topics[topic][partition].first <= (-1 if after is None else int(after)) + 1

    def offset_before(self, offset: str) -> str | None:
        """Return the offset before one; see the contract."""
        number = offset_number(offset)
        return str(number - 1) if number else None

    async def offset_before_time(self, topic: Topic, partition: int, time: float) -> str | None:
        """Return the offset before a time; see the contract."""
        log = self._log.topics[topic][partition]
        place = bisect_left(log.records, time, key=lambda record: record.appended_at)
        return self.offset_before(str(log.first + place))

    async def progress(self, topic: Topic, *, group: str) -> Sequence[Progress]:
        """Return a group's progress; see the contract."""
        positions = self._log.positions(topic, group)
        return list(map(_progress, self._log.topics[topic], positions))

    async def surplus(self) -> Sequence[int]:
        """Return nothing: the log has the partitions that it was made with."""
        return ()

    async def publish_positions(
        self, topic: Topic, positions: Mapping[int, str], *, group: str
    ) -> None:
        """Set a group's positions; see the contract."""
        through = {number: offset_number(offset) for number, offset in positions.items()}
        self._log.publish_positions(topic, through, group)

    def sort_key(self, offset: str) -> bytes:
        """Return a key that orders offsets; see the contract."""
        return offset_sort_key(offset)

    async def identity(self) -> str:
        """Return the identity of the log in memory."""
        return self._log.identity

    async def forget_group(self, group: str) -> None:
        """Forget a group; see the contract."""
        self._log.forget(group)

    async def groups(self) -> Sequence[GroupStanding]:
        """Return every group; see the contract."""
        return self._log.groups()

    async def remove(self, *, dry_run: bool = False) -> Sequence[Holding]:
        """Empty the log; see the contract."""
        return self._log.remove(dry_run=dry_run)

    async def durability(self) -> Durability:
        """Return the durability: no fault is survived."""
        return Durability(crash=False, power=False, disk=False, figures={"kept": "in memory"})

    async def ping(self) -> None:
        """Return at once: a log in memory always takes writes."""


def _progress(partition: MemoryPartition, position: int) -> Progress:
    oldest = partition.since(position, 1)
    return Progress(
        partition=partition.number,
        lag=partition.end - position,
        oldest_age=max(0.0, time.time() - oldest[0].appended_at) if oldest else 0.0,
        floor=str(position - 1) if position else None,
        end=str(partition.end - 1) if partition.end else None,
        appended=partition.end,
        untrimmed=partition.first == 0,
    )
