"""The appender: one batch per partition and request, one outcome per record, and a time limit.

The producer keeps order and retries for ever, so a batch is acknowledged, refused, or still under
way after ``timeout``. In the last case the caller gets an unknown outcome, and the partition counts
as stuck: appends to it are refused at once, until the batch is acknowledged after all or the
producer is replaced. A batch that waited behind the stuck one for ``timeout`` is never sent, and
its callers are told so.

If no partition is stuck, since none had a leader when all brokers moved to other addresses, the
producer is replaced as well: it asks only the addresses that it knows.

A failed batch leaves a gap in the partition's sequence numbers, after which the broker refuses all
other batches of this producer. So any failure replaces the producer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from transport.backoff import Backoff
from transport.contract import Appended, Outcome
from transport.errors import (
    AppendUnknown,
    TopicMissing,
    TransportError,
    TransportUnavailable,
)
from transport.kafka.connection.closing import discard_producer
from transport.kafka.connection.connection import Connector
from transport.kafka.producer.batch import Batch, Call
from transport.kafka.producer.packed import Packed
from transport.kafka.producer.partition_queue import PartitionQueue
from transport.kafka.producer.producer import Producer
from transport.kafka.records import Outgoing

__all__ = ["Appender"]

log = logging.getLogger(__name__)

_REPLACE_AFTER = 30.0  # seconds of being stuck or cut off after which a new producer is tried
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

_Place = tuple[PartitionQueue, Batch, int]
_Opened = tuple[PartitionQueue, Batch]


class Appender:
    """Appends through the process's one producer, and replaces it when it is broken.

    ``topics`` maps each topic to the most bytes that a record may have. ``on_missing`` is called
    when a topic is found to be missing.
    """

    def __init__(
        self, connector: Connector, topics: Mapping[str, int], on_missing: Callable[[], None]
    ) -> None:
        self._connector = connector
        self._topics = topics
        self._on_missing = on_missing
        self._producer: Producer | None = None
        self._why_not = "not started"
        self._deadlines: deque[tuple[float, list[_Opened]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._discarding: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises ``ConfigurationError`` or ``TransportUnavailable``."""
        self._producer = await self._connector.producer(self._topics, self._replace)

    async def close(self) -> None:
        """Give batches under way a moment to be delivered, and disconnect."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.wait([self._replacing])
        if self._discarding is not None:  # its batches have to fail, so that their callers go on
            await asyncio.wait([self._discarding])
        producer, self._producer, self._why_not = self._producer, None, "closed"
        if producer is not None:
            await discard_producer(producer, flush=True)
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Return if appends are taken, as far as is known without trying one.

        Raises:
            TransportUnavailable: a partition is stuck, or the producer is being replaced.
        """
        if self._producer is None:
            raise TransportUnavailable(f"no producer: {self._why_not}")
        for queue in self._producer.queues():
            if queue.stuck is not None and not queue.stuck.done:
                told = f"{queue} has not acknowledged for too long{queue.refusal}"
                raise TransportUnavailable(told)

    def is_forbidden(self, topic: str) -> bool:
        """Return whether the last append to ``topic`` was refused for our rights."""
        return self._producer is not None and self._producer.is_forbidden(topic)

    def make_full_batches(self) -> None:
        """Note that the topics' settings are as wanted, so that batches need not be smaller."""
        if self._producer is not None:
            self._producer.make_full_batches()

    async def append(
        self, topic: str, records: Sequence[tuple[int, Outgoing]]
    ) -> Sequence[Outcome]:
        """Append each record to its partition of ``topic``; return one outcome each, in order."""
        return [outcome for outcome, _ in await self.append_timed(topic, records)]

    async def append_timed(
        self, topic: str, records: Sequence[tuple[int, Outgoing]]
    ) -> Sequence[tuple[Outcome, int]]:
        """Append as ``append`` does; return the time of each append too.

        It is in milliseconds, by the log's clock; -1 if it is unknown, or if the record was sent
        more than once: the log may have changed its leader in between.
        """
        producer = self._producer
        if producer is None:
            return [(TransportUnavailable(f"no producer: {self._why_not}"), -1)] * len(records)
        call = Call()
        opened: list[_Opened] = []
        # No await between two records, so the records of one call keep their order.
        places = [
            self._place(producer, producer.queue(topic, partition), record, call, opened)
            for partition, record in records
        ]
        if opened:
            self._watch(opened)
        if call.batches:
            await call.answered
        return [
            (self._outcome(*it), -1 if it[1].resent else it[1].time)
            if isinstance(it, tuple)
            else (it, -1)
            for it in places
        ]

    async def append_alone(self, topic: str, partition: int, packed: Packed) -> Outcome:
        """Append a record that is a batch of its own; return its outcome."""
        producer = self._producer
        if producer is None:
            return TransportUnavailable(f"no producer: {self._why_not}")
        queue = producer.queue(topic, partition)
        refused = self._refusal(producer, queue, packed.size)
        if refused is not None:
            return refused
        if queue.waiting:
            queue.waiting[-1].closed = True
        batch, call = producer.open(queue, packed), Call()
        batch.await_by(call)
        self._watch([(queue, batch)])
        await call.answered
        return self._outcome(queue, batch, 0)

    def _place(
        self,
        producer: Producer,
        queue: PartitionQueue,
        record: Outgoing,
        call: Call,
        opened: list[_Opened],
    ) -> _Place | TransportError:
        """Add ``record`` to its partition's last batch, or to a new one."""
        if queue.stuck is not None and not queue.stuck.done:
            return _stuck(queue)
        batch = queue.waiting[-1] if queue.waiting else None
        # A record that fits into an open batch is smaller than any topic's limit.
        if batch is None or batch.closed or not batch.add(record):
            refused = self._refusal(producer, queue, record.size)
            if refused is not None:
                return refused
            batch = producer.open(queue)
            batch.add(record)
            opened.append((queue, batch))
        batch.await_by(call)
        return queue, batch, batch.count - 1

    def _refusal(
        self, producer: Producer, queue: PartitionQueue, size: int
    ) -> TransportError | None:
        """Return the error if no batch for a record of ``size`` bytes can be opened now."""
        if queue.stuck is not None and not queue.stuck.done:
            return _stuck(queue)
        if size > (most := self._topics[queue.partition.topic]):
            return TransportError(f"a record of {size} bytes; {most} fit into the topic")
        if producer.leader(queue) is None:
            return self._leaderless(producer, queue)
        return None

    def _leaderless(self, producer: Producer, queue: PartitionQueue) -> TransportUnavailable:
        """Return the refusal of an append to a partition without a leader.

        The record could only wait for a leader, and giving it up would leave a gap in the sequence.
        """
        topic = queue.partition.topic
        if not producer.knows(topic):
            self._on_missing()
            return TopicMissing(f"topic {topic} is gone; not sent")
        if producer.unanswered() > _REPLACE_AFTER:
            # All brokers may have moved to other addresses, and a client asks the known ones only.
            self._replace(producer, f"no broker has answered for {_REPLACE_AFTER:g} s")
        return TransportUnavailable(f"{queue} has no leader now; not sent")

    def _outcome(self, queue: PartitionQueue, batch: Batch, index: int) -> Outcome:
        if not batch.done:
            return AppendUnknown(
                f"{queue} did not acknowledge in {self._connector.timeout:g} s; the record may be "
                f"in the log, or may still arrive there{queue.refusal}"
            )
        if batch.error is not None:
            return batch.error
        if batch.base < 0:  # the broker has the batch, but too long to still know its offset
            return AppendUnknown(f"{queue} has the record, and does not say at which offset")
        return Appended(str(batch.base + index))

    def _watch(self, opened: list[_Opened]) -> None:
        """Give these batches ``timeout`` seconds. One timer serves all, as all have the same."""
        while self._deadlines and all(batch.done for _, batch in self._deadlines[0][1]):
            self._deadlines.popleft()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connector.timeout
        self._deadlines.append((deadline, opened))
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._look_for_late_ones)

    def _look_for_late_ones(self) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() + 0.001  # a timer may fire early by the clock's resolution
        while self._deadlines and self._deadlines[0][0] <= late:
            for queue, batch in self._deadlines.popleft()[1]:
                if not batch.done:
                    self._give_up_waiting(queue, batch)
        self._timer = None
        if self._deadlines:
            self._timer = loop.call_at(self._deadlines[0][0], self._look_for_late_ones)

    def _give_up_waiting(self, queue: PartitionQueue, batch: Batch) -> None:
        """Answer the callers of a late batch, and refuse other appends until it is delivered."""
        if not batch.sent:
            batch.end(
                error=TransportUnavailable(f"{queue} did not acknowledge earlier records; not sent")
            )
            return
        batch.answer()
        producer = self._producer
        if producer is not None and (queue.stuck is None or queue.stuck.done):
            if not any(other.stuck and not other.stuck.done for other in producer.queues()):
                log.warning(
                    "Kafka does not acknowledge a batch: appends to its partition are refused, "
                    "as to any other partition with such a batch",
                    extra={"partition": str(queue), "error": queue.refusal.removeprefix(": ")},
                )
            queue.stuck = batch
            loop = asyncio.get_running_loop()
            loop.call_later(_REPLACE_AFTER, self._replace_if_stuck, producer, queue, batch)

    def _replace_if_stuck(self, producer: Producer, queue: PartitionQueue, batch: Batch) -> None:
        if not batch.done:
            self._replace(producer, f"{queue} was stuck for {_REPLACE_AFTER:g} s")

    def _replace(self, broken: Producer, why: str) -> None:
        """Give up ``broken``: its outstanding batches fail, and a new producer is made."""
        if broken is not self._producer:
            return  # it was replaced already, or this is closing
        self._producer, self._why_not = None, why
        self._discarding = asyncio.create_task(discard_producer(broken))
        self._replacing = asyncio.create_task(self._connect_again(self._discarding, why))

    async def _connect_again(self, discarding: asyncio.Task[None], why: str) -> None:
        log.warning(
            "Replacing the Kafka producer: appends are refused until a new one is connected",
            extra={"error": why},
        )
        await asyncio.wait([discarding])
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                self._producer = await self._connector.producer(self._topics, self._replace)
            except TransportError as error:
                if isinstance(error, TopicMissing):
                    self._on_missing()
                self._why_not = str(error)
                await asyncio.sleep(backoff.next())
            else:
                log.info("Kafka producer replaced: appends are taken again")
                return


def _stuck(queue: PartitionQueue) -> TransportUnavailable:
    return TransportUnavailable(f"{queue} does not acknowledge; not sent{queue.refusal}")
