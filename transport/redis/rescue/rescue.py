"""The rescue: after a failover that lost acknowledged records, their producers append them again.

A promoted replica lacks the records that it had not been sent yet. So each process keeps its
appends of the last seconds (``recent_appends``), and looks at the server's replication id whenever
it opens a connection. If the id is new, nothing is appended until a rescue is over. Every process
that wrote lately reports which of its records are gone; one of them, the leader, appends all of
these in the order of the old log; then all processes go on. If each appended its own records, or
went on at once, a message could come before one that was acknowledged earlier.

A rescue needs only the log's own server, not PostgreSQL. A process that is late, or a leader that
dies, holds it up for some seconds at most. While the server refuses writes, the rescue waits:
appends are refused then anyway.

``calls`` has the calls to the new server, and ``leader`` the work of the leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from uuid import uuid4

from transport.errors import TransportUnavailable
from transport.redis.client.functions import Functions
from transport.redis.cluster.cluster import IsAt
from transport.redis.connection.connection import Command, Reply, ServerChanged, ServerIdentity
from transport.redis.keys import TopicKeys
from transport.redis.rescue.calls import AWAITED_MS, LEADS, NO_ROUND, RescueCalls
from transport.redis.rescue.leader import Append, RescueLeader
from transport.redis.rescue.recent_appends import RecentAppends, RecentAppendsBudget
from transport.redis.rescue.report import in_order

__all__ = ["REFUSED_AFTER", "Rescue"]

_log = logging.getLogger(__name__)

_REGISTER_SECONDS = 1.0
_POLL_SECONDS = 0.05
# The time for processes that wrote lately to report: each one is back within two seconds.
_LATE_SECONDS = 2.5
REFUSED_AFTER = 1.0
"""Seconds that an append waits for the end of a rescue."""

IsMove = Callable[[str, ServerIdentity], bool]
"""Takes the former server's replication id and the new server's identity. Returns whether the
partition was moved from a server that is still a primary: then nothing was lost."""


def _no_move(_: str, __: ServerIdentity) -> bool:
    return False


class Rescue:
    """One process's part in the rescues of one log, or of one partition in a cluster.

    Args:
        functions: The Lua library.
        log: The keys of the log.
        seconds: How long appends are kept; 0: there is no rescue.
        remembered: For how many seconds the log remembers message ids.
        is_move: Distinguishes a moved slot from a failover.
        budget: Counts the kept appends of all partitions.
    """

    def __init__(
        self,
        functions: Functions,
        log: TopicKeys,
        *,
        seconds: float,
        remembered: int,
        is_move: IsMove = _no_move,
        budget: RecentAppendsBudget | None = None,
    ) -> None:
        self.recent = RecentAppends(seconds, budget)
        self._remembered = remembered
        self._is_move = is_move
        self.server = ""
        """The replication id of the server that is known to lack no record; empty if unknown."""
        self.begun = 0
        """How many rescues this process has begun. If it rises during an append, the record may be
        on a server that is no longer used."""
        self._functions = functions
        self._log = log
        self._is_on = seconds > 0
        self._member = uuid4().hex
        self._registered = -_REGISTER_SECONDS
        self._writers: Sequence[bytes] = ()  # processes that write, each with its time
        self._met = self._process = ""
        # By server, the last rescue that is known to have ended there. A server that comes back is
        # thereby told apart from one whose rescue ended before this process heard of it.
        self._rounds: dict[str, bytes] = {}
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

    async def join(self) -> None:
        """Take part in the rescue under way on the first server that was met.

        Raises:
            TransportError: the server does not answer.
        """
        if not self.server or self._running is not None or self._append is None:
            return
        server = self.server
        if await self._functions.call("is_under_way", (self._log.rescue(server),)):
            self.server = ""
            self._start(self._append)
        else:
            self._rounds[server] = await self._calls_to(server).last_round()

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

    def registration(self) -> Sequence[Command]:
        """Return the command that registers this process as a writer, if that is due."""
        now = asyncio.get_running_loop().time()
        if not self._is_on or now - self._registered < _REGISTER_SECONDS:
            return ()
        self._registered = now
        return [self._functions.command("write_on", (self._log.writers,), self._member, AWAITED_MS)]

    def note_writers(self, reply: Reply) -> None:
        """Note the writers in the reply to ``registration``.

        A new server may lack the latest of them, so a report names them.
        """
        if isinstance(reply, list):
            self._writers = reply

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
        # If the address moves back meanwhile, that server may lack what others appended here.
        self.server = ""
        try:
            while self._met != self.server:
                server = self._met
                self._calls = self._calls_to(server)
                self.recent.hold()
                try:
                    await self._rescue(self._calls, append)
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

    def _calls_to(self, server: str) -> RescueCalls:
        return RescueCalls(
            self._functions,
            self._log,
            self._member,
            server=server,
            remembered=self._remembered,
            is_at=self.at(server),
            is_current=lambda: self._met == server,
        )

    async def _rescue(self, calls: RescueCalls, append: Append) -> None:
        leader = RescueLeader(calls, append, self._note_again)
        mine = in_order(await calls.gone(self.recent.by_partition))
        known = self._rounds.get(calls.server, NO_ROUND)
        while await calls.report(mine, known, self._writers):
            if await self._is_done(calls, leader):
                break
        else:
            await leader.follow(mine)
        self.recent.forget(mine)
        self._rounds[calls.server] = await calls.last_round()

    async def _is_done(self, calls: RescueCalls, leader: RescueLeader) -> bool:
        """Wait for the end of the rescue, or lead it; return false if this report has expired."""
        loop = asyncio.get_running_loop()
        late = loop.time() + _LATE_SECONDS
        while True:
            turn = await calls.turn(is_late=loop.time() > late)
            if turn in {b"done", b"report"}:
                return turn == b"done"
            if turn in LEADS and await leader.lead(is_alone=turn == b"alone"):
                return True
            await asyncio.sleep(_POLL_SECONDS)

    def at(self, server: str) -> IsAt:
        """Return a function that tells whether a server has the replication id ``server``."""

        def is_at(identity: ServerIdentity) -> bool:
            self.note_server(identity)
            return identity.server in ("", server)

        return is_at
