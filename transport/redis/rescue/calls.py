"""The calls of a rescue to the new server (``lua/rescue.lua``), repeated until it answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from redis.exceptions import RedisError

from transport.contract import WORKER_GROUP, Appended, Envelope, Outcome
from transport.errors import AppendUnknown, TransportError
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import IsAt
from transport.redis.connection.connection import Command, Reply, ServerChanged
from transport.redis.connection.errors import is_transient, translate
from transport.redis.keys import TopicKeys
from transport.redis.rescue.recent_appends import RecentAppend

__all__ = ["Append", "RescueCalls", "of_last_day", "total_of"]

_POLL_SECONDS = 0.05
_MOST_SECONDS = 5.0
_RECORDS_PER_CALL = 500
_DAY_SECONDS = 86_400
_GONE = ord("1")

_T = TypeVar("_T")

Append = Callable[[Sequence[Envelope], bool, str], Awaitable[Sequence[Outcome]]]
"""Appends in order. The second argument says whether to recognise repeats by their ids, the third
is the replication id of the server."""


class RescueCalls:
    """Calls of one process in one rescue.

    Each call raises ``ServerChanged`` once another server has taken over. Errors that pass by
    themselves are waited out; after some seconds of any other error the call raises it as a
    ``TransportError``.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        append: Appends to the new server.
        note: Called with the number of records that were just appended again.
        server: The replication id of the new server, which gets the lost records.
        is_at: Tells whether a connection leads to that server.
        is_current: Tells whether that server is the last one that was met.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        append: Append,
        note: Callable[[int], None],
        *,
        server: str,
        is_at: IsAt,
        is_current: Callable[[], bool],
    ) -> None:
        self.why = ""
        """The error that the rescue waits out at the moment; empty if there is none."""
        self._functions = functions
        self._log = log
        self._append = append
        self._note = note
        self._server = server
        self._is_at = is_at
        self._is_current = is_current

    async def gone(self, recent: Callable[[], dict[int, list[RecentAppend]]]) -> list[RecentAppend]:
        """Return the recent appends that are not in the log, in the order of each partition."""
        return await self._patiently(lambda: self._gone(recent()))

    async def append_again(self, lost: Sequence[RecentAppend]) -> int:
        """Append records with the same ``remember``; return how many were not in the log."""
        left, counts = list(lost), Counter[tuple[int, str]]()
        unknown: set[str] = set()  # ids of records that an unanswered append may have added

        async def advance() -> None:
            nonlocal left
            envelopes = [it.envelope for it in left]
            outcomes = await self._append(envelopes, lost[0].remember, self._server)
            ended = next((it for it in outcomes if isinstance(it, TransportError)), None)
            done = outcomes.index(ended) if ended is not None else len(outcomes)
            new = Counter(
                (it.envelope.partition, it.offset.partition("-")[0])
                for it, outcome in zip(left, outcomes[:done], strict=False)
                if type(outcome) is Appended or it.envelope.message_id in unknown
            )
            counts.update(new)
            self._note(new.total())
            left = left[done:]
            if isinstance(ended, AppendUnknown):
                unknown.update(it.envelope.message_id for it in left)
            if ended is not None:
                raise ended

        await self._patiently(advance)
        if counts:
            keys = [self._log.accounts(partition, WORKER_GROUP) for partition, _ in counts]
            pairs = [it for (_, generation), count in counts.items() for it in (generation, count)]
            await self._ask("note_again", (self._log.rescues, *keys), uuid4().hex, *pairs)
        return counts.total()

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat ``ask`` until it succeeds, since a new server may be busy at first.

        Raises:
            ServerChanged: another server has taken over.
            TransportError: an error lasted for some seconds, and is not one that passes by itself.
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
                [
                    self._functions.command(
                        "tell_gone",
                        self._log.figures(partition, WORKER_GROUP),
                        *(it.offset for it in some),
                    )
                    for partition, some in parts.items()
                ]
            )
            for some, reply in zip(parts.values(), replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                found += [it for it, flag in zip(some, reply, strict=True) if flag == _GONE]
            left = {p: rest for p, some in left.items() if (rest := some[_RECORDS_PER_CALL:])}
        return found

    async def _ask(self, name: str, keys: Sequence[str], *arguments: str | int) -> Reply:
        async def ask() -> Reply:
            (reply,) = await self._exchange([self._functions.command(name, keys, *arguments)])
            if isinstance(reply, Exception):
                raise translate(reply)
            return reply

        return await self._patiently(ask)

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        return await self._functions.exchange(commands, only_at=self._server, is_at=self._is_at)


def of_last_day(key: str) -> Command:
    """Return the command that asks what rescues of the last day appended again, by its key."""
    return ("ZRANGEBYSCORE", key, round((time.time() - _DAY_SECONDS) * 1000), "+inf")


def total_of(members: Sequence[bytes]) -> int:
    """Return how many records were appended again, by the reply to that command."""
    return sum(int(member.rpartition(b":")[2]) for member in members)
