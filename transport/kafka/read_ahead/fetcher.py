"""Sends the fetches: one at a time on each connection, of all partitions of a broker at once."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from transport.kafka.connection.closing import discard_client
from transport.kafka.connection.connection import Connector
from transport.kafka.read_ahead.channels import SHORT, Channels, Turn
from transport.kafka.read_ahead.fetch_intake import FetchIntake
from transport.kafka.read_ahead.fetches import Fetched, answered, fetch_request
from transport.kafka.read_ahead.followed import FollowedPartition, HeldBytes

__all__ = ["Fetcher"]

log = logging.getLogger(__name__)

_PAUSE = 0.1  # seconds before a failed fetch is sent again
_CONNECT_PAUSE = 0.5
_DAMAGED_PAUSE = 1.0
_LOG_AGAIN = 60.0
_MOST_HELD_BYTES = (
    64 * 1024 * 1024
)  # of all partitions; then only those without records are fetched
_REPLICA_SECONDS = 300.0  # after which the leader is asked again for a nearer replica


class Fetcher:
    """Fetches the partitions that are due, unless enough of their records are in memory.

    Each broker has two connections for fetches (``Channels``). A client whose fetches fail for
    longer than the timeout is replaced: it would not find brokers at a new address.

    Args:
        connector: Makes the client.
        topics: The names of the topics in Kafka.
        intake: Takes in the answers.
        held: The bytes of all records in memory.
    """

    def __init__(
        self, connector: Connector, topics: Collection[str], intake: FetchIntake, held: HeldBytes
    ) -> None:
        self._connector = connector
        self._topics = topics
        self._intake = intake
        self._held = held
        self._due: dict[FollowedPartition, None] = {}
        self._full: dict[FollowedPartition, None] = {}
        self._client: AIOKafkaClient | None = None
        self._channels: dict[int, Channels] = defaultdict(Channels)
        self._failing: dict[int, float] = {}  # brokers, and since when
        self._replicas: dict[TopicPartition, tuple[int, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._is_woken = False
        self._throttled_again = 0.0
        self._discards: set[asyncio.Task[None]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether there is a client. A failed fetch without one is final for the read."""
        return self._client is not None

    async def close(self) -> None:
        """Disconnect; a partition that becomes due later connects again."""
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

    def drop(self, part: FollowedPartition) -> None:
        """Fetch a partition no longer."""
        self._due.pop(part, None)
        self._full.pop(part, None)

    def make_due(self, part: FollowedPartition) -> None:
        """Fetch the partition next, unless enough of it is in memory."""
        if part.is_closed or part.is_out_of_range:
            return
        if self.has_enough(part):
            self._full[part] = None
        else:
            self._due[part] = None
            self._wake()

    def has_enough(self, part: FollowedPartition) -> bool:
        """Return whether the partition is not to be fetched: enough is in memory, with its own."""
        if not part.bytes:
            return False
        return part.is_full or self._held.bytes >= _MOST_HELD_BYTES

    def fetch_more(self) -> None:
        """Fetch those again whose records were taken."""
        for part in [each for each in self._full if not self.has_enough(each)]:
            del self._full[part]
            self.make_due(part)

    async def fetch_now(self, part: FollowedPartition) -> bool:
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
            await self._intake.take_in(part, fetched, asked)
        except Exception:  # noqa: BLE001 - the usual fetches handle it, and the reader answers
            return False
        return True

    def retry(self, part: FollowedPartition, seconds: float = _PAUSE) -> None:
        """Make the partition due after a pause."""
        asyncio.get_running_loop().call_later(seconds, self.make_due, part)

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
                self.retry(part, _CONNECT_PAUSE)
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
                self.retry(part)
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
                self.make_due(part)
            elif fetched.error is not None:
                self._refused(client, part, fetched.error, now)
            else:
                await self._try_to_take_in(part, fetched, positions[part.at])
                await asyncio.sleep(0)  # unpacking takes milliseconds

    async def _try_to_take_in(self, part: FollowedPartition, fetched: Fetched, asked: int) -> None:
        try:
            await self._intake.take_in(part, fetched, asked)
        except Exception as error:  # noqa: BLE001 - a parser may raise any
            part.fail(error, asyncio.get_running_loop().time())
            self.retry(part)
        else:
            if part.damaged is None:
                self.make_due(part)
            else:
                self.retry(part, _DAMAGED_PAUSE)

    def _refused(
        self, client: AIOKafkaClient, part: FollowedPartition, error: type[Exception], now: float
    ) -> None:
        was_replica = self._replicas.pop(part.at, None) is not None
        if error is OffsetOutOfRangeError and not was_replica:
            part.leave_range()
            return
        client.force_metadata_update()
        part.fail(error(), now)
        self.retry(part)

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
            self.retry(part)
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
