"""Members of a group, for tests: one only keeps its claims, the other one works on them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

from transport.clock import now
from transport.contract import WORKER_GROUP, Claim, Consumer, Envelope, Record, Topic, Transport
from transport.errors import PartitionLost, TransportUnavailable
from transport.message.envelope import Message, decode, seal_message
from transport.message.identity import idempotency_key, message_id
from transport.message.partitioner import partition_for

__all__ = ["ConformanceWorker", "Member", "contents", "drain", "message", "messages", "until"]

_CANCEL_SECONDS = 10.0
_numbers = itertools.count(1)


def message(text: str, *, partition: int, of: Transport) -> Envelope:
    """Return the envelope of a message whose conversation has its home in ``partition``."""
    conversation = next(
        name
        for name in (f"conversation-{i}" for i in itertools.count())
        if partition_for(name, of.partitions) == partition
    )
    client_id = f"client-{next(_numbers)}"
    key = idempotency_key("sender", conversation, client_id)
    return seal_message(
        Message(
            conversation_id=conversation,
            sender_id="sender",
            client_message_id=client_id,
            content=text,
            content_type="text",
            message_id=message_id(key, conversation),
            idempotency_key=key,
            accepted_at=now(),
            correlation_id=f"correlation-{client_id}",
        ),
        partitions=of.partitions,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


def messages(texts: Sequence[str], *, partition: int, of: Transport) -> list[Envelope]:
    """Return one envelope per text, all of one partition."""
    return [message(text, partition=partition, of=of) for text in texts]


def contents(records: Sequence[Record]) -> list[str]:
    """Return the contents of the messages in ``records``."""
    texts = []
    for record in records:
        event = decode(record)
        assert isinstance(event, Message)
        texts.append(event.content)
    return texts


async def drain(claim: Claim, count: int, *, patience: float) -> list[Record]:
    """Return the next ``count`` records of a claim."""
    records: list[Record] = []
    deadline = time.monotonic() + patience
    while len(records) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(records)} of {count} records after {patience} s"
        records += await claim.next(max_records=count - len(records), max_wait=min(left, 1.0))
    return records


async def until(condition: Callable[[], bool | Awaitable[bool]], *, patience: float) -> None:
    """Return once ``condition`` is true."""
    deadline = time.monotonic() + patience
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline, f"not so within {patience} s"
        await asyncio.sleep(0.01)


class Member:
    """A member that collects its claims and does nothing with them."""

    def __init__(
        self,
        transport: Transport,
        name: str = "one",
        *,
        group: str = WORKER_GROUP,
        topic: Topic = Topic.MESSAGES,
        patience: float = 20.0,
        linger: float = 0.0,
    ) -> None:
        self.consumer: Consumer = transport.consume(topic, group=group, member=name, linger=linger)
        self.claims: dict[int, Claim] = {}
        self.iterated_to_the_end = False
        self._patience = patience
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.consumer.__aenter__()
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.consumer.__aexit__(*exc)
        assert self._task is not None
        async with asyncio.timeout(self._patience):
            await self._task

    async def claim(self, partition: int) -> Claim:
        """Return the claim of a partition once it is assigned."""
        await until(lambda: partition in self.claims, patience=self._patience)
        return self.claims[partition]

    async def _collect(self) -> None:
        async for claim in self.consumer.claims():
            self.claims[claim.partition] = claim
        self.iterated_to_the_end = True


class ConformanceWorker:
    """A member that reads, keeps and acknowledges everything, partition by partition."""

    def __init__(
        self, transport: Transport, name: str, *, batch: int = 10, group: str = WORKER_GROUP
    ) -> None:
        self.consumer: Consumer = transport.consume(Topic.MESSAGES, group=group, member=name)
        self.owned: set[int] = set()
        self.records: list[Record] = []
        self._batch = batch
        self._leaving = False

    @asynccontextmanager
    async def working(self) -> AsyncIterator[ConformanceWorker]:
        """Work until the block ends; then leave the group."""
        self._leaving = False
        task = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            self._leaving = True
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        async with self.consumer, asyncio.TaskGroup() as tasks:
            async for claim in self.consumer.claims():
                tasks.create_task(self._serve(claim))

    async def _serve(self, claim: Claim) -> None:
        self.owned.add(claim.partition)
        try:
            async with claim:
                while not self._leaving:
                    await self._batch_of(claim)
                await asyncio.sleep(_CANCEL_SECONDS)
                raise AssertionError("a call of the claim swallowed the cancellation of its task")
        except PartitionLost:
            pass
        finally:
            self.owned.discard(claim.partition)

    async def _batch_of(self, claim: Claim) -> None:
        try:
            records = await claim.next(max_records=self._batch, max_wait=1.0)
            if records:
                self.records += records
                await claim.ack(records[-1].offset)
        except TransportUnavailable:
            await claim.nack()  # unacknowledged records are delivered again
            await asyncio.sleep(0.05)
