"""The reads that wait: follows partitions from read to read, and fetches ahead of them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import islice
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CorruptRecordException,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition

from transport.contract import Record
from transport.errors import TransportUnavailable
from transport.kafka.client.damaged import Damage, damage_of
from transport.kafka.client.errors import translate
from transport.kafka.connection.closing import discard_client
from transport.kafka.connection.connection import Connector
from transport.kafka.log import TopicLayout
from transport.kafka.loss.leader_epochs import LeaderEpochs
from transport.kafka.read_ahead.batches import BatchHead, batch_heads, count_removed
from transport.kafka.read_ahead.channels import SHORT, Channels, Turn
from transport.kafka.read_ahead.damaged_batches import begin_wait
from transport.kafka.read_ahead.fetches import Fetched, answered, fetch_request, unpacked
from transport.kafka.read_ahead.followed import Failure, FollowedPartition
from transport.kafka.read_ahead.read_log import ReadLog
from transport.kafka.reader import KafkaReader
from transport.kafka.records import record_of

__all__ = ["ReadAhead"]

log = logging.getLogger(__name__)

_PAUSE = 0.1  # seconds before a failed fetch is sent again
_CONNECT_PAUSE = 0.5
_DAMAGED_PAUSE = 1.0
_DAMAGE_BORNE = 2  # times the timeout of a request: enough to find a leader that moved
_LOG_AGAIN = 60.0
_GUEST_PAUSE = 0.25  # seconds until a read that nothing wakes asks the log again
_TIDY = 5.0  # seconds between two searches for partitions without reads
_MOST_HELD_BYTES = (
    64 * 1024 * 1024
)  # of all partitions; then only those without records are fetched
_REPLICA_SECONDS = 300.0  # after which the leader is asked again for a nearer replica


class ReadAhead:
    """Serves reads that wait for records, of any number of partitions at once.

    A partition is fetched from the first read on, and as long as the next one continues where the
    last one ended. A read elsewhere makes a new fetch position. If two readers read one partition
    at different offsets, the second one is served by ``reader``.

    Each broker has two connections for fetches (``Channels``). A client whose fetches fail for
    longer than the timeout is replaced: it would not find brokers at a new address.

    A log that lost its tail gives the lost offsets to other records, under a later leader epoch. So
    a reader whose position was in the lost tail gets the records from the cut on, at offsets that
    it may have passed before.

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
        self._connector = connector
        self._topics = {log.name: log.topic for log in logs}
        self._reader = reader
        self._epochs = epochs
        self._reads = reads
        self._known_epoch = known_epoch
        self._on_unreadable = on_unreadable
        self._patience = _DAMAGE_BORNE * connector.timeout
        self._followed: dict[TopicPartition, FollowedPartition] = {}
        self._due: dict[FollowedPartition, None] = {}
        self._full: dict[FollowedPartition, None] = {}
        self._client: AIOKafkaClient | None = None
        self._channels: dict[int, Channels] = defaultdict(Channels)
        self._failing: dict[int, float] = {}  # brokers, and since when
        self._replicas: dict[TopicPartition, tuple[int, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._is_woken = False
        self._closings = 0
        self._throttled_again = 0.0
        self._held_bytes = 0
        self._discards: set[asyncio.Task[None]] = set()

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
                if await self._fetch_now(part):
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
            intact = await self._intact_end(at, start)
            if intact < start:
                found = await self._reader.read(at, intact, limit)
        if found and part is not None:
            if not await self._is_intact(part):
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
        if part is None or not part.is_confirmed or self._has_enough(part):
            return
        if part.following == int(records[0].offset) and part.takes_more:
            held = part.bytes
            part.hand_over(records)
            self._held_bytes += part.bytes - held

    def fault(self) -> str:
        """Return the reason why a partition can't be read for long now; empty if all can."""
        now = asyncio.get_running_loop().time()
        for part in self._followed.values():
            if part.damaged is not None and now - part.damaged.since > self._patience:
                return part.damaged.reason()
            if part.failure is not None and now - part.failure.since > self._connector.timeout:
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
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._channels.clear()
        client, self._client, self._connecting = self._client, None, None
        if client is not None:
            await discard_client(client)
        if self._discards:
            await asyncio.wait(self._discards)

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
        part = self._followed[at] = FollowedPartition(at, start, now)
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)
        self._make_due(part)
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
            held = part.bytes
            found = part.take(limit)
            self._held_bytes -= held - part.bytes
            self._fetch_more()
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
        is_final = self._client is None or isinstance(error, TopicAuthorizationFailedError)
        if not is_final and now - since < self._connector.timeout:
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
            if not await self._is_intact(part):
                self._make_due(part)
            return
        was_removed = part.fetched < begin
        part.enter_range(max(part.fetched, begin))
        if was_removed:
            self._make_due(part)
        else:
            self._retry(part)  # the broker that answered is behind

    def _make_due(self, part: FollowedPartition) -> None:
        """Fetch the partition next, unless enough of it is in memory."""
        if part.is_closed or part.is_out_of_range:
            return
        if self._has_enough(part):
            self._full[part] = None
        else:
            self._due[part] = None
            self._wake()

    async def _look_up_epoch(self, part: FollowedPartition) -> None:
        """Find the leader epoch at the partition's first position, unless it is known."""
        if part.is_epoch_known:
            return
        epoch = self._reads.epoch(part.at, part.fetched - 1)
        if epoch is None and part.fetched > 0:
            epoch = await self._known_epoch(part.at)
        if not part.is_epoch_known:
            part.is_epoch_known, part.epoch = True, epoch
            self._reads.begin(part.at, epoch)

    async def _is_intact(self, part: FollowedPartition) -> bool:
        """Return whether the log still has the records before ``part.fetched``; else go back.

        Raises:
            TransportUnavailable: Kafka can't be asked now.
        """
        await self._look_up_epoch(part)
        epoch, number = part.epoch, part.at.partition
        if epoch is None:
            return True
        end = (await self._epochs.ends(part.at.topic, {number: epoch})).get(number)
        if part.epoch != epoch:
            return False  # another answer was compared with the log meanwhile
        if end is not None and end >= part.fetched:
            return True
        # A log that knows no such epoch was restored with its metadata: it is read from the start.
        self._cut(part, end or 0)
        return False

    async def _intact_end(self, at: TopicPartition, start: int) -> int:
        """Return ``start``, or where the log was cut if it lost records before ``start``.

        Raises:
            TransportUnavailable: Kafka can't be asked now.
        """
        epoch = self._reads.epoch(at, start - 1)
        if epoch is None:
            return start
        end = (await self._epochs.ends(at.topic, {at.partition: epoch})).get(at.partition)
        return min(end or 0, start)

    def _has_enough(self, part: FollowedPartition) -> bool:
        if not part.bytes:
            return False
        return part.is_full or self._held_bytes >= _MOST_HELD_BYTES

    def _fetch_more(self) -> None:
        """Fetch those again whose records were taken."""
        for part in [each for each in self._full if not self._has_enough(each)]:
            del self._full[part]
            self._make_due(part)

    def _forget(self, part: FollowedPartition) -> None:
        if not part.is_closed:
            self._held_bytes -= part.bytes
        part.close()
        self._due.pop(part, None)
        self._full.pop(part, None)
        if self._followed.get(part.at) is part:
            del self._followed[part.at]

    def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        for part in [each for each in self._followed.values() if each.is_abandoned(loop.time())]:
            self._forget(part)
        self._fetch_more()
        self._tidying = loop.call_later(_TIDY, self._tidy) if self._followed else None

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._fetch)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self) -> None:
        try:
            self._client = await self._connector.fetching(self._topics)
        except Exception as error:  # noqa: BLE001 - any error goes to the reads that wait
            now = asyncio.get_running_loop().time()
            for part in list(self._due):
                del self._due[part]
                part.fail(error, now)
                self._retry(part, _CONNECT_PAUSE)
        finally:
            self._connecting = None
        self._wake()

    def _fetch(self) -> None:
        """Send a fetch to each broker that has due partitions and a free connection."""
        self._is_woken = False
        client = self._client
        if client is None:
            if self._due and self._connecting is None:
                self._connecting = self._start(self._connect())
            return
        now = asyncio.get_running_loop().time()
        wanted: dict[int, list[FollowedPartition]] = defaultdict(list)
        for part in list(self._due):
            if (node := self._node(client, part.at, now)) is None:
                del self._due[part]
                client.force_metadata_update()
                part.fail(LeaderNotAvailableError(), now)
                self._retry(part)
            else:
                wanted[node].append(part)
        for node, parts in wanted.items():
            turn = self._channels[node].take(now)
            if isinstance(turn, float):
                asyncio.get_running_loop().call_later(turn, self._wake)
            elif turn is not None:
                for part in parts:
                    del self._due[part]
                self._start(self._ask(client, node, turn, parts))

    def _node(self, client: AIOKafkaClient, at: TopicPartition, now: float) -> int | None:
        node, until = self._replicas.get(at, (-1, 0.0))
        if now < until and client.cluster.broker_metadata(node) is not None:
            return node
        leader: int | None = client.cluster.leader_for_partition(at)
        return None if leader is None or leader < 0 else leader

    async def _ask(
        self, client: AIOKafkaClient, node: int, turn: Turn, parts: Sequence[FollowedPartition]
    ) -> None:
        loop, channels = asyncio.get_running_loop(), self._channels[node]
        sent_at = loop.time()
        positions = {part.at: part.fetched for part in parts}
        try:
            request = fetch_request(positions, wait_ms=turn.wait_ms, rack=self._connector.rack)
            answer = await client.send(node, request, group=turn.channel)
            by_partition = answered(answer)
        except Exception as error:  # noqa: BLE001 - aiokafka may raise any
            channels.give_back(turn.channel)
            self._unanswered(client, node, parts, error)
            return
        channels.give_back(turn.channel)
        self._wake()  # others may wait for the connection
        self._failing.pop(node, None)
        now, waited_until = loop.time(), sent_at + turn.wait_ms / 1000
        # At the end of its wait the broker reads the log once more.
        empty_at = waited_until if now >= waited_until else sent_at
        throttled = answer.throttle_time_ms / 1000
        if throttled > 0:
            self._note_throttled(node, throttled)
            channels.rest(now + throttled)  # and an answer without records means nothing
        for part in parts:
            fetched = by_partition.get(part.at)
            if part.is_closed:
                continue
            if fetched is None or (fetched.error is None and not fetched.data):
                if fetched is not None and fetched.replica >= 0:
                    self._replicas[part.at] = (fetched.replica, now + _REPLICA_SECONDS)
                elif not throttled:
                    part.ended(empty_at)
                self._make_due(part)
            elif fetched.error is not None:
                self._refused(client, part, fetched.error, now)
            else:
                await self._try_to_take_in(part, fetched, positions[part.at])
                await asyncio.sleep(0)  # unpacking takes milliseconds

    async def _try_to_take_in(self, part: FollowedPartition, fetched: Fetched, asked: int) -> None:
        try:
            await self._take_in(part, fetched, asked)
        except Exception as error:  # noqa: BLE001 - a parser may raise any
            part.fail(error, asyncio.get_running_loop().time())
            self._retry(part)
        else:
            if part.damaged is None:
                self._make_due(part)
            else:
                self._retry(part, _DAMAGED_PAUSE)

    async def _fetch_now(self, part: FollowedPartition) -> bool:
        """Fetch a partition without a wait; return whether the log answered."""
        client, now = self._client, asyncio.get_running_loop().time()
        if client is None or part.is_closed or part.is_out_of_range:
            return False
        if (node := self._node(client, part.at, now)) is None:
            return False
        asked = part.fetched
        try:
            request = fetch_request({part.at: asked}, wait_ms=0, rack=self._connector.rack)
            answer = await client.send(node, request, group=SHORT)
            fetched = answered(answer).get(part.at)
            if fetched is None or (fetched.error is None and not fetched.data):
                is_answered = not answer.throttle_time_ms
                if is_answered and part.fetched == asked:
                    part.ended(now)
                return is_answered
            if fetched.error is not None:
                return False
            await self._take_in(part, fetched, asked)
        except Exception:  # noqa: BLE001 - the usual fetches handle it, and the reader answers
            return False
        return True

    async def _take_in(self, part: FollowedPartition, fetched: Fetched, asked: int) -> None:
        """Take in the answer to a fetch at ``asked``."""
        heads = list(batch_heads(fetched.data))
        await self._look_up_epoch(part)
        is_continued = not heads or part.epoch in (None, heads[0].epoch)
        if not is_continued and not await self._is_intact(part):
            return
        start = part.fetched
        if part.is_closed or asked > start or (asked < start and heads and heads[-1].end <= start):
            return  # it was cut, or all of these are in memory
        if part.handed and heads:
            if not self._confirm(part, fetched, heads) or part.fetched == heads[-1].end:
                return
            start = part.fetched
        records, following = unpacked(part.at, fetched, start)
        if following <= start and asked < start:
            return
        if following == start:
            raise CorruptRecordException(str(part.at))
        if records and (damage := damage_of(records[0])) is not None:
            if not self._may_pass(part, damage):
                return
            self._reads.note_removed(part.at, records[0].offset + 1, damage.records)
        else:
            self._note_removed(part, fetched.data, following, [raw.offset for raw in records])
            self._note_epochs(part, heads, following)
        topic = self._topics[part.at.topic]
        self._add(part, [record_of(topic, raw) for raw in records], following)

    def _confirm(
        self, part: FollowedPartition, fetched: Fetched, heads: Sequence[BatchHead]
    ) -> bool:
        """Return whether the log has the records that were handed over; else go back to them.

        Under one leader epoch a log only grows. A later one may have begun before they were
        appended, or afterwards with a log that had lost them. So they are compared then.
        """
        start, end = part.fetched, min(part.following, heads[-1].end)
        if any(head.epoch != part.epoch for head in heads):
            found, _ = unpacked(part.at, fetched, start)
            kept = [(raw.offset, raw.key, raw.value) for raw in found if raw.offset < end]
            if kept != [
                (int(record.offset), record.key.encode(), record.body)
                for record in islice(part.handed, end - start)
            ]:
                self._cut(part, start)
                return False
            self._note_epochs(part, heads, end)
        part.confirm(end)
        if part.epoch is not None:
            self._reads.note_end(part.at, end, part.epoch)
        return True

    def _cut(self, part: FollowedPartition, offset: int) -> None:
        log.warning(
            "A partition is read again from an earlier offset: Kafka elected a leader whose log "
            "ends there. If it lost records, they are counted",
            extra={"topic": part.at.topic, "partition": part.at.partition, "offset": offset},
        )
        part.cut(offset)

    def _note_epochs(self, part: FollowedPartition, heads: Sequence[BatchHead], end: int) -> None:
        for head in heads:
            if head.end > part.fetched and head.base < end:
                self._note_epoch(part, head.epoch, max(head.base, part.fetched))

    def _note_epoch(self, part: FollowedPartition, epoch: int, offset: int) -> None:
        part.is_confirmed = True
        if part.epoch != epoch:
            self._reads.note(part.at, max(offset, part.noted_from), epoch)
            part.epoch = epoch

    def _note_removed(
        self, part: FollowedPartition, data: bytes, end: int, present: Sequence[int]
    ) -> None:
        if count := count_removed(data, part.fetched, end, present):
            self._reads.note_removed(part.at, end, count)
            log.error(
                "Compaction removed records before they were read: set the topic's cleanup.policy "
                "to delete, and run `crossfade audit`",
                extra={"topic": part.at.topic, "partition": part.at.partition, "lost": count},
            )

    def _may_pass(self, part: FollowedPartition, damage: Damage) -> bool:
        """Return whether to return a damaged batch as a record; if not, it is fetched again."""
        now, wait = asyncio.get_running_loop().time(), part.damaged
        if wait is None or wait.offset != part.fetched:
            wait = begin_wait(part.at, part.fetched, now)
        elif wait.is_over(damage, now, patience=self._patience):
            return True
        part.damaged = wait.logged_again(damage, now, patience=self._patience)
        part.is_confirmed = False
        return False

    def _add(self, part: FollowedPartition, records: Sequence[Record], following: int) -> None:
        held = part.bytes
        part.add(records, following)
        self._held_bytes += part.bytes - held
        if part.epoch is not None:
            self._reads.note_end(part.at, following, part.epoch)

    def _refused(
        self, client: AIOKafkaClient, part: FollowedPartition, error: type[Exception], now: float
    ) -> None:
        was_replica = self._replicas.pop(part.at, None) is not None
        if error is OffsetOutOfRangeError and not was_replica:
            part.leave_range()
            return
        client.force_metadata_update()
        part.fail(error(), now)
        self._retry(part)

    def _note_throttled(self, node: int, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._throttled_again:
            self._throttled_again = now + _LOG_AGAIN
            log.warning(
                "Kafka slows our reading down, as our quota is used up: raise consumer_byte_rate "
                "and request_percentage of our user or client id",
                extra={"node": node, "seconds": seconds},
            )

    def _unanswered(
        self,
        client: AIOKafkaClient,
        node: int,
        parts: Sequence[FollowedPartition],
        error: Exception,
    ) -> None:
        now = asyncio.get_running_loop().time()
        for part in parts:
            self._replicas.pop(part.at, None)
            part.fail(error, now)
            self._retry(part)
        is_replaced = client is not self._client
        if is_replaced:
            return
        client.force_metadata_update()
        if now - self._failing.setdefault(node, now) >= self._connector.timeout:
            self._client = None
            self._channels.clear()
            self._failing.clear()
            discard = asyncio.create_task(discard_client(client))
            self._discards.add(discard)
            discard.add_done_callback(self._discards.discard)

    def _retry(self, part: FollowedPartition, seconds: float = _PAUSE) -> None:
        asyncio.get_running_loop().call_later(seconds, self._make_due, part)
