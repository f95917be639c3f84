"""After a failover that lost acknowledged records: those who appended them have them still.

A replica that is promoted lacks what it was not sent yet. So each process keeps the last seconds of
what it appended (``recent_appends``), and looks at the server's replication id whenever it opens a
connection. Where that is another one, nothing is appended until a rescue is over: everybody who
wrote lately reports what of its own is gone, one of them appends all of it in the order of the old
log, and then all go on. If each appended its own, or went on before, messages that were sent after
others' acknowledgement could stand before these.

All of it is in the log's own server, so it works without PostgreSQL. Whoever is late, or leads and
dies, is not waited for longer than some seconds. While the server refuses writes, the rescue waits:
appends are refused then anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from heapq import heapify, heappop, heapreplace
from typing import TypeVar
from uuid import uuid4

import msgspec
from redis.exceptions import RedisError

from transport.contract import Appended, Envelope, Outcome
from transport.envelope import HEADER_MESSAGE_ID
from transport.errors import AppendUnknown, TransportError, TransportUnavailable
from transport.redis.cluster import IsAt
from transport.redis.connection import Command, Reply, ServerChanged, ServerIdentity
from transport.redis.errors import is_passing, translate
from transport.redis.functions import Functions
from transport.redis.keys import TopicKeys
from transport.redis.recent_appends import KeptTogether, RecentAppend, RecentAppends
from transport.redis.records import sort_key
from transport.redis.rescue_report import (
    RescueReport,
    field_of,
    in_order,
    page_of,
    pages,
    told_by,
)

__all__ = ["REFUSED_AFTER", "Append", "Rescue"]

_log = logging.getLogger(__name__)

_AWAITED_MS = 10_000
_REGISTER_SECONDS = 1.0
_POLL_SECONDS = 0.05
# For those who wrote lately to report; each comes back within two seconds, whatever it does.
_LATE_SECONDS = 2.5
_MOST_SECONDS = 5.0
REFUSED_AFTER = 1.0
"""Seconds for which an append waits for a rescue."""
_PAIRS_PER_CALL = 500
_RECORDS_PER_TURN = 1000
_LEADS = (b"lead", b"alone")
_GONE = ord("1")

_T = TypeVar("_T")
Append = Callable[[Sequence[Envelope], bool, str], Awaitable[Sequence[Outcome]]]
"""Appends in order; whether repeats are told by their ids is the second argument, and the third is
the replication id of the server."""


IsMove = Callable[[str, ServerIdentity], bool]
"""Takes the former server's replication id and the new server's identity. Returns whether the
partition was moved from a server that is still a primary: then nothing was lost."""


def _no_move(_: str, __: ServerIdentity) -> bool:
    return False


class Rescue:
    """Of one log, or of one partition in a cluster, for one process that appends to it.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        seconds: How long what was appended is kept; 0: there is no rescue.
        is_move: Tells a slot that was moved from a failover.
        together: Counts what is kept, with that of other partitions.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        seconds: float,
        is_move: IsMove = _no_move,
        together: KeptTogether | None = None,
    ) -> None:
        self.recent = RecentAppends(seconds, together)
        self._is_move = is_move
        self.server = ""
        """The replication id of the server that is known to have all; empty if none is told."""
        self.begun = 0
        """How many rescues this process took part in: another one, and what was under way when it
        began may stand on a server that nobody asks any more."""
        self._functions = functions
        self._log = log
        self._is_on = seconds > 0
        self._member = uuid4().hex
        self._registered = -_REGISTER_SECONDS
        self._writers: Sequence[bytes] = ()  # with the time of each, as the server told last
        self._met = self._process = ""
        self._running: asyncio.Task[None] | None = None
        self._why = ""  # it does not get on
        self._append: Append | None = None
        self._note_again: Callable[[int], None] = lambda _: None
        self._is_closed = False

    @property
    def is_under_way(self) -> bool:
        """Whether nothing may be appended or recalled now."""
        return self._running is not None

    def begin(self, append: Append, note: Callable[[int], None]) -> None:
        """Use ``append`` for what has to be appended again, and tell ``note`` how many were."""
        self._append, self._note_again = append, note

    def met(self, identity: ServerIdentity) -> None:
        """Note which server a connection was made to."""
        server, process, _ = identity
        if not server or not self._is_on:
            return
        lives_on = process and process == self._process
        self._met, self._process = server, process
        if self.is_under_way or self._append is None or server == self.server:
            return
        if not self.server or lives_on or self._is_move(self.server, identity):
            # A server that was no replica, and whose last one is away for an hour, has a new
            # replication id as well; it lost nothing.
            self.server = server
        else:
            self._start(self._append)

    def is_at(self, identity: ServerIdentity) -> bool:
        """Return whether appends may be sent to a server: it is known to have all."""
        self.met(identity)
        return self._running is None and identity.server in ("", self.server)

    @property
    def done_at(self) -> str:
        """The key that tells what was appended again to the server that is known to have all."""
        return self._log.rescue(self.server)

    async def join(self) -> None:
        """Take part in the rescue under way on the first server that was met.

        Raises:
            TransportError: the server can't be asked.
        """
        if not self.server or self._running is not None or self._append is None:
            return
        if await self._functions.call("is_under_way", (self._log.rescue(self.server),)):
            self.server = ""
            self._start(self._append)

    async def over(self, *, within: float = REFUSED_AFTER) -> None:
        """Return when no rescue is under way.

        Raises:
            TransportUnavailable: it takes longer than ``within`` seconds, or the log was closed
                while one was under way.
        """
        if self._running is not None:
            await asyncio.wait([self._running], timeout=within)
        if self._running is not None:
            why = f" ({self._why})" if self._why else ""
            raise TransportUnavailable(
                "Redis failed over or was restarted, and what that lost is appended again "
                f"first: retry{why}"
            )
        if self._is_closed:
            raise TransportUnavailable("this log was closed while what it lost was appended again")

    def registration(self) -> Sequence[Command]:
        """Return what a trip of appends begins with now and then: that this process writes."""
        now = asyncio.get_running_loop().time()
        if not self._is_on or now - self._registered < _REGISTER_SECONDS:
            return ()
        self._registered = now
        return [
            self._functions.command("write_on", (self._log.writers,), self._member, _AWAITED_MS)
        ]

    def note_writers(self, reply: Reply) -> None:
        """Note who else writes, as ``registration`` was answered.

        The new server may lack the last of them, so it is told.
        """
        if isinstance(reply, list):
            self._writers = reply

    async def close(self) -> None:
        """End a rescue under way."""
        if self._running is not None:
            self._is_closed = True  # who waits would try again for ever: nothing is at the server
            self._append = None
            self._running.cancel()
            await asyncio.wait([self._running])

    def _start(self, append: Append) -> None:
        self.begun += 1
        self._running = asyncio.create_task(self._run(append), name="rescue")

    async def _run(self, append: Append) -> None:
        try:
            while self._met != self.server:
                server, self._why = self._met, ""
                try:
                    await self._rescue(server, append)
                except ServerChanged:
                    continue
                except Exception:  # noqa: BLE001 - or nothing would be appended any more
                    _log.exception(
                        "The rescue of what the new server may lack was given up: run `crossfade "
                        "audit`, and have clients retry"
                    )
                self.server = server
        finally:
            self._running = None

    async def _rescue(self, server: str, append: Append) -> None:
        mine = in_order(await self._patiently(server, lambda: self._gone(server)))
        while await self._report(server, mine):
            if await self._is_done(server, append):
                break
        else:
            count = 0
            async for some in _turns(_each(mine)):
                count += await self._append_again(server, some, append)
            _tell(count, "after newer ones, since this process heard of it late")
        self.recent.forget(mine)

    async def _report(self, server: str, mine: Sequence[RecentAppend]) -> bool:
        """Report what is gone, page by page; return false if the rescue is over."""
        count = 0
        for page in pages(mine):
            if not await self._write(server, field_of(self._member, count), page):
                return False
            count += 1
        report = RescueReport.of(mine, count).packed()
        return await self._write(server, self._member, report, *self._writers)

    async def _write(self, server: str, field: str, value: bytes, *writers: bytes) -> bool:
        keys = (self._log.rescue(server), self._log.writers)
        command = self._functions.command("report", keys, field, value, *writers)
        return bool(await self._ask(server, command))

    async def _is_done(self, server: str, append: Append) -> bool:
        """Wait for the end of the rescue, or lead it; return false if reports are gone by then."""
        loop = asyncio.get_running_loop()
        late = loop.time() + _LATE_SECONDS
        while True:
            turn: bytes = await self._turn(server, is_late=loop.time() > late)
            if turn in {b"done", b"report"}:
                return turn == b"done"
            if turn in _LEADS and await self._lead(server, append, is_alone=turn == b"alone"):
                return True
            await asyncio.sleep(_POLL_SECONDS)

    async def _turn(self, server: str, *, is_late: bool) -> Reply:
        keys = (self._log.rescue(server), self._log.writers)
        arguments = (self._member, _AWAITED_MS, int(is_late))
        return await self._ask(server, self._functions.command("lead", keys, *arguments))

    async def _lead(self, server: str, append: Append, *, is_alone: bool) -> bool:
        """Append what all reported; return false if another leads meanwhile."""
        rescue = self._log.rescue(server)
        read: set[str] = set()
        count, is_overtaken, is_over = 0, False, False
        while not is_over:
            members = await self._members(server, rescue) - read
            reports = await self._reports(server, rescue, members)
            is_overtaken |= await self._is_overtaken(server, reports.values())
            async with aclosing(self._lost(server, rescue, reports)) as lost:
                async for some in _turns(lost):
                    if await self._turn(server, is_late=True) not in _LEADS:
                        return False
                    count += await self._append_again(server, some, append)
            if await self._turn(server, is_late=True) not in _LEADS:
                return False  # another is done, and its count stands
            read |= members
            over = self._functions.command("rescued", (rescue,), count, *sorted(read))
            is_over = bool(await self._ask(server, over))
        if is_overtaken:
            _tell(count, "in their order, but after newer ones that others appended meanwhile")
        elif is_alone:
            _tell(count, "in their order; not all that wrote lately had said what they lack")
        else:
            _tell(count, "in their order, before anything else")
        return True

    async def _members(self, server: str, rescue: str) -> set[str]:
        """Return the processes that have reported."""
        fields: list[bytes] = await self._ask(server, ("HKEYS", rescue))
        return {it.decode() for it in fields if not it.startswith(b"#") and b"." not in it}

    async def _reports(
        self, server: str, rescue: str, members: AbstractSet[str]
    ) -> dict[str, RescueReport]:
        """Return what each process says that it reported."""
        if not members:
            return {}
        names = sorted(members)
        found, unreadable = told_by(names, await self._ask(server, ("HMGET", rescue, *names)))
        for member in unreadable:
            _tell_unreadable(member)
        return found

    async def _lost(
        self, server: str, rescue: str, reports: Mapping[str, RescueReport]
    ) -> AsyncGenerator[RecentAppend, None]:
        """Yield what all reported, in the old log's order, and hold one page of each."""
        readers = [self._paged(server, rescue, it, reports[it].pages) for it in reports]
        heads = []
        for n, reader in enumerate(readers):
            first = await anext(reader, None)
            if first is not None:
                heads.append((sort_key(first.offset), n, first))
        heapify(heads)
        while heads:
            _, n, it = heads[0]
            yield it
            following = await anext(readers[n], None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (sort_key(following.offset), n, following))

    async def _paged(
        self, server: str, rescue: str, member: str, count: int
    ) -> AsyncIterator[RecentAppend]:
        for page in range(count):
            blob = await self._ask(server, ("HGET", rescue, field_of(member, page)))
            if blob is None:
                return  # another one led, and is done, or it expired: `lead` tells
            try:
                some = page_of(blob)
            except msgspec.MsgspecError:
                _tell_unreadable(member)
            else:
                for it in some:
                    yield it

    async def _is_overtaken(self, server: str, reports: Iterable[RescueReport]) -> bool:
        """Return whether a record stands in the log that is newer than one that is gone."""
        first: dict[int, str] = {}
        for report in reports:
            for partition, offset in report.first.items():
                known = first.setdefault(partition, offset)
                first[partition] = min(known, offset, key=sort_key)
        for partition, offset in first.items():
            keys = (self._log.streams[partition],)
            if await self._ask(server, self._functions.command("is_overtaken", keys, offset)):
                return True
        return False

    async def _append_again(self, server: str, lost: Sequence[RecentAppend], append: Append) -> int:
        """Append records of one way to remember; return how many were not there."""
        left, count = [it.envelope for it in lost], 0
        unknown: set[str] = set()  # ids of what may be there by an append without an answer

        async def advance() -> None:
            nonlocal left, count
            outcomes = await append(left, lost[0].remember, server)
            ended = next((it for it in outcomes if isinstance(it, TransportError)), None)
            done = outcomes.index(ended) if ended is not None else len(outcomes)
            new = sum(
                type(outcome) is Appended or envelope.message_id in unknown
                for envelope, outcome in zip(left, outcomes[:done], strict=False)
            )
            count += new
            self._note_again(new)
            left = left[done:]
            if isinstance(ended, AppendUnknown):
                unknown.update(envelope.message_id for envelope in left)
            if ended is not None:
                raise ended

        await self._patiently(server, advance)
        return count

    async def _gone(self, server: str) -> list[RecentAppend]:
        """Return what this process appended lately and is not in the log."""
        left = self.recent.by_partition()
        found: list[RecentAppend] = []
        while left:
            parts = {p: some[:_PAIRS_PER_CALL] for p, some in left.items()}
            replies = await self._functions.exchange(
                [self._tell_gone(partition, some) for partition, some in parts.items()],
                only_at=server,
                is_at=self.at(server),
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

    def at(self, server: str) -> IsAt:
        """Return what tells whether a server is the one that is rescued for."""

        def is_at(identity: ServerIdentity) -> bool:
            self.met(identity)
            return identity.server in ("", server)

        return is_at

    async def _ask(self, server: str, command: Command) -> Reply:
        async def ask() -> Reply:
            (reply,) = await self._functions.exchange(
                [command], only_at=server, is_at=self.at(server)
            )
            if isinstance(reply, Exception):
                raise translate(reply)
            return reply

        return await self._patiently(server, ask)

    async def _patiently(self, server: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer, however often it takes: a new server may be busy at first.

        Raises:
            ServerChanged: there is another server meanwhile.
            TransportError: what other writes don't meet, for some seconds.
        """
        loop = asyncio.get_running_loop()
        well = loop.time()
        while True:
            try:
                answer = await ask()
            except (TransportError, RedisError) as error:
                told = translate(error)
            else:
                self._why = ""
                return answer
            if self._met != server:
                raise ServerChanged("the log is on another server now")
            self._why = str(told)
            if is_passing(told):
                well = loop.time()
            elif loop.time() - well > _MOST_SECONDS:
                raise told
            await asyncio.sleep(_POLL_SECONDS)


async def _each(some: Iterable[RecentAppend]) -> AsyncIterator[RecentAppend]:
    for it in some:
        yield it


async def _turns(lost: AsyncIterator[RecentAppend]) -> AsyncIterator[list[RecentAppend]]:
    """Yield what is lost in its order, by trips of one way to remember."""
    some: list[RecentAppend] = []
    async for it in lost:
        if some and (it.remember != some[0].remember or len(some) == _RECORDS_PER_TURN):
            yield some
            some = []
        some.append(it)
    if some:
        yield some


def _tell_unreadable(member: str) -> None:
    _log.error(
        "What process %s reported as lost can't be read, and is not appended again: run "
        "`crossfade audit`",
        member,
    )


def _tell(count: int, place: str) -> None:
    if count:
        _log.error(
            "A failover lost %d acknowledged records that this process and others still had: they "
            "were appended again, %s",
            count,
            place,
        )
