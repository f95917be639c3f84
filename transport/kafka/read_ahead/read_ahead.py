"""The reads that wait: each continues where the last one ended, in what was fetched ahead of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from transport.contract import Record
from transport.errors import TransportUnavailable
from transport.kafka.client.errors import translate
from transport.kafka.connection.connection import Connector
from transport.kafka.log import TopicLayout
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.read_ahead.fetch_intake import FetchIntake
from transport.kafka.read_ahead.fetcher import Fetcher
from transport.kafka.read_ahead.followed import Failure, FollowedPartition, HeldBytes
from transport.kafka.read_ahead.read_log import ReadLog
from transport.kafka.reader import KafkaReader
from transport.kafka.records import record_of

__all__ = ["ReadAhead"]

_DAMAGE_BORNE = 2  # times the timeout of a request: enough to find a leader that moved
_GUEST_PAUSE = 0.25  # seconds until a read that nothing wakes asks the log again
_TIDY = 5.0  # seconds between two searches for partitions without reads


class ReadAhead:
    """Serves reads that wait for records, of any number of partitions at once.

    A partition is fetched from the first read on, and as long as the next one continues where the
    last one ended. A read elsewhere makes a new fetch position. If two readers read one partition
    at different offsets, the second one is served by ``reader``.

    Args:
        connector: Makes the client.
        logs: The topics.
        reader: Reads where no fetch is under way.
        epochs: Asks for the ends of leader epochs.
        reads: What was read of each partition.
        known_epoch: Returns the leader epoch at the last position that any process published.
        on_unreadable: Called when a read fails for long: a topic may be missing.
    """

    def __init__(
        self,
        connector: Connector,
        logs: Sequence[TopicLayout],
        reader: KafkaReader,
        *,
        epochs: LeaderEpochs,
        reads: ReadLog,
        known_epoch: Callable[[TopicPartition], Awaitable[int | None]],
        on_unreadable: Callable[[], None],
    ) -> None:
        self._timeout = connector.timeout
        self._patience = _DAMAGE_BORNE * connector.timeout
        self._topics = {log.name: log.topic for log in logs}
        self._reader = reader
        self._on_unreadable = on_unreadable
        self._followed: dict[TopicPartition, FollowedPartition] = {}
        self._held = HeldBytes()
        self._intake = FetchIntake(
            self._topics,
            epochs=epochs,
            reads=reads,
            known_epoch=known_epoch,
            patience=self._patience,
        )
        self._fetcher = Fetcher(connector, self._topics, self._intake, self._held)
        self._tidying: asyncio.TimerHandle | None = None
        self._closings = 0

    async def read(
        self, at: TopicPartition, start: int, limit: int, *, wait: float
    ) -> Sequence[Record]:
        """Return up to ``limit`` records from offset ``start`` on, or from the first one there is.

        Without any it waits for one, for at most ``wait`` seconds. Records of aborted transactions,
        and records after the start of an open one, are left out.

        Raises:
            TransportUnavailable: Kafka can't be read now.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + wait
        closings = self._closings
        while limit > 0:
            if closings != self._closings:  # the next lines would connect again
                raise TransportUnavailable("the log was closed during a read")
            part = self._continuing(at, start, follow=wait > 0)
            if part is not None:
                with part.used():
                    found = await self._from(part, start, limit, (began, until))
                if found is None:
                    continue
                if found or part.damaged or (part.empty_at >= began and not part.is_out_of_range):
                    return found
                # No fetch has ended since the read began, so this may not be the log's end.
                if await self._fetcher.fetch_now(part):
                    continue
            direct = await self._directly(at, part, start, limit, follow=wait > 0)
            left = until - loop.time()
            if direct or (left <= 0 and direct is not None):
                return direct
            if direct is not None and (other := self._followed.get(at)) is not None:
                await other.change(min(left, _GUEST_PAUSE))
        return []

    async def _directly(
        self,
        at: TopicPartition,
        part: FollowedPartition | None,
        start: int,
        limit: int,
        *,
        follow: bool,
    ) -> Sequence[Record] | None:
        """Return what the log has, without ``part``; ``None`` if ``part`` has to go back first."""
        found = await self._reader.read(at, start, limit)
        if found and part is None and follow:
            # Another read may have taken the first record after a cut, so that none follows here.
            intact = await self._intake.intact_end(at, start)
            if intact < start:
                found = await self._reader.read(at, intact, limit)
        if found and part is not None:
            if not await self._intake.is_intact(part):
                return None
            if not part.is_in_use(asyncio.get_running_loop().time(), within=0.0):
                self._forget(part)  # the next read begins after these
        return [record_of(self._topics[at.topic], raw) for raw in found]

    def is_following(self, at: TopicPartition) -> bool:
        """Return whether records of this partition may be handed over to a read."""
        return at in self._followed

    def hand_over(self, at: TopicPartition, records: Sequence[Record]) -> None:
        """Give adjacent records, which this process has just appended, to the partition's reader.

        They are dropped unless the reader's next record is the first of them: a fetch brings them.
        The log may have lost its tail since the last fetch, so none may have failed.
        """
        part = self._followed.get(at)
        if part is None or not part.is_confirmed or self._fetcher.has_enough(part):
            return
        if part.following == int(records[0].offset) and part.takes_more:
            part.hand_over(records)

    def fault(self) -> str:
        """Return the reason why a partition can't be read for long now; empty if all can."""
        now = asyncio.get_running_loop().time()
        for part in self._followed.values():
            if part.damaged is not None and now - part.damaged.since > self._patience:
                return part.damaged.reason()
            if part.failure is not None and now - part.failure.since > self._timeout:
                return str(translate(part.failure.error))
        return ""

    async def close(self) -> None:
        """Disconnect, and end the reads that wait; a later read connects again."""
        self._closings += 1
        for part in list(self._followed.values()):
            self._forget(part)
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        await self._fetcher.close()

    def _continuing(
        self, at: TopicPartition, start: int, *, follow: bool
    ) -> FollowedPartition | None:
        """Return the partition at ``start``; ``None`` if another reader has it elsewhere.

        Without ``follow``, no partition is made.
        """
        now = asyncio.get_running_loop().time()
        part = self._followed.get(at)
        if part is not None and part.continues_at(start):
            return part
        if not follow or (part is not None and part.is_in_use(now)):
            return None
        if part is not None:
            self._forget(part)
        part = self._followed[at] = FollowedPartition(at, start, now, self._held)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)
        self._fetcher.make_due(part)
        return part

    async def _from(
        self, part: FollowedPartition, start: int, limit: int, times: tuple[float, float]
    ) -> Sequence[Record] | None:
        """Return records of ``part``, or nothing when the time is over.

        ``None`` if another read took the records, or the partition is followed no longer.
        """
        loop, (began, until) = asyncio.get_running_loop(), times
        while True:
            if part.is_closed or not part.continues_at(start):
                return None
            found = part.take(limit)
            self._fetcher.fetch_more()
            left = until - loop.time()
            if found or left <= 0:
                return found
            if part.is_out_of_range:
                await self._enter_range(part)
                left = min(left, _GUEST_PAUSE)
            elif part.failure is not None and part.failure.at >= began:
                self._raise_if_lasting(part.failure)
            await part.change(left)

    def _raise_if_lasting(self, failure: Failure) -> None:
        error, since, now = failure
        is_final = not self._fetcher.is_connected or isinstance(
            error, TopicAuthorizationFailedError
        )
        if not is_final and now - since < self._timeout:
            return
        self._on_unreadable()
        translated = translate(error)
        if not isinstance(translated, TransportUnavailable):
            translated = TransportUnavailable(str(translated))
        raise translated from error

    async def _enter_range(self, part: FollowedPartition) -> None:
        """Continue at the beginning of the log if its first records were removed.

        A log that is shorter may have lost its tail: then it is read from there on.
        """
        begin = (await self._reader.begins([part.at]))[part.at]
        end = (await self._reader.readable_ends([part.at]))[part.at]
        if not part.is_out_of_range:
            return
        if part.fetched > max(begin, end):
            if not await self._intake.is_intact(part):
                self._fetcher.make_due(part)
            return
        was_removed = part.fetched < begin
        part.enter_range(max(part.fetched, begin))
        if was_removed:
            self._fetcher.make_due(part)
        else:
            self._fetcher.retry(part)  # the broker that answered is behind

    def _forget(self, part: FollowedPartition) -> None:
        part.close()
        self._fetcher.drop(part)
        if self._followed.get(part.at) is part:
            del self._followed[part.at]

    def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        for part in [each for each in self._followed.values() if each.is_abandoned(loop.time())]:
            self._forget(part)
        self._fetcher.fetch_more()
        self._tidying = loop.call_later(_TIDY, self._tidy) if self._followed else None
