"""Acknowledges what several claims delivered without reading it, in one call for many of them.

Each partition in a call costs the server 20 to 40 us, however few records it is for, and the server
does nothing else during a call. So the claims that are due take turns: some of them in each call,
and the more there are, the longer each waits for its turn. What a crash leaves unacknowledged is
read again, and finds its row.
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

__all__ = ["JointAcks", "Passed"]

# How long a round of all claims that are due takes: then it is a hundredth of the server's time.
_ROUND_SECONDS = 0.05
_SECONDS_PER_CLAIM = 0.004
_LONGEST_ROUND_SECONDS = 1.0
_CLAIMS_PER_CALL = 16  # half a millisecond: 256 at once were seen in the p99 of answers and rows
_CALLS_PER_ROUND = 16  # at most; where more claims are due, a call has more of them


class Passed(NamedTuple):
    """An acknowledgement that is due, of ``records`` many after the group's ``position``."""

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
        self._by_slot = by_slot
        self._due: dict[Acknowledging, None] = {}  # in the order of their turns
        self._hurried: dict[Acknowledging, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._pause = _ROUND_SECONDS

    def add(self, claim: Acknowledging) -> None:
        """Acknowledge what the claim has passed, when its turn comes."""
        self._due[claim] = None
        self._wait()

    def hurry(self, claim: Acknowledging) -> None:
        """Acknowledge what the claim has passed, if anything, now.

        Where a call is under way, as soon as it has its answer.
        """
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
        """Take the claims whose turn it is, and note how long the next ones wait for theirs."""
        due = len(self._due)
        turns = max(_CLAIMS_PER_CALL, -(-due // _CALLS_PER_ROUND))
        # Others beside those in a hurry: under steady hurries, too, every claim has its turn.
        chosen = list(islice({**self._hurried, **self._due}, turns))
        for claim in chosen:
            del self._due[claim]
            self._hurried.pop(claim, None)
        # As many are likely to be due next time.
        whole = min(max(_ROUND_SECONDS, due * _SECONDS_PER_CLAIM), _LONGEST_ROUND_SECONDS)
        self._pause = whole * min(1.0, turns / max(1, due))
        return chosen

    async def _run(self, claims: Sequence[Acknowledging]) -> None:
        asked = [(claim, passed) for claim in claims if (passed := claim.begin_ack())]
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
        if self._hurried:
            self._begin()
        elif self._due:
            self._wait()

    async def _ask(self, asked: Sequence[tuple[Acknowledging, Passed]]) -> list[Reply]:
        # In a cluster a call may touch one partition only.
        calls = [[one] for one in asked] if self._by_slot else [asked]
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
