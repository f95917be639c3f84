"""The primaries of a cluster and their slots, kept up to date.

If a primary does not answer, one task asks it until it does, and asks all servers whether another
one was promoted in its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from transport.errors import TransportError, TransportUnavailable
from transport.redis.cluster.primary import ClusterPrimary, MakePool
from transport.redis.cluster.slot_map import Place, SlotMap
from transport.redis.cluster.slot_votes import ask_for_slots
from transport.redis.connection.connection import Address
from transport.redis.connection.errors import is_refusal

__all__ = ["ClusterMap"]

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_LONGEST_LOOK_SECONDS = 1.5  # between two requests for the map, while a server is away


class ClusterMap:
    """The known primaries, by slot.

    Args:
        seeds: The servers of the settings, which can be asked for the map.
        slots: The first map.
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
        self._seeds = seeds
        self._make = make
        self._changed = changed
        self._servers: dict[Place, ClusterPrimary] = {}
        self._slots = SlotMap()
        self._moved: dict[int, Place] = {}  # slots that were moved since the map was told
        self._looked = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._take(slots)

    @property
    def servers(self) -> list[ClusterPrimary]:
        """All primaries."""
        return list(self._servers.values())

    def server_of(self, slot: int | None) -> ClusterPrimary:
        """Return the primary that has ``slot``; ``None``: any one, if possible one that answers.

        Raises:
            TransportUnavailable: no primary has the slot.
        """
        if slot is None and self._servers:
            servers = self.servers
            return next((it for it in servers if not it.is_away), servers[0])
        place = None if slot is None else self.place_of(slot)
        if place is None:
            self.watch()
            raise TransportUnavailable(
                f"no server of the Redis Cluster has slot {slot}: give it to one (CLUSTER ADDSLOTS)"
            )
        return self.server_at(place)

    def place_of(self, slot: int) -> Place | None:
        """Return the place of the server that is known to have a slot; ``None`` if none is."""
        return self._moved.get(slot) or self._slots.place_of(slot)

    def server_at(self, place: Place) -> ClusterPrimary:
        """Return the server at a place; a new one is added."""
        server = self._servers.get(place)
        if server is None:
            host, port = place
            address = msgspec.structs.replace(self._seeds[0], host=host, port=port)
            server = self._servers[place] = ClusterPrimary(address, self._make)
        return server

    def note_moved(self, slot: int, place: Place) -> None:
        """Note where a slot is now, as a server's MOVED said."""
        if self._moved.get(slot) != place:
            self._moved[slot] = place
            self._changed()
            self.watch()

    def miss(self, server: ClusterPrimary, error: Exception) -> None:
        """Refuse commands to ``server`` until it answers again."""
        if self._servers.get((server.address.host, server.address.port)) is server:
            server.missed(error)
            self.watch()

    def watch(self) -> None:
        """Begin to ask for the map, unless that is under way."""
        if self._closed:
            return  # called by a trip that ends after closing
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._look_for_all(), name="cluster watch")

    def watch_again(self) -> None:
        """Ask for the map, unless that was done a moment ago."""
        if asyncio.get_running_loop().time() - self._looked >= _LOOK_SECONDS:
            self.watch()

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for server in self._servers.values():
            await server.close()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _look_for_all(self) -> None:
        """Ask for the map until there is one and every primary answers.

        A primary that hangs takes up ``_ANSWER_SECONDS`` of each round. They count among the time
        between two rounds: a process that finds the promoted server late misses the rescue.
        """
        loop, pause = asyncio.get_running_loop(), _LOOK_SECONDS
        while True:
            begun = loop.time()
            moved = dict(self._moved)
            addresses = [it.address for it in self._servers.values()]
            # Concurrently: a server that only closed a connection must not count as away while
            # another one, which hangs, is asked for the map.
            away = [it for it in self.servers if it.is_away]
            slots, _ = await asyncio.gather(
                ask_for_slots([*addresses, *self._seeds]), _try_all(away)
            )
            if slots is not None:
                # The map may lack slots that were moved since it was asked for: keep those.
                self._moved = dict(self._moved.items() - moved.items())
                self._take(slots)
                # Connect to new servers, to learn their identity.
                await _try_all([it for it in self.servers if not it.pool.made])
            self._looked = loop.time()
            if slots is not None and not any(it.is_away for it in self._servers.values()):
                return
            await asyncio.sleep(max(0.0, begun + pause - loop.time()))
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    def _take(self, slots: SlotMap) -> None:
        before, self._slots = self._slots, slots
        for place in slots.places:
            self.server_at(place)
        # Also if the map did not change: a move that was given up may have added a server.
        gone = set(self._servers) - set(slots.places) - set(self._moved.values())
        for place in gone:
            task = asyncio.create_task(self._servers.pop(place).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if slots == before:
            return
        self._changed()
        if before.ranges:
            places = ", ".join(map(str, self._servers.values()))
            _log.info("The Redis Cluster's slots are on %s now", places)


async def _try_all(servers: Sequence[ClusterPrimary]) -> None:
    await asyncio.gather(*(_try(server) for server in servers))


async def _try(server: ClusterPrimary) -> None:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            (reply,) = await server.pool.exchange([("TIME",)])
    except TransportError as error:
        server.why = str(error)  # a call that was hung up on says less than a refused connection
        return
    except TimeoutError:
        return
    if not isinstance(reply, Exception) or is_refusal(reply):
        server.is_away = False
