"""A Redis Cluster: each command to the primary that has its slot, wherever that is now.

What a server refuses because the slot is elsewhere, or on its way (MOVED, ASK, TRYAGAIN), was not
executed, so it is sent again; what was sent and got no answer never is. The servers are
independent of each other: one that is away, or hangs, costs the commands of its own slots an
error, and others' one wait at most. While it is away, its commands are refused at once, and one
task looks for it, and for whoever is promoted in its place.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol

import msgspec
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from transport.errors import TransportError, TransportUnavailable
from transport.redis.connection import Address, Command, RedisConnection, Reply, ReplyTooLargeError
from transport.redis.errors import is_function_missing, is_refusal, translate
from transport.redis.locator import StaticLocator
from transport.redis.routing import has_several_keys, parts, slot_of_key
from transport.redis.slot_map import Place, SlotMap

__all__ = ["Closing", "Cluster", "ServerPool", "ask_for_slots", "tell"]

_log = logging.getLogger(__name__)

_ASK_SECONDS = 1.0
_PAUSE_SECONDS = 0.05
_LOOK_SECONDS = 0.2
_LONGEST_LOOK_SECONDS = 1.5  # for as long as a server is away, each of the others is asked
_AT_ONCE = 3  # redirections; servers that disagree for a moment are asked after a pause
# For a slot that can't be served now. After that its commands fail at once until one of the kind
# succeeds: a slot whose move has stopped halfway must not hold up all others for as long, again and
# again.
_STUCK_SECONDS = 2.0
_STUCK_BESIDE_OTHERS_SECONDS = 0.2  # where replies of other slots wait for this one's
_LOADS = 3
_EPOCH = re.compile(rb"^cluster_current_epoch:(\d+)", re.MULTILINE)

Closing = Callable[[int], Sequence[Command]]
"""Returns what ends a trip to the server of a slot."""


class ServerPool(Protocol):
    """The connections to one server."""

    def lend(self) -> AbstractAsyncContextManager[RedisConnection]:
        """Lend one."""

    async def exchange(self, commands: Sequence[Command], *, most: int = 0) -> list[Reply]:
        """Send commands and return their replies."""

    async def call(self, *command: str | bytes | int) -> Reply:
        """Send one command and return its reply."""

    async def close(self) -> None:
        """Close all but those in use."""

    def hang_up(self) -> None:
        """Close all."""


class _ClusterPrimary:
    """A primary. Those who wait for entries have connections of their own, as many as it takes."""

    def __init__(self, address: Address, make: Callable[[Address, bool], ServerPool]) -> None:
        self.address = address
        self.pool = make(address, False)
        self.waits = make(address, True)
        self.is_away = False

    async def exchange(self, commands: Sequence[Command], most: int) -> list[Reply]:
        if self.is_away:
            raise TransportUnavailable(
                f"{self} of the cluster does not answer: see that it runs, and that this address, "
                "which it announces, can be reached from here (cluster-announce-ip)"
            )
        return await self.pool.exchange(commands, most=most)

    async def close(self) -> None:
        self.waits.hang_up()
        await self.waits.close()
        await self.pool.close()

    def __str__(self) -> str:
        return f"{self.address.host}:{self.address.port}"


class _SlotCommands:
    """Commands that one server is to execute, and what it answered."""

    __slots__ = (
        "asked",
        "closing",
        "commands",
        "has_several_keys",
        "is_due",
        "loads",
        "redirects",
        "replies",
        "slot",
        "waits",
        "where",
    )

    def __init__(self, slot: int | None, where: slice, commands: Sequence[Command]) -> None:
        self.slot = slot
        self.waits = _STUCK_SECONDS  # for a slot that can't be served now
        self.has_several_keys = has_several_keys(commands)
        self.where = where
        self.commands = commands
        self.replies: Sequence[Reply] = ()
        self.closing: Sequence[Reply] = ()
        self.asked: _ClusterPrimary | None = None  # the one that has the key, of a slot on its way
        self.redirects = 0
        self.loads = 0
        self.is_due = True

    @property
    def kind(self) -> tuple[int | None, bool]:
        """What is served or not as one: of a slot on its way, a server may have one key of two."""
        return self.slot, self.has_several_keys

    def fail(self, error: Exception) -> None:
        self.replies = [error] * len(self.commands)
        self.is_due = False


class Cluster:
    """The primaries of a cluster, and the slots of each.

    Args:
        seeds: Where to ask for the map; any server of the cluster.
        slots: The map as it was told first.
        make: Makes a pool of connections; the second argument: for those who wait.
        changed: Called when a slot may be on another server than before.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        slots: SlotMap,
        *,
        make: Callable[[Address, bool], ServerPool],
        changed: Callable[[], None],
    ) -> None:
        self._seeds = seeds
        self._make = make
        self._changed = changed
        self._servers: dict[Place, _ClusterPrimary] = {}
        self._slots = SlotMap()
        self._moved: dict[int, Place] = {}  # that the map does not have yet
        self._stuck: dict[tuple[int | None, bool], float] = {}
        self._looked = 0.0
        self._held: dict[int | None, asyncio.Future[None]] = {}
        self._queued: Counter[int | None] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._take(slots)

    @property
    def pools(self) -> list[ServerPool]:
        """One pool for each primary."""
        return [server.pool for server in self._servers.values()]

    @property
    def answering(self) -> list[ServerPool]:
        """One pool for each primary that answers."""
        return [server.pool for server in self._servers.values() if not server.is_away]

    @property
    def places(self) -> list[str]:
        """Host and port of each primary, for people."""
        return [str(server) for server in self._servers.values()]

    def place_of(self, key: str) -> str:
        """Return host and port of the primary that has ``key``, for people."""
        try:
            return str(self._server_of(slot_of_key(key)))
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
        held: list[asyncio.Future[None]] = []
        try:
            if closing is not None and self._held:
                await self._queue(asked, held)
            await self._send(asked, most, closing, load, held)
        finally:
            for it in held:
                it.set_result(None)
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
        held: list[asyncio.Future[None]],
    ) -> None:
        while due:
            batches: dict[_ClusterPrimary, list[_SlotCommands]] = {}
            for part in due:
                part.is_due = False
                try:
                    batches.setdefault(part.asked or self._server_of(part.slot), []).append(part)
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
            if due and closing is not None:
                await self._queue(due, held)
                self._hold({part.slot for part in due}, held)
            if due and any(part.redirects > _AT_ONCE for part in due):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _queue(self, some: Sequence[_SlotCommands], held: list[asyncio.Future[None]]) -> None:
        """Wait for appends to these slots that are being sent again, and for who waited before.

        Who holds others up waits for nobody, or two could wait for each other.
        """
        slots = {part.slot for part in some}
        if held or not any(slot in self._held for slot in slots):
            return
        self._queued.update(slots)
        try:
            while waited := {it for slot in slots if (it := self._held.get(slot)) is not None}:
                await asyncio.wait(waited)
        finally:
            self._queued.subtract(slots)
        self._hold({slot for slot in slots if self._queued[slot]}, held)

    def _hold(self, slots: AbstractSet[int | None], held: list[asyncio.Future[None]]) -> None:
        """Have later appends to these slots wait until those of ``held`` are over."""
        if not slots:
            return
        if not held:
            held.append(asyncio.get_running_loop().create_future())
            held[0].add_done_callback(self._let_go)
        for slot in slots:
            self._held[slot] = held[0]

    def _let_go(self, ended: asyncio.Future[None]) -> None:
        self._held = {slot: it for slot, it in self._held.items() if it is not ended}

    @asynccontextmanager
    async def lend_waiting(self, stream: str) -> AsyncIterator[RedisConnection]:
        """Lend a connection to the server of ``stream``, for who waits for its entries.

        Raises:
            TransportUnavailable: none could be had.
        """
        async with self._server_of(slot_of_key(stream)).waits.lend() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for server in self._servers.values():
            await server.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _trip(
        self,
        server: _ClusterPrimary,
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
            self._miss(server)
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
        if any(isinstance(it, RedisConnectionError | RedisTimeoutError) for it in replies) and (
            not isinstance(replies[-1], ReplyTooLargeError)
        ):
            self._miss(server)

    def _settled_slot(self, some: Sequence[_SlotCommands]) -> int | None:
        """Return the slot of a part that is not on its way, if there is one."""
        for part in some:
            if part.asked is None and (part.slot, True) not in self._stuck:
                return part.slot
        return some[0].slot

    def _look_at(self, part: _SlotCommands, server: _ClusterPrimary) -> None:
        """Have a part sent again that was refused for where its slot is."""
        for reply in part.replies:
            if not isinstance(reply, Exception):
                continue
            if isinstance(reply, AskError):
                place = (reply.host or server.address.host, reply.port)
                if isinstance(reply, MovedError):
                    self._note_moved(reply.slot_id, place)
                else:
                    part.asked = self._server_at(place)
                part.redirects += 1
                part.is_due = part.redirects <= _AT_ONCE or self._may_wait(part)
                return
            if isinstance(reply, TryAgainError | ClusterDownError):
                part.redirects += _AT_ONCE + 1
                part.is_due = self._may_wait(part)
                if isinstance(reply, ClusterDownError) or not part.is_due:
                    # It may be cut off from the others, who gave its slots to another one since.
                    self._watch_again()
                return
        if self._stuck:
            self._stuck.pop(part.kind, None)
            if part.has_several_keys:
                self._stuck.pop((part.slot, False), None)

    def _may_wait(self, part: _SlotCommands) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._stuck.setdefault(part.kind, now) < part.waits

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

    def _server_of(self, slot: int | None) -> _ClusterPrimary:
        if slot is None:
            servers = list(self._servers.values())
            place: Place | None = None
            if servers:
                return next((it for it in servers if not it.is_away), servers[0])
        else:
            place = self._moved.get(slot) or self._slots.place_of(slot)
        if place is None:
            self._watch()
            raise TransportUnavailable(
                f"no server of the Redis Cluster has slot {slot}: give it to one (CLUSTER ADDSLOTS)"
            )
        return self._server_at(place)

    def _server_at(self, place: Place) -> _ClusterPrimary:
        server = self._servers.get(place)
        if server is None:
            host, port = place
            address = msgspec.structs.replace(self._seeds[0], host=host, port=port)
            server = self._servers[place] = _ClusterPrimary(address, self._make)
        return server

    def _note_moved(self, slot: int, place: Place) -> None:
        if self._moved.get(slot) != place:
            self._moved[slot] = place
            self._changed()
            self._watch()

    def _miss(self, server: _ClusterPrimary) -> None:
        """Refuse what is for ``server`` until it answers again."""
        if self._servers.get((server.address.host, server.address.port)) is server:
            server.is_away = True
            self._watch()

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._look_for_all(), name="cluster watch")

    def _watch_again(self) -> None:
        if asyncio.get_running_loop().time() - self._looked >= _LOOK_SECONDS:
            self._watch()

    async def _look_for_all(self) -> None:
        """Ask for the map, until every primary answers and is known to have its slots."""
        pause = _LOOK_SECONDS
        while True:
            moved = dict(self._moved)
            addresses = [it.address for it in self._servers.values()]
            slots = await ask_for_slots([*addresses, *self._seeds])
            if slots is not None:
                # What moved while it was told may not be in it.
                self._moved = dict(self._moved.items() - moved.items())
                self._take(slots)
            away = [server for server in self._servers.values() if server.is_away]
            await asyncio.gather(*(self._try(server) for server in away))
            self._looked = asyncio.get_running_loop().time()
            if slots is not None and not any(it.is_away for it in self._servers.values()):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    async def _try(self, server: _ClusterPrimary) -> None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                (reply,) = await server.pool.exchange([("TIME",)])
        except (TransportError, TimeoutError):
            return
        if not isinstance(reply, Exception) or is_refusal(reply):
            server.is_away = False

    def _take(self, slots: SlotMap) -> None:
        before, self._slots = self._slots, slots
        for place in slots.places:
            self._server_at(place)
        # Also where the map is as it was: of a move that was begun and given up, a server is known.
        gone = set(self._servers) - set(slots.places) - set(self._moved.values())
        for place in gone:
            task = asyncio.create_task(self._servers.pop(place).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if slots == before:
            return
        self._changed()
        if before.ranges:
            _log.info("The Redis Cluster's slots are on %s now", ", ".join(self.places))


async def ask_for_slots(addresses: Sequence[Address]) -> SlotMap | None:
    """Return the map that most servers tell; ``None`` where none tells one.

    Most: one that is cut off tells of how it was. Where it says that it is (``cluster_state``), it
    counts only if all do; and a server that is known by two addresses counts once.
    """
    distinct = list({(it.host, it.port): it for it in addresses}.values())
    told = await asyncio.gather(*(_ask(it) for it in distinct))
    votes = list({vote.node: vote for vote in told if vote is not None}.values())
    votes = [vote for vote in votes if vote.is_well] or votes
    if not votes:
        return None
    counts = Counter(vote.slots for vote in votes)
    return max(votes, key=lambda vote: (counts[vote.slots], vote.epoch)).slots


class _Vote(NamedTuple):
    """What a server tells; the epoch is that of the last election that it heard of."""

    node: object
    slots: SlotMap
    is_well: bool
    epoch: int


async def _ask(address: Address) -> _Vote | None:
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reply, node, info = await tell(
                address, ("CLUSTER", "SLOTS"), ("CLUSTER", "MYID"), ("CLUSTER", "INFO")
            )
    except (TransportError, TimeoutError):
        return None
    slots = SlotMap.read(reply, address.host) if isinstance(reply, list) else SlotMap()
    if not slots.ranges:
        return None
    said = info if isinstance(info, bytes) else b""
    epoch = _EPOCH.search(said)
    return _Vote(
        node if isinstance(node, bytes) else (address.host, address.port),
        slots,
        b"cluster_state:fail" not in said,
        int(epoch[1]) if epoch else 0,
    )


async def tell(address: Address, *commands: Command) -> list[Reply]:
    """Return the replies of a server, over a connection of its own.

    Raises:
        TransportUnavailable: it can't be reached.
    """
    connection = RedisConnection(StaticLocator(address))
    try:
        await connection.open()
        replies = await connection.exchange(commands)
    finally:
        connection.hang_up()
    for reply in replies:
        if isinstance(reply, Exception) and not is_refusal(reply):
            raise translate(reply)
    return replies
