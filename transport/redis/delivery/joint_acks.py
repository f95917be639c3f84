"""Joint acknowledgements: one call acknowledges the handed-over records of many claims.

Each partition in a call costs the server 20 to 40 us, however few records it is for, and the server
does nothing else during a call. So the claims take turns, some in each call, and the more of them
are due, the longer each waits for its turn. Records that a crash leaves unacknowledged are read
again, and turn out to have a row.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from redis.exceptions import ResponseError

from transport.redis.client.functions import Functions
from transport.redis.connection.connection import Command, Reply
from transport.redis.connection.errors import translate

__all__ = ["DueAck", "JointAcks"]

# The time of a round of all claims that are due, so that rounds take a hundredth of the server's
# time.
_ROUND_SECONDS = 0.05
_SECONDS_PER_CLAIM = 0.004
_LONGEST_ROUND_SECONDS = 1.0
_CLAIMS_PER_CALL = 16  # half a millisecond; with 256 the p99 of answers and rows rose
_CALLS_PER_ROUND = 16  # at most; if more claims are due, each call has more of them


class DueAck(NamedTuple):
    """A due acknowledgement: so many ``records`` after the group's ``position``."""

    position: str
    through: str
    message: str  # the message id of the last record, which shows that the log is the same
    records: int


class Acknowledging(Protocol):
    """The part of a claim that acknowledges handed-over records."""

    stream: str
    lease: str

    @property
    def epoch(self) -> int:
        """The fencing number."""

    def begin_ack(self) -> DueAck | None:
        """Return the acknowledgement that is due now, if any."""

    def acked(self, count: int, through: str, began: int) -> None:
        """Note that ``count`` records are acknowledged.

        ``began``: when the call began, in nanoseconds.
        """

    def not_acked(self, error: Exception) -> None:
        """Note that the acknowledgement failed, or may have."""


class JointAcks:
    """Acknowledges the handed-over records of one consumer's claims, in turns.

    ``by_slot``: each call touches only one partition, as a cluster requires.
    """

    def __init__(self, functions: Functions, group: str, *, by_slot: bool) -> None:
        self._functions = functions
        self._group = group
        self._by_slot = by_slot
        self._due: dict[Acknowledging, None] = {}  # in the order of their turns
        self._hurried: dict[Acknowledging, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._pause = _ROUND_SECONDS

    def add(self, claim: Acknowledging) -> None:
        """Acknowledge the records that the claim's owner passed, when its turn comes."""
        self._due[claim] = None
        self._wait()

    def hurry(self, claim: Acknowledging) -> None:
        """Acknowledge the records that the claim's owner passed now, or after a call under way."""
        if claim in self._due:
            self._hurried[claim] = None
            if self._running is None:
                self._begin()

    async def close(self) -> None:
        """Acknowledge nothing more."""
        self._due.clear()
        self._hurried.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            await asyncio.wait([self._running])

    def _wait(self) -> None:
        if self._timer is None and self._running is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._running = asyncio.create_task(self._run(self._next()))

    def _next(self) -> list[Acknowledging]:
        """Take the claims whose turn it is, and set the pause before the next turn."""
        due = len(self._due)
        turns = max(_CLAIMS_PER_CALL, -(-due // _CALLS_PER_ROUND))
        # Hurried claims first. The rest follows, so that every claim has its turn.
        chosen = list(islice({**self._hurried, **self._due}, turns))
        for claim in chosen:
            del self._due[claim]
            self._hurried.pop(claim, None)
        # Assume that as many claims are due next time.
        whole = min(max(_ROUND_SECONDS, due * _SECONDS_PER_CLAIM), _LONGEST_ROUND_SECONDS)
        self._pause = whole * min(1.0, turns / max(1, due))
        return chosen

    async def _run(self, claims: Sequence[Acknowledging]) -> None:
        asked = [(claim, due) for claim in claims if (due := claim.begin_ack())]
        began = time.time_ns()
        try:
            replies = await self._ask(asked) if asked else []
        except Exception as error:  # noqa: BLE001 - each claim goes back, and its read raises it
            replies = [error] * len(asked)
        finally:
            self._running = None
        for (claim, due), reply in zip(asked, replies, strict=True):
            if isinstance(reply, Exception):
                claim.not_acked(translate(reply))
            elif reply:
                claim.not_acked(translate(ResponseError(reply.decode())))
            else:
                claim.acked(due.records, due.through, began)
        if self._hurried:
            self._begin()
        elif self._due:
            self._wait()

    async def _ask(self, asked: Sequence[tuple[Acknowledging, DueAck]]) -> list[Reply]:
        # In a cluster a call may touch only one partition.
        calls = [[one] for one in asked] if self._by_slot else [asked]
        replies: list[Reply] = []
        answers = await self._functions.exchange([self._command(call) for call in calls])
        for call, reply in zip(calls, answers, strict=True):
            replies += [reply] * len(call) if isinstance(reply, Exception) else reply
        return replies

    def _command(self, call: Sequence[tuple[Acknowledging, DueAck]]) -> Command:
        keys: list[str] = []
        arguments: list[str | int] = []
        for claim, due in call:
            keys += (claim.stream, claim.lease)
            arguments += (claim.epoch, *due)
        return self._functions.command("pass", keys, self._group, *arguments)
