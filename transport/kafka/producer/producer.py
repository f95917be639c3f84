"""An idempotent producer (KIP-98): sends the batches of a tick in one request to each leader.

aiokafka's producer makes a task and five futures for each batch, and encodes its request field by
field. A tick of 46 messages has fifteen partitions, so fifteen batches, and that was a third of the
ingress's work for a message. aiokafka still connects, knows the leaders, and packs the records.

Why no batch is appended twice or out of order
----------------------------------------------
A partition has one batch under way. The batch gets its sequence number when it is first sent. The
same bytes are sent again until a leader has answered, and the next batch is not sent before that.
The broker checks the numbers: it appends a batch only once, and only after its predecessor. An
error that allows no retry leaves a gap in the numbers, after which the broker would refuse all
batches (aiokafka issue 1017). So it breaks this producer, and one with a new identity replaces it.
A batch that is refused for its size, its records or our rights, at its first attempt, leaves no
gap: the next one gets its number.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    DuplicateSequenceNumber,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    NoError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from transport.errors import TransportError, TransportUnavailable
from transport.kafka.client.errors import InvalidRecordError, append_error, translate
from transport.kafka.client.node_outages import explained
from transport.kafka.producer.batch import BATCH_BYTES, Batch
from transport.kafka.producer.packed import Packed
from transport.kafka.producer.partition_queue import SEQUENCES, PartitionQueue
from transport.kafka.producer.produce import Produce
from transport.kafka.producer.throttled import Throttled

__all__ = ["Producer"]

log = logging.getLogger(__name__)

_REST = 0.1  # seconds before a failed batch is sent again
_NO_TRANSACTIONS = 2**31 - 1
_NO_ANSWER = (UnknownError.errno, -1, -1)
_REQUEST_BYTES = 16 * 1024 * 1024
"""The most bytes of the batches of a request, unless one batch is larger. A broker closes the
connection at 100 MB (``socket.request.max.bytes``), and then none of them is ever appended."""

_Sent = tuple[PartitionQueue, Batch]
# A broker looks for these before it writes a batch or counts its numbers.
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_UNCOUNTED = (
    *_TOO_LARGE, InvalidRecordError, InvalidTimestampError, TopicAuthorizationFailedError,
)  # fmt: skip


class Producer:
    """One identity at the brokers, from ``start`` to ``stop``.

    Args:
        client: the connection to the brokers.
        compression: the codec of batches, by Kafka's number; 0 is none.
        milliseconds: how long a request may take.
        on_broken: called with the reason when nothing can be sent under this identity any more.
    """

    def __init__(
        self,
        client: AIOKafkaClient,
        *,
        compression: int,
        milliseconds: int,
        on_broken: Callable[[Producer, str], None],
        throttled: Throttled,
    ) -> None:
        self._client = client
        self._compression = compression
        self._milliseconds = milliseconds
        self._on_broken = on_broken
        self._identity = (-1, -1)
        self._queues: dict[str, dict[int, PartitionQueue]] = {}
        self._batch_bytes: dict[str, int] = {}  # of topics that refused a batch for its size
        self._forbidden: set[str] = set()
        self._ready: dict[PartitionQueue, None] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._throttled = throttled
        self._woken = False
        self._closed = False
        self._answered = asyncio.Event()
        self._asked_at: float | None = None  # the first question for leaders since an answer
        client.cluster.add_listener(self._told_leaders)

    async def start(self) -> None:
        """Connect, and get an identity. Raises aiokafka's errors."""
        await self._client.bootstrap()
        while True:
            try:
                answer = await self._client.send(
                    self._client.get_random_node(), InitProducerIdRequest(None, _NO_TRANSACTIONS)
                )
                error = for_code(answer.error_code)
                if error is NoError:
                    self._identity = (answer.producer_id, answer.producer_epoch)
                    return
                raise error
            except KafkaError as failure:
                if not failure.retriable:
                    raise
            self._client.force_metadata_update()
            await asyncio.sleep(_REST)

    async def find(self, *topics: str) -> None:
        """Wait until the leaders of ``topics`` are known. Raises aiokafka's errors."""
        cluster = self._client.cluster
        loop = asyncio.get_running_loop()
        until = loop.time() + self._milliseconds / 1000
        await self._client.set_topics(topics)
        for topic in topics:
            while cluster.partitions_for_topic(topic) is None:
                if topic in cluster.unauthorized_topics:
                    raise TopicAuthorizationFailedError(topic)
                if loop.time() > until:
                    raise UnknownTopicOrPartitionError(topic)
                await asyncio.sleep(_REST)
                await self._client.force_metadata_update()

    def queue(self, topic: str, partition: int) -> PartitionQueue:
        """Return the queue of a partition."""
        queues = self._queues.setdefault(topic, {})
        queue = queues.get(partition)
        if queue is None:
            queue = queues[partition] = PartitionQueue(TopicPartition(topic, partition))
        return queue

    def queues(self) -> Iterator[PartitionQueue]:
        """Return the queues of all partitions that had batches."""
        return (queue for queues in self._queues.values() for queue in queues.values())

    def leader(self, queue: PartitionQueue) -> int | None:
        """Return the node that leads this partition. If none is known, ask; return ``None``."""
        leader: int | None = self._client.cluster.leader_for_partition(queue.partition)
        if leader is None or leader < 0:
            if self._asked_at is None:
                self._asked_at = asyncio.get_running_loop().time()
            self._client.force_metadata_update()
            return None
        return leader

    def unanswered(self) -> float:
        """Return for how many seconds no broker has answered a question for a missing leader."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else asyncio.get_running_loop().time() - asked_at

    def _told_leaders(self, _: object) -> None:
        self._asked_at = None

    def knows(self, topic: str) -> bool:
        """Return whether the brokers have this topic, by the last metadata."""
        return bool(self._client.cluster.partitions_for_topic(topic))

    def is_forbidden(self, topic: str) -> bool:
        """Return whether the last batch for ``topic`` was refused for our rights."""
        return topic in self._forbidden

    def open(self, queue: PartitionQueue, packed: Packed | None = None) -> Batch:
        """Return a new batch at the end of ``queue``.

        It has the ``packed`` record, or is empty and can be filled until it is sent.
        """
        most = self._batch_bytes.get(queue.partition.topic, BATCH_BYTES)
        batch = Batch(self._compression, packed, most)
        queue.waiting.append(batch)
        if queue.under_way is None:
            self._ready[queue] = None
            self._wake()
        return batch

    def make_full_batches(self) -> None:
        """Fill batches again: no topic has a lower limit than it should, by its settings."""
        self._batch_bytes.clear()

    def _wake(self) -> None:
        if not self._woken and not self._closed:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._send_what_waits)

    def _send_what_waits(self) -> None:
        self._woken = False
        requests: dict[int, list[_Sent]] = {}
        ready, self._ready = self._ready, {}
        for queue in ready:
            leader = self.leader(queue)
            if leader is None:
                self._rest(queue)
            elif seconds := self._throttled.seconds(leader):
                self._rest(queue, seconds)
            elif (batch := self._next(queue)) is not None:
                requests.setdefault(leader, []).append((queue, batch))
        for leader, of_leader in requests.items():
            for batches in _in_requests(of_leader):
                task = asyncio.create_task(self._request(leader, batches))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)

    def _next(self, queue: PartitionQueue) -> Batch | None:
        batch = queue.next()
        if batch is None:
            return None
        if batch.sent:
            batch.resent = True
        else:
            batch.number(*self._identity, queue.sequence)
            batch.sent = True
            queue.sequence = (queue.sequence + batch.count) % SEQUENCES
        queue.in_flight = True
        return batch

    async def _request(self, leader: int, batches: list[_Sent]) -> None:
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for queue, batch in batches:
            topic, partition = queue.partition
            topics.setdefault(topic, []).append((partition, batch.data))
        try:
            answer = await self._client.send(leader, Produce(topics, self._milliseconds))
        except (KafkaError, OSError, TimeoutError) as error:
            reason = explained(error, self._client, leader)
            for queue, batch in batches:
                self._failed(queue, batch, error, reason)
        else:
            self._throttled.note(leader, answer.throttled_ms / 1000)
            for queue, batch in batches:
                code, base, time = answer.partitions.get(queue.partition, _NO_ANSWER)
                # DuplicateSequenceNumber: the broker has the batch, but no longer knows its offset.
                if code in (NoError.errno, DuplicateSequenceNumber.errno):
                    self._acknowledged(queue, batch, base, time)
                else:
                    self._failed(queue, batch, for_code(code)())
        finally:
            self._answered.set()
            if self._ready:
                self._wake()

    def _acknowledged(self, queue: PartitionQueue, batch: Batch, base: int, time: int) -> None:
        queue.in_flight, queue.under_way, queue.refusal = False, None, ""
        batch.end(base=base, time=time)
        if self._forbidden:
            self._forbidden.discard(queue.partition.topic)
        if queue.waiting:
            self._ready[queue] = None

    def _failed(
        self,
        queue: PartitionQueue,
        batch: Batch,
        error: Exception,
        reason: str | None = None,
    ) -> None:
        queue.in_flight = False
        if not isinstance(error, KafkaError) or error.invalid_metadata:
            self._client.force_metadata_update()
        if not isinstance(error, KafkaError) or error.retriable:
            queue.refusal = f": {reason or translate(error)}"
            self._rest(queue)
            return
        queue.under_way = None
        if isinstance(error, _UNCOUNTED) and not batch.resent:
            self._refused(queue, batch, error)
            return
        batch.end(error=append_error(error, resent=batch.resent))
        self._on_broken(self, f"{queue}: {error}")

    def _refused(self, queue: PartitionQueue, batch: Batch, error: KafkaError) -> None:
        """Go on after a batch that the broker refused before it wrote or counted anything."""
        queue.sequence = (queue.sequence - batch.count) % SEQUENCES
        if isinstance(error, _TOO_LARGE):
            self._refused_for_size(queue, batch, error)
        else:
            topic = queue.partition.topic
            if isinstance(error, TopicAuthorizationFailedError):
                self._forbidden.add(topic)
            _refuse_all(queue, batch, append_error(type(error)(topic)))
        if queue.waiting:
            self._ready[queue] = None

    def _refused_for_size(self, queue: PartitionQueue, batch: Batch, error: KafkaError) -> None:
        """End a batch that is larger than the topic's max.message.bytes, which somebody lowered.

        A single record is refused for good. Of several, each may fit alone: their callers try
        again, and the next batches are smaller.
        """
        if batch.count == 1:
            batch.end(error=append_error(error))
            return
        topic, size = queue.partition.topic, len(batch.data)
        if size // 2 < self._batch_bytes.get(topic, BATCH_BYTES):
            self._batch_bytes[topic] = size // 2
            log.warning(
                "Kafka refuses a batch for its size: will send smaller ones; restore the "
                "topic's max.message.bytes",
                extra={"topic": topic, "bytes": size},
            )
        told = f"{queue} takes no batch of {size} bytes (max.message.bytes); not sent"
        _refuse_all(queue, batch, TransportUnavailable(told))

    def _rest(self, queue: PartitionQueue, seconds: float = _REST) -> None:
        asyncio.get_running_loop().call_later(seconds, self._try_again, queue)

    def _try_again(self, queue: PartitionQueue) -> None:
        if not queue.in_flight:
            self._ready[queue] = None
            self._wake()

    async def flush(self) -> None:
        """Wait until no batch waits or is under way."""
        while any(queue.has_work() for queue in self.queues()):
            self._answered.clear()
            await self._answered.wait()

    def fail_all(self) -> None:
        """End every batch with an error: sent ones are uncertain, waiting ones were never sent."""
        self._closed = True
        unknown = append_error(KafkaConnectionError("the producer was closed"))
        unsent = TransportUnavailable("the producer was closed; not sent")
        for queue in self.queues():
            if queue.under_way is not None:
                queue.under_way.end(error=unknown)
            for batch in queue.waiting:
                batch.end(error=unsent)
        self._queues.clear()
        self._ready.clear()

    async def stop(self) -> None:
        """Disconnect."""
        for task in self._requests:
            task.cancel()
        if self._requests:
            await asyncio.wait(self._requests)
        await self._client.close()


def _refuse_all(queue: PartitionQueue, batch: Batch, error: TransportError) -> None:
    """Refuse ``batch`` and those that wait behind it: the records of one call keep their order."""
    for refused in (batch, *queue.waiting):
        refused.end(error=error)


def _in_requests(batches: Iterable[_Sent]) -> Iterator[list[_Sent]]:
    """Yield the batches of one leader in requests of a bounded size."""
    request: list[_Sent] = []
    size = 0
    for queue, batch in batches:
        if request and size + len(batch.data) > _REQUEST_BYTES:
            yield request
            request, size = [], 0
        request.append((queue, batch))
        size += len(batch.data)
    yield request
