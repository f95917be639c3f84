"""After a failover that lost acknowledged records: those who appended them have them still.

A replica that is promoted lacks what it was not sent yet. So each process keeps the last seconds of
what it appended (``recent_appends``), and looks at the server's replication id whenever it opens a
connection. Where that is another one, nothing is appended until a rescue is over: everybody who
wrote lately reports what of its own is gone, one of them appends all of it in the order of the old
log, and then all go on. If each appended its own, or went on before, messages that were sent after
others' acknowledgement could stand before these.

All of it is in the log's own server, so it works without PostgreSQL. Whoever is late, or leads and
dies, is not waited for longer than some seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import TypeVar
from uuid import uuid4

import msgspec
from redis.exceptions import RedisError

from transport.contract import Appended, Envelope, Outcome
from transport.envelope import HEADER_MESSAGE_ID
from transport.errors import TransportError, TransportUnavailable
from transport.redis.connection import Command
from transport.redis.connections import RedisConnections
from transport.redis.functions import Functions
from transport.redis.keys import TopicKeys
from transport.redis.recent_appends import RecentAppend, RecentAppends
from transport.redis.records import sort_key

__all__ = ["Rescue"]

_log = logging.getLogger(__name__)

_AWAITED_MS = 10_000
_REGISTER_SECONDS = 1.0
_POLL_SECONDS = 0.05
# For those who wrote lately to report; each comes back within two seconds, whatever it does.
_LATE_SECONDS = 2.5
_MOST_SECONDS = 5.0
_REFUSED_AFTER_SECONDS = 1.0
_PAIRS_PER_CALL = 500
_GONE = ord("1")

_T = TypeVar("_T")
Append = Callable[[Sequence[Envelope], bool], Awaitable[Sequence[Outcome]]]
"""Appends in order; whether repeats are told by their ids is the second argument."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[RecentAppend]).decode


