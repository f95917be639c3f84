"""The records that a claim was handed, until they are acknowledged.

The group's position stays before them, and moves past them only with their acknowledgement
(lua/delivery.lua, ``pass``). So whatever goes wrong ends in the same way: the claim goes back to
what is acknowledged, and reads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from redis.exceptions import ResponseError

from transport.redis.connection import Command, Reply
from transport.redis.errors import translate
from transport.redis.functions import Functions
from transport.redis.records import sort_key

__all__ = ["Acknowledged", "HandedRecords", "JointAcks", "Passed", "Passing"]

Acknowledged = Callable[[int], None]
"""Told when an acknowledgement began, in nanoseconds since the epoch, once it counts."""

# How long an acknowledgement may wait for others'. What a crash leaves unacknowledged is read
# again, and finds its row.
_ACK_SECONDS = 0.05
_CLAIMS_PER_CALL = 64  # the server does nothing else during a call


class Passed(NamedTuple):
    """What a claim is to acknowledge: ``records`` many after ``position``, where the group is."""

    position: str
    through: str
    message: str  # of the last one, which tells that the log is still the same
    records: int


class Passing(Protocol):
    """A claim, as far as its acknowledgement goes."""

    stream: str
    lease: str

    handed: HandedRecords

    @property
    def epoch(self) -> int:
        """Its fencing number."""

    def acked(self, count: int, through: str, began: int) -> None:
        """Note that ``count`` records are acknowledged; ``began``: when that began (ns)."""

    def not_acked(self, error: Exception) -> None:
        """Note that it is not known how far they are."""


class JointAcks:
    """Acknowledges what claims were handed, for all of them in one call."""

    def __init__(self, functions: Functions, group: str, *, by_slot: bool) -> None:
        self._functions = functions
        self._group = group
        self._by_slot = by_slot
        self._due: dict[Passing, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_hurried = False

    def add(self, claim: Passing) -> None:
        """Acknowledge what the claim has passed, soon."""
        self._due[claim] = None
        if self._timer is None and self._running is None:
            self._timer = asyncio.get_running_loop().call_later(_ACK_SECONDS, self.hurry)

    def hurry(self) -> None:
        """Acknowledge what is due now, or as soon as the call under way has its answer."""
        self._is_hurried = self._running is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._running is None:
            self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Acknowledge nothing more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        due, self._due = [claim for claim in self._due if claim.handed.is_passed], {}
        taken = [claim.handed.begin_ack() for claim in due]
        began = time.time_ns()
        try:
            replies = await self._ask(due, taken) if due else []
        except Exception as error:  # noqa: BLE001 - each claim goes back, and meets it as it reads
            replies = [error] * len(due)
        finally:
            self._running = None
        for claim, passed, reply in zip(due, taken, replies, strict=True):
            if isinstance(reply, Exception):
                claim.not_acked(translate(reply))
            elif reply:
                claim.not_acked(translate(ResponseError(reply.decode())))
            else:
                claim.acked(passed.records, passed.through, began)
        if self._due and self._is_hurried:
            self.hurry()
        elif self._due and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ACK_SECONDS, self.hurry)

    async def _ask(self, claims: Sequence[Passing], taken: Sequence[Passed]) -> list[Reply]:
        together = 1 if self._by_slot else _CLAIMS_PER_CALL
        commands: list[Command] = []
        for first in range(0, len(claims), together):
            keys: list[str] = []
            arguments: list[str | int] = []
            for claim, passed in zip(
                claims[first : first + together], taken[first : first + together], strict=True
            ):
                keys += (claim.stream, claim.lease)
                arguments += (claim.epoch, *passed)
            commands.append(self._functions.command("pass", keys, self._group, *arguments))
        replies: list[Reply] = []
        for reply in await self._functions.exchange(commands):
            asked = min(together, len(claims) - len(replies))
            replies += [reply] * asked if isinstance(reply, Exception) else reply
        return replies


class HandedRecords:
    """What one claim was handed: taken, then passed by its owner, then acknowledged."""

    def __init__(self) -> None:
        self._position = ""  # of the group, while there is anything here
        self._taken: deque[tuple[str, str, int]] = deque()  # through, its message, how many
        self._through, self._message = "", ""
        self._count = 0  # of what is passed, and not being acknowledged
        self._acking = False
        self._told: deque[tuple[str, Acknowledged]] = deque()
        self._settled: asyncio.Future[None] | None = None

    @property
    def any(self) -> bool:
        """Whether anything is not yet acknowledged."""
        return bool(self._taken or self._count or self._acking)

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits until there is nothing here."""
        return self._settled is not None and not self._settled.done()

    @property
    def is_passed(self) -> bool:
        """Whether there is something to acknowledge."""
        return self._count > 0

    @property
    def may_drop(self) -> bool:
        """Whether no acknowledgement is under way, or due."""
        return not self._count and not self._acking

    def take(self, position: str, through: str, message: str, count: int) -> None:
        """Note records that were handed over; before the first, the group is at ``position``."""
        if not self.any:
            self._position = position
        self._taken.append((through, message, count))

    def take_back(self) -> None:
        """Forget the last ones noted: they were not taken."""
        self._taken.pop()
        self._look()

    def passed(self, through: str, acknowledged: Acknowledged | None) -> bool:
        """Note that everything up to ``through`` is stored; whether that was handed over."""
        if not any(last == through for last, *_ in self._taken):
            return False
        while self._taken:
            self._through, self._message, count = self._taken.popleft()
            self._count += count
            if self._through == through:
                break
        if acknowledged:
            self._told.append((through, acknowledged))
        return True

    def begin_ack(self) -> Passed:
        """Return what is to be acknowledged now."""
        passed = Passed(self._position, self._through, self._message, self._count)
        self._count = 0
        self._acking = True
        return passed

    def acked(self, through: str, began: int) -> None:
        """Note where the group is now, and tell those who asked to be."""
        self._position = through
        limit = sort_key(through)
        while self._told and sort_key(self._told[0][0]) <= limit:
            self._told.popleft()[1](began)
        self._acking = False
        self._look()

    def drop(self) -> str:
        """Forget all; return up to where everything is acknowledged for certain."""
        self._taken.clear()
        self._told.clear()
        self._count = 0
        self._acking = False
        self._look()
        return self._position

    async def settled(self) -> None:
        """Return once there is nothing here."""
        while self.any:
            if self._settled is None or self._settled.done():
                self._settled = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._settled)

    def _look(self) -> None:
        if self._settled is not None and not self._settled.done() and not self.any:
            self._settled.set_result(None)
