"""A test producer: sends messages at a rate, spread over a number of conversations.

It sends the messages of a conversation one after the other, each after the acknowledgement of the
one before. So their order is promised, and can be checked (``lab.sending.row_check``).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import secrets
import time
from dataclasses import dataclass, field

import httpx

from crossfade import (
    AsyncClient,
    CrossfadeError,
    ForbiddenError,
    InvalidRequestError,
    NewMessage,
    UnauthenticatedError,
)
from lab.load.arrivals import gaps
from lab.load.latencies import Latencies
from lab.load.turns import turns

__all__ = ["SENDER", "Conversation", "Counts", "LoadPlan", "ProducerLoad"]

SENDER = "crossfade-dev-produce"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True)
class LoadPlan:
    """The rate, length and messages of a load."""

    rate: float
    """Messages per second."""
    conversations: int
    count: int | None
    """Number of messages in all; ``None``: no limit."""
    duration: float | None
    """Length in seconds; ``None``: no limit."""
    size: int
    """Length of a message's content, in characters."""
    repeats: float
    """The share of messages that are sent a second time with the same key."""

    @property
    def total(self) -> int | None:
        """Number of messages in all; ``None`` if neither count nor duration is set."""
        due = math.inf if self.duration is None else math.ceil(self.duration * self.rate)
        most = min(due, self.count or math.inf)
        return None if most == math.inf else int(most)


@dataclass
class Counts:
    """The outcomes of a load so far."""

    sent: int = 0
    accepted: int = 0
    repeated: int = 0
    """Acknowledgements of messages that the service already had."""
    requests: int = 0
    calls: int = 0
    failed: int = 0
    last_error: str = ""
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def retried(self) -> int:
        """Number of retries: requests beyond the first of each call."""
        return max(0, self.requests - self.calls)


@dataclass
class Conversation:
    """One conversation: its messages are numbered from 0."""

    name: str
    sent: int = 0
    accepted: int = 0
    last_id: str = ""
    """The id of the last acknowledged message."""
    open: set[int] = field(default_factory=set)
    """The numbers of messages without an acknowledgement; they may have rows or not."""


class ProducerLoad:
    """One run of the test producer.

    Args:
        plan: The load to send.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.counts = Counts()
        self.started = time.monotonic()
        self.ended: float | None = None
        run = secrets.token_hex(4)
        width = len(str(plan.conversations - 1))
        self.conversations = [
            Conversation(f"dev-{run}-{number:0{width}}") for number in range(plan.conversations)
        ]
        self._padding = "".join(random.choices(_ALPHABET, k=plan.size))  # noqa: S311 - a filling
        self._stopped = asyncio.Event()

    @property
    def seconds(self) -> float:
        """Seconds since its start, until its end."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def behind(self) -> int:
        """Number of messages that are due and not sent yet."""
        due = int(self.seconds * self.plan.rate)
        return max(0, min(due, self.plan.total or due) - self.counts.sent)

    def stop(self) -> None:
        """Send no further messages."""
        self._stopped.set()

    async def count_request(self, request: httpx.Request) -> None:
        """Count a request that sends a message; a hook for the HTTP client."""
        self.counts.requests += request.method == "POST"

    async def run(self, client: AsyncClient) -> None:
        """Send until the plan is done or ``stop`` is called.

        Raises:
            CrossfadeError: the service refused a message for a reason that a retry can't change,
                such as the API key.
        """
        self.started = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, conversation in enumerate(self.conversations):
                    tasks.create_task(self._send_all(client, conversation, number))
        except ExceptionGroup as group:
            # Not ``except*``: before Python 3.11.4 it makes a group of what is raised in it.
            refused, others = group.split(CrossfadeError)
            if refused is None or others is not None:
                raise
            raise refused.exceptions[0] from None
        finally:
            self.ended = time.monotonic()

    async def _send_all(self, client: AsyncClient, to: Conversation, first: int) -> None:
        """Send the messages of one conversation, each when it is due or as soon as possible."""
        plan = self.plan
        rests = gaps(plan.rate / plan.conversations)
        if (count := plan.total) is not None:
            rests = itertools.islice(rests, len(range(first, count, plan.conversations)))
        async for due in turns(rests, self._stopped, first=first / plan.rate):
            if plan.duration is not None and self.seconds >= plan.duration:
                return
            await self._send(client, to, due)

    async def _send(self, client: AsyncClient, to: Conversation, due: float) -> None:
        number = to.sent
        to.sent += 1
        self.counts.sent += 1
        content = f"{number} {self._padding}"[: max(self.plan.size, len(str(number)) + 1)]
        message = NewMessage(to.name, SENDER, content)
        to.open.add(number)
        try:
            await self._call(client, message, to, due)
            to.open.discard(number)
            if random.random() < self.plan.repeats:  # noqa: S311 - dice for a load
                await self._call(client, message, to, time.monotonic())
        except (UnauthenticatedError, ForbiddenError, InvalidRequestError):
            raise
        except CrossfadeError as error:
            self.counts.failed += 1
            self.counts.last_error = str(error)

    async def _call(
        self, client: AsyncClient, message: NewMessage, to: Conversation, due: float
    ) -> None:
        self.counts.calls += 1
        ack = await client.send(message)
        self.counts.latencies.add(time.monotonic() - due)
        if ack.message_id != to.last_id:
            to.accepted += 1
            to.last_id = ack.message_id
            self.counts.accepted += 1
        self.counts.repeated += ack.idempotent_hit
