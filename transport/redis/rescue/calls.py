"""The calls of a rescue to the new server (``lua/rescue.lua``), repeated until it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar
from uuid import uuid4

import msgspec
from redis.exceptions import RedisError

from transport.contract import WORKER_GROUP
from transport.errors import TransportError
from transport.message.envelope import HEADER_MESSAGE_ID
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import IsAt
from transport.redis.connection.connection import Command, Reply, ServerChanged
from transport.redis.connection.errors import is_transient, translate
from transport.redis.keys import TopicKeys
from transport.redis.records import sort_key
from transport.redis.rescue.recent_appends import RecentAppend
from transport.redis.rescue.report import RescueReport, field_of, page_of, pages, parse_reports

__all__ = ["AWAITED_MS", "LEADS", "NO_ROUND", "RescueCalls"]

_log = logging.getLogger(__name__)

LEADS = (b"lead", b"alone")
"""Answers to ``turn`` that make a process the leader."""
NO_ROUND = b"-"
"""In place of the number of a rescue, if none is known to have ended."""
AWAITED_MS = 10_000
"""Milliseconds that a rescue waits for the report of a process that wrote to the old server."""
_POLL_SECONDS = 0.05
_MOST_SECONDS = 5.0
_RECORDS_PER_CALL = 500
_GONE = ord("1")

_T = TypeVar("_T")


class RescueCalls:
    """Calls of one process in one rescue.

    Each call raises ``ServerChanged`` once another server has taken over. Errors that pass by
    themselves are waited out; after some seconds of any other error the call raises it as a
    ``TransportError``.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        member: The name of the process.
        server: The replication id of the new server, which gets the lost records.
        remembered: For how many seconds the log remembers message ids.
        is_at: Tells whether a connection leads to that server.
        is_current: Tells whether that server is the last one that was met.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        member: str,
        *,
        server: str,
        remembered: int,
        is_at: IsAt,
        is_current: Callable[[], bool],
    ) -> None:
        self.server = server
        self.why = ""
        """The error that the rescue waits out at the moment; empty if there is none."""
        self._functions = functions
        self._log = log
        self._member = member
        self._key = log.rescue(server)
        self._remembered = remembered
        self._is_at = is_at
        self._is_current = is_current

    async def gone(self, recent: Callable[[], dict[int, list[RecentAppend]]]) -> list[RecentAppend]:
        """Return the recent appends that are not in the log."""
        return await self.patiently(lambda: self._gone(recent()))

    async def report(
        self, mine: Sequence[RecentAppend], known: bytes, writers: Sequence[bytes]
    ) -> bool:
        """Report records that are gone, page by page; return false if the rescue is over.

        Args:
            mine: The records, in order.
            known: The round that this process has known to end on this server; see ``last_round``.
            writers: The processes that wrote, each with its time. The new server may not know the
                last of them.
        """
        count = 0
        for page in pages(mine):
            if not await self._write(field_of(self._member, count), page, known):
                return False
            count += 1
        report = RescueReport.of(mine, count).packed()
        return await self._write(self._member, report, known, *writers)

    async def last_round(self) -> bytes:
        """Return the number of the last rescue that ended on this server."""
        found: bytes | None = await self._ask(("HGET", self._key, "#round"))
        return found or NO_ROUND

    async def turn(self, *, is_late: bool) -> bytes:
        """Return whose turn it is; see ``lead`` of ``lua/rescue.lua``."""
        keys = (self._key, self._log.writers)
        found: bytes = await self._call("lead", keys, self._member, AWAITED_MS, int(is_late))
        return found

    async def members(self) -> set[str]:
        """Return the processes that have reported."""
        fields: list[bytes] = await self._ask(("HKEYS", self._key))
        return {it.decode() for it in fields if not it.startswith(b"#") and b"." not in it}

    async def reports(self, members: AbstractSet[str]) -> dict[str, RescueReport]:
        """Return the reports of these processes, by name; unreadable ones are left out."""
        if not members:
            return {}
        names = sorted(members)
        found, unreadable = parse_reports(names, await self._ask(("HMGET", self._key, *names)))
        for member in unreadable:
            _tell_unreadable(member)
        return found

    async def reported(self, member: str, count: int) -> AsyncIterator[RecentAppend]:
        """Yield the records of so many pages of a process."""
        for page in range(count):
            blob = await self._ask(("HGET", self._key, field_of(member, page)))
            if blob is None:
                return  # another leader has finished, or the report expired: see ``turn``
            try:
                some = page_of(blob)
            except msgspec.MsgspecError:
                _tell_unreadable(member)
            else:
                for it in some:
                    yield it

    async def is_overtaken(self, reports: Iterable[RescueReport]) -> bool:
        """Return whether the log has a record that is newer than a lost one."""
        first: dict[int, str] = {}
        for report in reports:
            for partition, offset in report.first.items():
                known = first.setdefault(partition, offset)
                first[partition] = min(known, offset, key=sort_key)
        for partition, offset in first.items():
            if await self._call("is_overtaken", (self._log.streams[partition],), offset):
                return True
        return False

    async def note_again(self, counts: Mapping[int, int], *, is_partial: bool = False) -> None:
        """Count records that were appended again, by partition.

        ``is_partial``: a process that wrote lately did not report what it lost.
        """
        keys = (self._log.rescues, *(self._log.accounts(p, WORKER_GROUP) for p in counts))
        await self._call("note_again", keys, uuid4().hex, int(is_partial), *counts.values())

    async def end(self, count: int, read: AbstractSet[str]) -> bool:
        """End the rescue, and record that ``count`` records were appended again.

        Args:
            count: How many records.
            read: The processes whose reports were read.

        Returns:
            ``False`` if another process has reported meanwhile: then the rescue goes on.
        """
        return bool(await self._call("rescued", (self._key,), count, *sorted(read)))

    async def patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat ``ask`` until it succeeds, since a new server may be busy at first.

        Raises:
            ServerChanged: another server has taken over.
            TransportError: an error went on for some seconds, and is not one that passes by itself.
        """
        loop = asyncio.get_running_loop()
        well = loop.time()
        while True:
            try:
                answer = await ask()
            except (TransportError, RedisError) as error:
                told = translate(error)
            else:
                self.why = ""
                return answer
            if not self._is_current():
                raise ServerChanged("the log is on another server now")
            self.why = str(told)
            if is_transient(told):
                well = loop.time()
            elif loop.time() - well > _MOST_SECONDS:
                raise told
            await asyncio.sleep(_POLL_SECONDS)

    async def _gone(self, recent: dict[int, list[RecentAppend]]) -> list[RecentAppend]:
        found: list[RecentAppend] = []
        left = recent
        while left:
            parts = {p: some[:_RECORDS_PER_CALL] for p, some in left.items()}
            replies = await self._exchange(
                [self._tell_gone(partition, some) for partition, some in parts.items()]
            )
            for some, reply in zip(parts.values(), replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                found += [it for it, flag in zip(some, reply, strict=True) if flag == _GONE]
            left = {p: rest for p, some in left.items() if (rest := some[_RECORDS_PER_CALL:])}
        return found

    def _tell_gone(self, partition: int, some: Sequence[RecentAppend]) -> Command:
        arguments: list[str | int] = [self._remembered]
        for it in some:
            message = it.envelope.headers.get(HEADER_MESSAGE_ID, "")
            arguments += (it.offset, message, it.envelope.message_id if it.remember else "")
        memories = self._log.memories(partition if self._functions.by_slot else None)
        keys = (self._log.streams[partition], *memories)
        return self._functions.command("tell_gone", keys, *arguments)

    async def _write(self, field: str, value: bytes, known: bytes, *writers: bytes) -> bool:
        keys = (self._key, self._log.writers)
        return bool(await self._call("report", keys, field, value, known, *writers))

    async def _call(self, name: str, keys: Sequence[str], *arguments: str | bytes | int) -> Reply:
        return await self._ask(self._functions.command(name, keys, *arguments))

    async def _ask(self, command: Command) -> Reply:
        async def ask() -> Reply:
            (reply,) = await self._exchange([command])
            if isinstance(reply, Exception):
                raise translate(reply)
            return reply

        return await self.patiently(ask)

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        return await self._functions.exchange(commands, only_at=self.server, is_at=self._is_at)


def _tell_unreadable(member: str) -> None:
    _log.error(
        "The report of process %s about lost records can't be read, so they are not appended "
        "again: run `crossfade audit`",
        member,
    )
