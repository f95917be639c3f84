"""Appending: one batch per partition and request, one outcome per record, and no call that hangs.

aiokafka's idempotent producer keeps order and retries for ever, so a batch that is under way has
three ends: acknowledged, refused, or *not yet*. After ``timeout`` the caller is told that the
outcome is unknown, and the partition counts as stuck: later appends to it are refused at once,
until that batch is acknowledged after all (it is its own probe) or the producer is replaced.
A batch that waited behind it, and was not given to the producer by then, never is: not sent.

A batch that failed leaves a hole in the partition's sequence numbers, after which the broker
refuses all others from this producer (aiokafka issue 1017). So any failure replaces the producer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.structs import RecordMetadata, TopicPartition

from transport.contract import Appended, Outcome
from transport.errors import (
    AppendUnknown,
    TopicMissing,
    TransportError,
    TransportUnavailable,
)
from transport.kafka.closing import discard_producer
from transport.kafka.connection import Connector
from transport.kafka.errors import append_error, translate
from transport.kafka.records import Outgoing

__all__ = ["Appender"]

log = logging.getLogger(__name__)

_REPLACE_AFTER = 30.0  # seconds of being stuck after which a new producer is tried
_BACKOFF_FIRST, _BACKOFF_MOST = 0.1, 5.0


class _Call:
    """One call of ``append``: ``answered`` when none of its batches is waited for any longer.

    A future of its own, and no task, so that cancelling the call costs the others nothing.
    """

    __slots__ = ("answered", "batches")

    def __init__(self) -> None:
        self.answered = asyncio.get_running_loop().create_future()
        self.batches = 0

    def one_less(self) -> None:
        self.batches -= 1
        if self.batches == 0 and not self.answered.done():
            self.answered.set_result(None)


class _Batch:
    """Records of one partition that share an acknowledgement."""

    __slots__ = ("base", "builder", "calls", "count", "done", "error", "sent", "timer")

    def __init__(self, builder: object) -> None:
        self.builder = builder
        self.calls: list[_Call] = []
        self.count = 0
        self.base = -1
        self.sent = False
        self.done = False
        self.error: TransportError | None = None
        self.timer: asyncio.TimerHandle | None = None

    def await_by(self, call: _Call) -> None:
        """Let ``call`` wait for this batch."""
        if not self.calls or self.calls[-1] is not call:
            self.calls.append(call)
            call.batches += 1

    def answer(self) -> None:
        """Let every call go on that waits for this batch."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.one_less()


_Place = tuple[_Batch, int]


