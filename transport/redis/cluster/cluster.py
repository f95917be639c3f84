"""The client of a Redis Cluster: sends each command to the primary that has its slot now.

A command that a server refuses because the slot is elsewhere, or is being moved (MOVED, ASK,
TRYAGAIN), was not executed, so it is sent again. A command that got no answer never is. Servers do
not affect each other: if one is away or hangs, the commands of its slots fail, and other commands
wait for it once at most. While it is away, its commands are refused at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.errors import TransportError, TransportUnavailable
from transport.redis.cluster.append_turns import AppendTurn, AppendTurns
from transport.redis.cluster.map import ClusterMap
from transport.redis.cluster.primary import ClusterPrimary, ServerPool
from transport.redis.cluster.routing import has_several_keys, parts, slot_of_key
from transport.redis.cluster.slot_map import NO_HOST, Place
from transport.redis.cluster.stuck_slots import SlotUse, StuckSlots
from transport.redis.connection.connection import (
    Command,
    LeadsToReplica,
    RedisConnection,
    Reply,
    ServerChanged,
    ServerIdentity,
)
from transport.redis.connection.errors import is_function_missing

__all__ = ["Closing", "Cluster", "IsAt"]

_PAUSE_SECONDS = 0.05
_AT_ONCE = 3  # redirections to follow without a pause; then servers may disagree for a moment
_STUCK_SECONDS = 2.0  # the wait for a slot that can't be served now
_STUCK_BESIDE_OTHERS_SECONDS = 0.2  # that wait if commands of other slots are in the same call
_LOADS = 3

Load = Callable[[Sequence[ServerPool]], Awaitable[None]]
Closing = Callable[[int], Sequence[Command]]
"""Returns the commands that end a trip to the server of a slot."""
IsAt = Callable[[ServerIdentity], bool]
"""Returns whether a command may be sent to the server with this identity."""


class _SlotCommands:
    """Commands of one slot, which one server has to execute, and their replies."""

    __slots__ = (
        "asked",
        "closing",
        "commands",
        "is_at",
        "is_due",
        "loads",
        "redirects",
        "replies",
        "use",
        "waits",
        "where",
    )

    def __init__(self, slot: int | None, where: slice, commands: Sequence[Command]) -> None:
        self.use = SlotUse(slot, has_several_keys(commands))
        self.waits = _STUCK_SECONDS
        self.is_at: IsAt | None = None  # None: any server
        self.where = where
        self.commands = commands
        self.replies: Sequence[Reply] = ()
        self.closing: Sequence[Reply] = ()
        self.asked: ClusterPrimary | None = None  # the server named by ASK, while the slot moves
        self.redirects = 0
        self.loads = 0
        self.is_due = True

    @property
    def slot(self) -> int | None:
        return self.use.slot

    def fail(self, error: Exception) -> None:
        self.replies = [error] * len(self.commands)
        self.is_due = False


class Cluster:
    """Sends commands to the primaries of a cluster; ``known`` maps slots to primaries."""

    def __init__(self, known: ClusterMap) -> None:
        self._map = known
        self._stuck = StuckSlots()
        self._turns = AppendTurns()

    @property
    def pools(self) -> list[ServerPool]:
        """One pool for each primary."""
        return [server.pool for server in self._map.servers]

    @property
    def answering(self) -> list[ServerPool]:
        """One pool for each primary that answers."""
        return [server.pool for server in self._map.servers if not server.is_away]

    def pools_of(self, commands: Sequence[Command]) -> list[ServerPool]:
        """Return the pools of the primaries that have the slots of ``commands``."""
        return self._pools_at({slot for slot, _ in parts(commands)})

    def _pools_at(self, slots: AbstractSet[int | None]) -> list[ServerPool]:
        places = {self.place_of_slot(slot) for slot in slots}
        return [server.pool for server in self._map.servers if str(server) in places]

    @property
    def places(self) -> list[str]:
        """Host and port of each primary, as text for messages."""
        return [str(server) for server in self._map.servers]

    def place_of(self, key: str) -> str:
        """Return host and port of the primary that has ``key``, as text for messages."""
        return self.place_of_slot(slot_of_key(key))

    def place_of_slot(self, slot: int | None) -> str:
        """Return host and port of the primary that has ``slot``; ``None``: of any primary."""
        try:
            return str(self._map.server_of(slot))
        except TransportUnavailable:
            return "no server"

    def is_on(self, key: str, place: Place) -> bool:
        """Return whether the primary at ``place`` has ``key``, by the current map."""
        return self._map.place_of(slot_of_key(key)) == place

    def has(self, server: str) -> bool:
        """Return whether a primary that answers had this replication id at the last connection."""
        return any(it.pool.server == server for it in self._map.servers if not it.is_away)

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send each command to its server, all servers at once, and return the replies.

        If a command's server can't be reached, the error stands in place of the reply. Commands may
        be executed in any order: those of different slots anyway, and of two commands of one slot
        the first may be redirected. So if one has to follow another, call this twice.
        """
        replies, _ = await self.spread(commands)
        return replies

    async def spread(
        self,
        commands: Sequence[Command],
        *,
        closing: Closing | None = None,
        in_turn: bool = True,
        load: Load | None = None,
        within: float = 0.0,
        are_at: Sequence[IsAt] = (),
    ) -> tuple[list[Reply], list[Sequence[Reply]]]:
        """Do the same as ``exchange``, with more options.

        Args:
            commands: The commands to send.
            closing: The commands to send after the last one on the same connection, to each server.
            in_turn: Whether calls with ``closing`` are appends, which are kept in order: none is
                sent while an earlier one to the same slot is being sent again.
            load: Loads our functions into servers that lack them.
            within: The seconds to wait for a server's replies; 0: its timeout. The commands of a
                slower server fail, so that it can't delay the others' replies.
            are_at: For each command, tells whether a server is the one that it is meant for. To any
                other server nothing is sent, and ``ServerChanged`` stands in place of the reply.

        Returns:
            The reply to each command; and for each command, the replies to the closing commands of
            its trip.
        """
        asked = [_SlotCommands(slot, where, commands[where]) for slot, where in parts(commands)]
        for part, is_at in zip(asked, are_at, strict=False):
            part.is_at = is_at
        if len({part.slot for part in asked}) > 1:
            for part in asked:
                part.waits = _STUCK_BESIDE_OTHERS_SECONDS
        if closing is None or not in_turn:
            await self._send(asked, closing, load, None, within)
        else:
            async with self._turns.next({part.slot for part in asked}) as turn:
                await self._send(asked, closing, load, turn, within)
        replies: list[Reply] = []
        closed: list[Sequence[Reply]] = []
        for part in asked:
            replies += part.replies
            closed += [part.closing] * len(part.commands)
        return replies, closed

    async def _send(
        self,
        due: Sequence[_SlotCommands],
        closing: Closing | None,
        load: Load | None,
        turn: AppendTurn | None,
        within: float,
    ) -> None:
        while due:
            batches: dict[ClusterPrimary, list[_SlotCommands]] = {}
            for part in due:
                part.is_due = False
                try:
                    server = part.asked or self._map.server_of(part.slot)
                    batches.setdefault(server, []).append(part)
                except TransportError as error:
                    part.fail(error)
            trips = [self._trip(it, some, closing, within) for it, some in batches.items()]
            if len(trips) == 1:
                await trips[0]
            else:
                await asyncio.gather(*trips)
            if load is not None:
                await self._load(due, load)
            due = [part for part in due if part.is_due]
            if due and turn is not None:
                await turn.hold({part.slot for part in due})
            if due and any(part.redirects > _AT_ONCE for part in due):
                await asyncio.sleep(_PAUSE_SECONDS)

    @asynccontextmanager
    async def lend_waiting(self, stream: str) -> AsyncIterator[RedisConnection]:
        """Lend a connection to the server of ``stream``, for a blocking read.

        Raises:
            TransportUnavailable: no connection could be opened.
        """
        async with self._map.server_of(slot_of_key(stream)).waits.lend() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._map.close()

    async def _trip(
        self,
        server: ClusterPrimary,
        some: Sequence[_SlotCommands],
        closing: Closing | None,
        within: float,
    ) -> None:
        """Send parts to one server, and mark those that have to be sent again."""
        try:
            async with asyncio.timeout(within or None), server.lend() as connection:
                some = _meant_for(server, connection, some)
                if some:
                    await self._exchange(server, connection, some, closing)
        except TimeoutError:
            late = RedisTimeoutError(f"{server} of the cluster did not answer within {within:g} s")
            for part in some:
                part.fail(late)
            self._map.watch_again()  # another may have been promoted in its place
        except LeadsToReplica as error:
            # Another server was promoted. Nothing was sent, and the map will soon name it.
            for part in some:
                part.fail(error)
                part.redirects += _AT_ONCE + 1
                part.is_due = self._may_wait(part)
            self._map.watch_again()
        except TransportError as error:
            for part in some:
                part.fail(error)
            self._map.miss(server, error)

    async def _exchange(
        self,
        server: ClusterPrimary,
        connection: RedisConnection,
        some: Sequence[_SlotCommands],
        closing: Closing | None,
    ) -> None:
        commands: list[Command] = []
        for part in some:
            if part.asked is not None:
                commands.append(("ASKING",))
            commands += part.commands
        slot = self._settled_slot(some)
        last = closing(slot) if closing is not None and slot is not None else ()
        replies = await connection.exchange([*commands, *last])
        closed = replies[len(commands) :]
        at = 0
        for part in some:
            at += part.asked is not None
            part.replies = replies[at : at + len(part.commands)]
            part.closing = closed
            at += len(part.commands)
            part.asked = None
            self._look_at(part, server)
        lost = [it for it in replies if isinstance(it, RedisConnectionError | RedisTimeoutError)]
        if lost:
            self._map.miss(server, lost[0])

    def _settled_slot(self, some: Sequence[_SlotCommands]) -> int | None:
        """Return a slot of these parts that is not being moved, if there is one."""
        for part in some:
            if part.asked is None and self._stuck.is_settled(part.slot):
                return part.slot
        return some[0].slot

    def _look_at(self, part: _SlotCommands, server: ClusterPrimary) -> None:
        """Mark a part to be sent again, if it was refused because of its slot."""
        for reply in part.replies:
            if isinstance(reply, AskError) and reply.host != NO_HOST:
                place = (reply.host or server.address.host, reply.port)
                if isinstance(reply, MovedError):
                    self._map.note_moved(reply.slot_id, place)
                else:
                    part.asked = self._map.server_at(place)
                part.redirects += 1
                part.is_due = part.redirects <= _AT_ONCE or self._may_wait(part)
                return
            if isinstance(reply, AskError | TryAgainError | ClusterDownError):
                part.redirects += _AT_ONCE + 1
                part.is_due = self._may_wait(part)
                if not isinstance(reply, TryAgainError) or not part.is_due:
                    # This server may be cut off, and the others have given its slots to another.
                    # Or the slot went to a server without a host name: the map has its address.
                    self._map.watch_again()
                return
        self._stuck.note_served(part.use)

    def _may_wait(self, part: _SlotCommands) -> bool:
        return self._stuck.may_wait(part.use, part.waits)

    async def _load(self, some: Sequence[_SlotCommands], load: Load) -> None:
        """Load our functions into servers that lack them, and mark their calls to be repeated."""
        lacking = [
            part
            for part in some
            if any(map(is_function_missing, part.replies))
            and not part.is_due
            and part.loads < _LOADS
        ]
        if not lacking:
            return
        await load(self._pools_at({part.slot for part in lacking}))
        for part in lacking:
            part.loads += 1
            part.is_due = True


def _meant_for(
    server: ClusterPrimary, connection: RedisConnection, some: Sequence[_SlotCommands]
) -> Sequence[_SlotCommands]:
    """Return the parts that may be sent over a connection; fail the others.

    A part that follows an ASK is not checked: the server that sent it here was checked.
    """
    if all(part.is_at is None for part in some):
        return some
    is_old = connection.server != server.pool.server  # made before the server changed
    meant = []
    for part in some:
        if part.is_at is None:
            part.is_due = is_old
            meant.append(part)
        elif not is_old and (part.asked is not None or part.is_at(connection.identity)):
            meant.append(part)
        else:
            part.fail(ServerChanged("the log is on another server now"))
    if not is_old:
        return meant
    connection.hang_up()
    return ()
