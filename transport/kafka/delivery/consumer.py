"""The consumer: a member of a group that replaces its Kafka client after failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Self

from aiokafka import AIOKafkaConsumer

from transport.backoff import Backoff
from transport.contract import Topic
from transport.errors import ConfigurationError, TransportError, TransportUnavailable
from transport.kafka.client.errors import translate
from transport.kafka.connection.closing import discard_consumer
from transport.kafka.delivery.claim import KafkaClaim
from transport.kafka.delivery.membership import KafkaMembership
from transport.kafka.delivery.read_outage import ReadOutage

__all__ = ["KafkaConsumer"]

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

_Join = Callable[
    [AIOKafkaConsumer, Callable[[KafkaClaim], None], Callable[[TransportUnavailable | None], None]],
    KafkaMembership,
]


class KafkaConsumer:
    """See ``transport.contract.Consumer``.

    Args:
        topic: The topic.
        group: The group.
        connect: Makes a client, not yet started.
        join: Makes the membership that runs a client. It gets a function that takes each claim, and
            one that takes the outcome of each look at the log.
        outage: Logs that the log can't be read.
        on_unreadable: Called after each look at a log that can't be read.
        on_closed: Called with this consumer when it is closed.
    """

    def __init__(
        self,
        *,
        topic: Topic,
        group: str,
        connect: Callable[[], AIOKafkaConsumer],
        join: _Join,
        outage: ReadOutage,
        on_unreadable: Callable[[], None],
        on_closed: Callable[[KafkaConsumer], None],
    ) -> None:
        self.topic = topic
        self.group = group
        self._connect = connect
        self._join = join
        self._outage = outage
        self._on_unreadable = on_unreadable
        self._on_closed = on_closed
        self._offers: asyncio.Queue[KafkaClaim | None] = asyncio.Queue()
        self._membership: KafkaMembership | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._trouble: TransportError | None = None
        self._was_let_in = False

    @property
    def fault(self) -> TransportError | None:
        """The known error that keeps this consumer from reading now, if any."""
        if self._trouble is not None:
            return self._trouble
        return self._membership.fault if self._membership is not None else None

    @property
    def claims_now(self) -> dict[int, KafkaClaim]:
        """The claims that are held now, by partition."""
        return self._membership.claims if self._membership is not None else {}

    @property
    def _is_kept_out(self) -> bool:
        return self._membership is not None and self._membership.kept_out

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *exc: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._ending is not None:
            await self._ending
        self._outage.ended(self)
        self._offers.put_nowait(None)
        self._on_closed(self)

    async def claims(self) -> AsyncIterator[KafkaClaim]:
        """See ``transport.contract.Consumer.claims``.

        Raises:
            ConfigurationError, TransportUnavailable: the group has not let this consumer in, for
                the reason that the text says. It goes on trying, so call this again later.
        """
        while True:
            claim = await self._offers.get()
            if claim is None:
                if self._task is None:
                    self._offers.put_nowait(None)  # for other iterators
                    return
                if isinstance(self._trouble, ConfigurationError):
                    raise self._trouble
                if self._is_kept_out and self.fault is not None:
                    raise self.fault
                continue
            # Also if another topic id was told meanwhile: its user leaves it then, so that it is
            # claimed again. Otherwise nobody would.
            if claim.assigned:
                yield claim

    async def _live(self) -> None:
        """Run one membership after another, each with a new client, until closed."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, calm=_LONGEST_PAUSE)
        while True:
            error = await self._one_life()
            self._trouble = translate(error, starting=not self._was_let_in)
            if isinstance(self._trouble, ConfigurationError):
                if self._was_let_in:
                    self._trouble = TransportUnavailable(str(error))
                elif self._offers.empty():
                    self._offers.put_nowait(None)  # for ``claims`` to raise it
            self._outage.failed(self, self._trouble)
            await asyncio.sleep(backoff.next())

    async def _one_life(self) -> Exception:
        client = self._connect()
        membership = self._join(client, self._take, self._looked)
        self._membership = membership
        error: Exception = TransportUnavailable("the consumer ended")
        try:
            await membership.run()
        except* Exception as group:  # noqa: BLE001 - a member that gave up would read nothing more
            # The traceback would keep this membership, and all of its fetched records, in memory
            # for the life of the next one.
            error = _first(group).with_traceback(None)
        finally:
            self._was_let_in |= membership.let_in
            # In a task of its own, since it has to finish even if this one is cancelled.
            self._ending = asyncio.create_task(_end(membership, client))
            await asyncio.shield(self._ending)
        return error

    def _take(self, claim: KafkaClaim) -> None:
        self._trouble = None
        self._offers.put_nowait(claim)

    def _looked(self, fault: TransportUnavailable | None) -> None:
        if fault is not None:
            self._outage.failed(self, fault)
            self._on_unreadable()
            if self._is_kept_out and self._offers.empty():
                self._offers.put_nowait(None)  # for ``claims`` to raise it: no claim would
            return
        if self._membership is not None and self._membership.spare:
            self._trouble = None  # a spare member gets no claim, which would clear it
        if self._trouble is None:
            self._outage.over(self)


async def _end(membership: KafkaMembership, client: AIOKafkaConsumer) -> None:
    await membership.end()
    await discard_consumer(client)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: Exception | BaseExceptionGroup[Exception] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
