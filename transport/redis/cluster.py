"""A Redis Cluster: each command to the primary that has its slot, wherever that is now.

What a server refuses because the slot is elsewhere, or on its way (MOVED, ASK, TRYAGAIN), was not
executed, so it is sent again; what was sent and got no answer never is. The servers are
independent of each other: one that is away, or hangs, costs the commands of its own slots an
error, and others' one wait at most. While it is away, its commands are refused at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.errors import TransportError, TransportUnavailable
from transport.redis.append_turns import AppendTurn, AppendTurns
from transport.redis.cluster_map import ClusterMap
from transport.redis.cluster_primary import ClusterPrimary, MakePool, ServerPool
from transport.redis.connection import Address, Command, RedisConnection, Reply, ReplyTooLargeError
from transport.redis.errors import is_function_missing
from transport.redis.routing import has_several_keys, parts, slot_of_key
from transport.redis.slot_map import NO_HOST, SlotMap
from transport.redis.stuck_slots import SlotUse, StuckSlots

__all__ = ["Closing", "Cluster"]

_PAUSE_SECONDS = 0.05
_AT_ONCE = 3  # redirections; servers that disagree for a moment are asked after a pause
_STUCK_SECONDS = 2.0  # is waited for a slot that can't be served now
_STUCK_BESIDE_OTHERS_SECONDS = 0.2  # where replies of other slots wait for this one's
_LOADS = 3

Closing = Callable[[int], Sequence[Command]]
"""Returns what ends a trip to the server of a slot."""


class _SlotCommands:
    """Commands that one server is to execute, and what it answered."""

    __slots__ = (
        "asked",
        "closing",
        "commands",
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
    """Sends commands to the primaries of a cluster.

    Args:
        seeds: Where to ask for the map; any server of the cluster.
        slots: The map as it was told first.
        make: Makes a pool of connections.
        changed: Called when a slot may be on another server than before.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        slots: SlotMap,
        *,
        make: MakePool,
        changed: Callable[[], None],
    ) -> None:
        self._map = ClusterMap(seeds, slots, make=make, changed=changed)
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

    @property
    def places(self) -> list[str]:
        """Host and port of each primary, for people."""
        return [str(server) for server in self._map.servers]

    def place_of(self, key: str) -> str:
        """Return host and port of the primary that has ``key``, for people."""
        try:
            return str(self._map.server_of(slot_of_key(key)))
        except TransportUnavailable:
            return "no server"

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
        load: Callable[[], Awaitable[None]] | None = None,
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
            load: Loads our functions at all servers, where one lacks them.
        """
        asked = [_SlotCommands(slot, where, commands[where]) for slot, where in parts(commands)]
        if most or len({part.slot for part in asked}) > 1:
            for part in asked:
                part.waits = 0.0 if most else _STUCK_BESIDE_OTHERS_SECONDS
        if closing is None:
            await self._send(asked, most, None, load, None)
        else:
            async with self._turns.next({part.slot for part in asked}) as turn:
                await self._send(asked, most, closing, load, turn)
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
        load: Callable[[], Awaitable[None]] | None,
        turn: AppendTurn | None,
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
            trips = [self._trip(it, some, most, closing) for it, some in batches.items()]
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
    ) -> None:
        """Send parts to one server, and see which of them have to be sent again."""
        commands: list[Command] = []
        for part in some:
            if part.asked is not None:
                commands.append(("ASKING",))
            commands += part.commands
        slot = self._settled_slot(some)
        last = closing(slot) if closing is not None and slot is not None else ()
        try:
            replies = await server.exchange([*commands, *last], most)
        except TransportError as error:
            for part in some:
                part.fail(error)
            self._map.miss(server, error)
            return
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

    async def _load(
        self, some: Sequence[_SlotCommands], load: Callable[[], Awaitable[None]]
    ) -> None:
        """Load our functions where calls found none, and have these made again."""
        lacking = [
            part for part in some if any(map(is_function_missing, part.replies)) and not part.is_due
        ]
        lacking = [part for part in lacking if part.loads < _LOADS]
        if not lacking:
            return
        await load()
        for part in lacking:
            part.loads += 1
            part.is_due = True
