"""The rescue: after a failover that lost acknowledged records, their processes append them again.

A promoted replica lacks the records that it had not been sent yet. So each process keeps its
appends of the last seconds (``recent_appends``), and compares the server's replication id whenever
it opens a connection. If the id is new, the process appends those of its records that the server
does not have, in their order, before anything new of its own. Processes do not wait for each other.

A rescue needs only the log's own server, not PostgreSQL. While the server refuses writes, the
rescue waits: appends are refused then anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import groupby

from transport.errors import TransportUnavailable
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import IsAt
from transport.redis.connection.connection import ServerChanged, ServerIdentity
from transport.redis.keys import TopicKeys
from transport.redis.rescue.calls import Append, RescueCalls
from transport.redis.rescue.recent_appends import RecentAppends, RecentAppendsBudget

__all__ = ["REFUSED_AFTER", "Rescue"]

_log = logging.getLogger(__name__)

REFUSED_AFTER = 1.0
"""Seconds that an append waits for the end of a rescue."""
_RECORDS_PER_TURN = 1000

IsMove = Callable[[str, ServerIdentity], bool]
"""Takes the former server's replication id and the new server's identity. Returns whether the
partition was moved from a server that is still a primary: then nothing was lost."""


def _no_move(_: str, __: ServerIdentity) -> bool:
    return False


class Rescue:
    """The rescues of one process for one log, or for one partition in a cluster.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        seconds: How long appends are kept; 0: there is no rescue.
        is_move: Distinguishes a moved slot from a failover.
        budget: Counts the kept appends of all partitions.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        seconds: float,
        is_move: IsMove = _no_move,
        budget: RecentAppendsBudget | None = None,
    ) -> None:
        self.recent = RecentAppends(seconds, budget)
        self._is_move = is_move
        self.server = ""
        """The replication id of the server that is known to lack no record; empty if unknown."""
        self.begun = 0
        """How many rescues this process has begun. If it rises during an append, the record may be
        on a server that is no longer used."""
        self._functions = functions
        self._log = log
        self._is_on = seconds > 0
        self._met = self._process = ""
        self._running: asyncio.Task[None] | None = None
        self._calls: RescueCalls | None = None  # of the last rescue
        self._append: Append | None = None
        self._note_again: Callable[[int], None] = lambda _: None
        self._is_closed = False

    @property
    def is_under_way(self) -> bool:
        """Whether nothing may be appended or recalled now."""
        return self._running is not None

    def begin(self, append: Append, note: Callable[[int], None]) -> None:
        """Use ``append`` to append lost records again, and call ``note`` with their number."""
        self._append, self._note_again = append, note

    def note_server(self, identity: ServerIdentity) -> None:
        """Note the identity of the server that a connection was made to; begin a rescue if new."""
        server, process, _ = identity
        if not server or not self._is_on:
            return
        lives_on = process and process == self._process
        self._met, self._process = server, process
        if self.is_under_way or self._append is None or server == self.server:
            return
        if not self.server or lives_on or self._is_move(self.server, identity):
            # A primary whose last replica has been away for an hour gets a new replication id as
            # well. Its run id shows that it is the same process, so it lost nothing.
            self.server = server
        else:
            self._start(self._append)

    def is_at(self, identity: ServerIdentity) -> bool:
        """Return whether appends may be sent to a server: it is known to lack no record."""
        self.note_server(identity)
        return self._running is None and identity.server in ("", self.server)

    @property
    def counted_at(self) -> str:
        """The key of the numbers of records that rescues appended again."""
        return self._log.rescues

    async def wait(self, *, within: float = REFUSED_AFTER) -> None:
        """Wait until no rescue is under way.

        Raises:
            TransportUnavailable: the rescue takes longer than ``within`` seconds, or the log was
                closed during it.
        """
        if self._running is not None:
            await asyncio.wait([self._running], timeout=within)
        if self._running is not None:
            why = f" ({self._calls.why})" if self._calls and self._calls.why else ""
            raise TransportUnavailable(
                "Redis failed over or was restarted, and the lost records are appended again "
                f"first: retry{why}"
            )
        if self._is_closed:
            raise TransportUnavailable(
                "this log was closed while its lost records were appended again"
            )

    async def close(self) -> None:
        """End a rescue under way."""
        if self._running is not None:
            self._is_closed = True  # makes ``over`` raise: its callers would try again for ever
            self._append = None
            self._running.cancel()
            await asyncio.wait([self._running])

    def _start(self, append: Append) -> None:
        self.begun += 1
        self._running = asyncio.create_task(self._run(append), name="rescue")

    async def _run(self, append: Append) -> None:
        # If the address moves back meanwhile, that server may lack what was appended here.
        self.server = ""
        try:
            while self._met != self.server:
                server = self._met
                self._calls = RescueCalls(
                    self._functions,
                    self._log,
                    append,
                    self._note_again,
                    server=server,
                    is_at=self.at(server),
                    is_current=lambda server=server: self._met == server,  # type: ignore[misc]
                )
                self.recent.hold()
                try:
                    await self._rescue(self._calls)
                except ServerChanged:
                    continue
                except Exception:  # noqa: BLE001 - else appends would be refused for ever
                    _log.exception(
                        "The rescue of records that the new server may lack was given up: run "
                        "`crossfade audit`, and have clients retry"
                    )
                self.server = server
        finally:
            self.recent.let_go()
            self._running = None

    async def _rescue(self, calls: RescueCalls) -> None:
        mine, count = await calls.gone(self.recent.by_partition), 0
        for _, group in groupby(mine, key=lambda it: it.remember):
            some = list(group)
            for first in range(0, len(some), _RECORDS_PER_TURN):
                count += await calls.append_again(some[first : first + _RECORDS_PER_TURN])
        self.recent.forget(mine)
        if count:
            _log.error(
                "A failover lost %d acknowledged records that this process still had: they were "
                "appended again, before anything new of this process",
                count,
            )

    def at(self, server: str) -> IsAt:
        """Return a function that tells whether a server has the replication id ``server``."""

        def is_at(identity: ServerIdentity) -> bool:
            self.note_server(identity)
            return identity.server in ("", server)

        return is_at
