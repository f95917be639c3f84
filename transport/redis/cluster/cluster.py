"""A Redis Cluster: each command to the primary that has its slot, wherever that is now.

What a server refuses because the slot is elsewhere, or on its way (MOVED, ASK, TRYAGAIN), was not
executed, so it is sent again; what was sent and got no answer never is. The servers are
independent of each other: one that is away, or hangs, costs the commands of its own slots an
error, and others' one wait at most. While it is away, its commands are refused at once.
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
    ReplyTooLargeError,
    ServerChanged,
    ServerIdentity,
)
from transport.redis.connection.errors import is_function_missing

__all__ = ["Closing", "Cluster", "IsAt"]

_PAUSE_SECONDS = 0.05
_AT_ONCE = 3  # redirections; servers that disagree for a moment are asked after a pause
_STUCK_SECONDS = 2.0  # is waited for a slot that can't be served now
_STUCK_BESIDE_OTHERS_SECONDS = 0.2  # where replies of other slots wait for this one's
_LOADS = 3

Load = Callable[[Sequence[ServerPool]], Awaitable[None]]
Closing = Callable[[int], Sequence[Command]]
"""Returns what ends a trip to the server of a slot."""
IsAt = Callable[[ServerIdentity], bool]
"""Returns whether a command may be sent to a server that is this one."""


class _SlotCommands:
    """Commands that one server is to execute, and what it answered."""

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
        self.is_at: IsAt | None = None  # any
        self.where = where
        self.commands = commands
        self.replies: Sequence[Reply] = ()
        self.closing: Sequence[Reply] = ()
        self.asked: ClusterPrimary | None = None  # the one that has the key, of a slot on its way
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
    """Sends commands to the primaries of a cluster, which ``known`` has by slot."""

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
        """The pools of the primaries that have the slots of ``commands``."""
        return self._pools_at({slot for slot, _ in parts(commands)})

    def _pools_at(self, slots: AbstractSet[int | None]) -> list[ServerPool]:
        places = {self.place_of_slot(slot) for slot in slots}
        return [server.pool for server in self._map.servers if str(server) in places]

    @property
    def places(self) -> list[str]:
        """Host and port of each primary, for people."""
        return [str(server) for server in self._map.servers]

    def place_of(self, key: str) -> str:
        """Return host and port of the primary that has ``key``, for people."""
        return self.place_of_slot(slot_of_key(key))

    def place_of_slot(self, slot: int | None) -> str:
        """Return the same for a slot; of ``None``, that of any primary."""
        try:
            return str(self._map.server_of(slot))
        except TransportUnavailable:
            return "no server"

    def is_on(self, key: str, place: Place) -> bool:
        """Return whether the primary at ``place`` has ``key``, as far as is known."""
        return self._map.place_of(slot_of_key(key)) == place

    def has(self, server: str) -> bool:
        """Return whether a primary that answers had this replication id when it was met last."""
        return any(it.pool.server == server for it in self._map.servers if not it.is_away)

    async def exchange(self, commands: Sequence[Command], *, most: int = 0) -> list[Reply]:
        """Send each command to its server, all servers at once, and return the replies.

        A command whose server can't be reached has the error in its place. Commands of different
        slots are executed in any order; of two of one slot, the first may be redirected and come
        later: so what has to come after another is another exchange.
        """
        replies, _ = await self.spread(commands, most=most)
        return replies

    async def spread(
        self,
        commands: Sequence[Command],
        *,
        most: int = 0,
        closing: Closing | None = None,
        load: Load | None = None,
        within: float = 0.0,
        are_at: Sequence[IsAt] = (),
    ) -> tuple[list[Reply], list[Sequence[Reply]]]:
        """Do the same; also return the replies to what ended the trip of each command.

        Args:
            commands: What to send.
            most: Bounds the bytes of each server's replies; see ``RedisConnection.exchange``. With
                it these are reads, which go together with those of all partitions: none waits for a
                slot that can't be served now.
            closing: What follows the last command on the same connection, at each server. With it
                these are appends, which are kept in order: none is sent while an earlier one to
                the same slot is being sent again.
            load: Loads our functions where a server lacks them.
            within: Bounds the seconds that a server's replies are waited for; 0: its timeout. Then
                a server that is slower fails its own commands, and others' are not kept.
            are_at: For each command, whether its server is the one that it is meant for. Where it
                is not, nothing is sent, and ``ServerChanged`` stands in place of the reply.
        """
        asked = [_SlotCommands(slot, where, commands[where]) for slot, where in parts(commands)]
        for part, is_at in zip(asked, are_at, strict=False):
            part.is_at = is_at
        if most or len({part.slot for part in asked}) > 1:
            for part in asked:
                part.waits = 0.0 if most else _STUCK_BESIDE_OTHERS_SECONDS
        if closing is None:
            await self._send(asked, most, None, load, None, within)
        else:
            async with self._turns.next({part.slot for part in asked}) as turn:
                await self._send(asked, most, closing, load, turn, within)
        replies: list[Reply] = []
        closed: list[Sequence[Reply]] = []
        for part in asked:
            replies += part.replies
            closed += [part.closing] * len(part.commands)
        return replies, closed

    async def _send(
        self,
        due: Sequence[_SlotCommands],
        most: int,
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
            trips = [self._trip(it, some, most, closing, within) for it, some in batches.items()]
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
        """Lend a connection to the server of ``stream``, for who waits for its entries.

        Raises:
            TransportUnavailable: none could be had.
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
        most: int,
        closing: Closing | None,
        within: float,
    ) -> None:
        """Send parts to one server, and see which of them have to be sent again."""
        try:
            async with asyncio.timeout(within or None), server.lend() as connection:
                some = _meant_for(server, connection, some)
                if some:
                    await self._exchange(server, connection, some, most, closing)
        except TimeoutError:
            late = RedisTimeoutError(f"{server} of the cluster did not answer within {within:g} s")
            for part in some:
                part.fail(late)
        except LeadsToReplica as error:
            # The others made another one the primary: nothing was sent, and the map tells soon.
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
        most: int,
        closing: Closing | None,
    ) -> None:
        commands: list[Command] = []
        for part in some:
            if part.asked is not None:
                commands.append(("ASKING",))
            commands += part.commands
        slot = self._settled_slot(some)
        last = closing(slot) if closing is not None and slot is not None else ()
        replies = await connection.exchange([*commands, *last], most=most)
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
        if lost and not isinstance(replies[-1], ReplyTooLargeError):
            self._map.miss(server, lost[0])

    def _settled_slot(self, some: Sequence[_SlotCommands]) -> int | None:
        """Return the slot of a part that is not on its way, if there is one."""
        for part in some:
            if part.asked is None and self._stuck.is_settled(part.slot):
                return part.slot
        return some[0].slot

    def _look_at(self, part: _SlotCommands, server: ClusterPrimary) -> None:
        """Have a part sent again that was refused for where its slot is."""
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
                    # It may be cut off from the others, who gave its slots to another one since.
                    # Or the slot went to one that it has no host name of: the map has its address.
                    self._map.watch_again()
                return
        self._stuck.note_served(part.use)

    def _may_wait(self, part: _SlotCommands) -> bool:
        return self._stuck.may_wait(part.use, part.waits)

    async def _load(self, some: Sequence[_SlotCommands], load: Load) -> None:
        """Load our functions where calls found none, and have these made again."""
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
    """Return the parts that may be sent over a connection; the others are refused.

    A slot on its way is not looked at: the server that gives it up still has all of it, and tells.
    """
    if all(part.is_at is None for part in some):
        return some
    is_old = connection.server != server.pool.server  # older than a change that another met
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
