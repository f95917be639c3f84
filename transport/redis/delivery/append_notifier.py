"""The notifier that wakes waiting reads after an append, by one blocking read for all of them.

It is an ``XREAD`` over the streams of all waiting reads, so an idle process holds one connection
however many partitions it reads. It belongs to no group and changes no position. A ring only tells
a reader to read: a needless ring costs a read, a missed one some time, and neither a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from transport.errors import TransportError
from transport.redis.connection.connection import Command, RedisConnection, Reply
from transport.redis.connection.errors import translate
from transport.redis.records import is_later, sort_key

__all__ = ["Answered", "AppendNotifier", "ConnectionSource"]

_BLOCK_MS = 5000
_PAUSE_SECONDS = 0.1  # after a failure, so that a dead server is not asked in a busy loop
_RACE_SECONDS = 0.001
# The time between the beginnings of two reads. With it steady appends wake this process 200 times a
# second, and not once each. An append after a longer silence rings at once.
_READ_SECONDS = 0.005
# The longest such time while the reads find only records that this process has appended and handed
# over. It is longer with many streams: a read costs both sides more than a microsecond per stream.
_UNNEEDED_SECONDS = 0.02
_SECONDS_PER_STREAM = 0.00025
_MOST_SECONDS = 0.1
_ANSWER_SECONDS = 0.02
"""The longest wait for answers to this process's appends; other processes' records wait as well."""

Answered = Callable[[float], Awaitable[None]]
"""Waits until this process's appends under way are answered, for so many seconds at most."""