class Rescue:
    """Of one log, for one process that appends to it.

    Args:
        connections: Those to the server.
        functions: The Lua library.
        log: The keys of the log.
        seconds: How long what was appended is kept; 0: there is no rescue.
    """

    def __init__(
        self, connections: RedisConnections, functions: Functions, log: TopicKeys, *, seconds: float
    ) -> None:
        self._connections = connections
        self.recent = RecentAppends(seconds)
        self.server = ""
        """The replication id of the server that is known to have all; empty if none is told."""
        self._functions = functions
        self._log = log
        self._is_on = seconds > 0
        self._member = uuid4().hex
        self._registered = -_REGISTER_SECONDS
        self._met = ""
        self._running: asyncio.Task[None] | None = None
        self._is_answered = False  # by the server, in the attempt under way
        self._append: Append | None = None

    def begin(self, append: Append) -> None:
        """Use ``append`` for what has to be appended again."""
        self._append = append

    def met(self, server: str) -> None:
        """Note the replication id of a server that a connection was made to."""
        if not server or not self._is_on:
            return
        self._met = server
        if not self.server:
            self.server = server
        elif server != self.server and self._running is None and self._append is not None:
            self._running = asyncio.create_task(self._run(self._append), name="rescue")

    async def over(self) -> None:
        """Return when no rescue is under way.

        Raises:
            TransportUnavailable: it takes longer than a moment.
        """
        until = asyncio.get_running_loop().time() + _REFUSED_AFTER_SECONDS
        while self._running is not None:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                raise TransportUnavailable(
                    "Redis failed over, and what that lost is appended again first: retry"
                )
            await asyncio.wait([self._running], timeout=left)

    def registration(self) -> Sequence[Command]:
        """Return what a trip of appends begins with now and then: that this process writes."""
        now = asyncio.get_running_loop().time()
        if not self._is_on or now - self._registered < _REGISTER_SECONDS:
            return ()
        self._registered = now
        return [
            self._functions.command("write_on", (self._log.writers,), self._member, _AWAITED_MS)
        ]

    async def close(self) -> None:
        """End a rescue under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self, append: Append) -> None:
        try:
            while self._met != self.server:
                server, self._is_answered = self._met, False
                try:
                    async with asyncio.timeout(_MOST_SECONDS):
                        await self._rescue(server, append)
                except TimeoutError:
                    if not self._is_answered:
                        continue  # the server is away again
                    _log.error(
                        "The rescue of what the new server may lack took more than %.0f s and was "
                        "given up: run `crossfade audit`, and have clients retry",
                        _MOST_SECONDS,
                    )
                except Exception:  # noqa: BLE001 - or nothing would be appended any more
                    _log.exception(
                        "The rescue of what the new server may lack failed: run `crossfade audit`"
                    )
                self.server = server
        finally:
            self._running = None

    async def _rescue(self, server: str, append: Append) -> None:
        mine = await self._patiently(self._gone)
        rescue = self._log.rescue(server)
        blob = _encode(mine)
        report = partial(self._functions.call, "report", (rescue,), self._member, blob)
        if not await self._patiently(report):
            await self._append_again(mine, append, is_late=True)
            return
        late = asyncio.get_running_loop().time() + _LATE_SECONDS
        while True:
            is_late = asyncio.get_running_loop().time() > late
            keys = (rescue, self._log.writers)
            arguments = (self._member, _AWAITED_MS, int(is_late))
            turn = await self._patiently(partial(self._functions.call, "lead", keys, *arguments))
            if turn == b"done":
                return
            if turn == b"lead":
                await self._lead(rescue, append)
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _lead(self, rescue: str, append: Append) -> None:
        reported = await self._patiently(partial(self._connections.call, "HGETALL", rescue))
        lost: list[RecentAppend] = []
        for member, blob in zip(reported[::2], reported[1::2], strict=True):
            if not member.startswith(b"#"):
                lost += _decode(blob)
        count = await self._append_again(lost, append, is_late=False)
        await self._patiently(partial(self._functions.call, "rescued", (rescue,), count))

    async def _append_again(
        self, lost: Sequence[RecentAppend], append: Append, *, is_late: bool
    ) -> int:
        if not lost:
            return 0
        count = 0
        ordered = sorted(lost, key=lambda it: sort_key(it.offset))
        for remember, run in groupby(ordered, key=lambda it: it.remember):
            left = [it.envelope for it in run]
            while left:
                outcomes = await append(left, remember)
                done = next(
                    (i for i, it in enumerate(outcomes) if isinstance(it, TransportError)),
                    len(left),
                )
                count += sum(type(it) is Appended for it in outcomes[:done])
                left = left[done:]
                if left:
                    await asyncio.sleep(_POLL_SECONDS)
        if not count:
            return 0
        _log.error(
            "A failover lost %d acknowledged records that this process and others still had: they "
            "were appended again, %s",
            count,
            "after newer ones, since this process heard of it late"
            if is_late
            else "in their order, before anything else",
        )
        return count

    async def _gone(self) -> list[RecentAppend]:
        """Return what this process appended lately and is not in the log."""
        left = self.recent.by_partition()
        found: list[RecentAppend] = []
        while left:
            parts = {p: some[:_PAIRS_PER_CALL] for p, some in left.items()}
            replies = await self._functions.exchange(
                [self._tell_gone(partition, some) for partition, some in parts.items()]
            )
            for some, reply in zip(parts.values(), replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                found += [it for it, flag in zip(some, reply, strict=True) if flag == _GONE]
            left = {p: rest for p, some in left.items() if (rest := some[_PAIRS_PER_CALL:])}
        return found

    def _tell_gone(self, partition: int, some: Sequence[RecentAppend]) -> Command:
        pairs = [
            text
            for it in some
            for text in (it.offset, it.envelope.headers.get(HEADER_MESSAGE_ID, ""))
        ]
        return self._functions.command("tell_gone", (self._log.streams[partition],), *pairs)

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer, however often it takes: a new server may be busy at first."""
        while True:
            with suppress(TransportError, RedisError):
                answer = await ask()
                self._is_answered = True
                return answer
            await asyncio.sleep(_POLL_SECONDS)
