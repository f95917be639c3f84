"""Acknowledges what several claims delivered without reading it, in one call for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from redis.exceptions import ResponseError

from transport.redis.connection import Command, Reply
from transport.redis.errors import translate
from transport.redis.functions import Functions

__all__ = ["JointAcks", "Passed"]

# How long an acknowledgement waits for others'. Each partition in a call costs the server 20 to
# 40 us, however few records it is for, so the more partitions are due, the longer they wait: then
# acknowledgements take up to a hundredth of its time. A claim that has to read hurries them. What
# a crash leaves unacknowledged is read again, and finds its row.
_ACK_SECONDS = 0.05
_SECONDS_PER_CLAIM = 0.004
_LONGEST_SECONDS = 1.0
_CLAIMS_PER_CALL = 64  # the server does nothing else during a call


class Passed(NamedTuple):
    """What a claim is to acknowledge: ``records`` many after ``position``, where the group is."""

    position: str
    through: str
    message: str  # of the last one, which tells that the log is still the same
    records: int


class Acknowledging(Protocol):
    """A claim, as far as its acknowledgements go."""

    stream: str
    lease: str

    @property
    def epoch(self) -> int:
        """Its fencing number."""

    def begin_ack(self) -> Passed | None:
        """Return what it is to acknowledge now, if anything."""

    def acked(self, count: int, through: str, began: int) -> None:
        """Note that ``count`` records are acknowledged; ``began``: when that began (ns)."""

    def not_acked(self, error: Exception) -> None:
        """Note that it is not known how far they are."""


class JointAcks:
    """The claims of one consumer that have something to acknowledge.

    ``by_slot``: each call touches one partition, as a cluster wants it.
    """

    def __init__(self, functions: Functions, group: str, *, by_slot: bool) -> None:
        self._functions = functions
        self._group = group
        self._per_call = 1 if by_slot else _CLAIMS_PER_CALL
        self._due: dict[Acknowledging, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_hurried = False
        self._pause = _ACK_SECONDS

    def add(self, claim: Acknowledging) -> None:
        """Acknowledge what the claim has passed, soon."""
        self._due[claim] = None
        if self._timer is None and self._running is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self.hurry)

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
        due, self._due = self._due, {}
        asked = [(claim, passed) for claim in due if (passed := claim.begin_ack())]
        # As many are likely to be due next time.
        self._pause = min(max(_ACK_SECONDS, len(asked) * _SECONDS_PER_CLAIM), _LONGEST_SECONDS)
        began = time.time_ns()
        try:
            replies = await self._ask(asked) if asked else []
        except Exception as error:  # noqa: BLE001 - each claim goes back, and meets it as it reads
            replies = [error] * len(asked)
        finally:
            self._running = None
        for (claim, passed), reply in zip(asked, replies, strict=True):
            if isinstance(reply, Exception):
                claim.not_acked(translate(reply))
            elif reply:
                claim.not_acked(translate(ResponseError(reply.decode())))
            else:
                claim.acked(passed.records, passed.through, began)
        if self._due and self._is_hurried:
            self.hurry()
        elif self._due and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self.hurry)

    async def _ask(self, asked: Sequence[tuple[Acknowledging, Passed]]) -> list[Reply]:
        calls = [
            asked[first : first + self._per_call] for first in range(0, len(asked), self._per_call)
        ]
        replies: list[Reply] = []
        answers = await self._functions.exchange([self._command(call) for call in calls])
        for call, reply in zip(calls, answers, strict=True):
            replies += [reply] * len(call) if isinstance(reply, Exception) else reply
        return replies

    def _command(self, call: Sequence[tuple[Acknowledging, Passed]]) -> Command:
        keys: list[str] = []
        arguments: list[str | int] = []
        for claim, passed in call:
            keys += (claim.stream, claim.lease)
            arguments += (claim.epoch, *passed)
        return self._functions.command("pass", keys, self._group, *arguments)