class Appender:
    """The process's one producer, replaced when it is broken.

    ``topics`` are those it appends to, with the most bytes a record of each may have.
    ``on_missing`` is called when one of them turns out to be gone.
    """

    def __init__(
        self, connector: Connector, topics: Mapping[str, int], on_missing: Callable[[], None]
    ) -> None:
        self._connector = connector
        self._topics = topics
        self._on_missing = on_missing
        self._producer: AIOKafkaProducer | None = None
        self._why_not = "not started"
        self._open: dict[TopicPartition, _Batch] = {}
        self._order: dict[TopicPartition, asyncio.Lock] = {}
        self._stuck: dict[TopicPartition, _Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None
        self._discarding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises ``ConfigurationError`` or ``TransportUnavailable``."""
        self._producer = await self._connector.producer(self._topics)

    async def close(self) -> None:
        """Deliver what is under way, if that takes a moment only, and disconnect."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        if self._discarding is not None:  # what it holds has to fail, for its tasks to end
            await asyncio.wait([self._discarding])
        producer, self._producer, self._why_not = self._producer, None, "closed"
        if producer is not None:
            await discard_producer(producer, flush=True)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def check(self) -> None:
        """Return if appends are being taken, as far as is known without trying one.

        Raises:
            TransportUnavailable: a partition is stuck, or the producer is being replaced.
        """
        if self._producer is None:
            raise TransportUnavailable(f"no producer: {self._why_not}")
        for partition in self._stuck:
            raise TransportUnavailable(f"{_name(partition)} has not acknowledged for too long")

    async def append(
        self, topic: str, records: Sequence[tuple[int, Outgoing]]
    ) -> Sequence[Outcome]:
        """Append each record to its partition of ``topic``; return one outcome each, in order."""
        call = _Call()
        places = [self._place(TopicPartition(topic, p), record, call) for p, record in records]
        if call.batches:
            await call.answered
        return [
            self._outcome(TopicPartition(topic, p), place) if isinstance(place, tuple) else place
            for (p, _), place in zip(records, places, strict=True)
        ]

    def _place(
        self, partition: TopicPartition, record: Outgoing, call: _Call
    ) -> _Place | TransportError:
        """Put ``record`` in a batch; nothing is awaited, so one call's records keep their order."""
        producer = self._producer
        if producer is None:
            return TransportUnavailable(f"no producer: {self._why_not}")
        if partition in self._stuck:
            return TransportUnavailable(f"{_name(partition)} does not acknowledge; not sent")
        most = self._topics[partition.topic]
        if record.size > most:
            return TransportError(f"a record of {record.size} bytes; {most} fit into the topic")
        batch = self._open.get(partition)
        # A batch stays open while an earlier one is under way, so that calls share it.
        if batch is None or not _add(batch, record):
            if refusal := self._leaderless(producer, partition):
                return refusal
            batch = _Batch(producer.create_batch())
            if not _add(batch, record):
                return TransportError(f"a record of {record.size} bytes does not fit into a batch")
            self._open_batch(producer, partition, batch)
        batch.await_by(call)
        batch.count += 1
        return batch, batch.count - 1

    def _leaderless(
        self, producer: AIOKafkaProducer, partition: TopicPartition
    ) -> TransportUnavailable | None:
        """Refuse what could only wait for a leader, and be given up with a hole in the sequence."""
        leader = producer.client.cluster.leader_for_partition(partition)
        if leader is not None and leader >= 0:
            return None
        producer.client.force_metadata_update()
        if not producer.client.cluster.partitions_for_topic(partition.topic):
            self._on_missing()
            return TopicMissing(f"topic {partition.topic} is gone; not sent")
        return TransportUnavailable(f"{_name(partition)} has no leader now; not sent")

    def _open_batch(
        self, producer: AIOKafkaProducer, partition: TopicPartition, batch: _Batch
    ) -> None:
        self._open[partition] = batch
        batch.timer = asyncio.get_running_loop().call_later(
            self._connector.timeout, self._give_up_waiting, partition, batch
        )
        task = asyncio.create_task(self._deliver(producer, partition, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(
        self, producer: AIOKafkaProducer, partition: TopicPartition, batch: _Batch
    ) -> None:
        """Hand ``batch`` to the producer after the partition's earlier ones; note how it ended."""
        lock = self._order.get(partition)
        if lock is None:
            lock = self._order[partition] = asyncio.Lock()
        try:
            # One at a time is what the producer sends of a partition anyway. Waiters are let in as
            # they came, and gather records meanwhile.
            async with lock:
                self._close(partition, batch)
                acknowledged = await self._send(producer, partition, batch)
                if acknowledged is not None:
                    batch.base = (await acknowledged).offset
        except (KafkaError, OSError, TimeoutError) as error:
            batch.error = append_error(error)
            self._replace(producer, f"{_name(partition)}: {error}")
        finally:
            batch.done = True
            if batch.timer is not None:
                batch.timer.cancel()
            batch.answer()
            self._close(partition, batch)
            if self._stuck.get(partition) is batch:
                del self._stuck[partition]

    async def _send(
        self, producer: AIOKafkaProducer, partition: TopicPartition, batch: _Batch
    ) -> asyncio.Future[RecordMetadata] | None:
        """Give ``batch`` to the producer; return its acknowledgement, or none if it never went.

        Whatever ``send_batch`` itself raises, it did not take the batch.
        """
        if batch.done:
            return None  # it waited for too long
        batch.sent = True
        try:
            acknowledged: asyncio.Future[RecordMetadata] = await producer.send_batch(
                batch.builder, partition.topic, partition=partition.partition
            )
        except (KafkaError, OSError, TimeoutError) as error:
            batch.error = translate(error)
            if not isinstance(error, (KafkaTimeoutError, UnknownTopicOrPartitionError)):
                self._replace(producer, f"{_name(partition)}: {error}")
            return None
        return acknowledged

    def _close(self, partition: TopicPartition, batch: _Batch) -> None:
        """Let no more records join ``batch``.

        The producer counts a batch's records into its sequence numbers one turn of the loop before
        it writes them: a record that joined in between would break the sequence.
        """
        batch.builder.close()  # type: ignore[attr-defined]
        if self._open.get(partition) is batch:
            del self._open[partition]

    def _outcome(self, partition: TopicPartition, place: _Place) -> Outcome:
        batch, index = place
        if not batch.done:
            return AppendUnknown(
                f"{_name(partition)} did not acknowledge in {self._connector.timeout:g} s; "
                "the record may stand in the log, or come to"
            )
        if batch.error is not None:
            return batch.error
        if batch.base < 0:  # a resend of what the broker has, too long ago for it to say where
            return AppendUnknown(f"{_name(partition)} has the record, but not where")
        return Appended(str(batch.base + index))

    def _give_up_waiting(self, partition: TopicPartition, batch: _Batch) -> None:
        """Answer for a batch that takes too long, and refuse others until it is delivered."""
        if not batch.sent:
            self._close(partition, batch)
            batch.done = True
            batch.error = TransportUnavailable(
                f"{_name(partition)} did not acknowledge what came before; not sent"
            )
            batch.answer()
            return
        batch.answer()
        if self._stuck.setdefault(partition, batch) is not batch:
            return
        producer = self._producer
        if producer is not None:
            log.warning("Kafka does not acknowledge", extra={"partition": _name(partition)})
            loop = asyncio.get_running_loop()
            loop.call_later(_REPLACE_AFTER, self._replace_if_stuck, producer, partition, batch)

    def _replace_if_stuck(
        self, producer: AIOKafkaProducer, partition: TopicPartition, batch: _Batch
    ) -> None:
        if self._stuck.get(partition) is batch:
            self._replace(producer, f"{_name(partition)} was stuck for {_REPLACE_AFTER:g} s")

    def _replace(self, broken: AIOKafkaProducer, why: str) -> None:
        """Give up ``broken``: its outstanding batches fail, and a new producer is made."""
        if broken is not self._producer:
            return  # done already, or closing
        self._producer, self._why_not = None, why
        self._open.clear()
        self._discarding = asyncio.create_task(discard_producer(broken))
        self._replacing = asyncio.create_task(self._connect_again(self._discarding, why))

    async def _connect_again(self, discarding: asyncio.Task[None], why: str) -> None:
        log.warning("Replacing the Kafka producer", extra={"error": why})
        await asyncio.wait([discarding])
        pause = _BACKOFF_FIRST
        while True:
            try:
                self._producer = await self._connector.producer(self._topics)
            except TransportError as error:
                if isinstance(error, TopicMissing):
                    self._on_missing()
                self._why_not = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _BACKOFF_MOST)
            else:
                log.info("The Kafka producer is replaced")
                return


def _add(batch: _Batch, record: Outgoing) -> bool:
    added = batch.builder.append(  # type: ignore[attr-defined]
        timestamp=None, key=record.key, value=record.value, headers=record.headers
    )
    return added is not None


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"