class ConnectionSource(Protocol):
    """Lends connections to the server that has the streams."""

    def lend(self) -> AbstractAsyncContextManager[RedisConnection]:
        """Lend one open connection."""

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command, over another connection."""


class AppendNotifier:
    """Wakes the waiters of a stream after an append.

    After a ring the notifier continues with the stream, from the entry that rang: mostly the reader
    has read that entry when it waits again, and the ``XREAD`` in flight already covers the stream.
    If a stream rings while no reader waits for it, it leaves the ``XREAD``. A busy reader reads
    anyway when it is done, and a stream under load would end one ``XREAD`` after the other.
    """

    def __init__(self, connections: ConnectionSource, answered: Answered) -> None:
        self._connections = connections
        self._answered = answered
        self._pause = _READ_SECONDS
        # By stream, each waiter (was it rung?), and the entry after which it waits.
        self._waiters: dict[str, dict[asyncio.Future[bool], str]] = {}
        self._watched: dict[str, str] = {}  # stream: the entry after which to listen
        self._covered: dict[str, str] = {}  # those of the read in flight
        self._armed = asyncio.Event()
        self._began = 0.0
        self._closed = False
        self._connection: RedisConnection | None = None
        self._client_id: int | None = None
        self._listener: asyncio.Task[None] | None = None
        self._interrupter: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._listener = asyncio.create_task(self._listen(), name="append notifier")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        self._ring_all()
        tasks = [task for task in (self._interrupter, self._listener) if task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def wait(self, stream: str, *, after: str, seconds: float) -> bool:
        """Return True once ``stream`` may hold an entry after ``after``; False after ``seconds``.

        ``ring`` ends the wait too, and so does closing.
        """
        if self._closed:
            return True
        if self._listener and self._listener.done():
            self._listener.result()  # only a bug of ours can have ended it: raise that error
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        waiters = self._waiters.setdefault(stream, {})
        waiters[waiter] = after
        self._watched[stream] = min(waiters.values(), key=sort_key)
        if not self._covers(stream):
            self._arm()
        # Cheaper than asyncio.timeout, which cancels through the frames of all callers. The wait of
        # an idle reader always ends by this timer.
        timer = loop.call_later(seconds, _answer, waiter, False)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiters.keys() == {waiter}:
                self._watched.pop(stream, None)  # its reader may be gone
            raise
        finally:
            timer.cancel()
            waiters.pop(waiter, None)
            if not waiters and self._waiters.get(stream) is waiters:
                del self._waiters[stream]

    def is_quiet(self, stream: str, *, after: str) -> bool:
        """Return whether this or the next ``XREAD`` will notice any entry after ``after``.

        Then no read is needed: most likely there is no such entry.
        """
        if self._connection is None:
            return False
        listening = self._watched.get(stream)
        return listening is not None and not is_later(listening, after)

    def appended(self, stream: str, *, before: str, last: str) -> None:
        """Ring for entries that this process appended and keeps, and not again if they are read.

        ``before``: the entry right before the first of them. ``last``: the last of them.
        """
        listening = self._watched.get(stream)
        if listening is not None and is_later(last, listening) and not is_later(before, listening):
            self._watched[stream] = last
        self._ring(stream)

    def _ring(self, stream: str) -> None:
        """End each wait for ``stream``."""
        for waiter in self._waiters.pop(stream, ()):
            _answer(waiter, True)

    def _ring_all(self) -> None:
        for stream in list(self._waiters):
            self._ring(stream)

    def _arm(self) -> None:
        """Make the listener read all watched streams; a read in flight is ended for that."""
        self._armed.set()
        if self._covered and (self._interrupter is None or self._interrupter.done()):
            self._interrupter = asyncio.create_task(self._interrupt())

    async def _listen(self) -> None:
        while True:
            try:
                async with self._connections.lend() as connection:
                    (client_id,) = await connection.exchange([("CLIENT", "ID")])
                    if isinstance(client_id, Exception) and not connection.is_open:
                        raise translate(client_id)
                    self._client_id = client_id if isinstance(client_id, int) else None
                    self._connection = connection
                    while connection.is_open:
                        await self._armed.wait()
                        await self._read(connection)
            except TransportError:
                # Each waiter then reads by itself, and raises the error to its caller.
                self._ring_all()
                await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                self._connection, self._covered = None, {}

    async def _read(self, connection: RedisConnection) -> None:
        await self._not_too_often()
        watched = dict(self._watched)
        if not watched:
            self._armed.clear()
            return
        self._covered = watched
        self._began = asyncio.get_running_loop().time()
        command: Command = (
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            _BLOCK_MS,
            "STREAMS",
            *watched,
            *watched.values(),
        )
        (reply,) = await connection.exchange([command], block=_BLOCK_MS / 1000)
        self._covered = {}
        if self._connection is not connection:
            return  # _interrupt closed this connection
        if isinstance(reply, Exception):
            raise translate(reply)
        if reply:
            # Mostly these are records whose append this process still waits for. The answer hands
            # them to their readers, which need not read them from the server.
            await self._answered(_ANSWER_SECONDS)
        told = False
        for name, entries in reply or ():
            stream, last = name.decode(), entries[-1][0].decode()
            listening = self._watched.get(stream)
            if listening is not None and not is_later(last, listening):
                continue  # these entries were handed over
            told = True
            if stream in self._waiters:
                self._watched[stream] = last
                self._ring(stream)
            else:
                self._watched.pop(stream, None)
        if told:
            self._pause = _READ_SECONDS
        elif reply:
            self._pause = min(2 * self._pause, _longest_pause(len(watched)))

    async def _not_too_often(self) -> None:
        early = self._began + self._pause - asyncio.get_running_loop().time()
        if early > 0:
            await asyncio.sleep(early)

    def _covers(self, stream: str) -> bool:
        """Return whether the read in flight listens after the watched entry, or an earlier one."""
        covered, watched = self._covered.get(stream), self._watched.get(stream)
        return watched is None or (covered is not None and not is_later(covered, watched))

    def _covers_too_little(self) -> bool:
        return bool(self._covered) and not all(map(self._covers, self._watched))

    async def _interrupt(self) -> None:
        """End the blocking read, until one covers all watched streams."""
        while self._covers_too_little():
            await self._not_too_often()
            connection = self._connection
            if connection is None or not self._covers_too_little():
                return  # the read ended by itself, and the next one covers all watched streams
            if not await self._unblock():
                self._connection = None if self._connection is connection else self._connection
                connection.hang_up()
                return
            await asyncio.sleep(_RACE_SECONDS)  # the read may have been sent and not blocked yet

    async def _unblock(self) -> bool:
        """Ask the server to end the read (``CLIENT UNBLOCK``); return whether that worked."""
        if self._client_id is None:
            return False
        try:
            await self._connections.call("CLIENT", "UNBLOCK", self._client_id)
        except TransportError:  # the user may lack the right
            return False
        return True


def _answer(waiter: asyncio.Future[bool], is_rung: bool) -> None:
    if not waiter.done():
        waiter.set_result(is_rung)


def _longest_pause(streams: int) -> float:
    return min(max(_UNNEEDED_SECONDS, streams * _SECONDS_PER_STREAM), _MOST_SECONDS)
